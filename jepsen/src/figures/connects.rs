//! Edges that connect and leave, as many as the gateway admits. Bare sockets: this is about the
//! gateway, and what the generator itself takes is said beside it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::BytesMut;
use limes_wire::conn::MAGIC;
use limes_wire::frame::{Frame, HEADER, Header, Hello};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::{Failure, Table};
use crate::cluster::Cluster;

/// Connects under way at once.
const AT_ONCE: usize = 192;
/// Not measured: everything finds its pace.
const WARM_UP: Duration = Duration::from_millis(500);
/// How long is measured.
const MEASURE: Duration = Duration::from_secs(3);
/// How long one connect may take.
const PATIENCE: Duration = Duration::from_secs(20);

pub(super) async fn measure(cluster: &Cluster, table: &mut Table) -> Result<(), Failure> {
    let mut bytes = BytesMut::from(&MAGIC[..]);
    Frame::Hello(Hello::default()).encode(&mut bytes);
    let hello = bytes.freeze();
    let (stop, welcomed) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let mut callers = JoinSet::new();
    for n in 0..AT_ONCE {
        let address = cluster.nodes()[n % cluster.nodes().len()].edges.clone();
        let (stop, welcomed, hello) = (stop.clone(), welcomed.clone(), hello.clone());
        callers.spawn(async move {
            while !stop.load(Ordering::Relaxed) {
                timeout(PATIENCE, connect(&address, &hello)).await??;
                welcomed.fetch_add(1, Ordering::Relaxed);
            }
            Ok::<_, Failure>(())
        });
    }
    sleep(WARM_UP).await;
    let (began, before) = (Instant::now(), welcomed.load(Ordering::Relaxed));
    let (own, nodes) = (cpu("self"), nodes_cpu(cluster));
    sleep(MEASURE).await;
    let count = (welcomed.load(Ordering::Relaxed) - before) as f64;
    let took = began.elapsed().as_secs_f64();
    let (own, nodes) = (cpu("self") - own, nodes_cpu(cluster) - nodes);
    stop.store(true, Ordering::Relaxed);
    while let Some(caller) = callers.join_next().await {
        caller??;
    }
    if count == 0.0 {
        return Err("no edge was welcomed".into());
    }
    table.connects_per_s.add(count / took);
    table.generator_us.add(own / count * 1e6);
    table.gateway_us.add(nodes / count * 1e6);
    Ok(())
}

/// One edge: hello, welcome, end.
async fn connect(address: &str, hello: &[u8]) -> Result<(), Failure> {
    let mut socket = TcpStream::connect(address).await?;
    socket.set_nodelay(true)?;
    socket.write_all(hello).await?;
    let mut header = [0; HEADER];
    socket.read_exact(&mut header).await?;
    let header = Header::decode(header);
    let mut rest = vec![0; header.frame_len() - HEADER];
    socket.read_exact(&mut rest).await?;
    let body = rest.split_off(usize::from(header.head));
    match Frame::decode(header, rest.into(), body.into())? {
        Some(Frame::Welcome(_)) => Ok(()),
        other => Err(format!("an edge was not welcomed: {other:?}").into()),
    }
}

fn nodes_cpu(cluster: &Cluster) -> f64 {
    let pids = (0..cluster.nodes().len()).filter_map(|node| cluster.pid(node).ok());
    pids.map(|pid| cpu(&pid.to_string())).sum()
}

/// Processor time of a process so far, in seconds; 0 where there is no `/proc`.
fn cpu(pid: &str) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let after_name = stat.rsplit_once(") ").map_or("", |(_, rest)| rest);
    // utime and stime, in ticks of 10 ms: fields 14 and 15, of which 2 are before this (proc(5)).
    let ticks = after_name.split(' ').skip(11).take(2).filter_map(|ticks| ticks.parse::<f64>().ok());
    ticks.sum::<f64>() / 100.0
}

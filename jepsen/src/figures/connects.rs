//! How many edges the nodes can admit: edges that connect and leave at once, over bare sockets, so that the generator
//! costs little. The table shows the generator's own CPU time beside that of the nodes.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use limes_wire::conn::MAGIC;
use limes_wire::frame::{Frame, HEADER, Header};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::table::Table;
use crate::cluster::Cluster;
use crate::error::Error;
use crate::process::cpu_seconds;

/// Connects in progress at the same time.
const CONCURRENT: usize = 192;
/// Warm-up, which is not measured.
const WARM_UP: Duration = Duration::from_millis(500);
/// Length of the measurement.
const MEASURE: Duration = Duration::from_secs(3);
/// Time limit of one connect.
const PATIENCE: Duration = Duration::from_secs(20);

pub(super) async fn measure(cluster: &Cluster, table: &mut Table) -> Result<(), Error> {
    let mut bytes = BytesMut::from(&MAGIC[..]);
    Frame::Hello(Box::default()).encode(&mut bytes);
    let hello = bytes.freeze();
    let (stop, welcomed) = (CancellationToken::new(), Arc::new(AtomicU64::new(0)));
    let mut callers = JoinSet::new();
    for n in 0..CONCURRENT {
        let address = cluster.nodes()[n % cluster.nodes().len()].edges.clone();
        callers.spawn(connect_again_and_again(address, hello.clone(), stop.clone(), welcomed.clone()));
    }
    sleep(WARM_UP).await;
    let (began, before) = (Instant::now(), welcomed.load(Ordering::Relaxed));
    let (own, nodes) = (own_cpu(), nodes_cpu(cluster));
    sleep(MEASURE).await;
    let count = (welcomed.load(Ordering::Relaxed) - before) as f64;
    let took = began.elapsed().as_secs_f64();
    let (own, nodes) = (own_cpu() - own, nodes_cpu(cluster) - nodes);
    stop.cancel();
    while let Some(caller) = callers.join_next().await {
        caller??;
    }
    if count == 0.0 {
        return Err(Error::NothingHappened("no edge was welcomed"));
    }
    table.connects_per_s.add(count / took);
    table.generator_us.add(own / count * 1e6);
    table.gateway_us.add(nodes / count * 1e6);
    Ok(())
}

async fn connect_again_and_again(
    address: String,
    hello: Bytes,
    stop: CancellationToken,
    welcomed: Arc<AtomicU64>,
) -> Result<(), Error> {
    while !stop.is_cancelled() {
        let connected = timeout(PATIENCE, connect(&address, &hello)).await;
        connected.map_err(|_| Error::timeout("no welcome", PATIENCE))??;
        welcomed.fetch_add(1, Ordering::Relaxed);
    }
    Ok(())
}

/// One edge: hello, welcome, end.
async fn connect(address: &str, hello: &[u8]) -> Result<(), Error> {
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
        _ => Err(Error::NotWelcomed),
    }
}

/// CPU time of this process in seconds; 0 where it is not known.
fn own_cpu() -> f64 {
    cpu_seconds(std::process::id()).unwrap_or(0.0)
}

/// CPU time of all nodes in seconds; 0 where it is not known.
fn nodes_cpu(cluster: &Cluster) -> f64 {
    let pids = (0..cluster.nodes().len()).filter_map(|node| u32::try_from(cluster.pid(node).ok()?).ok());
    pids.filter_map(cpu_seconds).sum()
}

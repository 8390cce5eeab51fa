//! The chapters of the demo.

use std::time::{Duration, Instant};

use limes_sdk::{Bytes, Edge, Service};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{sleep, timeout};

use super::error::{DemoError, expect};
use super::load::Load;
use super::story::Story;
use super::units::{STEP_TIMEOUT, mib};
use super::web;
use crate::dev::Cluster;

/// Calls whose median latency is printed.
const SAMPLE: usize = 200;
/// Bytes of the stream.
const STREAM: usize = 32 << 20;

/// The clients, and the nodes that they are connected to.
struct Stage {
    leader: usize,
    edge_node: usize,
    service_node: usize,
    edge: Edge,
    service: Service,
}

/// Shows all chapters in order.
///
/// # Errors
/// Something did not happen as the chapter claims.
pub(super) async fn show(story: &Story, cluster: &Cluster) -> Result<(), DemoError> {
    let stage = set(story, cluster).await?;
    calls(story, &stage).await?;
    messages(story, &stage).await?;
    stream(story, &stage).await?;
    web::show(story, &stage.edge, &stage.service).await?;
    leader_dies(story, cluster, &stage).await?;
    home_dies(story, cluster, &stage).await?;
    stage.edge.close().await;
    stage.service.close().await;
    Ok(())
}

async fn set(story: &Story, cluster: &Cluster) -> Result<Stage, DemoError> {
    let leader = cluster.leader().await.ok_or(DemoError::Cast("the nodes do not agree on a leader"))?;
    let mut others = (1..=3).filter(|node| *node != leader);
    let (Some(edge_node), Some(service_node)) = (others.next(), others.next()) else {
        return Err(DemoError::Cast("the cluster has fewer than three nodes"));
    };
    story.title("An edge on one node, a service on another");
    // Each client dials one node and learns the addresses of the others from its handshake.
    let service =
        Service::builder("greeter").address(cluster.node(service_node).addresses().services.to_string());
    let service = service.connect().await?;
    service.register("greet", |call| async move { Ok(greeting(&call.body)) }).await?;
    service.subscribe(["alarms"]).await?;
    let edge = Edge::builder().address(cluster.node(edge_node).addresses().edges.to_string()).meta("a demo");
    let edge = edge.connect().await?;
    edge.register("temperature", |_| async { Ok(Bytes::from_static(b"21.5")) });
    story.done(format!("service \"greeter\" is attached to node-{service_node} and offers \"greet\""));
    story.done(format!("edge {} is attached to node-{edge_node}; node-{leader} leads", edge.id()));
    Ok(Stage { leader, edge_node, service_node, edge, service })
}

fn greeting(name: &[u8]) -> Bytes {
    [b"hello ", name].concat().into()
}

async fn calls(story: &Story, stage: &Stage) -> Result<(), DemoError> {
    story.title("Calls, both ways, across nodes");
    let mut times = Vec::with_capacity(SAMPLE);
    for _ in 0..SAMPLE {
        let began = Instant::now();
        let reply = stage.edge.call("greet", "world").await?;
        expect("the service greets the edge", reply == greeting(b"world"))?;
        times.push(began.elapsed());
    }
    times.sort();
    story.done(format!(
        "the edge called \"greet\": {:?}; {SAMPLE} calls, half of them within {:.2} ms",
        String::from_utf8_lossy(&greeting(b"world")),
        times[SAMPLE / 2].as_secs_f64() * 1e3
    ));
    let reply = stage.service.call(stage.edge.id(), "temperature", "").await?;
    expect("the edge tells its temperature", &reply[..] == b"21.5")?;
    story.done("the service called \"temperature\" on the edge: 21.5");
    let error = stage.edge.call("no-such-thing", "").await;
    let error = error.err().ok_or(DemoError::NotObserved("a call of an unknown method fails"))?;
    expect("the error states that nothing has run", !error.may_have_run())?;
    story.done(format!("a call of a method that no service offers fails at once: {error}"));
    Ok(())
}

async fn messages(story: &Story, stage: &Stage) -> Result<(), DemoError> {
    story.title("Messages that their receiver acknowledges");
    let receiver = async {
        let message = stage.service.receive().await.ok_or(DemoError::Closed("service"))?;
        let text = String::from_utf8_lossy(&message.body).into_owned();
        message.done();
        Ok::<_, DemoError>(text)
    };
    let sender = async { Ok::<_, DemoError>(stage.edge.publish("alarms", "water in the cellar").await?) };
    let (text, ()) = timeout(STEP_TIMEOUT, async { tokio::try_join!(receiver, sender) }).await??;
    expect("the alarm arrives", text == "water in the cellar")?;
    story.done(format!("the edge published {text:?}; the service acknowledged it"));
    let receiver = async {
        for _ in 0..2 {
            let message = stage.edge.receive().await.ok_or(DemoError::Closed("edge"))?;
            match &message.body[..] {
                b"close the valve" => message.done(),
                _ => message.error("this edge opens no valves"),
            }
        }
        Ok::<_, DemoError>(())
    };
    let sender = async {
        let order = |text: &'static str| stage.service.publish(stage.edge.id(), "orders", text);
        order("close the valve").await?;
        Ok(order("open the valve").await)
    };
    let ((), refused) = timeout(STEP_TIMEOUT, async { tokio::try_join!(receiver, sender) }).await??;
    let error = refused.err().ok_or(DemoError::NotObserved("a refused message is an error"))?;
    story.done("the service sent the order \"close the valve\"; the edge acknowledged it");
    story.done(format!(
        "it sent \"open the valve\"; the edge refused, and the service got the reason: {}",
        error.text()
    ));
    Ok(())
}

async fn stream(story: &Story, stage: &Stage) -> Result<(), DemoError> {
    story.title("A stream: a pipe through both nodes");
    let began = Instant::now();
    let far_end = async {
        let mut incoming = stage.service.accept_stream().await.ok_or(DemoError::Closed("service"))?;
        let (mut bytes, mut sum, mut buffer) = (0, 0_u64, vec![0; 64 << 10]);
        loop {
            let read = incoming.stream.read(&mut buffer).await?;
            if read == 0 {
                break;
            }
            bytes += read;
            sum = buffer[..read]
                .iter()
                .fold(sum, |sum, byte| sum.wrapping_mul(31).wrapping_add(u64::from(*byte)));
        }
        // The other direction is still open.
        incoming.stream.write_all(&sum.to_be_bytes()).await?;
        incoming.stream.shutdown().await?;
        Ok::<_, DemoError>(bytes)
    };
    let near_end = async {
        let mut stream = stage.edge.open_stream("greeter", "a file").await?;
        let (mut left, mut sum) = (STREAM, 0_u64);
        let block: Vec<u8> = (0..32 << 10).map(|n: u32| (n * 7 + n / 251) as u8).collect();
        while left > 0 {
            stream.write_all(&block).await?;
            sum = block.iter().fold(sum, |sum, byte| sum.wrapping_mul(31).wrapping_add(u64::from(*byte)));
            left -= block.len();
        }
        stream.shutdown().await?;
        let mut answer = [0; 8];
        stream.read_exact(&mut answer).await?;
        Ok::<_, DemoError>(u64::from_be_bytes(answer) == sum)
    };
    let (bytes, same) = timeout(STEP_TIMEOUT, async { tokio::try_join!(far_end, near_end) }).await??;
    expect("all bytes arrive as they were sent", same && bytes == STREAM)?;
    story.done(format!(
        "{} MiB went through in {:.2} s ({:.0} MiB/s); the edge closed its half and got the checksum on the other",
        mib(STREAM),
        began.elapsed().as_secs_f64(),
        mib(STREAM) / began.elapsed().as_secs_f64()
    ));
    Ok(())
}

async fn leader_dies(story: &Story, cluster: &Cluster, stage: &Stage) -> Result<(), DemoError> {
    story.title("The leader is killed");
    story.say(&format!("kill -9 of node-{} while calls flow between the other two.", stage.leader));
    let load = Load::start(&stage.edge, "greet");
    timeout(STEP_TIMEOUT, load.flow(500)).await?;
    cluster.kill9(stage.leader).await?;
    let began = Instant::now();
    let next = timeout(STEP_TIMEOUT, async {
        loop {
            match cluster.leader().await {
                Some(leader) if leader != stage.leader => break leader,
                _ => sleep(Duration::from_millis(10)).await,
            }
        }
    });
    let next = next.await?;
    let took = began.elapsed();
    timeout(STEP_TIMEOUT, load.flow(500)).await?;
    let tally = load.stop().await;
    story.done(format!("node-{next} leads after {:.2} s", took.as_secs_f64()));
    if let Some(error) = &tally.first_error {
        story.say(&format!("the first error: {error}"));
    }
    expect("no call fails while the leader is gone", tally.failed == 0)?;
    story.done(format!(
        "{} calls meanwhile, {} failed, the slowest took {:.0} ms",
        tally.calls,
        tally.failed,
        tally.slowest.as_secs_f64() * 1e3
    ));
    cluster.restart(stage.leader)?;
    let ready = cluster.wait_ready(STEP_TIMEOUT).await?;
    story.done(format!("node-{} is back and caught up; {} voters", stage.leader, ready.voters));
    Ok(())
}

async fn home_dies(story: &Story, cluster: &Cluster, stage: &Stage) -> Result<(), DemoError> {
    story.title("The edge's own node is killed");
    story.say(&format!("kill -9 of node-{}. The edge connects to another node by itself.", stage.edge_node));
    let id = stage.edge.id();
    cluster.kill9(stage.edge_node).await?;
    let began = Instant::now();
    let mut refused = 0;
    timeout(STEP_TIMEOUT, async {
        while stage.service.call_within(id, "temperature", "", Duration::from_secs(2)).await.is_err() {
            refused += 1;
            sleep(Duration::from_millis(10)).await;
        }
    })
    .await?;
    let took = began.elapsed();
    expect("the edge keeps its id", stage.edge.id() == id)?;
    story.done(format!(
        "{:.2} s later the service on node-{} called edge {id} again: same id, another node ({refused} calls failed meanwhile)",
        took.as_secs_f64(),
        stage.service_node
    ));
    Ok(())
}

//! A chat room: edges publish lines, and the service sends each line to all other edges.
//!
//! Run a node (`cargo run`), then once `cargo run -p limes-sdk --example chatroom -- serve`, and in as many
//! terminals as you like `cargo run -p limes-sdk --example chatroom -- join NAME`.

use std::collections::HashMap;
use std::sync::Arc;

use limes_sdk::{Edge, Service};
use parking_lot::Mutex;
use tokio::io::{AsyncBufReadExt, BufReader, stdin};

type Failure = Box<dyn std::error::Error>;

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["serve"] => serve().await,
        ["join", name] => join(name).await,
        _ => Err("usage: chatroom serve | join NAME".into()),
    }
}

async fn serve() -> Result<(), Failure> {
    let address = std::env::var("LIMES_SERVICES").unwrap_or("127.0.0.1:30011".into());
    let service = Service::builder("chatroom").address(address).connect().await?;
    let members = Arc::new(Mutex::new(HashMap::new()));
    let (coming, going) = (members.clone(), members.clone());
    service
        .on_edge_online(move |edge| {
            let name = String::from_utf8_lossy(&edge.meta).into_owned();
            println!("{name} is here");
            coming.lock().insert(edge.edge, name);
            async { Ok(()) }
        })
        .await?;
    service
        .on_edge_offline(move |edge| {
            going.lock().remove(&edge.edge);
            async { Ok(()) }
        })
        .await?;
    service.subscribe(["lines"]).await?;
    println!("the room is open");
    while let Some(line) = service.receive().await {
        let all = members.lock().clone();
        let name = all.get(&line.peer).cloned().unwrap_or_else(|| line.peer.to_string());
        let text = format!("{name}: {}", String::from_utf8_lossy(&line.body));
        for edge in all.into_keys().filter(|edge| *edge != line.peer) {
            let (service, text) = (service.clone(), text.clone());
            tokio::spawn(async move { service.publish(edge, "lines", text).await });
        }
        line.done();
    }
    Ok(())
}

async fn join(name: &str) -> Result<(), Failure> {
    let address = std::env::var("LIMES_EDGES").unwrap_or("127.0.0.1:30012".into());
    let edge = Edge::builder().address(address).meta(name.to_owned()).connect().await?;
    println!("you are in");
    let listener = edge.clone();
    tokio::spawn(async move {
        while let Some(line) = listener.receive().await {
            println!("{}", String::from_utf8_lossy(&line.body));
            line.done();
        }
    });
    let mut lines = BufReader::new(stdin()).lines();
    while let Some(line) = lines.next_line().await? {
        edge.publish("lines", line).await?;
    }
    edge.close().await;
    Ok(())
}

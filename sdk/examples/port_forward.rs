//! Reaches a TCP port at a site behind NAT: the site runs an edge; you run a service that listens on a local port and
//! carries each connection to the site through a stream.
//!
//! Run a node (`cargo run`). At the site, where a machine serves ssh or a database (this prints the edge's id):
//! `LIMES_EDGES=NODE:30012 cargo run -p limes-sdk --example port_forward -- site 192.168.1.20:22`.
//! At your desk: `LIMES_SERVICES=NODE:30011 cargo run -p limes-sdk --example port_forward -- desk EDGE_ID
//! 127.0.0.1:2222`; then `ssh -p 2222 127.0.0.1`. Without the variables, both connect to a node on this machine.

use limes_sdk::{Edge, Service};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};

type Failure = Box<dyn std::error::Error>;

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["site", target] => site(target).await,
        ["desk", edge, listen] => desk(edge.parse()?, listen).await,
        _ => Err("usage: port_forward site HOST:PORT | desk EDGE_ID LISTEN_ADDRESS".into()),
    }
}

async fn site(target: &str) -> Result<(), Failure> {
    let address = std::env::var("LIMES_EDGES").unwrap_or("127.0.0.1:30012".into());
    let edge = Edge::builder().address(address).meta("port forward").connect().await?;
    println!("edge {} forwards to {target}", edge.id());
    while let Some(mut incoming) = edge.accept_stream().await {
        let target = target.to_owned();
        tokio::spawn(async move {
            match TcpStream::connect(&target).await {
                Ok(mut socket) => drop(copy_bidirectional(&mut incoming.stream, &mut socket).await),
                Err(error) => incoming.stream.reset(&format!("{target}: {error}")).await,
            }
        });
    }
    Ok(())
}

async fn desk(edge: u64, listen: &str) -> Result<(), Failure> {
    let address = std::env::var("LIMES_SERVICES").unwrap_or("127.0.0.1:30011".into());
    let service = Service::builder("port-forward").address(address).connect().await?;
    let listener = TcpListener::bind(listen).await?;
    println!("listening on {}", listener.local_addr()?);
    loop {
        let (mut socket, _) = listener.accept().await?;
        let service = service.clone();
        tokio::spawn(async move {
            match service.open_stream(edge, "tcp", "").await {
                Ok(mut stream) => drop(copy_bidirectional(&mut socket, &mut stream).await),
                Err(error) => eprintln!("edge {edge}: {error}"),
            }
        });
    }
}

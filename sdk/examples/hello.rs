//! Both sides in one program: an edge and a service that call each other.
//!
//! Run a node (`cargo run`), then `cargo run -p limes-sdk --example hello`.

use limes_sdk::{Edge, Service};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let services = std::env::var("LIMES_SERVICES").unwrap_or("127.0.0.1:30011".into());
    let edges = std::env::var("LIMES_EDGES").unwrap_or("127.0.0.1:30012".into());

    let service = Service::builder("greeter").address(services).connect().await?;
    service
        .register("greet", |call| async move {
            let name = String::from_utf8_lossy(&call.body).into_owned();
            Ok(format!("hello {name}, you are edge {}", call.peer).into())
        })
        .await?;

    let edge = Edge::builder().address(edges).meta("a thermometer").connect().await?;
    edge.register("temperature", |_| async { Ok("21.5".into()) });

    let reply = edge.call("greet", "world").await?;
    println!("the service says: {}", String::from_utf8_lossy(&reply));
    let reply = service.call(edge.id(), "temperature", "").await?;
    println!("the edge says:    {} degrees", String::from_utf8_lossy(&reply));

    edge.close().await;
    service.close().await;
    Ok(())
}

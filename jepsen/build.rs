//! Generates the client of `limes.v1` from the node's own description of it.

use std::error::Error;

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=../node/api/limes.proto");
    let files = protox::compile(["limes.proto"], ["../node/api"])?;
    tonic_prost_build::configure().build_server(false).compile_fds(files)?;
    Ok(())
}

//! Generates the gRPC code from the protos of this folder, without a system `protoc`.
//!
//! `control.proto` and `discovery.proto` both declare the package `controlplane`, with different messages
//! under the same names. Each port therefore gets an output folder, and its packages a module, of its own.

use std::error::Error;
use std::path::PathBuf;
use std::{env, fs};

use prost::Message;

/// Each output folder and the protos that its port serves.
const PORTS: [(&str, &[&str]); 2] =
    [("control", &["control.proto", "limes.proto"]), ("discovery", &["discovery.proto"])];

fn main() -> Result<(), Box<dyn Error>> {
    let out_dir = PathBuf::from(env::var("OUT_DIR")?);
    for (port, protos) in PORTS {
        for proto in protos {
            println!("cargo:rerun-if-changed={proto}");
        }
        let files = protox::compile(protos, ["."])?;
        let out = out_dir.join(port);
        fs::create_dir_all(&out)?;
        fs::write(out.join("descriptors.bin"), files.encode_to_vec())?;
        tonic_prost_build::configure()
            .out_dir(&out)
            // `limesctl --json` prints the messages of `limes.v1` as they are.
            .type_attribute(".limes.v1", "#[derive(serde::Serialize)]")
            .compile_fds(files)?;
    }
    Ok(())
}

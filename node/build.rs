//! Generates the gRPC code from `api/` without a system `protoc`. The reference's two files are of one
//! package with different messages, so each port gets a folder, and its packages modules, of its own.

use std::error::Error;
use std::path::PathBuf;
use std::{env, fs};

use prost::Message;

fn main() -> Result<(), Box<dyn Error>> {
    for (name, protos) in [("control", &["control", "limes"][..]), ("discovery", &["discovery"])] {
        let protos: Vec<_> = protos.iter().map(|proto| format!("api/{proto}.proto")).collect();
        protos.iter().for_each(|proto| println!("cargo:rerun-if-changed={proto}"));
        let files = protox::compile(&protos, ["api"])?;
        let out = PathBuf::from(env::var("OUT_DIR")?).join(name);
        fs::create_dir_all(&out)?;
        fs::write(out.join("descriptors.bin"), files.encode_to_vec())?;
        tonic_prost_build::configure().out_dir(&out).compile_fds(files)?;
    }
    Ok(())
}

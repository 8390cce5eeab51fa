//! Generates the gRPC code from `api/` without a system `protoc`. Both files are of one package with
//! different messages, so each gets a folder, and a module, of its own.

use std::error::Error;
use std::path::PathBuf;
use std::{env, fs};

use prost::Message;

fn main() -> Result<(), Box<dyn Error>> {
    for name in ["control", "discovery"] {
        let proto = format!("api/{name}.proto");
        println!("cargo:rerun-if-changed={proto}");
        let files = protox::compile([&proto], ["api"])?;
        let out = PathBuf::from(env::var("OUT_DIR")?).join(name);
        fs::create_dir_all(&out)?;
        fs::write(out.join("descriptors.bin"), files.encode_to_vec())?;
        tonic_prost_build::configure().out_dir(&out).compile_fds(files)?;
    }
    Ok(())
}

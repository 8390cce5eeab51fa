//! The limes binary: all of it is in the library, so that tests reach it too.

use std::process::ExitCode;

fn main() -> ExitCode {
    limes_node::cli::main()
}

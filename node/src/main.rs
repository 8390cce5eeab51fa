//! The limes binary. The library has all of its code, so that tests can use it.

use std::process::ExitCode;

fn main() -> ExitCode {
    limes_node::cli::main()
}

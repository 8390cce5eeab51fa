//! A cluster on this machine, one child process per node: for `limes dev`, the demo and tests.
//!
//! [`Cluster::start`] creates a folder, starts the processes and returns handles to them;
//! [`Cluster::wait_ready`] waits until they agree on a leader. A child that exits is reported and not
//! restarted unless asked. All children end with the [`Cluster`], and with this process, however it
//! ends: each child holds the read end of a pipe and exits when the pipe closes.

mod cluster;
mod error;
mod exit;
mod http;
mod layout;
mod node;
mod ports;
mod process;
mod status;

pub use cluster::{Adjust, Cluster, Options};
pub use error::{DevError, Missing};
pub use exit::NodeExit;
pub use http::{HttpError, Response, get};
pub use node::Node;
pub use ports::{Ports, free as free_ports};
pub use status::{Ready, Status};

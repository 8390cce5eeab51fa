//! A cluster on this machine, one child process a node: what `limes dev` watches, what the demo
//! shows, and what tests break.
//!
//! [`Cluster::start`] lays out a folder, starts the processes and gives handles on them;
//! [`Cluster::wait_ready`] waits until they agree on a leader. A child that dies is reported, never
//! restarted unless asked. All of them end with the [`Cluster`], and with this process, however it
//! ends: each child holds the read end of a pipe and leaves when the pipe closes.

mod cluster;
mod error;
mod http;
mod layout;
mod node;
mod ports;
mod process;
mod status;

pub use cluster::{Adjust, Cluster, Options};
pub use error::DevError;
pub use http::{Response, get};
pub use node::Node;
pub use ports::{Ports, free as free_ports};
pub use process::Death;
pub use status::{Ready, Status};

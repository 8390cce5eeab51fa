//! Breaks a running cluster of real processes and judges what clients saw.
//!
//! ```text
//!   nemesis ──kill, pause──▶ cluster: processes of `limes dev` ◀──freeze── net, proxy
//!                                        ▲        │
//!                 calls, connects, kills │        │ what clients saw, with times
//!                                        │        ▼
//!     workload, takeovers, crashes ──────┘    history ──▶ checker, sessions, crashes::judge ──▶ PASS or BROKEN
//! ```
//!
//! [`cluster`] starts `limes dev` and restarts killed nodes. [`nemesis`] applies faults to nodes; [`net`] and [`proxy`]
//! apply faults to the network. [`workload`] calls, [`takeovers`] reconnects edges, [`crashes`] kills all nodes again
//! and again; each records what it saw. [`checker`], [`sessions`] and [`crashes`] judge the records. [`figures`]
//! measures how long clients notice each fault.
//!
//! A failure of the harness itself, or a panic of one of its tasks, is an [`Error`]: the run then proves nothing.
//!
//! # Layers
//! A module uses only those before it: (`error`, `process`), (`http`, `binary`, `bare`, `proxy`), (`net`, `sessions`),
//! `settings`, `cluster`, (`nemesis`, `takeovers`, `workload`, `crashes`, `figures`), `checker`.

pub mod bare;
pub mod binary;
pub mod checker;
pub mod cluster;
pub mod crashes;
mod error;
pub mod figures;
mod http;
pub mod nemesis;
pub mod net;
mod process;
pub mod proxy;
pub mod sessions;
mod settings;
pub mod takeovers;
pub mod workload;

pub use error::Error;

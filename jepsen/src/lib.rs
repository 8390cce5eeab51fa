//! Breaks a running cluster of real processes and judges what clients saw.
//!
//! [`cluster`] starts `limes dev` and brings killed nodes back; [`nemesis`] kills; [`net`] and
//! [`proxy`] break the network; [`workload`] lets calls flow and notes each one's end, [`takeovers`] lets
//! edges wander, [`crashes`] kills all nodes again and again; [`checker`] and [`sessions`] say which guarantee did not hold. [`figures`] acts the fault
//! table of the design out and says how long each fault is felt.

pub mod bare;
pub mod binary;
pub mod checker;
pub mod cluster;
pub mod crashes;
pub mod figures;
mod http;
pub mod nemesis;
pub mod net;
pub mod proxy;
pub mod sessions;
mod settings;
pub mod takeovers;
pub mod workload;

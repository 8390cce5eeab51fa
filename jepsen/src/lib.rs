//! Breaks a running cluster of real processes and judges what clients saw.
//!
//! [`cluster`] starts `limes dev` and brings killed nodes back; [`nemesis`] kills; [`proxy`] breaks the
//! network; [`workload`] lets calls flow and notes each one's end; [`checker`] says which guarantee did
//! not hold.

pub mod checker;
pub mod cluster;
pub mod nemesis;
pub mod proxy;
pub mod workload;

//! The gRPC interfaces of a limes node: generated messages, clients and servers.
//!
//! The protos beside this crate are the source; the build script compiles them once for the node, `limesctl`
//! and the cluster tests.
//!
//! ```text
//!  control port    control.proto    controlplane   -> control     the reference's control plane
//!                  limes.proto      limes.v1       -> v1          limes's own operator interface
//!  discovery port  discovery.proto  controlplane   -> discovery   the reference's directory
//! ```
//!
//! The two reference protos share the protobuf package `controlplane` but define different messages under the
//! same names. They are therefore two modules and two descriptor sets, one for each port.

/// The reference's control plane, from `control.proto`.
#[allow(missing_docs, clippy::all, reason = "generated")]
pub mod control {
    include!(concat!(env!("OUT_DIR"), "/control/controlplane.rs"));
}

/// The operator interface of limes, from `limes.proto`. Its messages implement [`serde::Serialize`].
#[allow(missing_docs, clippy::all, reason = "generated")]
pub mod v1 {
    include!(concat!(env!("OUT_DIR"), "/control/limes.v1.rs"));
}

/// The reference's directory, from `discovery.proto`.
#[allow(missing_docs, clippy::all, reason = "generated")]
pub mod discovery {
    include!(concat!(env!("OUT_DIR"), "/discovery/controlplane.rs"));
}

/// The encoded `FileDescriptorSet` of [`control`] and [`v1`], which share a port.
pub const CONTROL_DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/control/descriptors.bin"));

/// The encoded `FileDescriptorSet` of [`discovery`].
pub const DISCOVERY_DESCRIPTORS: &[u8] =
    include_bytes!(concat!(env!("OUT_DIR"), "/discovery/descriptors.bin"));

//! The generated types, clients and servers of `api/`, and their descriptors.
//!
//! The reference's files are both of the protobuf package `controlplane` with different messages under the same
//! names; so they are two modules here and two pools of descriptors.

use std::sync::OnceLock;

use prost_reflect::DescriptorPool;

/// The control plane: `api/control.proto`.
#[allow(missing_docs, clippy::all, reason = "generated")]
pub mod control {
    include!(concat!(env!("OUT_DIR"), "/control/controlplane.rs"));
}

/// What operators see: `api/limes.proto`.
#[allow(missing_docs, clippy::all, reason = "generated")]
pub mod v1 {
    include!(concat!(env!("OUT_DIR"), "/control/limes.v1.rs"));
}

/// The directory: `api/discovery.proto`.
#[allow(missing_docs, clippy::all, reason = "generated")]
pub mod discovery {
    include!(concat!(env!("OUT_DIR"), "/discovery/controlplane.rs"));
}

/// The encoded descriptors of [`control`] and [`v1`], which share a port.
pub(super) const CONTROL_DESCRIPTORS: &[u8] =
    include_bytes!(concat!(env!("OUT_DIR"), "/control/descriptors.bin"));
/// The encoded descriptors of [`discovery`].
pub(super) const DISCOVERY_DESCRIPTORS: &[u8] =
    include_bytes!(concat!(env!("OUT_DIR"), "/discovery/descriptors.bin"));

/// The descriptors of [`control`] and [`v1`].
pub(super) fn control_pool() -> &'static DescriptorPool {
    static POOL: OnceLock<DescriptorPool> = OnceLock::new();
    POOL.get_or_init(|| pool(CONTROL_DESCRIPTORS))
}

/// The descriptors of [`discovery`].
pub(super) fn discovery_pool() -> &'static DescriptorPool {
    static POOL: OnceLock<DescriptorPool> = OnceLock::new();
    POOL.get_or_init(|| pool(DISCOVERY_DESCRIPTORS))
}

#[allow(clippy::expect_used, reason = "these bytes were compiled with this program")]
fn pool(descriptors: &[u8]) -> DescriptorPool {
    DescriptorPool::decode(descriptors).expect("descriptors that the build has made")
}

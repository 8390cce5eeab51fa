//! The descriptor pools that turn JSON into messages of [`limes_api`] and back: one for each port, because
//! the two reference protos define different messages under the same names.

use std::sync::OnceLock;

use limes_api::{CONTROL_DESCRIPTORS, DISCOVERY_DESCRIPTORS};
use prost_reflect::DescriptorPool;

/// The descriptors of the control port: `controlplane` of `control.proto`, and `limes.v1`.
pub(super) fn control_pool() -> &'static DescriptorPool {
    static POOL: OnceLock<DescriptorPool> = OnceLock::new();
    POOL.get_or_init(|| pool(CONTROL_DESCRIPTORS))
}

/// The descriptors of the discovery port: `controlplane` of `discovery.proto`.
pub(super) fn discovery_pool() -> &'static DescriptorPool {
    static POOL: OnceLock<DescriptorPool> = OnceLock::new();
    POOL.get_or_init(|| pool(DISCOVERY_DESCRIPTORS))
}

#[allow(clippy::expect_used, reason = "these bytes were compiled with this program")]
fn pool(descriptors: &[u8]) -> DescriptorPool {
    DescriptorPool::decode(descriptors).expect("descriptors that the build has made")
}

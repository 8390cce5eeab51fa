//! The descriptor pools that convert between JSON and the messages of [`limes_api`]. There is one per port,
//! because the two protos of the reference define different messages under the same names.

use std::sync::OnceLock;

use limes_api::{CONTROL_DESCRIPTORS, DISCOVERY_DESCRIPTORS};
use prost_reflect::DescriptorPool;

/// The descriptors of the control port: `controlplane` of `control.proto`, and `limes.v1`.
pub(crate) fn control_pool() -> &'static DescriptorPool {
    static POOL: OnceLock<DescriptorPool> = OnceLock::new();
    POOL.get_or_init(|| pool(CONTROL_DESCRIPTORS))
}

/// The descriptors of the discovery port: `controlplane` of `discovery.proto`.
pub(crate) fn discovery_pool() -> &'static DescriptorPool {
    static POOL: OnceLock<DescriptorPool> = OnceLock::new();
    POOL.get_or_init(|| pool(DISCOVERY_DESCRIPTORS))
}

#[allow(clippy::expect_used, reason = "the build of limes-api generates these bytes")]
fn pool(descriptors: &[u8]) -> DescriptorPool {
    DescriptorPool::decode(descriptors).expect("generated descriptors are valid")
}

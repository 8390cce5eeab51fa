//! The key modulo the number of services: as the reference does it; nearly all keys move when a service
//! comes or goes.

use crate::id::ServiceId;

/// The service whose turn the key is; `services` gives them anew each time, in order.
pub(super) fn choose<I: Iterator<Item = ServiceId>>(services: impl Fn() -> I, key: u64) -> Option<ServiceId> {
    let count = services().count() as u64;
    services().nth(key.checked_rem(count)? as usize)
}

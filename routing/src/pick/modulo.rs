//! The key modulo the number of services, as in the reference; nearly all keys move when a service comes or goes.

use crate::id::ServiceId;

/// The service at the position of the key; `services` lists them in order, from the start at each call.
pub(super) fn choose<I: Iterator<Item = ServiceId>>(services: impl Fn() -> I, key: u64) -> Option<ServiceId> {
    let count = services().count() as u64;
    services().nth(key.checked_rem(count)? as usize)
}

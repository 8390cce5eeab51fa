//! The highest hash of key and service (Thaler and Ravishankar 1996): a key moves only from a service that goes, or to a
//! service that comes.

use super::hash::mix;
use crate::id::ServiceId;

/// The service with the highest hash.
pub(super) fn choose(services: impl Iterator<Item = ServiceId>, key: u64) -> Option<ServiceId> {
    highest(services, |service| mix(key ^ mix(service.0)))
}

/// The service with the highest hash, and of several the one with the highest id, whatever their order.
fn highest(services: impl Iterator<Item = ServiceId>, hash: impl Fn(ServiceId) -> u64) -> Option<ServiceId> {
    services.max_by_key(|service| (hash(*service), *service))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tie_is_decided_by_the_id() {
        let tie = |ids: [u64; 3]| highest(ids.map(ServiceId).into_iter(), |_| 7);
        assert_eq!(tie([1, 3, 2]), Some(ServiceId(3)));
        assert_eq!(tie([3, 2, 1]), Some(ServiceId(3)));
        assert_eq!(
            highest([ServiceId(1), ServiceId(2)].into_iter(), |service| 9 - service.0),
            Some(ServiceId(1))
        );
    }
}

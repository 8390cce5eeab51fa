//! Spreading by the address that a peer comes from.

use std::net::IpAddr;

/// The key of an address: all of an IPv4 address, the network (the upper 64 bits) of an IPv6 address, for
/// one machine has many of those. An IPv4 address in the form of IPv6 counts as IPv4.
pub fn key(address: IpAddr) -> u64 {
    match address.to_canonical() {
        IpAddr::V4(address) => u64::from(address.to_bits()),
        IpAddr::V6(address) => (address.to_bits() >> 64) as u64,
    }
}

/// The key of an address as the reference computes it: of IPv6 the last four bytes.
pub fn last_four(address: IpAddr) -> u64 {
    match address.to_canonical() {
        IpAddr::V4(address) => u64::from(address.to_bits()),
        IpAddr::V6(address) => address.to_bits() as u32 as u64,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_references_key_is_the_end_of_an_address() {
        let key = |text: &str| last_four(text.parse().unwrap());
        assert_eq!((key("192.0.2.1"), key("::ffff:192.0.2.1")), (0xC000_0201, 0xC000_0201));
        assert_eq!(key("2001:db8::a:1:2"), 0x0001_0002);
    }

    #[test]
    fn one_machine_has_one_key() {
        let key = |text: &str| key(text.parse().unwrap());
        assert_eq!(key("192.0.2.1"), 0xC000_0201);
        assert_eq!(key("::ffff:192.0.2.1"), key("192.0.2.1"));
        assert_eq!(key("2001:db8::1"), key("2001:db8::2"));
        assert_ne!(key("2001:db8::1"), key("2001:db8:0:1::1"));
    }
}

//! Keys from the address of a peer.

use std::net::IpAddr;

/// The key of an address: all of an IPv4 address, or the network (the upper 64 bits) of an IPv6 address, because one
/// machine has many of those. An IPv4-mapped IPv6 address counts as IPv4.
pub fn key(address: IpAddr) -> u64 {
    match address.to_canonical() {
        IpAddr::V4(address) => u64::from(address.to_bits()),
        IpAddr::V6(address) => (address.to_bits() >> 64) as u64,
    }
}

/// The key of an address as the reference computes it: the last four bytes of an IPv6 address.
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
    fn last_four_is_the_end_of_an_address() {
        let key = |text: &str| last_four(text.parse().unwrap());
        assert_eq!((key("192.0.2.1"), key("::ffff:192.0.2.1")), (0xC000_0201, 0xC000_0201));
        assert_eq!(key("2001:db8::a:1:2"), 0x0001_0002);
    }

    #[test]
    fn addresses_of_one_machine_have_one_key() {
        let key = |text: &str| key(text.parse().unwrap());
        assert_eq!(key("192.0.2.1"), 0xC000_0201);
        assert_eq!(key("::ffff:192.0.2.1"), key("192.0.2.1"));
        assert_eq!(key("2001:db8::1"), key("2001:db8::2"));
        assert_ne!(key("2001:db8::1"), key("2001:db8:0:1::1"));
    }
}

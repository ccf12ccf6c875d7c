//! An address or a network of addresses.

use core::net::IpAddr;
use std::fmt;

/// An address with the length of its prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Net {
    address: IpAddr,
    prefix: u8,
}

impl Net {
    /// `192.0.2.7`, `192.0.2.0/24`, `2001:db8::/32`. Bits beyond the prefix must be zero.
    pub fn parse(text: &str) -> Option<Self> {
        let (address, prefix) = match text.split_once('/') {
            None => (text, None),
            Some((address, prefix)) => (address, Some(prefix.parse::<u8>().ok()?)),
        };
        let address: IpAddr = address.parse().ok()?;
        let all = if address.is_ipv4() { 32 } else { 128 };
        let net = Self { address, prefix: prefix.unwrap_or(all) };
        (net.prefix <= all && net.bits() == net.masked(net.bits())).then_some(net)
    }

    /// Whether it is of the fourth version.
    pub fn is_v4(&self) -> bool {
        self.address.is_ipv4()
    }

    /// The length of its prefix.
    pub fn prefix(&self) -> u8 {
        self.prefix
    }

    /// Whether any address is in both.
    pub fn overlaps(&self, other: &Self) -> bool {
        let wider = if self.prefix < other.prefix { self } else { other };
        self.is_v4() == other.is_v4() && wider.masked(self.bits()) == wider.masked(other.bits())
    }

    /// Whether it has addresses that mean this host, or nobody.
    pub fn is_special(&self) -> bool {
        let loopback = if self.is_v4() { "127.0.0.0/8" } else { "::1" };
        let nobody = if self.is_v4() { "0.0.0.0" } else { "::" };
        [loopback, nobody].iter().filter_map(|text| Self::parse(text)).any(|net| net.overlaps(self))
    }

    /// Left-aligned in 128 bits.
    fn bits(&self) -> u128 {
        match self.address {
            IpAddr::V4(address) => u128::from(address.to_bits()) << 96,
            IpAddr::V6(address) => address.to_bits(),
        }
    }

    fn masked(&self, bits: u128) -> u128 {
        bits & u128::MAX.checked_shl(128 - u32::from(self.prefix)).unwrap_or(0)
    }
}

impl fmt::Display for Net {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all = if self.is_v4() { 32 } else { 128 };
        if self.prefix == all { write!(f, "{}", self.address) } else { write!(f, "{}/{}", self.address, self.prefix) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_and_networks_come_back() {
        for text in ["192.0.2.7", "192.0.2.0/24", "2001:db8::/32", "2001:db8::1", "0.0.0.0/0", "::/0"] {
            assert_eq!(Net::parse(text).unwrap().to_string(), text);
        }
        for text in ["", "x", "192.0.2.7/24", "192.0.2.0/33", "2001:db8::1/64", "192.0.2.0/", "1.2.3.4; drop"] {
            assert_eq!(Net::parse(text), None, "{text}");
        }
    }

    #[test]
    fn networks_overlap_where_an_address_is_in_both() {
        for (one, other, expected) in [
            ("192.0.2.0/24", "192.0.2.7", true),
            ("192.0.2.7", "192.0.2.0/24", true),
            ("192.0.2.7", "192.0.2.8", false),
            ("0.0.0.0/0", "192.0.2.8", true),
            ("::/0", "192.0.2.8", false),
            ("2001:db8::/32", "2001:db8:1::/48", true),
            ("2001:db8::/33", "2001:db8:8000::/33", false),
        ] {
            let parse = |text| Net::parse(text).unwrap();
            assert_eq!(parse(one).overlaps(&parse(other)), expected, "{one} {other}");
        }
        for (text, expected) in [("127.0.0.1", true), ("0.0.0.0/0", true), ("::1", true), ("192.0.2.0/24", false)] {
            assert_eq!(Net::parse(text).unwrap().is_special(), expected, "{text}");
        }
    }
}

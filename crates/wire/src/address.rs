//! IP addresses between views and the standard library.

use std::net::{Ipv4Addr, Ipv6Addr};

use crate::bytes::Be32;
use crate::ipv4::Ipv4;
use crate::ipv6::Ipv6;

impl From<Ipv4Addr> for Be32 {
    fn from(address: Ipv4Addr) -> Self {
        Self::new(address.to_bits())
    }
}

impl From<Be32> for Ipv4Addr {
    fn from(word: Be32) -> Self {
        Self::from_bits(word.get())
    }
}

/// The four words of an IPv6 address, as [`Ipv6::source`] has them.
pub fn ipv6_words(address: Ipv6Addr) -> [Be32; 4] {
    let bits = address.to_bits();
    [96, 64, 32, 0].map(|shift| Be32::new((bits >> shift) as u32))
}

/// The IPv6 address in four words.
pub fn ipv6_address(words: &[Be32; 4]) -> Ipv6Addr {
    let bits = words
        .iter()
        .fold(0, |bits: u128, word| bits << 32 | u128::from(word.get()));
    Ipv6Addr::from_bits(bits)
}

impl Ipv4 {
    /// The source address.
    pub fn source_address(&self) -> Ipv4Addr {
        self.source.into()
    }

    /// The destination address.
    pub fn destination_address(&self) -> Ipv4Addr {
        self.destination.into()
    }
}

impl Ipv6 {
    /// The source address.
    pub fn source_address(&self) -> Ipv6Addr {
        ipv6_address(&self.source)
    }

    /// The destination address.
    pub fn destination_address(&self) -> Ipv6Addr {
        ipv6_address(&self.destination)
    }
}

//! An address with the length of its network.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// An address and how many of its leading bits are the network's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Prefix {
    /// The address; bits of the host may be set.
    pub address: IpAddr,
    /// 0 to 32, or to 128 for IPv6.
    pub length: u8,
}

/// Why a text is no [`Prefix`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no network: write an address and a length, as in 192.0.2.0/24")]
pub struct PrefixError(pub String);

impl Prefix {
    /// How many bits an address of this family has.
    pub const fn width(address: IpAddr) -> u8 {
        match address {
            IpAddr::V4(_) => 32,
            IpAddr::V6(_) => 128,
        }
    }

    /// One address alone.
    pub const fn host(address: IpAddr) -> Self {
        Self {
            address,
            length: Self::width(address),
        }
    }

    /// Whether it is one address alone.
    pub const fn is_host(self) -> bool {
        self.length == Self::width(self.address)
    }

    /// Whether an address lies in the network.
    pub fn contains(self, other: IpAddr) -> bool {
        let width = u32::from(Self::width(self.address));
        if width != u32::from(Self::width(other)) {
            return false;
        }
        let host = width.saturating_sub(self.length.into());
        let network = |address| bits(address).checked_shr(host).unwrap_or(0);
        network(self.address) == network(other)
    }
}

fn bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u32::from(address).into(),
        IpAddr::V6(address) => address.into(),
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.length)
    }
}

impl FromStr for Prefix {
    type Err = PrefixError;

    /// Reads `ADDRESS/LENGTH`, or an address alone.
    fn from_str(text: &str) -> Result<Self, PrefixError> {
        let error = || PrefixError(text.to_owned());
        let (address, length) = match text.split_once('/') {
            Some((address, length)) => (address, Some(length)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| error())?;
        let width = Self::width(address);
        let length = match length {
            Some(length) => length.parse().map_err(|_| error())?,
            None => width,
        };
        if length > width {
            return Err(error());
        }
        Ok(Self { address, length })
    }
}

impl Serialize for Prefix {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Prefix {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_contain_their_own_family_only() {
        let inside = |network: &str, address: &str| {
            let network: Prefix = network.parse().unwrap();
            network.contains(address.parse().unwrap())
        };
        assert!(inside("192.0.2.7/24", "192.0.2.200"));
        assert!(!inside("192.0.2.7/24", "192.0.3.200"));
        assert!(inside("0.0.0.0/0", "192.0.3.200"));
        assert!(!inside("0.0.0.0/0", "2001:db8::1"));
        assert!(inside("::/0", "2001:db8::1"));
        assert!(inside("2001:db8::/32", "2001:db8:1::1"));
        assert!(!inside("192.0.2.7", "192.0.2.8"));
    }

    #[test]
    fn what_is_no_network_is_refused() {
        for text in [
            "",
            "192.0.2.1/33",
            "192.0.2.1/-1",
            "all",
            "::/129",
            "1.2.3/24",
        ] {
            assert!(text.parse::<Prefix>().is_err(), "{text}");
        }
        assert_eq!("::1/64".parse::<Prefix>().unwrap().to_string(), "::1/64");
    }
}

//! Rules that give packets firewall marks, as an operator writes them.
//!
//! The programs run before netfilter, so its marks don't exist yet. These rules make them: each
//! packet that may begin a connection meets all of them in their order, from mark 0.

use std::{fmt, net::IpAddr, str::FromStr};

use serde::{Deserialize, Serialize, de};

use super::Protocol;

/// The most bytes of an interface's name.
pub const INTERFACE_NAME: usize = 15;

/// Addresses with the same first bits. Written `10.0.0.0/8`, or `10.0.0.1` for one address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Prefix {
    /// An address; bits behind `length` don't count.
    pub address: IpAddr,
    /// Bits that count.
    pub length: u8,
}

impl Prefix {
    /// Just this address.
    pub const fn of(address: IpAddr) -> Self {
        let length = match address {
            IpAddr::V4(_) => 32,
            IpAddr::V6(_) => 128,
        };
        Self { address, length }
    }

    /// The prefix with all bits 0 that don't count; none when it is longer than an address.
    pub fn masked(self) -> Option<Self> {
        let Self { address, length } = self;
        let address = match address {
            IpAddr::V4(_) if length > 32 => return None,
            IpAddr::V6(_) if length > 128 => return None,
            IpAddr::V4(address) => {
                let mask = u32::MAX.checked_shl(32 - u32::from(length)).unwrap_or(0);
                IpAddr::V4((address.to_bits() & mask).into())
            }
            IpAddr::V6(address) => {
                let mask = u128::MAX.checked_shl(128 - u32::from(length)).unwrap_or(0);
                IpAddr::V6((address.to_bits() & mask).into())
            }
        };
        Some(Self { address, length })
    }

    /// True when `address` begins with this prefix.
    pub fn contains(&self, address: IpAddr) -> bool {
        let length = self.length;
        self.address.is_ipv6() == address.is_ipv6()
            && Self { address, length }.masked() == self.masked()
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.length)
    }
}

/// What is written is no prefix, range or mark; the text says what it has to be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct WordError(String);

fn wrong(text: impl Into<String>) -> WordError {
    WordError(text.into())
}

impl FromStr for Prefix {
    type Err = WordError;

    fn from_str(text: &str) -> Result<Self, WordError> {
        let bad = || {
            wrong(format!(
                "`{text}` is no address and no prefix as in 10.0.0.0/8"
            ))
        };
        let (address, length) = match text.split_once('/') {
            Some((address, length)) => (address, Some(length)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| bad())?;
        match length {
            None => Ok(Self::of(address)),
            Some(length) => {
                let length = length.parse().map_err(|_| bad())?;
                Self { address, length }.masked().ok_or_else(bad)
            }
        }
    }
}

/// Ports from `low` to `high`, host order. Written `80` or `8000-8100`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PortRange {
    /// The first.
    pub low: u16,
    /// The last.
    pub high: u16,
}

impl PortRange {
    /// Just this port.
    pub const fn of(port: u16) -> Self {
        Self {
            low: port,
            high: port,
        }
    }
}

impl fmt::Display for PortRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.low == self.high {
            write!(f, "{}", self.low)
        } else {
            write!(f, "{}-{}", self.low, self.high)
        }
    }
}

impl FromStr for PortRange {
    type Err = WordError;

    fn from_str(text: &str) -> Result<Self, WordError> {
        let bad = || wrong(format!("`{text}` is no port and no range as in 8000-8100"));
        let port = |text: &str| text.parse::<u16>().map_err(|_| bad());
        let (low, high) = match text.split_once(['-', ':']) {
            Some((low, high)) => (port(low)?, port(high)?),
            None => (port(text)?, port(text)?),
        };
        if low > high {
            return Err(bad());
        }
        Ok(Self { low, high })
    }
}

macro_rules! written_as_text {
    ($($name:ident),*) => {$(
        impl Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
                to.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                String::deserialize(from)?.parse().map_err(de::Error::custom)
            }
        }
    )*};
}
written_as_text!(Prefix, PortRange);

/// Packets of which address family a rule is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Family {
    /// Those of its addresses; of both families when it names none.
    #[default]
    Any,
    /// IPv4.
    Ipv4,
    /// IPv6.
    Ipv6,
}

/// Bits that a packet's mark must have so far: `mark & mask == value`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct MarkMatch {
    /// What they have to be.
    pub value: u32,
    /// Which bits.
    pub mask: u32,
}

/// What a rule does with the packets that match it; the walk goes on behind it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MarkAction {
    /// `mark = (mark & !mask) ^ value`, as `MARK --set-xmark value/mask`.
    Set {
        /// Bits to flip.
        value: u32,
        /// Bits to clear before.
        mask: u32,
    },
    /// Passes over the next rules.
    Skip {
        /// How many; more than there are end the walk.
        rules: u32,
    },
}

impl MarkAction {
    /// Makes the mark `value`.
    pub const fn set(value: u32) -> Self {
        Self::Set {
            value,
            mask: u32::MAX,
        }
    }

    /// Ends the walk.
    pub const STOP: Self = Self::Skip { rules: u32::MAX };
}

/// One rule. What is absent or empty matches every packet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MarkRule {
    /// Address family.
    #[serde(default, skip_serializing_if = "is_default")]
    pub family: Family,
    /// Where the packet goes.
    #[serde(default, skip_serializing_if = "is_default")]
    pub destination: Option<Prefix>,
    /// Where it comes from.
    #[serde(default, skip_serializing_if = "is_default")]
    pub source: Option<Prefix>,
    /// Its protocol.
    #[serde(default, skip_serializing_if = "is_default")]
    pub protocol: Option<Protocol>,
    /// Its destination port is one of these.
    #[serde(default, skip_serializing_if = "is_default")]
    pub ports: Vec<PortRange>,
    /// Its source port is one of these.
    #[serde(default, skip_serializing_if = "is_default")]
    pub source_ports: Vec<PortRange>,
    /// Name of the interface it comes in by.
    #[serde(default, skip_serializing_if = "is_default")]
    pub interface: Option<String>,
    /// The mark that rules before have given it.
    #[serde(default, skip_serializing_if = "is_default")]
    pub mark: Option<MarkMatch>,
    /// What is done.
    pub action: MarkAction,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

impl MarkRule {
    /// A rule for every packet.
    pub const fn every(action: MarkAction) -> Self {
        Self {
            family: Family::Any,
            destination: None,
            source: None,
            protocol: None,
            ports: Vec::new(),
            source_ports: Vec::new(),
            interface: None,
            mark: None,
            action,
        }
    }
}

/// As the arguments of `pointsman mark add`.
impl fmt::Display for MarkRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let named = self.destination.is_some() || self.source.is_some();
        match self.family {
            Family::Ipv4 if !named => f.write_str("--ipv4 ")?,
            Family::Ipv6 if !named => f.write_str("--ipv6 ")?,
            _ => {}
        }
        if let Some(prefix) = &self.destination {
            write!(f, "--destination {prefix} ")?;
        }
        if let Some(prefix) = &self.source {
            write!(f, "--source {prefix} ")?;
        }
        if let Some(protocol) = self.protocol {
            write!(f, "--protocol {} ", protocol.to_string().to_lowercase())?;
        }
        for (flag, ports) in [
            ("--ports", &self.ports),
            ("--source-ports", &self.source_ports),
        ] {
            if !ports.is_empty() {
                let ports: Vec<String> = ports.iter().map(PortRange::to_string).collect();
                write!(f, "{flag} {} ", ports.join(","))?;
            }
        }
        if let Some(interface) = &self.interface {
            write!(f, "--interface {interface} ")?;
        }
        if let Some(MarkMatch { value, mask }) = self.mark {
            write!(f, "--mark {value:#x}")?;
            match mask {
                u32::MAX => f.write_str(" ")?,
                mask => write!(f, "/{mask:#x} ")?,
            }
        }
        match self.action {
            MarkAction::Set {
                value,
                mask: u32::MAX,
            } => write!(f, "--set {value:#x}"),
            MarkAction::Set { value, mask } if value & !mask == 0 => {
                write!(f, "--set {value:#x}/{mask:#x}")
            }
            MarkAction::Set { value, mask } => write!(f, "--set-xmark {value:#x}/{mask:#x}"),
            MarkAction::Skip { rules: u32::MAX } => f.write_str("--stop"),
            MarkAction::Skip { rules } => write!(f, "--skip {rules}"),
        }
    }
}

/// A rule, and whether it can match.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MarkRuleView {
    /// As configured.
    #[serde(flatten)]
    pub rule: MarkRule,
    /// False while the interface it names does not exist.
    pub interface_exists: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_lose_the_bits_that_do_not_count() {
        let prefix: Prefix = "10.99.3.7/16".parse().unwrap();
        assert_eq!(prefix.to_string(), "10.99.0.0/16");
        assert!(prefix.contains("10.99.255.1".parse().unwrap()));
        assert!(!prefix.contains("10.98.0.1".parse().unwrap()));
        assert!(!prefix.contains("fd00::1".parse().unwrap()));
        let all: Prefix = "::/0".parse().unwrap();
        assert!(all.contains("fd00::1".parse().unwrap()));
        assert_eq!("fd00::1".parse::<Prefix>().unwrap().length, 128);
        for bad in [
            "",
            "10.0.0.0/33",
            "10.0.0/8",
            "fd00::/129",
            "10.0.0.0/",
            "a",
        ] {
            assert!(bad.parse::<Prefix>().is_err(), "{bad}");
        }
    }

    #[test]
    fn ranges_are_read_in_both_spellings() {
        let range: PortRange = "8000:8100".parse().unwrap();
        assert_eq!(range.to_string(), "8000-8100");
        assert_eq!("80".parse::<PortRange>().unwrap(), PortRange::of(80));
        for bad in ["", "90-80", "65536", "80-", "http"] {
            assert!(bad.parse::<PortRange>().is_err(), "{bad}");
        }
    }

    #[test]
    fn rules_are_shown_as_they_are_added() {
        let mut rule = MarkRule::every(MarkAction::set(1));
        assert_eq!(rule.to_string(), "--set 0x1");
        rule.family = Family::Ipv6;
        assert_eq!(rule.to_string(), "--ipv6 --set 0x1");
        rule.destination = Some("fd00::/64".parse().unwrap());
        rule.protocol = Some(Protocol::Tcp);
        rule.ports = vec![PortRange::of(80), PortRange { low: 90, high: 99 }];
        rule.interface = Some("eth0".to_owned());
        rule.mark = Some(MarkMatch { value: 0, mask: 3 });
        rule.action = MarkAction::Set { value: 4, mask: 0 };
        assert_eq!(
            rule.to_string(),
            "--destination fd00::/64 --protocol tcp --ports 80,90-99 --interface eth0 \
             --mark 0x0/0x3 --set-xmark 0x4/0x0"
        );
        rule.action = MarkAction::Set { value: 4, mask: 12 };
        assert!(rule.to_string().ends_with("--set 0x4/0xc"));
        rule.action = MarkAction::STOP;
        assert!(rule.to_string().ends_with("--stop"));
    }
}

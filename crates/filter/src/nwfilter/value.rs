//! Types of attribute values, and what libvirt takes for them.

use std::net::Ipv4Addr;

use crate::address;
use crate::names;

/// What an attribute holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Type {
    /// A number from the first to the second.
    Number(u64, u64),
    /// A number without `0x`.
    Decimal(u64),
    /// An EtherType from this number, or a name.
    Ethernet(u64),
    /// An ARP operation.
    ArpOperation,
    /// An IP protocol.
    Protocol,
    /// A link-layer address.
    Mac,
    /// The mask of one: ones, then zeros.
    MacMask,
    /// An IPv4 address.
    Ip4,
    /// The mask of one: a number, or an address.
    Ip4Mask,
    /// An IPv6 address.
    Ip6,
    /// The mask of one.
    Ip6Mask,
    /// Yes or no.
    Boolean,
    /// TCP flags: `mask/flags`.
    TcpFlags,
    /// Connection states.
    States,
    /// The name of a set of addresses.
    SetName,
    /// Directions for such a set.
    SetFlags,
    /// Text for people.
    Comment,
}

impl Type {
    /// The value as libvirt hands it on: numbers decimal, masks as lengths.
    pub(super) fn check(self, text: &str) -> Option<String> {
        match self {
            Self::Number(least, most) => number(text)
                .filter(|number| (least..=most).contains(number))
                .map(|number| number.to_string()),
            Self::Decimal(most) => text
                .parse::<u64>()
                .ok()
                .filter(|&number| number <= most)
                .map(|number| number.to_string()),
            Self::Ethernet(least) => match text.to_ascii_lowercase().as_str() {
                "arp" => Some(0x0806),
                "rarp" => Some(0x8035),
                "ipv4" => Some(0x0800),
                "ipv6" => Some(0x86dd),
                "vlan" => Some(0x8100),
                _ => number(text).filter(|number| (least..=0xffff).contains(number)),
            }
            .map(|number| number.to_string()),
            Self::ArpOperation => names::arp_operation(text)
                .map(u64::from)
                .or_else(|| number(text).filter(|&number| number <= 0xffff))
                .map(|number| number.to_string()),
            Self::Protocol => match text.to_ascii_lowercase().as_str() {
                "tcp" => Some(6),
                "udp" => Some(17),
                "udplite" => Some(136),
                "esp" => Some(50),
                "ah" => Some(51),
                "icmp" => Some(1),
                "igmp" => Some(2),
                "sctp" => Some(132),
                "icmpv6" => Some(58),
                _ => number(text).filter(|&number| number <= 255),
            }
            .map(|number| number.to_string()),
            Self::Mac => address::mac(text).map(address::mac_text),
            Self::MacMask => address::mac(text)
                .filter(|&mask| address::prefix_length(mask, 48).is_some())
                .map(address::mac_text),
            Self::Ip4 => ip4(text).map(|address| Ipv4Addr::from(address).to_string()),
            Self::Ip4Mask => mask(text, 32, ip4(text).map(u128::from)),
            Self::Ip6 => address::uniform(text, true),
            Self::Ip6Mask => mask(text, 128, address::ip6(text)),
            Self::Boolean => {
                let yes = matches!(text, "true" | "1" | "yes");
                Some(if yes { "1" } else { "0" }.to_owned())
            }
            Self::TcpFlags => {
                let (mask, flags) = text.split_once('/')?;
                Some(format!("{}/{}", tcp_flags(mask)?, tcp_flags(flags)?))
            }
            Self::States => {
                let states = items(text, &STATES)?;
                let said = |&(bit, _): &(usize, &&str)| states >> bit & 1 == 1;
                let names = STATES.iter().enumerate().filter(said);
                let names: Vec<&str> = names.map(|(_, name)| *name).collect();
                Some(names.join(","))
            }
            Self::SetName => {
                let good = |c: char| c.is_ascii_alphanumeric() || "_.:-+ ".contains(c);
                (text.len() <= 31 && !text.is_empty() && text.chars().all(good))
                    .then(|| text.to_owned())
            }
            Self::SetFlags => {
                let flags: Vec<&str> = text.split(',').collect();
                let good = |flag: &&str| {
                    flag.eq_ignore_ascii_case("src") || flag.eq_ignore_ascii_case("dst")
                };
                (flags.len() <= 6 && flags.iter().all(good)).then(|| text.to_ascii_lowercase())
            }
            Self::Comment => Some(text.chars().take(256).collect()),
        }
    }

    /// What it is, for errors.
    pub(super) fn what(self) -> String {
        match self {
            Self::Number(least, most) => format!("a number from {least} to {most}"),
            Self::Decimal(most) => format!("a decimal number up to {most}"),
            Self::Ethernet(least) => format!(
                "an EtherType from {least:#x} to 0xffff, nor one of arp, rarp, ipv4, ipv6, vlan"
            ),
            Self::ArpOperation => "an ARP operation".into(),
            Self::Protocol => "an IP protocol".into(),
            Self::Mac => "a link-layer address".into(),
            Self::MacMask => "a link-layer mask, which is ones and then zeros".into(),
            Self::Ip4 => "an IPv4 address".into(),
            Self::Ip4Mask => "an IPv4 mask: 0 to 32, or as an address".into(),
            Self::Ip6 => "an IPv6 address".into(),
            Self::Ip6Mask => "an IPv6 mask: 0 to 128, or as an address".into(),
            Self::Boolean => "yes or no".into(),
            Self::TcpFlags => "TCP flags: mask/flags of SYN ACK URG PSH FIN RST ALL NONE".into(),
            Self::States => "a list of NEW, ESTABLISHED, RELATED, INVALID, or NONE".into(),
            Self::SetName => "the name of a set".into(),
            Self::SetFlags => "a list of up to six src and dst".into(),
            Self::Comment => "text".into(),
        }
    }
}

fn mask(text: &str, width: u32, address: Option<u128>) -> Option<String> {
    let bits = match text.parse::<u32>() {
        Ok(bits) => Some(bits).filter(|&bits| bits <= width),
        Err(_) => address::prefix_length(address?, width),
    };
    bits.map(|bits| bits.to_string())
}

/// States in libvirt's order.
const STATES: [&str; 5] = ["NEW", "ESTABLISHED", "RELATED", "INVALID", "NONE"];
/// TCP flags by their bits, and what stands for none and all of them.
const FLAGS: [&str; 8] = ["FIN", "SYN", "RST", "PSH", "ACK", "URG", "ALL", "NONE"];

/// A number as libvirt reads it: decimal, or else hexadecimal with or without `0x`.
fn number(text: &str) -> Option<u64> {
    let text = text.trim_start_matches([' ', '\t', '\n', '\u{b}', '\u{c}', '\r']);
    if text == "-1" {
        return Some(u32::MAX.into());
    }
    let digits = text.strip_prefix('+').unwrap_or(text);
    if digits.starts_with('+') {
        return None;
    }
    let hex = digits
        .strip_prefix("0x")
        .or_else(|| digits.strip_prefix("0X"))
        .unwrap_or(digits);
    let decimal = digits.parse::<u64>().ok();
    decimal
        .or_else(|| {
            u64::from_str_radix(hex, 16)
                .ok()
                .filter(|_| !hex.starts_with('+'))
        })
        .filter(|&number| number <= u32::MAX.into())
}

/// An IPv4 address as libvirt reads it, of one to four parts: `10.257` is 10.0.1.1, and parts may be octal or
/// hexadecimal.
fn ip4(text: &str) -> Option<u32> {
    let part = |text: &str| {
        let (digits, radix) = match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
            Some(hex) => (hex, 16),
            None if text.len() > 1 && text.starts_with('0') => (&text[1..], 8),
            None => (text, 10),
        };
        let number = u32::from_str_radix(digits, radix).ok();
        number.filter(|_| digits.bytes().all(|byte| byte.is_ascii_alphanumeric()))
    };
    let parts = text.split('.').map(part).collect::<Option<Vec<u32>>>()?;
    let (&last, first) = parts.split_last()?;
    if first.len() > 3 || first.iter().any(|&part| part > 0xff) {
        return None;
    }
    let room = 32 - 8 * first.len() as u32;
    let high = first
        .iter()
        .fold(0u64, |value, &part| value << 8 | u64::from(part));
    if u64::from(last) >> room != 0 {
        return None;
    }
    u32::try_from(high << room | u64::from(last)).ok()
}

/// Which of the names are said, as bits. As libvirt reads them: commas between them may be left out.
fn items(text: &str, names: &[&str]) -> Option<u32> {
    let mut rest = text.trim_ascii_start();
    let mut bits = 0;
    while !rest.is_empty() {
        let (bit, name) = names.iter().enumerate().find(|(_, name)| {
            let start = rest.get(..name.len());
            start.is_some_and(|start| start.eq_ignore_ascii_case(name))
        })?;
        bits |= 1 << bit;
        rest = rest[name.len()..].trim_ascii_start();
        rest = rest.strip_prefix(',').unwrap_or(rest).trim_ascii_start();
    }
    Some(bits)
}

/// Names joined by commas; in libvirt's order, without repetitions.
fn tcp_flags(text: &str) -> Option<String> {
    let said = items(text, &FLAGS)?;
    let bits = if said >> 6 & 1 == 1 {
        0x3f
    } else {
        said & 0x3f
    };
    Some(match bits {
        0 => "NONE".into(),
        0x3f => "ALL".into(),
        _ => {
            // Not in the order of the bits.
            let order = ["SYN", "ACK", "URG", "PSH", "FIN", "RST"];
            let is_set = |name: &&str| {
                let bit = FLAGS.iter().position(|known| known == name);
                bit.is_some_and(|bit| bits >> bit & 1 == 1)
            };
            let set: Vec<&str> = order.into_iter().filter(is_set).collect();
            set.join(",")
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_checked_and_made_uniform() {
        for (kind, text, value) in [
            (Type::Number(0, 4095), "0x64", Some("100")),
            (Type::Number(0, 4095), "4096", None),
            (Type::Decimal(10), "0x3", None),
            (Type::Ethernet(0x600), "IPv4", Some("2048")),
            (Type::Ethernet(0x600), "0x5ff", None),
            (Type::ArpOperation, "request_reverse", Some("3")),
            (Type::Protocol, "TCP", Some("6")),
            (Type::Protocol, "gre", None),
            (Type::Mac, "2:0:73:B6:53:c8", Some("02:00:73:b6:53:c8")),
            (Type::MacMask, "ff:0f:00:00:00:00", None),
            (Type::Ip6, "FE80:0::1", Some("fe80::1")),
            (Type::Ip6, "10.0.0.1", None),
            (Type::Ip4, "10.257", Some("10.0.1.1")),
            (Type::Ip4, "010.9.0.1", Some("8.9.0.1")),
            (Type::Ip4, "0x0a090001", Some("10.9.0.1")),
            (Type::Ip4, "10.9.0.1/24", None),
            (Type::Ip4, "256.1.1.1", None),
            (Type::Ip4, "1.2.3.4.5", None),
            (Type::Ip4, "1..2", None),
            (Type::Ip4, "1.+2", None),
            (Type::Ip4, "", None),
            (Type::Ip4Mask, "255.255.0.0", Some("16")),
            (Type::Ip4Mask, "255.0.255.0", None),
            (Type::Ip4Mask, "33", None),
            (Type::Ip6Mask, "ffff::", Some("16")),
            (Type::Boolean, "yes", Some("1")),
            (Type::Boolean, "Yes", Some("0")),
            (Type::Boolean, "banana", Some("0")),
            (Type::TcpFlags, "SYN,ACK/SYN", Some("SYN,ACK/SYN")),
            (Type::TcpFlags, "SYN", None),
            (Type::States, "NEW,OLD", None),
        ] {
            assert_eq!(kind.check(text).as_deref(), value, "{kind:?} {text}");
        }
    }
}

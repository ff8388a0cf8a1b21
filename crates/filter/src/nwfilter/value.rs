//! Types of attribute values, and what libvirt takes for them.

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
            Self::Number(least, most) => names::number(text)
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
                _ => names::number(text).filter(|number| (least..=0xffff).contains(number)),
            }
            .map(|number| number.to_string()),
            Self::ArpOperation => names::arp_operation(text).map(|number| number.to_string()),
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
                _ => names::number(text).filter(|&number| number <= 255),
            }
            .map(|number| number.to_string()),
            Self::Mac => address::mac(text).map(address::mac_text),
            Self::MacMask => address::mac(text)
                .filter(|&mask| address::prefix_length(mask, 48).is_some())
                .map(address::mac_text),
            Self::Ip4 => address::uniform(text, false),
            Self::Ip4Mask => mask(text, 32, address::ip4(text)),
            Self::Ip6 => address::uniform(text, true),
            Self::Ip6Mask => mask(text, 128, address::ip6(text)),
            Self::Boolean => {
                let yes = ["true", "1", "yes"]
                    .iter()
                    .any(|word| word.eq_ignore_ascii_case(text));
                Some(if yes { "1" } else { "0" }.to_owned())
            }
            Self::TcpFlags => {
                let (mask, flags) = text.split_once('/')?;
                Some(format!("{}/{}", tcp_flags(mask)?, tcp_flags(flags)?))
            }
            Self::States => {
                let good = text.split(',').all(|state| {
                    ["NEW", "ESTABLISHED", "RELATED", "INVALID", "NONE"]
                        .iter()
                        .any(|known| known.eq_ignore_ascii_case(state.trim()))
                });
                good.then(|| text.to_ascii_uppercase().replace(' ', ""))
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

/// Names joined by commas; in libvirt's order, without repetitions.
fn tcp_flags(text: &str) -> Option<String> {
    let mut bits = 0u8;
    for name in text.split(',') {
        bits |= match name.trim().to_ascii_uppercase().as_str() {
            "FIN" => 0x01,
            "SYN" => 0x02,
            "RST" => 0x04,
            "PSH" => 0x08,
            "ACK" => 0x10,
            "URG" => 0x20,
            "ALL" => 0x3f,
            "NONE" => 0,
            _ => return None,
        };
    }
    Some(match bits {
        0 => "NONE".into(),
        0x3f => "ALL".into(),
        _ => {
            let names = [
                ("FIN", 1),
                ("SYN", 2),
                ("RST", 4),
                ("PSH", 8),
                ("ACK", 16),
                ("URG", 32),
            ];
            let set: Vec<&str> = names
                .iter()
                .filter(|(_, bit)| bits & bit != 0)
                .map(|(name, _)| *name)
                .collect();
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
            (Type::Ip4Mask, "255.255.0.0", Some("16")),
            (Type::Ip4Mask, "255.0.255.0", None),
            (Type::Ip4Mask, "33", None),
            (Type::Ip6Mask, "ffff::", Some("16")),
            (Type::Boolean, "Yes", Some("1")),
            (Type::Boolean, "banana", Some("0")),
            (Type::TcpFlags, "SYN,ACK/SYN", Some("SYN,ACK/SYN")),
            (Type::TcpFlags, "SYN", None),
            (Type::States, "NEW,OLD", None),
        ] {
            assert_eq!(kind.check(text).as_deref(), value, "{kind:?} {text}");
        }
    }
}

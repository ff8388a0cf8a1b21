//! Fields, values and tests in words.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::address::{mac_text, prefix_length, prefix_mask};
use crate::field::{Field, Start};
use crate::names;
use crate::test::{Interface, Key, Range, Situation, Test};

/// How values are called by people who wrote the filter.
pub(super) type Labels<'l> = &'l dyn Fn(&str) -> Option<String>;

/// A field in words.
pub(super) fn field(field: Field) -> &'static str {
    match field {
        Field::EtherSource => "source MAC",
        Field::EtherDestination => "destination MAC",
        Field::EtherType | Field::Carried => "EtherType",
        Field::VlanId => "VLAN",
        Field::VlanPriority => "VLAN priority",
        Field::VlanCarried => "EtherType behind the tag",
        Field::ArpHardware => "ARP hardware type",
        Field::ArpProtocol => "ARP protocol type",
        Field::ArpHardwareLength => "length of ARP's hardware addresses",
        Field::ArpProtocolLength => "length of ARP's protocol addresses",
        Field::ArpOperation => "ARP operation",
        Field::ArpSenderMac => "ARP sender MAC",
        Field::ArpSenderIp => "ARP sender address",
        Field::ArpTargetMac => "ARP target MAC",
        Field::ArpTargetIp => "ARP target address",
        Field::ArpGratuitous => "gratuitous ARP",
        Field::Ip4Source | Field::Ip6Source => "source address",
        Field::Ip4Destination | Field::Ip6Destination => "destination address",
        Field::Ip4Protocol | Field::Transport => "protocol",
        Field::Ip6NextHeader => "next header",
        Field::Ip4Tos => "type of service",
        Field::Ip6TrafficClass => "traffic class",
        Field::Ip4Dscp | Field::Ip6Dscp => "DSCP",
        Field::Ip4Ecn => "ECN",
        Field::Ip4Length => "IP length",
        Field::Ip4Id => "IP identification",
        Field::Ip4Fragment => "fragment flags and offset",
        Field::Ip4Ttl => "TTL",
        Field::Ip4Checksum => "IP checksum",
        Field::Ip6FlowLabel => "flow label",
        Field::Ip6Length => "IPv6 payload length",
        Field::Ip6HopLimit => "hop limit",
        Field::SourcePort(_) => "source port",
        Field::DestinationPort(_) => "destination port",
        Field::TcpFlags => "TCP flags",
        Field::TcpOption(_) => "TCP option",
        Field::IcmpType => "ICMP type",
        Field::IcmpCode => "ICMP code",
        Field::Icmp6Type => "ICMPv6 type",
        Field::Icmp6Code => "ICMPv6 code",
        Field::IgmpType => "IGMP type",
        Field::Raw(Start::Link, ..) => "bytes of the link header",
        Field::Raw(Start::Network, ..) => "bytes of the network header",
        Field::Raw(Start::Transport, ..) => "bytes of the transport header",
        Field::Length => "length",
        Field::PacketType => "addressee",
        Field::Mark => "mark",
        Field::ConnectionState => "connection state",
        Field::ConnectionDirection => "direction of the connection",
        Field::NetworkFamily => "address family",
    }
}

/// A value as people write it.
pub(super) fn value(field: Field, number: u128) -> String {
    match field {
        Field::EtherSource
        | Field::EtherDestination
        | Field::ArpSenderMac
        | Field::ArpTargetMac => mac_text(number),
        Field::Ip4Source | Field::Ip4Destination | Field::ArpSenderIp | Field::ArpTargetIp => {
            Ipv4Addr::from_bits(number as u32).to_string()
        }
        Field::Ip6Source | Field::Ip6Destination => Ipv6Addr::from_bits(number).to_string(),
        Field::EtherType | Field::Carried | Field::VlanCarried | Field::ArpProtocol => {
            names::ethertype_name(number as u16)
        }
        Field::Ip4Protocol | Field::Transport | Field::Ip6NextHeader => {
            names::protocol_name(number as u8)
        }
        Field::ArpOperation => names::arp_operation_name(number as u16).to_lowercase(),
        Field::ConnectionState => states(number),
        Field::ConnectionDirection => if number == 0 { "original" } else { "reply" }.into(),
        Field::PacketType => match number {
            1 => "everybody".into(),
            2 => "a group".into(),
            3 => "one station".into(),
            _ => number.to_string(),
        },
        Field::NetworkFamily => if number == 2 { "IPv4" } else { "IPv6" }.into(),
        Field::IcmpType => named(names::icmp_name(number as u8, false), number),
        Field::Icmp6Type => named(names::icmp_name(number as u8, true), number),
        Field::TcpFlags => flags(number as u8),
        Field::Mark | Field::Ip4Tos | Field::Raw(..) | Field::Ip4Fragment => {
            format!("{number:#x}")
        }
        _ => number.to_string(),
    }
}

fn named(name: Option<&str>, number: u128) -> String {
    name.map_or_else(|| number.to_string(), str::to_owned)
}

fn states(bits: u128) -> String {
    const STATES: &[(u128, &str)] = &[
        (1, "invalid"),
        (2, "established"),
        (4, "related"),
        (8, "new"),
        (64, "untracked"),
    ];
    let found: Vec<&str> = STATES
        .iter()
        .filter(|(bit, _)| bits & bit != 0)
        .map(|(_, name)| *name)
        .collect();
    if found.is_empty() {
        bits.to_string()
    } else {
        found.join(" or ")
    }
}

fn flags(bits: u8) -> String {
    const FLAGS: [&str; 8] = ["FIN", "SYN", "RST", "PSH", "ACK", "URG", "ECE", "CWR"];
    let found: Vec<&str> = FLAGS
        .iter()
        .enumerate()
        .filter(|(at, _)| bits >> at & 1 != 0)
        .map(|(_, name)| *name)
        .collect();
    if found.is_empty() {
        "none".into()
    } else {
        found.join("+")
    }
}

/// Whether two texts are the same address.
pub(super) fn same(one: &str, other: &str) -> bool {
    let mac = |text: &str| crate::address::mac(text);
    let ip = |text: &str| text.parse::<IpAddr>().ok();
    one == other
        || mac(one).is_some() && mac(one) == mac(other)
        || ip(one).is_some() && ip(one) == ip(other)
}

/// Values from the first to the second, with the name that the filter has for them.
pub(super) fn label(field: Field, (first, last): Range, labels: Labels<'_>) -> String {
    if first == last {
        let text = value(field, first);
        return labels(&text).unwrap_or(text);
    }
    let width = field.width();
    let is_address = matches!(
        field,
        Field::Ip4Source
            | Field::Ip4Destination
            | Field::Ip6Source
            | Field::Ip6Destination
            | Field::ArpSenderIp
            | Field::ArpTargetIp
    );
    if is_address {
        let mask = field.all_ones() & !(first ^ last);
        if let Some(bits) = prefix_length(mask, width)
            && first & !prefix_mask(bits, width) == 0
        {
            return format!("{}/{bits}", value(field, first));
        }
    }
    format!("{} to {}", value(field, first), value(field, last))
}

fn values(key: Key, ranges: &[Range], labels: Labels<'_>) -> String {
    let texts: Vec<String> = ranges
        .iter()
        .map(|range| label(key.field, *range, labels))
        .collect();
    texts.join(" or ")
}

fn name(key: Key) -> String {
    match key.mask {
        Some(mask) if key.field == Field::ConnectionState => {
            let _ = mask;
            field(key.field).to_owned()
        }
        Some(mask) => format!("{} under {}", field(key.field), value(key.field, mask)),
        None => field(key.field).to_owned(),
    }
}

/// A test as a sentence: `source address is 192.0.2.1`.
pub fn test(test: &Test, labels: &dyn Fn(&str) -> Option<String>) -> String {
    match test {
        Test::Compare {
            key,
            negated,
            ranges,
        } => {
            let not = if *negated { "not " } else { "" };
            compare(*key, not, ranges, labels)
        }
        Test::Tuple {
            keys,
            negated,
            elements,
        } => {
            let names: Vec<String> = keys.iter().map(|key| name(*key)).collect();
            let not = if *negated { "none" } else { "one" };
            format!(
                "{} are {not} of {} entries",
                names.join(" and "),
                elements.len()
            )
        }
        Test::Name {
            interface,
            negated,
            names,
        } => {
            let what = match interface {
                Interface::InputPort => "port in",
                Interface::OutputPort => "port out",
                Interface::InputDevice => "device in",
                Interface::OutputDevice => "device out",
            };
            let not = if *negated { "not " } else { "" };
            format!("{what} is {not}{}", names.join(" or "))
        }
        Test::Bridged(true) => "the packet is bridged".into(),
        Test::Bridged(false) => "the packet is not bridged".into(),
        Test::Crowded { above, negated, .. } => {
            let not = if *negated { "not " } else { "" };
            format!("there are {not}more than {above} connections")
        }
        Test::Any { negated, tests } => {
            let words: Vec<String> = tests.iter().map(|one| self::test(one, labels)).collect();
            let not = if *negated { "not: " } else { "" };
            format!("{not}{}", words.join(" or "))
        }
        Test::Opaque(text) => format!("`{text}` (not understood)"),
    }
}

/// `is` or `is not`, with what is special about some fields.
fn compare(key: Key, not: &str, ranges: &[Range], labels: Labels<'_>) -> String {
    match (key.field, ranges) {
        (Field::ArpGratuitous, [(1, 1)]) => format!("the ARP is {not}gratuitous"),
        (Field::TcpOption(kind), [(1, 1)]) if not.is_empty() => {
            format!("TCP option {kind} is there")
        }
        _ => format!("{} is {not}{}", name(key), values(key, ranges, labels)),
    }
}

/// A test that must hold too, short: `protocol udp`.
pub(super) fn condition(test: &Test, labels: Labels<'_>) -> String {
    match test {
        Test::Compare {
            key,
            negated,
            ranges,
        } => {
            let not = if *negated { "not " } else { "" };
            format!("{} {not}{}", name(*key), values(*key, ranges, labels))
        }
        other => self::test(other, labels),
    }
}

/// A test that held for the frame, with the frame's value where the test does not name it.
pub(super) fn held(test: &Test, situation: &Situation<'_>, labels: Labels<'_>) -> String {
    match test {
        Test::Compare {
            key,
            negated,
            ranges,
        } if *negated || ranges.len() > 1 || ranges.iter().any(|(a, b)| a != b) => {
            seen(*key, *negated, ranges, situation, labels)
        }
        other => self::test(other, labels),
    }
}

/// A test that did not hold for the frame.
pub(super) fn failed(test: &Test, situation: &Situation<'_>, labels: Labels<'_>) -> String {
    match test {
        Test::Compare {
            key,
            negated,
            ranges,
        } => seen(*key, !negated, ranges, situation, labels),
        other => format!("not: {}", self::test(other, labels)),
    }
}

fn seen(
    key: Key,
    negated: bool,
    ranges: &[Range],
    situation: &Situation<'_>,
    labels: Labels<'_>,
) -> String {
    let not = if negated { "not " } else { "" };
    match situation.field(key) {
        Some(number) if key.mask.is_none() => {
            let own = value(key.field, number);
            let list = values(key, ranges, labels);
            format!("{} {own} is {not}{list}", field(key.field))
        }
        Some(_) => compare(key, not, ranges, labels),
        None => format!("there is no {}", field(key.field)),
    }
}

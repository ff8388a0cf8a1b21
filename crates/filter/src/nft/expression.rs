//! nftables expressions, as tests.

use serde_json::Value;

use super::Scope;
use crate::address;
use crate::connection::State;
use crate::field::{Field, Start};
use crate::model::Family;
use crate::names;
use crate::test::{Interface, Key, Range, Test};

/// What stands left of a comparison.
enum Left {
    Key(Key),
    Keys(Vec<Key>),
    Interface(Interface),
}

/// The test of a `match` statement, or nothing if it is not understood.
fn comparison(scope: Scope<'_>, statement: &Value) -> Option<Test> {
    let operator = statement.get("op").and_then(Value::as_str)?;
    let left = left(scope, statement.get("left")?)?;
    let right = statement.get("right")?;
    match left {
        Left::Interface(interface) => {
            let mut names = Vec::new();
            for value in elements(scope, right)? {
                names.push(value.as_str()?.to_owned());
            }
            let negated = negated(operator)?;
            Some(Test::Name {
                interface,
                negated,
                names,
            })
        }
        Left::Keys(keys) => tuple(scope, keys, right, negated(operator)?),
        Left::Key(key) => compare(scope, key, operator, right),
    }
}

/// Adds the tests of a `match` statement; false if it is not understood.
pub(super) fn add(scope: Scope<'_>, statement: &Value, tests: &mut Vec<Test>) -> bool {
    let Some(mut test) = comparison(scope, statement) else {
        return false;
    };
    let mut is_arp = false;
    let mut settle = |key: &mut Key| {
        if let Some(field) = at_place(key.field) {
            key.field = field;
            is_arp = true;
        }
    };
    match &mut test {
        Test::Compare { key, .. } => settle(key),
        Test::Tuple { keys, .. } => keys.iter_mut().for_each(settle),
        _ => {}
    }
    if is_arp {
        // What nft tests without listing it.
        let names_tag = |test: &Test| {
            matches!(test, Test::Compare { key, .. }
                if matches!(key.field, Field::VlanId | Field::VlanPriority | Field::VlanCarried))
        };
        let field = if tests.iter().any(names_tag) {
            Field::VlanCarried
        } else {
            Field::EtherType
        };
        let implied = Test::is(field, 0x0806, false);
        if !tests.contains(&implied) {
            tests.push(implied);
        }
    }
    tests.push(test);
    true
}

/// ARP's fields stand where those of Ethernet and IPv4 do, whatever the lengths say.
fn at_place(field: Field) -> Option<Field> {
    let (offset, bits) = match field {
        Field::ArpHardware => (0, 16),
        Field::ArpProtocol => (16, 16),
        Field::ArpHardwareLength => (32, 8),
        Field::ArpProtocolLength => (40, 8),
        Field::ArpOperation => (48, 16),
        Field::ArpSenderMac => (64, 48),
        Field::ArpSenderIp => (112, 32),
        Field::ArpTargetMac => (144, 48),
        Field::ArpTargetIp => (192, 32),
        _ => return None,
    };
    Some(Field::Raw(Start::Network, offset, bits))
}

/// Whether a value is the key of a verdict map's entry.
pub(super) fn entry(scope: Scope<'_>, key: &Value, value: &Value) -> Option<Test> {
    match left(scope, key)? {
        Left::Interface(interface) => Some(Test::Name {
            interface,
            negated: false,
            names: vec![value.as_str()?.to_owned()],
        }),
        Left::Key(key) => Some(Test::Compare {
            key,
            negated: false,
            ranges: vec![range(key.field, value)?],
        }),
        Left::Keys(keys) => {
            let element = concatenated(&keys, value)?;
            Some(Test::Tuple {
                keys,
                negated: false,
                elements: vec![element],
            })
        }
    }
}

fn negated(operator: &str) -> Option<bool> {
    match operator {
        "==" | "in" => Some(false),
        "!=" => Some(true),
        _ => None,
    }
}

fn compare(scope: Scope<'_>, key: Key, operator: &str, right: &Value) -> Option<Test> {
    let all = key.field.all_ones();
    let is_flags = matches!(key.field, Field::TcpFlags | Field::ConnectionState);
    let list = |value: &Value| value.is_array() || value.get("|").is_some();
    // A list of states: one of them. The state is always exactly one.
    if key.field == Field::ConnectionState && key.mask.is_none() {
        let states: Vec<&Value> = match right {
            Value::Array(states) => states.iter().collect(),
            _ => elements(scope, right)?,
        };
        let ranges: Option<Vec<Range>> = states
            .into_iter()
            .map(|state| range(key.field, state))
            .collect();
        return Some(Test::Compare {
            key,
            negated: negated(operator)?,
            ranges: ranges?,
        });
    }
    if is_flags && key.mask.is_none() && operator == "in" {
        // Any of the flags.
        let key = Key {
            mask: Some(flags(key.field, right)?),
            ..key
        };
        return Some(Test::is(key, 0, true));
    }
    if list(right) {
        let value = flags(key.field, right)?;
        return Some(Test::is(key, value, negated(operator)?));
    }
    let ranges: Option<Vec<Range>> = elements(scope, right)?
        .into_iter()
        .map(|element| range(key.field, element))
        .collect();
    let ranges = ranges?;
    let one = ranges.first().copied().filter(|_| ranges.len() == 1);
    let (ranges, negated) = match operator {
        "==" | "in" => (ranges, false),
        "!=" => (ranges, true),
        "<" => (
            one?.0
                .checked_sub(1)
                .map(|last| (0, last))
                .into_iter()
                .collect(),
            false,
        ),
        "<=" => (vec![(0, one?.1)], false),
        ">" => (vec![(one?.1.checked_add(1)?, all)], false),
        ">=" => (vec![(one?.0, all)], false),
        _ => return None,
    };
    Some(Test::Compare {
        key,
        negated,
        ranges,
    })
}

fn tuple(scope: Scope<'_>, keys: Vec<Key>, right: &Value, negated: bool) -> Option<Test> {
    let found: Option<Vec<Vec<Range>>> = elements(scope, right)?
        .into_iter()
        .map(|element| concatenated(&keys, element))
        .collect();
    let elements = match found {
        Some(elements) => elements,
        None => same_octets(scope, &keys, right)?,
    };
    Some(Test::Tuple {
        keys,
        negated,
        elements,
    })
}

/// The elements of libvirt's set of equal octets, whose 1024 entries are often left out.
fn same_octets(scope: Scope<'_>, keys: &[Key], right: &Value) -> Option<Vec<Vec<Range>>> {
    if right != "@same-ip-set" || !scope.table.starts_with("libvirt_nwfilter_") || keys.len() != 2 {
        return None;
    }
    let octets = (0..4).flat_map(|octet| (0..256u128).map(move |value| value << (8 * octet)));
    Some(octets.map(|value| vec![(value, value); 2]).collect())
}

fn concatenated(keys: &[Key], element: &Value) -> Option<Vec<Range>> {
    let parts = bare(element).get("concat").and_then(Value::as_array)?;
    if parts.len() != keys.len() {
        return None;
    }
    keys.iter()
        .zip(parts)
        .map(|(key, part)| range(key.field, part))
        .collect()
}

fn left(scope: Scope<'_>, left: &Value) -> Option<Left> {
    if let Some(parts) = left.get("concat").and_then(Value::as_array) {
        let keys: Option<Vec<Key>> = parts
            .iter()
            .map(|part| match self::left(scope, part)? {
                Left::Key(key) => Some(key),
                _ => None,
            })
            .collect();
        return keys.map(Left::Keys);
    }
    if let Some([field, mask]) = left.get("&").and_then(Value::as_array).map(Vec::as_slice) {
        let Left::Key(key) = self::left(scope, field)? else {
            return None;
        };
        let mask = flags(key.field, mask)?;
        return Some(Left::Key(Key {
            mask: Some(key.mask.unwrap_or(u128::MAX) & mask),
            ..key
        }));
    }
    if let Some(meta) = left.get("meta") {
        return self::meta(scope, meta.get("key").and_then(Value::as_str)?);
    }
    let field = if let Some(ct) = left.get("ct") {
        match ct.get("key").and_then(Value::as_str)? {
            "state" => Field::ConnectionState,
            "direction" => Field::ConnectionDirection,
            _ => return None,
        }
    } else if let Some(payload) = left.get("payload") {
        self::payload(payload)?
    } else if let Some(option) = left.get("tcp option") {
        // Whether an option is there; its fields are not read.
        if option.get("field").is_some() {
            return None;
        }
        Field::TcpOption(tcp_option(option.get("name").and_then(Value::as_str)?)?)
    } else {
        return None;
    };
    Some(Left::Key(field.into()))
}

fn meta(scope: Scope<'_>, key: &str) -> Option<Left> {
    let bridged = matches!(scope.family, Family::Bridge | Family::Netdev);
    let interface = match key {
        "iif" | "iifname" if bridged => Interface::InputPort,
        "oif" | "oifname" if bridged => Interface::OutputPort,
        "iif" | "iifname" | "ibrname" => Interface::InputDevice,
        "oif" | "oifname" | "obrname" => Interface::OutputDevice,
        _ => {
            let field = match key {
                "protocol" => Field::Carried,
                "l4proto" => Field::Transport,
                "nfproto" => Field::NetworkFamily,
                "mark" => Field::Mark,
                "pkttype" => Field::PacketType,
                "length" if !bridged => Field::Length,
                _ => return None,
            };
            return Some(Left::Key(field.into()));
        }
    };
    Some(Left::Interface(interface))
}

fn payload(payload: &Value) -> Option<Field> {
    if let Some(base) = payload.get("base").and_then(Value::as_str) {
        let number = |key| {
            let number = payload.get(key).and_then(Value::as_u64)?;
            u32::try_from(number)
                .ok()
                .filter(|&number| number < 1 << 20)
        };
        let start = match base {
            "ll" => Start::Link,
            "nh" => Start::Network,
            "th" => Start::Transport,
            _ => return None,
        };
        return Some(Field::Raw(start, number("offset")?, number("len")?))
            .filter(|field| field.width() <= 128 && field.width() > 0);
    }
    let protocol = payload.get("protocol").and_then(Value::as_str)?;
    let field = payload.get("field").and_then(Value::as_str)?;
    Some(match (protocol, field) {
        ("ether", "saddr") => Field::EtherSource,
        ("ether", "daddr") => Field::EtherDestination,
        ("ether", "type") => Field::EtherType,
        ("vlan", "id") => Field::VlanId,
        ("vlan", "pcp") => Field::VlanPriority,
        ("vlan", "type") => Field::VlanCarried,
        ("arp", "htype") => Field::ArpHardware,
        ("arp", "ptype") => Field::ArpProtocol,
        ("arp", "hlen") => Field::ArpHardwareLength,
        ("arp", "plen") => Field::ArpProtocolLength,
        ("arp", "operation") => Field::ArpOperation,
        ("arp", "saddr ether") => Field::ArpSenderMac,
        ("arp", "saddr ip") => Field::ArpSenderIp,
        ("arp", "daddr ether") => Field::ArpTargetMac,
        ("arp", "daddr ip") => Field::ArpTargetIp,
        ("ip", "saddr") => Field::Ip4Source,
        ("ip", "daddr") => Field::Ip4Destination,
        ("ip", "protocol") => Field::Ip4Protocol,
        ("ip", "dscp") => Field::Ip4Dscp,
        ("ip", "ecn") => Field::Ip4Ecn,
        ("ip", "length") => Field::Ip4Length,
        ("ip", "id") => Field::Ip4Id,
        ("ip", "frag-off") => Field::Ip4Fragment,
        ("ip", "ttl") => Field::Ip4Ttl,
        ("ip", "checksum") => Field::Ip4Checksum,
        ("ip6", "saddr") => Field::Ip6Source,
        ("ip6", "daddr") => Field::Ip6Destination,
        ("ip6", "nexthdr") => Field::Ip6NextHeader,
        ("ip6", "dscp") => Field::Ip6Dscp,
        ("ip6", "flowlabel") => Field::Ip6FlowLabel,
        ("ip6", "length") => Field::Ip6Length,
        ("ip6", "hoplimit") => Field::Ip6HopLimit,
        ("th", "sport") => Field::SourcePort(None),
        ("th", "dport") => Field::DestinationPort(None),
        ("tcp" | "udp" | "udplite" | "sctp" | "dccp", "sport") => {
            Field::SourcePort(names::protocol(protocol))
        }
        ("tcp" | "udp" | "udplite" | "sctp" | "dccp", "dport") => {
            Field::DestinationPort(names::protocol(protocol))
        }
        ("tcp", "flags") => Field::TcpFlags,
        ("icmp", "type") => Field::IcmpType,
        ("icmp", "code") => Field::IcmpCode,
        ("icmpv6", "type") => Field::Icmp6Type,
        ("icmpv6", "code") => Field::Icmp6Code,
        ("igmp", "type") => Field::IgmpType,
        _ => return None,
    })
}

/// The values on the right: of a set, or the one.
fn elements<'v>(scope: Scope<'v>, right: &'v Value) -> Option<Vec<&'v Value>> {
    if let Some(name) = right.as_str().and_then(|text| text.strip_prefix('@')) {
        return Some(scope.set(name)?.iter().collect());
    }
    if let Some(set) = right.get("set") {
        return match set {
            Value::Array(elements) => Some(elements.iter().collect()),
            // An anonymous set of one.
            one => Some(vec![one]),
        };
    }
    Some(vec![right])
}

/// An element without its timeout, counter and comment.
fn bare(element: &Value) -> &Value {
    match element.get("elem").and_then(|elem| elem.get("val")) {
        Some(value) => value,
        None => element,
    }
}

fn range(field: Field, element: &Value) -> Option<Range> {
    let element = bare(element);
    if let Some(prefix) = element.get("prefix") {
        let value = number(field, prefix.get("addr")?)?;
        let bits = u32::try_from(prefix.get("len").and_then(Value::as_u64)?).ok()?;
        let mask = address::prefix_mask(bits, field.width());
        return Some((value & mask, value & mask | field.all_ones() & !mask));
    }
    if let Some([low, high]) = element
        .get("range")
        .and_then(Value::as_array)
        .map(Vec::as_slice)
    {
        return Some((number(field, low)?, number(field, high)?));
    }
    let value = number(field, element)?;
    Some((value, value))
}

/// A number, or the bits of a list.
fn flags(field: Field, value: &Value) -> Option<u128> {
    let list = match value {
        Value::Array(list) => list,
        _ => match value.get("|").and_then(Value::as_array) {
            Some(list) => list,
            None => return number(field, value),
        },
    };
    list.iter()
        .try_fold(0, |sum, one| Some(sum | flags(field, one)?))
}

/// The number of a value, by the names that the field has.
fn number(field: Field, value: &Value) -> Option<u128> {
    let found = match value {
        Value::Number(number) => u128::from(number.as_u64()?),
        Value::Bool(set) => u128::from(*set),
        Value::String(text) => named(field, text)?,
        _ => return None,
    };
    (found <= field.all_ones()).then_some(found)
}

fn named(field: Field, text: &str) -> Option<u128> {
    let plain = || match text.strip_prefix("0x") {
        Some(hex) => u128::from_str_radix(hex, 16).ok(),
        None => text.parse().ok(),
    };
    let name = match field {
        Field::EtherSource
        | Field::EtherDestination
        | Field::ArpSenderMac
        | Field::ArpTargetMac => return address::mac(text),
        Field::ArpSenderIp | Field::ArpTargetIp | Field::Ip4Source | Field::Ip4Destination => {
            return address::ip4(text);
        }
        Field::Ip6Source | Field::Ip6Destination => return address::ip6(text),
        Field::EtherType | Field::Carried | Field::VlanCarried | Field::ArpProtocol => match text {
            "ip" => Some(0x0800),
            "arp" => Some(0x0806),
            "ip6" => Some(0x86dd),
            "vlan" | "8021q" => Some(0x8100),
            "8021ad" => Some(0x88a8),
            _ => None,
        },
        Field::Transport | Field::Ip4Protocol | Field::Ip6NextHeader => {
            names::protocol(text).map(u128::from)
        }
        Field::SourcePort(_) | Field::DestinationPort(_) => names::port(text).map(u128::from),
        Field::Ip4Dscp | Field::Ip6Dscp => names::dscp(text).map(u128::from),
        Field::IcmpType => names::icmp(text, false).map(|(kind, _)| kind.into()),
        Field::Icmp6Type => names::icmp(text, true).map(|(kind, _)| kind.into()),
        Field::IcmpCode => names::icmp(text, false).and_then(|(_, code)| code.map(Into::into)),
        Field::Icmp6Code => names::icmp(text, true).and_then(|(_, code)| code.map(Into::into)),
        Field::ArpOperation => match text {
            "request" => Some(1),
            "reply" => Some(2),
            "rrequest" => Some(3),
            "rreply" => Some(4),
            "inrequest" => Some(8),
            "inreply" => Some(9),
            "nak" => Some(10),
            _ => None,
        },
        Field::TcpFlags => match text {
            "fin" => Some(0x01),
            "syn" => Some(0x02),
            "rst" => Some(0x04),
            "psh" => Some(0x08),
            "ack" => Some(0x10),
            "urg" => Some(0x20),
            "ecn" => Some(0x40),
            "cwr" => Some(0x80),
            _ => None,
        },
        Field::ConnectionState => match text {
            "invalid" => Some(State::Invalid as u128),
            "established" => Some(State::Established as u128),
            "related" => Some(State::Related as u128),
            "new" => Some(State::New as u128),
            "untracked" => Some(State::Untracked as u128),
            _ => None,
        },
        Field::ConnectionDirection => match text {
            "original" => Some(0),
            "reply" => Some(1),
            _ => None,
        },
        Field::NetworkFamily => match text {
            "ipv4" => Some(2),
            "ipv6" => Some(10),
            _ => None,
        },
        // Whether a frame is the host's own depends on the host's addresses: not said here.
        Field::PacketType => match text {
            "broadcast" => return Some(1),
            "multicast" => return Some(2),
            _ => return None,
        },
        Field::VlanId | Field::VlanPriority => None,
        _ => None,
    };
    name.or_else(plain)
}

fn tcp_option(name: &str) -> Option<u8> {
    Some(match name {
        "eol" => 0,
        "nop" | "noop" => 1,
        "maxseg" => 2,
        "window" => 3,
        "sack-permitted" => 4,
        "sack" | "sack0" => 5,
        "timestamp" => 8,
        "md5sig" => 19,
        "mptcp" => 30,
        "fastopen" => 34,
        other => other.parse().ok()?,
    })
}

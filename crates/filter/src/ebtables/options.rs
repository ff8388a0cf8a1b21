//! Options of an ebtables rule, as tests.

use crate::address;
use crate::append;
use crate::diagnostic::Diagnostic;
use crate::field::{Field, Start};
use crate::model::{Action, BehindTag, Effect, Rule};
use crate::names;
use crate::test::{Interface, Test};
use crate::words::{self, Cursor, Word, parsed, range};

/// What stands where a carried EtherType should, and is less, is a frame's length.
const SHORTEST_FRAME: u16 = 60;

/// Reads a rule from its words.
pub(super) fn rule(words: &[Word]) -> Result<Rule, Diagnostic> {
    let mut cursor = Cursor::new(words);
    let mut rule = append::blank(words, BehindTag::Hidden);
    let mut shown = Vec::new();
    loop {
        let start = cursor.at();
        let negated = cursor.take("!");
        let Some(word) = cursor.next() else {
            break;
        };
        if !word.is_option() {
            return Err(word.place.error(format!(
                "`{}` is not an option, and no option asks for it",
                word.text
            )));
        }
        if word.is("-c") {
            // Counters: packets, bytes.
            let (_, packets) = cursor.value(word)?;
            rule.packets = Some(parsed(packets, "a count", packets.text.parse().ok())?);
            cursor.value(word)?;
            continue;
        }
        if word.is("-j") || word.is("--jump") {
            target(word, &mut cursor, &mut rule)?;
        } else {
            option(word, negated, &mut cursor, &mut rule.tests)?;
        }
        shown.extend_from_slice(cursor.since(start));
    }
    rule.text = words::join(&shown);
    Ok(rule)
}

/// Whether the word is an option of a target, which stands behind `-j`.
pub(crate) fn is_target_option(word: &str) -> bool {
    matches!(
        word,
        "--mark-set"
            | "--set-mark"
            | "--mark-or"
            | "--mark-and"
            | "--mark-xor"
            | "--mark-target"
            | "--to-source"
            | "--to-src"
            | "--to-destination"
            | "--to-dst"
            | "--snat-target"
            | "--snat-arp"
            | "--dnat-target"
            | "--redirect-target"
            | "--arpreply-mac"
            | "--arpreply-target"
    )
}

fn target(option: &Word, cursor: &mut Cursor<'_>, rule: &mut Rule) -> Result<(), Diagnostic> {
    let start = cursor.at();
    let (_, name) = cursor.value(option)?;
    let mut then = None;
    let mut odd = false;
    while let Some(word) = cursor.peek().filter(|word| word.is_option()) {
        if !is_target_option(&word.text) {
            // Behind the target come only its options, and the counters.
            if word.is("-c") || is_match_option(&word.text) {
                break;
            }
            odd = true;
            cursor.next();
            cursor.skip_values();
            continue;
        }
        cursor.next();
        match word.text.as_str() {
            "--snat-arp" => {}
            "--mark-target" | "--snat-target" | "--dnat-target" | "--redirect-target"
            | "--arpreply-target" => {
                let (_, word) = cursor.value(word)?;
                then = Some(parsed(word, "a verdict", verdict(&word.text))?);
            }
            "--mark-set" | "--set-mark" | "--mark-or" | "--mark-and" | "--mark-xor" => {
                let (_, value) = cursor.value(word)?;
                let number = names::number(&value.text).and_then(|n| u32::try_from(n).ok());
                let bits = parsed(value, "a mark", number)?;
                let (mask, value) = match word.text.as_str() {
                    "--mark-or" => (bits, bits),
                    "--mark-and" => (!bits, 0),
                    "--mark-xor" => (0, bits),
                    _ => (u32::MAX, bits),
                };
                rule.effects.push(Effect::Mark { mask, value });
            }
            _ => {
                cursor.value(word)?;
            }
        }
    }
    let text = words::join(cursor.since(start));
    rule.action = match name.text.as_str() {
        _ if odd => Action::Opaque(text),
        "mark" => then.unwrap_or(Action::Accept),
        "snat" | "dnat" | "redirect" => {
            rule.effects.push(Effect::Rewrite(text));
            then.unwrap_or(Action::Accept)
        }
        "arpreply" => then.unwrap_or(Action::Drop),
        name => verdict(name).unwrap_or_else(|| Action::Jump(name.to_owned())),
    };
    Ok(())
}

fn verdict(name: &str) -> Option<Action> {
    Some(match name {
        "ACCEPT" => Action::Accept,
        "DROP" => Action::Drop,
        "RETURN" => Action::Return,
        "CONTINUE" => Action::Continue,
        _ => return None,
    })
}

fn is_match_option(word: &str) -> bool {
    matches!(word, "-p" | "-s" | "-d" | "-i" | "-o")
        || [
            "--proto",
            "--source",
            "--dest",
            "--in-",
            "--out-",
            "--logical",
            "--ip",
            "--arp-",
            "--vlan-",
            "--stp-",
            "--limit",
            "--pkttype",
            "--among",
            "--802_3",
            "--log",
            "--nflog",
            "--ulog",
            "--mark",
        ]
        .iter()
        .any(|start| word.starts_with(start))
            && !is_target_option(word)
}

fn option(
    option: &Word,
    mut negated: bool,
    cursor: &mut Cursor<'_>,
    tests: &mut Vec<Test>,
) -> Result<(), Diagnostic> {
    let start = cursor.at() - 1 - usize::from(negated);
    let name = option.text.as_str();
    if matches!(
        name,
        "--log" | "--log-ip" | "--log-arp" | "--log-ip6" | "--nflog" | "--ulog"
    ) {
        return Ok(());
    }
    if name == "--arp-gratuitous" {
        tests.push(Test::is(Field::ArpGratuitous, 1, negated));
        return Ok(());
    }
    if let Some(field) = number_field(name) {
        let (turned, word) = cursor.value(option)?;
        negated |= turned;
        tests.push(number_test(field, word, negated)?);
        return Ok(());
    }
    if let Some(stp) = stp(name) {
        let (turned, word) = cursor.value(option)?;
        stp_test(stp, word, negated | turned, tests)?;
        return Ok(());
    }
    let known = matches!(
        name,
        "-p" | "--protocol"
            | "--proto"
            | "-s"
            | "--source"
            | "--src"
            | "-d"
            | "--destination"
            | "--dst"
            | "-i"
            | "--in-interface"
            | "--in-if"
            | "-o"
            | "--out-interface"
            | "--out-if"
            | "--logical-in"
            | "--logical-out"
            | "--ip-src"
            | "--ip-source"
            | "--ip-dst"
            | "--ip-destination"
            | "--ip6-src"
            | "--ip6-source"
            | "--ip6-dst"
            | "--ip6-destination"
            | "--arp-ip-src"
            | "--arp-ip-dst"
            | "--arp-mac-src"
            | "--arp-mac-dst"
            | "--ip-icmp-type"
            | "--ip6-icmp-type"
            | "--mark"
            | "--among-src"
            | "--among-dst"
            | "--pkttype-type"
            | "--log-level"
            | "--log-prefix"
    ) || name.starts_with("--nflog-")
        || name.starts_with("--ulog-");
    if !known {
        cursor.skip_values();
        tests.push(Test::Opaque(words::join(cursor.since(start))));
        return Ok(());
    }
    let (turned, word) = cursor.value(option)?;
    negated |= turned;
    match name {
        "-p" | "--protocol" | "--proto" => {
            if word.text.eq_ignore_ascii_case("LENGTH") {
                tests.push(Test::within(Field::EtherType, (0, 0x5ff), negated));
            } else {
                let hex = word.text.trim_start_matches("0x");
                let number =
                    names::ethertype(&word.text).or_else(|| u16::from_str_radix(hex, 16).ok());
                let number = parsed(word, "an EtherType", number)?;
                tests.push(Test::is(Field::EtherType, number.into(), negated));
            }
        }
        "-s" | "--source" | "--src" => tests.push(mac(Field::EtherSource, word, negated)?),
        "-d" | "--destination" | "--dst" => {
            tests.push(mac(Field::EtherDestination, word, negated)?);
        }
        "--arp-mac-src" => tests.push(mac(Field::ArpSenderMac, word, negated)?),
        "--arp-mac-dst" => tests.push(mac(Field::ArpTargetMac, word, negated)?),
        "-i" | "--in-interface" | "--in-if" => {
            tests.push(interface(Interface::InputPort, word, negated));
        }
        "-o" | "--out-interface" | "--out-if" => {
            tests.push(interface(Interface::OutputPort, word, negated));
        }
        "--logical-in" => tests.push(interface(Interface::InputDevice, word, negated)),
        "--logical-out" => tests.push(interface(Interface::OutputDevice, word, negated)),
        "--ip-src" | "--ip-source" => tests.push(ip(Field::Ip4Source, word, negated)?),
        "--ip-dst" | "--ip-destination" => tests.push(ip(Field::Ip4Destination, word, negated)?),
        "--ip6-src" | "--ip6-source" => tests.push(ip(Field::Ip6Source, word, negated)?),
        "--ip6-dst" | "--ip6-destination" => tests.push(ip(Field::Ip6Destination, word, negated)?),
        "--arp-ip-src" => tests.push(ip(Field::ArpSenderIp, word, negated)?),
        "--arp-ip-dst" => tests.push(ip(Field::ArpTargetIp, word, negated)?),
        "--ip-icmp-type" => icmp(false, word, negated, tests)?,
        "--ip6-icmp-type" => icmp(true, word, negated, tests)?,
        "--mark" => {
            let (value, mask) = word.text.split_once('/').unwrap_or((&word.text, ""));
            let value = parsed(word, "a mark", names::number(value))?;
            let mask = match mask {
                "" => u64::from(u32::MAX),
                mask => parsed(word, "a mark", names::number(mask))?,
            };
            tests.push(Test::masked(
                Field::Mark,
                value.into(),
                mask.into(),
                negated,
            ));
        }
        "--among-src" => tests.push(among(true, word, negated)?),
        "--among-dst" => tests.push(among(false, word, negated)?),
        "--pkttype-type" => match word.text.as_str() {
            "broadcast" => tests.push(Test::is(Field::PacketType, 1, negated)),
            "multicast" => tests.push(Test::is(Field::PacketType, 2, negated)),
            _ => tests.push(Test::Opaque(words::join(cursor.since(start)))),
        },
        _ => {}
    }
    Ok(())
}

/// Options whose value is a number.
fn number_field(name: &str) -> Option<Field> {
    Some(match name {
        "--ip-proto" | "--ip-protocol" => Field::Ip4Protocol,
        "--ip6-proto" | "--ip6-protocol" => Field::Transport,
        "--ip-tos" => Field::Ip4Tos,
        "--ip6-tclass" => Field::Ip6TrafficClass,
        "--ip-sport" | "--ip-source-port" | "--ip6-sport" | "--ip6-source-port" => {
            Field::SourcePort(None)
        }
        "--ip-dport" | "--ip-destination-port" | "--ip6-dport" | "--ip6-destination-port" => {
            Field::DestinationPort(None)
        }
        "--ip-igmp-type" => Field::IgmpType,
        "--arp-op" | "--arp-opcode" => Field::ArpOperation,
        "--arp-htype" => Field::ArpHardware,
        "--arp-ptype" => Field::ArpProtocol,
        "--vlan-id" => Field::VlanId,
        "--vlan-prio" => Field::VlanPriority,
        "--vlan-encap" => Field::VlanCarried,
        _ => return None,
    })
}

fn number_test(field: Field, word: &Word, negated: bool) -> Result<Test, Diagnostic> {
    let text = word.text.as_str();
    let hex = || u16::from_str_radix(text.trim_start_matches("0x"), 16).ok();
    let (what, found) = match field {
        Field::SourcePort(_) | Field::DestinationPort(_) => (
            "a port or a range of ports",
            range(text, ':', (0, u16::MAX), names::port),
        ),
        Field::Ip4Protocol | Field::Transport => (
            "an IP protocol",
            names::protocol(text).map(|n| (n.into(), n.into())),
        ),
        Field::Ip4Tos | Field::Ip6TrafficClass => (
            "a byte in hexadecimal",
            hex().filter(|&n| n < 256).map(|n| (n, n)),
        ),
        Field::ArpOperation => (
            "an ARP operation",
            names::arp_operation(text).map(|n| (n, n)),
        ),
        Field::ArpProtocol => (
            "an EtherType",
            names::ethertype(text)
                .or_else(|| names::number(text).and_then(|n| u16::try_from(n).ok()))
                .map(|n| (n, n)),
        ),
        // ebtables takes this number for hexadecimal, whatever it looks like, and its lower bits.
        Field::VlanCarried => (
            "an EtherType, which is 3C or more",
            names::ethertype(text)
                .or_else(|| {
                    let number = u64::from_str_radix(text.trim_start_matches("0x"), 16).ok()?;
                    Some(number as u16).filter(|&low| low >= SHORTEST_FRAME)
                })
                .map(|n| (n, n)),
        ),
        _ => (
            "a number or a range",
            range(text, ':', (0, u16::MAX), |text| {
                names::number(text).and_then(|n| u16::try_from(n).ok())
            }),
        ),
    };
    let (low, high) = parsed(word, what, found)?;
    if u128::from(high) > field.all_ones() {
        return Err(word.place.error(format!("`{text}` is too large here")));
    }
    Ok(Test::within(field, (low.into(), high.into()), negated))
}

fn mac(field: Field, word: &Word, negated: bool) -> Result<Test, Diagnostic> {
    let (value, mask) = match word.text.to_ascii_lowercase().as_str() {
        "unicast" => (Some(0), Some(0x0100_0000_0000)),
        "multicast" => (Some(0x0100_0000_0000), Some(0x0100_0000_0000)),
        "broadcast" => (Some(field.all_ones()), Some(field.all_ones())),
        "bga" => (Some(0x0180_c200_0000), Some(field.all_ones())),
        text => {
            let (value, mask) = text.split_once('/').unwrap_or((text, ""));
            let mask = match mask {
                "" => Some(field.all_ones()),
                mask => address::mac(mask),
            };
            (address::mac(value), mask)
        }
    };
    let value = parsed(word, "a link-layer address", value)?;
    let mask = parsed(word, "a link-layer address with a mask", mask)?;
    Ok(Test::masked(field, value, mask, negated))
}

fn ip(field: Field, word: &Word, negated: bool) -> Result<Test, Diagnostic> {
    let v6 = field.width() == 128;
    let what = if v6 {
        "an IPv6 address or network"
    } else {
        "an IPv4 address or network"
    };
    let (value, mask) = parsed(word, what, address::with_mask(&word.text, v6))?;
    Ok(Test::masked(field, value, mask, negated))
}

fn interface(interface: Interface, word: &Word, negated: bool) -> Test {
    Test::Name {
        interface,
        negated,
        names: vec![word.text.clone()],
    }
}

/// `TYPE`, `TYPE/CODE`, `LOW:HIGH/LOW:HIGH`, or a name.
fn icmp(v6: bool, word: &Word, negated: bool, tests: &mut Vec<Test>) -> Result<(), Diagnostic> {
    let (kind_field, code_field) = if v6 {
        (Field::Icmp6Type, Field::Icmp6Code)
    } else {
        (Field::IcmpType, Field::IcmpCode)
    };
    let bytes = |text: &str| range(text, ':', (0u8, u8::MAX), |text| text.parse().ok());
    let found = match names::icmp(&word.text, v6) {
        Some((kind, code)) => Some(((kind, kind), code.map(|code| (code, code)))),
        None => match word.text.split_once('/') {
            Some((kind, code)) => bytes(kind).zip(bytes(code)).map(|(k, c)| (k, Some(c))),
            None => bytes(&word.text).map(|kind| (kind, None)),
        },
    };
    let (kind, code) = parsed(word, "an ICMP type", found)?;
    let wide = |(low, high): (u8, u8)| (low.into(), high.into());
    match code.filter(|&code| code != (0, u8::MAX)) {
        None => tests.push(Test::within(kind_field, wide(kind), negated)),
        Some(code) => tests.push(Test::Tuple {
            keys: vec![kind_field.into(), code_field.into()],
            negated,
            elements: vec![vec![wide(kind), wide(code)]],
        }),
    }
    Ok(())
}

/// `MAC[=IP],MAC[=IP],...`
fn among(source: bool, word: &Word, negated: bool) -> Result<Test, Diagnostic> {
    let mac_field = if source {
        Field::EtherSource
    } else {
        Field::EtherDestination
    };
    let (mut alone, mut pairs) = (Vec::new(), Vec::new());
    for entry in word.text.split(',').filter(|entry| !entry.is_empty()) {
        let (mac, ip) = entry.split_once('=').unwrap_or((entry, ""));
        let mac = parsed(word, "a list of link-layer addresses", address::mac(mac))?;
        if ip.is_empty() {
            alone.push((mac, mac));
        } else {
            let (ip, mask) = parsed(
                word,
                "a list of link-layer and IPv4 addresses",
                address::with_mask(ip, false),
            )?;
            let ip = ip & mask;
            pairs.push(vec![
                (mac, mac),
                (ip, ip | !mask & Field::Ip4Source.all_ones()),
            ]);
        }
    }
    let mut tests = vec![Test::Compare {
        key: mac_field.into(),
        negated: false,
        ranges: alone,
    }];
    let fields = if source {
        [Field::Ip4Source, Field::ArpSenderIp]
    } else {
        [Field::Ip4Destination, Field::ArpTargetIp]
    };
    if !pairs.is_empty() {
        tests.extend(fields.map(|field| Test::Tuple {
            keys: vec![mac_field.into(), field.into()],
            negated: false,
            elements: pairs.clone(),
        }));
    }
    Ok(Test::Any { negated, tests })
}

/// Offset and width, in bits from the network header, of what `ebt_stp` of the kernel compares.
///
/// It takes the protocol identifier, two bytes, for one: every field is read a byte early.
fn stp(name: &str) -> Option<(u32, u32)> {
    Some(match name {
        "--stp-type" => (40, 8),
        "--stp-flags" => (48, 8),
        "--stp-root-prio" | "--stp-root-pri" => (56, 16),
        "--stp-root-addr" => (72, 48),
        "--stp-root-cost" => (120, 32),
        "--stp-sender-prio" => (152, 16),
        "--stp-sender-addr" => (168, 48),
        "--stp-port" => (216, 16),
        "--stp-msg-age" => (232, 16),
        "--stp-max-age" => (248, 16),
        "--stp-hello-time" => (264, 16),
        "--stp-forward-delay" => (280, 16),
        _ => return None,
    })
}

fn stp_test(
    (offset, bits): (u32, u32),
    word: &Word,
    negated: bool,
    tests: &mut Vec<Test>,
) -> Result<(), Diagnostic> {
    // LLC header, protocol identifier and version.
    let header = Test::is(Field::Raw(Start::Network, 0, 48), 0x4242_0300_0000, false);
    if !tests.contains(&header) {
        tests.push(header);
    }
    let field = Field::Raw(Start::Network, offset, bits);
    if bits == 48 {
        tests.push(mac(field, word, negated)?);
        return Ok(());
    }
    let limit = field.all_ones() as u64;
    let named = match (offset, word.text.as_str()) {
        (40, "config") => Some((0, 0)),
        (40, "tcn") => Some((0x80, 0x80)),
        (48, "topology-change") => Some((1, 1)),
        (48, "topology-change-ack") => Some((0x80, 0x80)),
        (_, text) => range(text, ':', (0, limit), names::number),
    };
    let (low, high) = parsed(word, "a number or a range", named)?;
    tests.push(Test::within(field, (low.into(), high.into()), negated));
    Ok(())
}

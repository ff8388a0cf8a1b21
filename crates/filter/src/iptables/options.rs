//! Options of an iptables rule, as tests.

use super::{Cursor, Version, Word, parsed, words};
use crate::address;
use crate::append;
use crate::connection::State;
use crate::diagnostic::Diagnostic;
use crate::field::{Field, ones};
use crate::model::{Action, BehindTag, Effect, Rule};
use crate::names;
use crate::test::{Interface, Key, Range, Test};
use crate::words::range;

/// Matches that only their options test; `-m NAME` itself says nothing.
const SILENT: &[&str] = &[
    "tcp",
    "udp",
    "sctp",
    "dccp",
    "udplite",
    "icmp",
    "icmp6",
    "conntrack",
    "state",
    "physdev",
    "mac",
    "iprange",
    "dscp",
    "tos",
    "comment",
    "connlimit",
    "multiport",
    "pkttype",
    "mark",
    "ttl",
    "hl",
    "length",
    "set",
    "limit",
    "hashlimit",
    "addrtype",
    "recent",
    "string",
    "owner",
    "statistic",
    "u32",
    "connmark",
    "esp",
    "ah",
    "tcpmss",
    "time",
    "helper",
    "quota",
    "rateest",
    "policy",
    "bpf",
    "cgroup",
    "connbytes",
    "realm",
    "ecn",
    "ipv6header",
    "frag",
    "rt",
    "hbh",
    "dst",
    "cluster",
    "cpu",
    "devgroup",
    "nfacct",
    "osf",
];

/// Targets that leave the frame as it is and go on with the next rule.
const NEUTRAL: &[&str] = &[
    "LOG",
    "NFLOG",
    "ULOG",
    "TRACE",
    "CONNMARK",
    "CONNSECMARK",
    "SECMARK",
    "CLASSIFY",
    "SET",
    "CHECKSUM",
    "RATEEST",
    "IDLETIMER",
    "LED",
    "AUDIT",
    "HMARK",
    "CT",
    "NOTRACK",
    "TCPMSS",
    "TCPOPTSTRIP",
    "TEE",
];

/// Reads a rule from its words.
pub(super) fn rule(version: Version, words: &[Word]) -> Result<Rule, Diagnostic> {
    let mut cursor = Cursor::new(words);
    let mut rule = append::blank(words, BehindTag::Seen);
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
        match word.text.as_str() {
            "-c" | "--set-counters" => {
                let (_, packets) = cursor.value(word)?;
                rule.packets = Some(parsed(packets, "a count", packets.text.parse().ok())?);
                cursor.value(word)?;
                continue;
            }
            "-j" | "--jump" => target(word, &mut cursor, &mut rule)?,
            "-g" | "--goto" => {
                let (_, name) = cursor.value(word)?;
                rule.action = Action::Goto(name.text.clone());
            }
            _ => {
                let mut reader = Reader {
                    version,
                    start,
                    cursor: &mut cursor,
                    tests: &mut rule.tests,
                };
                reader.option(word, negated)?;
            }
        }
        shown.extend_from_slice(cursor.since(start));
    }
    rule.text = words::join(&shown);
    Ok(rule)
}

fn target(option: &Word, cursor: &mut Cursor<'_>, rule: &mut Rule) -> Result<(), Diagnostic> {
    let start = cursor.at();
    let (_, name) = cursor.value(option)?;
    // Behind the target stand only its own options, and counters.
    let mut mark = None;
    while let Some(word) = cursor.peek().filter(|word| !word.is("-c")) {
        cursor.next();
        if matches!(
            word.text.as_str(),
            "--set-mark" | "--set-xmark" | "--or-mark" | "--and-mark" | "--xor-mark"
        ) && name.text == "MARK"
        {
            let (_, value) = cursor.value(word)?;
            mark = Some(parsed(value, "a mark", set_mark(&word.text, &value.text))?);
        }
    }
    let text = words::join(cursor.since(start));
    rule.action = match name.text.as_str() {
        "ACCEPT" => Action::Accept,
        "DROP" => Action::Drop,
        "REJECT" | "TARPIT" => Action::Reject,
        "RETURN" => Action::Return,
        "QUEUE" | "NFQUEUE" | "SYNPROXY" => Action::Opaque(text),
        "MARK" => {
            rule.effects.extend(mark);
            Action::Continue
        }
        "SNAT" | "DNAT" | "MASQUERADE" | "REDIRECT" | "NETMAP" | "TPROXY" => {
            rule.effects.push(Effect::Rewrite(text));
            Action::Accept
        }
        "DSCP" | "TOS" | "TTL" | "HL" | "ECN" => {
            rule.effects.push(Effect::Rewrite(text));
            Action::Continue
        }
        name if NEUTRAL.contains(&name) => Action::Continue,
        name if cursor.at() == start + 1 => Action::Jump(name.to_owned()),
        _ => Action::Opaque(text),
    };
    Ok(())
}

/// The effect of one of MARK's options.
fn set_mark(option: &str, value: &str) -> Option<Effect> {
    let (value, mask) = match value.split_once('/') {
        Some((value, mask)) => (value, Some(u32::try_from(names::number(mask)?).ok()?)),
        None => (value, None),
    };
    let value = u32::try_from(names::number(value)?).ok()?;
    let (mask, value) = match option {
        "--set-mark" => (mask.unwrap_or(u32::MAX) | value, value),
        "--set-xmark" => (mask.unwrap_or(u32::MAX), value),
        "--or-mark" => (value, value),
        "--and-mark" => (!value, 0),
        _ => (0, value),
    };
    Some(Effect::Mark { mask, value })
}

struct Reader<'r, 'w> {
    version: Version,
    /// Where the option begins, its `!` included.
    start: usize,
    cursor: &'r mut Cursor<'w>,
    tests: &'r mut Vec<Test>,
}

impl Reader<'_, '_> {
    fn option(&mut self, option: &Word, mut negated: bool) -> Result<(), Diagnostic> {
        let v6 = self.version == Version::V6;
        let (source, destination) = if v6 {
            (Field::Ip6Source, Field::Ip6Destination)
        } else {
            (Field::Ip4Source, Field::Ip4Destination)
        };
        let name = option.text.as_str();
        match name {
            "-m" | "--match" => {
                let (_, module) = self.cursor.value(option)?;
                // Without options of its own, and not known to need any.
                if !SILENT.contains(&module.text.as_str()) {
                    self.opaque();
                }
                return Ok(());
            }
            "-f" | "--fragment" => {
                self.push(Test::Compare {
                    key: Key {
                        field: Field::Ip4Fragment,
                        mask: Some(0x1fff),
                    },
                    negated,
                    ranges: vec![(1, 0x1fff)],
                });
                return Ok(());
            }
            "--syn" => {
                self.push(flags(0x17, 0x02, negated));
                return Ok(());
            }
            "--physdev-is-bridged" => {
                self.push(Test::Bridged(!negated));
                return Ok(());
            }
            "--physdev-is-in" | "--physdev-is-out" => {
                let interface = if name == "--physdev-is-in" {
                    Interface::InputPort
                } else {
                    Interface::OutputPort
                };
                self.push(named(interface, "+", negated));
                return Ok(());
            }
            "--connlimit-saddr" => return Ok(()),
            "--connlimit-daddr" => {
                for test in self.tests.iter_mut() {
                    if let Test::Crowded { by_destination, .. } = test {
                        *by_destination = true;
                    }
                }
                return Ok(());
            }
            _ => {}
        }
        if !KNOWN.contains(&name) {
            self.cursor.skip_values();
            self.opaque();
            return Ok(());
        }
        let (turned, word) = self.cursor.value(option)?;
        negated |= turned;
        let text = word.text.as_str();
        match name {
            "-s" | "--source" | "--src" => self.addresses(source, word, negated)?,
            "-d" | "--destination" | "--dst" => self.addresses(destination, word, negated)?,
            "-i" | "--in-interface" => self.push(named(Interface::InputDevice, text, negated)),
            "-o" | "--out-interface" => self.push(named(Interface::OutputDevice, text, negated)),
            "--physdev-in" => self.push(named(Interface::InputPort, text, negated)),
            "--physdev-out" => self.push(named(Interface::OutputPort, text, negated)),
            "-p" | "--protocol" if matches!(text, "all" | "0") => {}
            "-p" | "--protocol" => {
                let number = parsed(word, "an IP protocol", names::protocol(text))?;
                self.push(Test::is(Field::Transport, number.into(), negated));
            }
            "--sport" | "--source-port" => self.port(Field::SourcePort(None), word, negated)?,
            "--dport" | "--destination-port" => {
                self.port(Field::DestinationPort(None), word, negated)?;
            }
            "--sports" | "--source-ports" | "--dports" | "--destination-ports" | "--ports" => {
                self.ports(name, word, negated)?;
            }
            "--tcp-flags" => {
                let comparison = self.cursor.value(option)?.1;
                let mask = parsed(word, "a list of TCP flags", tcp_flags(text))?;
                let set = parsed(
                    comparison,
                    "a list of TCP flags",
                    tcp_flags(&comparison.text),
                )?;
                self.push(flags(mask, set, negated));
            }
            "--tcp-option" => {
                let kind = parsed(word, "the number of a TCP option", text.parse().ok())?;
                self.push(Test::is(Field::TcpOption(kind), 1, negated));
            }
            "--icmp-type" | "--icmpv6-type" => self.icmp(word, negated)?,
            // States of address translation.
            "--ctstate" if text.contains("NAT") => self.opaque(),
            "--ctstate" | "--state" => {
                let states = parsed(word, "a list of connection states", states(text))?;
                self.push(Test::Compare {
                    key: Field::ConnectionState.into(),
                    negated,
                    ranges: states,
                });
            }
            "--ctdir" => {
                let reply = match text.to_ascii_uppercase().as_str() {
                    "ORIGINAL" => Some(0),
                    "REPLY" => Some(1),
                    _ => None,
                };
                let reply = parsed(word, "a direction; ORIGINAL and REPLY are", reply)?;
                self.push(Test::is(Field::ConnectionDirection, reply, negated));
            }
            "--mac-source" => {
                let mac = parsed(word, "a link-layer address", address::mac(text))?;
                self.push(Test::is(Field::EtherSource, mac, negated));
            }
            "--src-range" | "--dst-range" => {
                let field = if name == "--src-range" {
                    source
                } else {
                    destination
                };
                let parse = |text: &str| {
                    if v6 {
                        address::ip6(text)
                    } else {
                        address::ip4(text)
                    }
                };
                // One that runs backwards is taken, and holds no address.
                let found = match text.split_once('-') {
                    Some((low, high)) => parse(low).zip(parse(high)),
                    None => parse(text).map(|value| (value, value)),
                };
                let range = parsed(word, "a range of addresses", found)?;
                self.push(Test::within(field, range, negated));
            }
            "--dscp" | "--dscp-class" => {
                let code = parsed(word, "a code point", names::dscp(text))?;
                let field = if v6 { Field::Ip6Dscp } else { Field::Ip4Dscp };
                self.push(Test::is(field, code.into(), negated));
            }
            "--tos" => {
                let (value, mask) = text.split_once('/').unwrap_or((text, "0xff"));
                let byte = |text| names::number(text).and_then(|n| u8::try_from(n).ok());
                let value = parsed(word, "a byte", byte(value))?;
                let mask = parsed(word, "a byte with a mask", byte(mask))?;
                let field = if v6 {
                    Field::Ip6TrafficClass
                } else {
                    Field::Ip4Tos
                };
                self.push(Test::masked(field, value.into(), mask.into(), negated));
            }
            "--mark" => {
                let (value, mask) = text.split_once('/').unwrap_or((text, "0xffffffff"));
                let value = parsed(word, "a mark", names::number(value))?;
                let mask = parsed(word, "a mark", names::number(mask))?;
                self.push(Test::masked(
                    Field::Mark,
                    value.into(),
                    mask.into(),
                    negated,
                ));
            }
            "--pkt-type" => match text.to_ascii_lowercase().as_str() {
                "broadcast" => self.push(Test::is(Field::PacketType, 1, negated)),
                "multicast" => self.push(Test::is(Field::PacketType, 2, negated)),
                _ => self.opaque(),
            },
            "--ttl-eq" | "--ttl-lt" | "--ttl-gt" | "--hl-eq" | "--hl-lt" | "--hl-gt" => {
                let number: u8 = parsed(word, "a hop limit", text.parse().ok())?;
                let number = u128::from(number);
                let field = if v6 {
                    Field::Ip6HopLimit
                } else {
                    Field::Ip4Ttl
                };
                let ranges = match name.rsplit('-').next() {
                    Some("lt") if number == 0 => vec![],
                    Some("lt") => vec![(0, number - 1)],
                    Some("gt") => vec![(number + 1, 255)],
                    _ => vec![(number, number)],
                };
                self.push(Test::Compare {
                    key: field.into(),
                    negated,
                    ranges,
                });
            }
            "--length" => {
                let found = range(text, ':', (0, u16::MAX), |text| text.parse().ok());
                let (low, high) = parsed(word, "a length or a range of lengths", found)?;
                self.push(Test::within(
                    Field::Length,
                    (low.into(), high.into()),
                    negated,
                ));
            }
            "--connlimit-above" | "--connlimit-upto" => {
                let above = parsed(word, "a number of connections", text.parse().ok())?;
                self.push(Test::Crowded {
                    above,
                    negated: negated ^ (name == "--connlimit-upto"),
                    prefix: if v6 { 128 } else { 32 },
                    by_destination: false,
                });
            }
            "--connlimit-mask" => {
                let bits = parsed(word, "a prefix length", text.parse().ok())?;
                for test in self.tests.iter_mut() {
                    if let Test::Crowded { prefix, .. } = test {
                        *prefix = bits;
                    }
                }
            }
            // A comment.
            _ => {}
        }
        Ok(())
    }

    fn push(&mut self, test: Test) {
        self.tests.push(test);
    }

    fn opaque(&mut self) {
        let text = words::join(self.cursor.since(self.start));
        self.tests.push(Test::Opaque(text));
    }

    fn addresses(&mut self, field: Field, word: &Word, negated: bool) -> Result<(), Diagnostic> {
        let v6 = self.version == Version::V6;
        let what = if v6 {
            "an IPv6 address or network"
        } else {
            "an IPv4 address or network"
        };
        let (value, mask) = parsed(word, what, address::with_mask(&word.text, v6))?;
        self.push(Test::masked(field, value, mask, negated));
        Ok(())
    }

    fn port(&mut self, field: Field, word: &Word, negated: bool) -> Result<(), Diagnostic> {
        let found = range(&word.text, ':', (0, u16::MAX), names::port);
        let (low, high) = parsed(word, "a port or a range of ports", found)?;
        self.push(Test::within(field, (low.into(), high.into()), negated));
        Ok(())
    }

    /// The lists of `multiport`.
    fn ports(&mut self, option: &str, word: &Word, negated: bool) -> Result<(), Diagnostic> {
        let list: Option<Vec<Range>> = word
            .text
            .split(',')
            .map(|part| {
                let (low, high) = range(part, ':', (0, u16::MAX), names::port)?;
                Some((low.into(), high.into()))
            })
            .collect();
        let ranges = parsed(word, "a list of ports", list)?;
        let compare = |field: Field, negated| Test::Compare {
            key: field.into(),
            negated,
            ranges: ranges.clone(),
        };
        let test = match option {
            "--sports" | "--source-ports" => compare(Field::SourcePort(None), negated),
            "--dports" | "--destination-ports" => compare(Field::DestinationPort(None), negated),
            _ => Test::Any {
                negated,
                tests: vec![
                    compare(Field::SourcePort(None), false),
                    compare(Field::DestinationPort(None), false),
                ],
            },
        };
        self.push(test);
        Ok(())
    }

    fn icmp(&mut self, word: &Word, negated: bool) -> Result<(), Diagnostic> {
        let v6 = self.version == Version::V6;
        // IPv4's type 255 stands for any, whatever the code.
        let kind = word.text.split('/').next();
        if word.text == "any" || kind == Some("255") && !v6 {
            if negated {
                self.push(Test::Any {
                    negated: false,
                    tests: Vec::new(),
                });
            }
            return Ok(());
        }
        let byte = |text: &str| text.parse::<u8>().ok();
        let found = names::icmp(&word.text, v6).or_else(|| match word.text.split_once('/') {
            Some((kind, code)) => byte(kind).zip(byte(code).map(Some)),
            None => byte(&word.text).map(|kind| (kind, None)),
        });
        let (kind, code) = parsed(word, "an ICMP type", found)?;
        let (kind_field, code_field) = if v6 {
            (Field::Icmp6Type, Field::Icmp6Code)
        } else {
            (Field::IcmpType, Field::IcmpCode)
        };
        let one = |value: u8| (u128::from(value), u128::from(value));
        self.push(match code {
            None => Test::within(kind_field, one(kind), negated),
            Some(code) => Test::Tuple {
                keys: vec![kind_field.into(), code_field.into()],
                negated,
                elements: vec![vec![one(kind), one(code)]],
            },
        });
        Ok(())
    }
}

/// Options that take one value and are understood.
const KNOWN: &[&str] = &[
    "-s",
    "--source",
    "--src",
    "-d",
    "--destination",
    "--dst",
    "-i",
    "--in-interface",
    "-o",
    "--out-interface",
    "--physdev-in",
    "--physdev-out",
    "-p",
    "--protocol",
    "--sport",
    "--source-port",
    "--dport",
    "--destination-port",
    "--sports",
    "--source-ports",
    "--dports",
    "--destination-ports",
    "--ports",
    "--tcp-flags",
    "--tcp-option",
    "--icmp-type",
    "--icmpv6-type",
    "--ctstate",
    "--state",
    "--ctdir",
    "--mac-source",
    "--src-range",
    "--dst-range",
    "--dscp",
    "--dscp-class",
    "--tos",
    "--mark",
    "--pkt-type",
    "--ttl-eq",
    "--ttl-lt",
    "--ttl-gt",
    "--hl-eq",
    "--hl-lt",
    "--hl-gt",
    "--length",
    "--connlimit-above",
    "--connlimit-upto",
    "--connlimit-mask",
    "--comment",
];

fn named(interface: Interface, name: &str, negated: bool) -> Test {
    Test::Name {
        interface,
        negated,
        names: vec![name.to_owned()],
    }
}

fn flags(mask: u128, set: u128, negated: bool) -> Test {
    Test::is(
        Key {
            field: Field::TcpFlags,
            mask: Some(mask & ones(8)),
        },
        set,
        negated,
    )
}

fn tcp_flags(text: &str) -> Option<u128> {
    text.split(',').try_fold(0, |sum, name| {
        let bit = match name {
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
        Some(sum | bit)
    })
}

fn states(text: &str) -> Option<Vec<Range>> {
    let mut states = text
        .split(',')
        .map(|name| {
            let state = match name.to_ascii_uppercase().as_str() {
                "NEW" => State::New,
                "ESTABLISHED" => State::Established,
                "RELATED" => State::Related,
                "INVALID" => State::Invalid,
                "UNTRACKED" => State::Untracked,
                // States of translation: not known here, and never of a bridge's own.
                _ => return None,
            };
            Some((state as u128, state as u128))
        })
        .collect::<Option<Vec<Range>>>()?;
    // Their order is nothing, and neither is saying one twice.
    states.sort_unstable();
    states.dedup();
    Some(states)
}

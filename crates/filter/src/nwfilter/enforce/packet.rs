//! Rules for packets, as tests of nft.

use serde_json::{Value, json};

use super::state::{self, Tracking};
use super::tests::{Tests, ip_text};
use super::{compare, payload};
use crate::address;
use crate::diagnostic::Diagnostic;
use crate::nwfilter::document::{Act, Sense};
use crate::nwfilter::element::Kind;
use crate::nwfilter::instance::Instance;

/// Which states a rule asks for.
enum Asked<'a> {
    /// None.
    Nothing,
    /// The ones written, whatever the direction of the connection.
    Written(&'a str),
    /// What libvirt adds to a rule that accepts.
    Usual,
}

fn asked<'a>(one: &'a Instance<'_>) -> Asked<'a> {
    match one.get("state") {
        Some(states) if states.split(',').any(|state| state == "NONE") => Asked::Nothing,
        Some(states) => Asked::Written(states),
        None if one.rule.act == Act::Accept
            && one.rule.state_match
            && one.rule.sense != Sense::InOut =>
        {
            Asked::Usual
        }
        None => Asked::Nothing,
    }
}

/// Whether a rule for IPv4 or IPv6 packets needs the state of connections.
pub(super) fn asks_for_state(one: &Instance<'_>, v6: bool) -> bool {
    !one.is_ethernet()
        && one.kind().is_some_and(Kind::is_v6) == v6
        && !matches!(asked(one), Asked::Nothing)
}

/// The tests of a rule in the chain of one way; nothing if it has no rule there.
pub(super) fn statements(
    one: &Instance<'_>,
    into: bool,
    tracking: Tracking,
) -> Result<Option<Vec<Value>>, Diagnostic> {
    let Some(kind) = one.kind() else {
        return Ok(None);
    };
    let has_type = matches!(kind, Kind::Icmp | Kind::Icmpv6) && one.get("type").is_some();
    let named = one.goes(if into { Sense::In } else { Sense::Out });
    // Answers to what a rule accepts are accepted as well; a type of ICMP is of one direction.
    let answers = one.rule.act == Act::Accept && one.get("state").is_none() && !has_type;
    if !named && !answers {
        return Ok(None);
    }
    // What is for both directions is written for the one towards the guest.
    let turned = !named || one.rule.sense == Sense::InOut && !into;
    let mut tests = Tests::new(one, turned);
    tests.transport(kind)?;
    let states = match asked(one) {
        Asked::Nothing => None,
        Asked::Written(states) => Some(state::Wanted {
            states: states.split(',').collect(),
            reply: None,
        }),
        Asked::Usual => Some(state::Wanted {
            states: if turned {
                vec!["ESTABLISHED"]
            } else {
                vec!["NEW", "ESTABLISHED"]
            },
            reply: (!has_type).then_some(turned),
        }),
    };
    if let Some(wanted) = states {
        tests.list.extend(wanted.tests(tracking));
    }
    Ok(Some(tests.list))
}

impl Tests<'_> {
    fn transport(&mut self, kind: Kind) -> Result<(), Diagnostic> {
        let one = self.one;
        let v6 = kind.is_v6();
        let header = Self::header(v6);
        if one.get("ipset").is_some() {
            return Err(self.error(
                "ipset is not enforced: nftables knows no sets of ipset; write the addresses as a \
                 list of values",
            ));
        }
        if one.get("connlimit-above").is_some() {
            return Err(self.error("connlimit-above is not enforced"));
        }
        self.equal("ether", "type", json!(header));
        self.ether()?;
        if let Some(number) = self.protocol_number().filter(|_| kind.protocol() != "all") {
            let field = json!({"meta": {"key": "l4proto"}});
            self.list.push(compare(field, json!(number), false));
        }
        for (source, names) in [
            (true, ["srcipaddr", "srcipmask", "srcipfrom", "srcipto"]),
            (false, ["dstipaddr", "dstipmask", "dstipfrom", "dstipto"]),
        ] {
            let field = self.field(source, ["saddr", "daddr"]);
            self.addresses(payload(header, field), names, v6)?;
        }
        self.compare_number(payload(header, "dscp"), "dscp", 63)?;
        self.tcp_flags()?;
        if let Some(number) = self.number("option", 0xff)? {
            self.first_fragment(v6);
            let left = json!({"tcp option": {"name": option_name(number)}});
            let there = !one.is_negated("option");
            self.list.push(compare(left, json!(there), false));
        }
        if ["tcp", "udp", "sctp"].contains(&kind.protocol()) {
            self.ports(kind.protocol(), v6)?;
        }
        if matches!(kind, Kind::Icmp | Kind::Icmpv6) {
            self.icmp(v6)?;
        }
        Ok(())
    }

    /// An address with its mask, or a range.
    fn addresses(&mut self, left: Value, names: [&str; 4], v6: bool) -> Result<(), Diagnostic> {
        let [address, mask, from, to] = names;
        if self.one.get(address).is_some() {
            return self.compare_ip(left, address, mask, v6);
        }
        let Some((first, _)) = self.ip(from, "", v6)? else {
            return Ok(());
        };
        let value = match self.ip(to, "", v6)? {
            Some((last, _)) if last < first => {
                return Err(self.error(format!("`{to}` is below `{from}`")));
            }
            Some((last, _)) if last > first => {
                json!({"range": [ip_text(first, v6), ip_text(last, v6)]})
            }
            _ => json!(ip_text(first, v6)),
        };
        let negated = self.one.is_negated(from);
        self.list.push(compare(left, value, negated));
        Ok(())
    }

    fn tcp_flags(&mut self) -> Result<(), Diagnostic> {
        let one = self.one;
        let Some((mask, flags)) = one.get("flags").and_then(|flags| flags.split_once('/')) else {
            return Ok(());
        };
        let (Some(mask), Some(flags)) = (flag_bits(mask), flag_bits(flags)) else {
            return Err(self.error(format!("`{mask}/{flags}` is not mask/flags of TCP")));
        };
        self.first_fragment(false);
        let left = json!({"&": [payload("tcp", "flags"), mask]});
        let negated = one.is_negated("flags");
        self.list.push(compare(left, json!(flags), negated));
        Ok(())
    }
}

fn flag_bits(text: &str) -> Option<u8> {
    let bit = |flag: &str| {
        Some(match flag {
            "NONE" => 0,
            "ALL" => 0x3f,
            "FIN" => 1,
            "SYN" => 2,
            "RST" => 4,
            "PSH" => 8,
            "ACK" => 16,
            "URG" => 32,
            _ => return None,
        })
    };
    text.split(',')
        .try_fold(0, |sum, flag| Some(sum | bit(flag.trim())?))
}

/// nft names the options that it knows, and takes numbers for others.
fn option_name(number: u64) -> String {
    let name = match number {
        0 => "eol",
        1 => "nop",
        2 => "maxseg",
        3 => "window",
        4 => "sack-permitted",
        5 => "sack",
        8 => "timestamp",
        19 => "md5sig",
        30 => "mptcp",
        34 => "fastopen",
        other => return other.to_string(),
    };
    name.to_owned()
}

/// Whether a text is an IPv4 address.
pub(super) fn is_ip4(text: &str) -> bool {
    address::ip4(text).is_some()
}

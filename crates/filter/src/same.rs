//! Whether rules are the same, however they are written.

use crate::model::{Action, Chain, Engine, Rule, Ruleset, Table};
use crate::test::Test;
use crate::{ebtables, iptables};

/// Compares all chains that have to do with the port.
pub fn rulesets(own: &Ruleset, other: &Ruleset, port: &str) -> Result<(), String> {
    for table in &other.tables {
        let relevant = |chain: &&Chain| chain.name.contains(port);
        let title = table.title();
        let same = own.tables.iter().find(|own| own.title() == title);
        if let Some(same) = same {
            chains(same, table)?;
            chains(table, same)?;
        } else if let Some(chain) = table
            .chains
            .iter()
            .filter(relevant)
            .find(|chain| !chain.rules.is_empty())
        {
            return Err(format!("{title} {} is missing", chain.name));
        }
    }
    for table in &own.tables {
        if !other
            .tables
            .iter()
            .any(|other| other.title() == table.title())
        {
            return Err(format!("{} should not be there", table.title()));
        }
    }
    Ok(())
}

fn chains(one: &Table, other: &Table) -> Result<(), String> {
    for chain in &one.chains {
        let place = format!("{} {}", one.title(), chain.name);
        let Some(same) = other.chain(&chain.name) else {
            return Err(format!("{place} is on one side only"));
        };
        if same.end != chain.end || same.base != chain.base {
            return Err(format!("{place} is hooked in or ends differently"));
        }
        for (at, rule) in chain.rules.iter().enumerate() {
            let Some(same) = same.rules.get(at) else {
                return Err(format!("{place}: `{}` is on one side only", rule.text));
            };
            if !same_rule(one.engine, rule, same) {
                return Err(format!("{place}: `{}` is not `{}`", rule.text, same.text));
            }
        }
    }
    Ok(())
}

/// Whether two rules of a dialect are the same.
pub(crate) fn same_rule(engine: Engine, one: &Rule, other: &Rule) -> bool {
    if engine == Engine::Nftables {
        return one.effects == other.effects
            && same_action(&one.action, &other.action)
            && plain(&one.text) == plain(&other.text);
    }
    one.effects == other.effects
        && same_action(&one.action, &other.action)
        && same_tests(&one.tests, &other.tests)
}

fn same_action(one: &Action, other: &Action) -> bool {
    match (one, other) {
        // Maps may have entries of other ports.
        (Action::Map(_), Action::Map(_)) => true,
        _ => one == other,
    }
}

/// All tests must hold, in whatever order.
fn same_tests(one: &[Test], other: &[Test]) -> bool {
    one.len() == other.len() && one.iter().all(|test| other.contains(test))
}

/// Whether two texts of a dialect are the same rule.
pub fn same_text(engine: Engine, one: &str, other: &str) -> bool {
    let read = |text: &str| match engine {
        Engine::Ebtables => ebtables::read_rule("", text).ok(),
        Engine::Iptables => iptables::read_rule(iptables::Version::V4, "", text).ok(),
        Engine::Ip6tables => iptables::read_rule(iptables::Version::V6, "", text).ok(),
        Engine::Nftables => None,
    };
    match (read(one), read(other)) {
        (Some(one), Some(other)) => same_rule(engine, &one, &other),
        _ => plain(one) == plain(other),
    }
}

/// What starts a test or a verdict in an nftables rule, with a field behind it.
const HEADERS: &[&str] = &[
    "ether", "vlan", "arp", "ip", "ip6", "meta", "tcp", "udp", "udplite", "sctp", "dccp", "th",
    "icmp", "icmpv6", "igmp", "esp", "ah", "comp", "ct",
];
/// The same, without a field.
const OTHERS: &[&str] = &[
    "accept", "drop", "return", "continue", "jump", "goto", "iif", "oif", "iifname", "oifname",
    "counter", "comment",
];

/// An nftables rule as its tests and its verdict, in no order, without what nft shows or leaves out by its
/// version: what other tests imply, whether neighbouring bytes are compared at once, how numbers are
/// written.
fn plain(text: &str) -> Vec<String> {
    let words: Vec<&str> = text.split_whitespace().collect();
    let mut at = 0;
    let mut phrases: Vec<String> = Vec::new();
    while at < words.len() {
        let start = at;
        at = phrase(&words, at);
        phrases.extend(uniform(&words[start..at]));
    }
    let has = |start: &str| phrases.iter().any(|phrase| phrase.starts_with(start));
    let mut implied: Vec<String> = Vec::new();
    for (kind, header) in [
        ("ip", "ip "),
        ("ip6", "ip6 "),
        ("arp", "arp "),
        ("8021q", "vlan "),
    ] {
        if has(header) {
            implied.push(format!("ether type {kind}"));
        }
    }
    for protocol in ["tcp", "udp", "sctp", "udplite", "icmp", "icmpv6"] {
        if has(&format!("{protocol} ")) {
            for test in ["ip protocol", "ip6 nexthdr", "meta l4proto"] {
                let name = if protocol == "icmpv6" {
                    "ipv6-icmp"
                } else {
                    protocol
                };
                implied.extend([format!("{test} {protocol}"), format!("{test} {name}")]);
            }
        }
    }
    phrases.retain(|phrase| !implied.contains(phrase));
    phrases.sort_unstable();
    phrases
}

/// Where the phrase that starts here ends.
fn phrase(words: &[&str], start: usize) -> usize {
    let starts = |at: usize| {
        let word = words.get(at).copied().unwrap_or_default();
        HEADERS.contains(&word) || OTHERS.contains(&word) || word.starts_with("@nh,")
    };
    // Behind the name of a field.
    let field = |at: usize| {
        let word = words.get(at).copied().unwrap_or_default();
        let mut next = at + 1 + usize::from(HEADERS.contains(&word));
        if word == "arp" && matches!(words.get(next), Some(&"ip" | &"ether")) {
            next += 1;
        }
        next
    };
    let mut at = field(start);
    let mut has_value = matches!(words[start], "accept" | "drop" | "return" | "continue");
    while at < words.len() {
        match words[at] {
            "." => at = field(at + 1),
            "==" | "!=" => {
                at += 1;
                if words.get(at).is_some_and(|word| !word.starts_with('{')) {
                    at += 1;
                }
                has_value = true;
            }
            "&" | "|" | "^" | "!" => at += 2,
            word if word.starts_with('{') => {
                at += words[at..]
                    .iter()
                    .take_while(|word| !word.ends_with('}'))
                    .count()
                    + 1;
                has_value = true;
            }
            _ if !has_value => {
                at += 1;
                has_value = true;
            }
            _ if starts(at) => break,
            _ => at += 1,
        }
    }
    at.min(words.len())
}

/// A phrase in one way of writing; bytes of a payload one by one.
fn uniform(words: &[&str]) -> Vec<String> {
    let number = |text: &str| match text.strip_prefix("0x") {
        Some(hex) => u128::from_str_radix(hex, 16).ok(),
        None => text.parse::<u128>().ok(),
    };
    let mut words: Vec<&str> = words.to_vec();
    if let [_, _, "&", "ff:ff:ff:ff:ff:ff", operator, value] = words[..] {
        words.splice(2.., [operator, value]);
    }
    words.retain(|word| *word != "==");
    let payload = words[0]
        .strip_prefix("@nh,")
        .map(|rest| rest.split_once(','));
    // Numbers are decimal, and a range of one is that one.
    let decimal = |word: &&str| {
        let ends = word
            .split('-')
            .map(|end| number(end).map(|n| n.to_string()));
        let mut ends = ends.collect::<Option<Vec<String>>>()?;
        ends.dedup();
        Some(ends.join("-"))
    };
    let written = || {
        let words = words
            .iter()
            .map(|word| decimal(word).unwrap_or_else(|| (*word).to_owned()));
        vec![words.collect::<Vec<String>>().join(" ")]
    };
    let Some((offset, bits)) = payload.flatten() else {
        return written();
    };
    let (operator, mask, value) = match words[..] {
        [_, value] => ("==", None, value),
        [_, "!=", value] => ("!=", None, value),
        [_, "&", mask, value] => ("==", Some(mask), value),
        [_, "&", mask, "!=", value] => ("!=", Some(mask), value),
        _ => return written(),
    };
    let (Some(offset), Some(bits), Some(value)) = (number(offset), number(bits), number(value))
    else {
        return written();
    };
    if bits == 0 || bits > 128 {
        return written();
    }
    // Bits of the last byte that are not compared are a mask.
    let pad = bits.next_multiple_of(8) - bits;
    let all = u128::MAX >> (128 - bits);
    let mask = mask.and_then(number).unwrap_or(all) << pad;
    let (value, bits) = (value << pad, bits + pad);
    if operator == "!=" {
        return vec![format!("@nh,{offset},{bits} & {mask} != {value}")];
    }
    (0..bits)
        .step_by(8)
        .map(|at| {
            let byte = |number: u128| number >> (bits - 8 - at) & 0xff;
            (offset + at, byte(mask), byte(value))
        })
        .filter(|(_, mask, _)| *mask > 0)
        .map(|(at, mask, value)| format!("@nh,{at},8 & {mask} == {value}"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nft_implies_is_left_out() {
        for (one, other) in [
            (
                "ether type ip tcp dport 22 accept",
                "ether type ip meta l4proto tcp tcp dport 22 accept",
            ),
            (
                "ip saddr 10.0.0.1 drop",
                "ether type ip ip saddr 10.0.0.1 drop",
            ),
            ("ip protocol udp udp sport 68 drop", "udp sport 68 drop"),
            ("vlan id 200 accept", "ether type 8021q vlan id 200 accept"),
            (
                "ether type ip ether saddr & ff:ff:ff:ff:ff:ff != 2:0:0:0:0:1 meta l4proto esp drop",
                "ether saddr != 2:0:0:0:0:1 ether type ip meta l4proto esp drop",
            ),
            (
                "@nh,64,16 0x102 @nh,80,8 != 0x10 drop",
                "@nh,80,8 != 16 @nh,72,8 2 @nh,64,8 1 drop",
            ),
            (
                "@nh,112,31 0xa010100 @nh,152,7 != 1 drop",
                "@nh,112,32 & 4294967294 == 335675904 @nh,152,8 & 0xfe != 2 drop",
            ),
            (
                "arp saddr ip & 255.0.0.0 . arp daddr ip & 255.0.0.0 @same-ip-set vlan id 1 drop",
                "vlan id 1 arp saddr ip & 255.0.0.0 . arp daddr ip & 255.0.0.0 @same-ip-set drop",
            ),
        ] {
            assert_eq!(plain(one), plain(other));
        }
        assert_ne!(plain("ether type ip accept"), plain("accept"));
        assert_ne!(
            plain("ip saddr 10.0.0.1 drop"),
            plain("ip daddr 10.0.0.1 drop")
        );
        assert_ne!(plain("ip protocol udp accept"), plain("accept"));
        assert_ne!(plain("@nh,64,16 0x102 drop"), plain("@nh,64,16 0x103 drop"));
        assert_ne!(plain("tcp flags & syn == syn drop"), plain("drop"));
    }

    #[test]
    fn the_order_of_tests_is_nothing() {
        let same = |one, other| same_text(Engine::Ebtables, one, other);
        assert!(same(
            "-s 2:0:0:0:0:1 -p IPv4 -j DROP",
            "-p 0x800 -s 02:00:00:00:00:01 -j DROP"
        ));
        assert!(!same("-s 2:0:0:0:0:1 -j DROP", "-s 2:0:0:0:0:1 -j ACCEPT"));
        assert!(!same("-s 2:0:0:0:0:1 -j DROP", "-s 2:0:0:0:0:2 -j DROP"));
        assert!(!same("-j DROP", "-s 2:0:0:0:0:2 -j DROP"));
    }
}

//! Whether rules are the same, however they are written.

use pointsman_filter::connection::Connections;
use pointsman_filter::judge::{Outcome, Step, judge};
use pointsman_filter::model::{Action, Chain, Engine, Origin, Rule, Ruleset, Table};
use pointsman_filter::route::{Direction, Host, Port};
use pointsman_filter::test::Test;
use pointsman_filter::{ebtables, iptables};
use serde_json::Value;

/// Compares the step that decides with the recorded one.
pub(super) fn deciding(recorded: &Value, step: Option<&Step>, by_xml: bool) -> Result<(), String> {
    let field = |key: &str| {
        recorded
            .get(key)
            .and_then(Value::as_str)
            .unwrap_or_default()
    };
    let (layer, chain, rule) = (field("layer"), field("chain"), field("rule"));
    let shown = step.map_or("no rule".to_owned(), |step| {
        format!("{} {}: {}", step.table, step.chain, step.text)
    });
    let differs = || Err(format!("recorded {layer} {chain}: {rule}; judged {shown}"));
    if recorded.is_null() {
        return Ok(());
    }
    let is_end = rule.starts_with('(');
    let Some(step) = step else {
        // nftables' base chains accept at their end; counters can't show more.
        let by_default = layer == "-" || layer.starts_with("nft");
        return if is_end && by_default {
            Ok(())
        } else {
            differs()
        };
    };
    let table = match layer {
        "nft bridge ethernet" => "nft bridge libvirt_nwfilter_ethernet",
        "nft bridge inet" => "nft bridge libvirt_nwfilter_inet",
        other => other,
    };
    if step.table != table || step.chain != chain {
        return differs();
    }
    if is_end != matches!(step.outcome, Outcome::ChainEnded(_) | Outcome::Policy(_)) {
        return differs();
    }
    if !is_end && !same_text(step.engine, &step.text, rule) {
        return differs();
    }
    let xml = recorded.get("xml_rule").filter(|_| by_xml);
    match xml {
        Some(xml) => origin(xml, step),
        None => Ok(()),
    }
}

/// Compares the rule of the filter that a step comes from.
fn origin(xml: &Value, step: &Step) -> Result<(), String> {
    let Some(filter) = xml.get("filter").and_then(Value::as_str) else {
        return match &step.origin {
            Some(Origin::Filter(rule)) => Err(format!(
                "recorded as of no filter, judged as of {} rule {}",
                rule.filter, rule.number
            )),
            _ => Ok(()),
        };
    };
    let Some(Origin::Filter(rule)) = &step.origin else {
        return Err(format!("recorded as of {filter}, judged as of no filter"));
    };
    let same = |key: &str, own: &str| {
        let recorded = xml.get(key).and_then(Value::as_str);
        recorded.is_none_or(|recorded| recorded == own)
    };
    // The recorded priority is that of a rule without one where the recorder did not look closer.
    let priority = xml.get("priority").and_then(Value::as_i64);
    let same_priority =
        priority.is_none_or(|priority| priority == i64::from(rule.priority) || priority == 500);
    // A frame can't be rejected on a bridge: it is dropped.
    let same_action =
        same("action", &rule.action) || rule.action == "reject" && same("action", "drop");
    if rule.filter == filter && same_action && same("direction", &rule.direction) && same_priority {
        return Ok(());
    }
    Err(format!(
        "recorded as of {xml}, judged as of {} {} {} {}",
        rule.filter, rule.action, rule.direction, rule.priority
    ))
}

/// Compares all chains that have to do with the port.
pub(super) fn rulesets(own: &Ruleset, other: &Ruleset, port: &str) -> Result<(), String> {
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

/// Compares verdicts and deciding rules over frames, and over many made of them.
pub(super) fn judgements(
    own: &Ruleset,
    other: &Ruleset,
    port: &str,
    frames: &[Vec<u8>],
) -> Result<(), String> {
    let connections = Connections::new();
    let host = Host {
        call_iptables: true,
        call_ip6tables: true,
        connections: Some(&connections),
        ..Host::default()
    };
    let port = Port {
        name: port,
        bridge: None,
        peer: None,
    };
    for (number, frame) in frames.iter().enumerate() {
        for round in 0..VARIANTS {
            let frame = variant(frame, number * VARIANTS + round, round);
            for direction in [Direction::Out, Direction::In] {
                let by = |rules| judge(&frame, port, direction, rules, &host);
                let (Ok(one), Ok(two)) = (by(own), by(other)) else {
                    return Err("a frame can't be judged".into());
                };
                let step = |step: Option<&Step>| step.map(|step| step.chain.clone());
                if one.verdict != two.verdict || step(one.deciding()) != step(two.deciding()) {
                    let hex: String = frame.iter().map(|byte| format!("{byte:02x}")).collect();
                    return Err(format!(
                        "{direction:?} {hex}: {} by {:?}, {} by libvirt's rules",
                        one.verdict,
                        step(one.deciding()),
                        two.verdict
                    ));
                }
            }
        }
    }
    Ok(())
}

/// How many frames are made of one.
const VARIANTS: usize = 8;

/// A frame with some bytes changed: none in round 0.
fn variant(frame: &[u8], seed: usize, round: usize) -> Vec<u8> {
    let mut frame = frame.to_vec();
    let mut state = seed as u64 + 1;
    for _ in 0..round {
        // splitmix64
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = (state ^ state >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ word >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^= word >> 31;
        // The headers decide.
        let at = (word >> 8) as usize % frame.len().min(60);
        frame[at] = match word >> 40 & 3 {
            0 => word as u8,
            1 => frame[at] ^ 1,
            2 => 0xff,
            _ => 0,
        };
    }
    frame
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

fn same_rule(engine: Engine, one: &Rule, other: &Rule) -> bool {
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
fn same_text(engine: Engine, one: &str, other: &str) -> bool {
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

/// An nftables rule without what nft shows or leaves out by its version: what later tests imply.
fn plain(text: &str) -> String {
    let mut text = format!(" {text} ");
    for implied in [
        " ether type ip ",
        " ether type ip6 ",
        " ether type arp ",
        " ether type 8021q ",
    ] {
        let family = implied.trim().rsplit(' ').next().unwrap_or_default();
        let behind = match family {
            "8021q" => " vlan ".to_owned(),
            family => format!(" {family} "),
        };
        let rest = text.replacen(implied, " ", 1);
        if rest.contains(&behind) {
            text = rest;
        }
    }
    for protocol in ["tcp", "udp", "sctp", "udplite", "icmp", "icmpv6"] {
        if text.contains(&format!(" {protocol} sport "))
            || text.contains(&format!(" {protocol} dport "))
            || text.contains(&format!(" {protocol} flags "))
            || text.contains(&format!(" {protocol} type "))
        {
            for implied in ["ip protocol", "ip6 nexthdr", "meta l4proto"] {
                for name in [
                    protocol,
                    if protocol == "icmpv6" {
                        "ipv6-icmp"
                    } else {
                        protocol
                    },
                ] {
                    text = text.replacen(&format!(" {implied} {name} "), " ", 1);
                }
            }
        }
    }
    // Whether IPv4 is named by itself or by a test of its header is the same.
    if text.contains(" ip saddr ") || text.contains(" ip daddr ") || text.contains(" ip protocol ")
    {
        text = text.replacen(" ether type ip ", " ", 1);
    }
    text.trim().to_owned()
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
        ] {
            assert_eq!(plain(one), plain(other));
        }
        assert_ne!(plain("ether type ip accept"), plain("accept"));
        assert_ne!(
            plain("ip saddr 10.0.0.1 drop"),
            plain("ip daddr 10.0.0.1 drop")
        );
        assert_ne!(plain("ip protocol udp accept"), plain("accept"));
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

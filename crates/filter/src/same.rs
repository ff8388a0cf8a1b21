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

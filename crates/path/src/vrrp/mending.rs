//! What lets frames pass the rule that drops them, in the words of its program.

use std::net::IpAddr;

use pointsman_filter::judge::Step;
use pointsman_filter::model::Engine;
use pointsman_wire::Mac;

use crate::finding::Finding;

/// What is to pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Passing {
    /// Advertisements, of IPv6 or of IPv4.
    Adverts {
        /// Of IPv6.
        v6: bool,
    },
    /// Whatever has a link-layer address as its source.
    From(Mac),
    /// What says where an address is.
    Speaking(IpAddr),
}

/// Chains of ebtables and iptables that hooks call: from these a frame does not return to anything.
const BASE: [&str; 6] = [
    "PREROUTING",
    "FORWARD",
    "INPUT",
    "OUTPUT",
    "POSTROUTING",
    "BROUTING",
];
/// What marks rules of nftables, whose numbers are known only once they are there.
const MARK: &str = "pointsman-vrrp";

/// Adds commands that let something pass before a rule, if its program can say that; else only words.
pub(super) fn let_pass(finding: Finding, step: &Step, passing: Passing, words: &str) -> Finding {
    let Some(test) = test(step.engine, passing) else {
        return finding.mended_by(words, [""; 0], [""; 0]);
    };
    let table = step.table.rsplit(' ').next().unwrap_or_default();
    let chain = &step.chain;
    let program = match step.engine {
        Engine::Ebtables => "ebtables",
        Engine::Iptables => "iptables",
        Engine::Ip6tables => "ip6tables",
        Engine::Nftables => {
            let family = step.table.split(' ').nth(1).unwrap_or("inet");
            let find = format!(
                "nft --handle list chain {family} {table} {chain} | \
                 sed -n 's/.*comment \"{MARK}\" # handle //p' | head -n 1"
            );
            return finding.mended_by(
                words,
                [format!(
                    "nft insert rule {family} {table} {chain} {test} counter accept comment {MARK}"
                )],
                [format!(
                    "nft delete rule {family} {table} {chain} handle $({find})"
                )],
            );
        }
    };
    let verdict = if BASE.contains(&chain.as_str()) {
        "ACCEPT"
    } else {
        "RETURN"
    };
    finding.mended_by(
        words,
        [format!(
            "{program} -t {table} -I {chain} 1 {test} -j {verdict}"
        )],
        [format!(
            "{program} -t {table} -D {chain} {test} -j {verdict}"
        )],
    )
}

fn test(engine: Engine, passing: Passing) -> Option<String> {
    Some(match (engine, passing) {
        (Engine::Ebtables, Passing::Adverts { v6: false }) => "-p IPv4 --ip-proto 112".to_owned(),
        (Engine::Ebtables, Passing::Adverts { v6: true }) => "-p IPv6 --ip6-proto 112".to_owned(),
        (Engine::Ebtables, Passing::From(mac)) => format!("-s {mac}"),
        (Engine::Ebtables, Passing::Speaking(IpAddr::V4(own))) => {
            format!("-p ARP --arp-ip-src {own}")
        }
        (Engine::Ebtables, Passing::Speaking(IpAddr::V6(own))) => {
            format!("-p IPv6 --ip6-src {own}")
        }
        (Engine::Iptables | Engine::Ip6tables, Passing::Adverts { .. }) => "-p 112".to_owned(),
        (Engine::Iptables | Engine::Ip6tables, Passing::From(mac)) => {
            format!("-m mac --mac-source {mac}")
        }
        (Engine::Ip6tables, Passing::Speaking(own @ IpAddr::V6(_))) => format!("-s {own}"),
        // ARP does not meet them.
        (Engine::Iptables | Engine::Ip6tables, Passing::Speaking(_)) => return None,
        (Engine::Nftables, Passing::Adverts { v6: false }) => "ip protocol 112".to_owned(),
        (Engine::Nftables, Passing::Adverts { v6: true }) => "ip6 nexthdr 112".to_owned(),
        (Engine::Nftables, Passing::From(mac)) => format!("ether saddr {mac}"),
        (Engine::Nftables, Passing::Speaking(IpAddr::V4(own))) => format!("arp saddr ip {own}"),
        (Engine::Nftables, Passing::Speaking(IpAddr::V6(own))) => format!("ip6 saddr {own}"),
    })
}

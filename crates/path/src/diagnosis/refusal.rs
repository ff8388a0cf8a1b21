//! Nodes that tell the sender themselves that they can't.

use std::collections::BTreeMap;

use super::{Observed, Witness, counted, witnessed};
use crate::catalogue::Code;
use crate::finding::{Evidence, Finding};

/// ICMP errors about the service's packets that the finding's node sent, of a kind that fits.
pub(super) fn see(finding: &Finding, observed: &Observed<'_>) -> Option<Evidence> {
    let points = &observed.ladder.points;
    let conversations = observed.ladder.conversations.iter();
    let mut told: BTreeMap<(&'static str, Witness), usize> = BTreeMap::new();
    for packet in conversations.flat_map(|one| &one.packets) {
        let Some(first) = packet.first() else {
            continue;
        };
        let Some(ip) = first.headers.ip().map(|ip| ip.innermost()) else {
            continue;
        };
        let from_node = points[first.point].node == finding.node && !first.way.is_in();
        // Where a node tells itself, the loopback has only what came in.
        let by_itself = points[first.point].node == finding.node && ip.source == ip.destination;
        let (Some(icmp), true) = (&ip.icmp, ip.quoted.is_some()) else {
            continue;
        };
        if let Some(words) = words(ip.version, icmp.kind, icmp.code)
            && (from_node || by_itself)
            && let Some(witness) = weight(finding, words)
        {
            *told.entry((words, witness)).or_default() += 1;
        }
    }
    let ((words, witness), count) = told.into_iter().max_by_key(|(_, count)| *count)?;
    let fact = format!(
        "{} tells the sender: {words}, {}",
        finding.node,
        counted(count, "time")
    );
    let command = format!("pointsman capture --vip {}", observed.service);
    Some(witnessed(witness, fact, command))
}

/// What an ICMP error says; numbers of RFC 792, RFC 1812 and RFC 4443.
fn words(version: u8, kind: u8, code: u8) -> Option<&'static str> {
    Some(match (version, kind, code) {
        (4, 3, 0 | 6) | (6, 1, 0) => "no route",
        (4, 3, 1 | 7) | (6, 1, 3) => "host unreachable",
        (4, 3, 3) | (6, 1, 4) => "port unreachable",
        (4, 3, 4) | (6, 2, _) => "too big",
        (4, 3, 9 | 10 | 13) | (6, 1, 1) => "prohibited",
        (4, 3, 2) | (6, 4, 1) => "protocol unreachable",
        (4, 11, 0) | (6, 3, 0) => "hop limit exceeded",
        _ => return None,
    })
}

/// Which kind of witness an error is for a finding: one of its own where it says what the finding says;
/// else it shows no more than captures do, that packets ended there.
fn weight(finding: &Finding, words: &str) -> Option<Witness> {
    let says_so = match finding.code {
        Code::TtlExpired => words == "hop limit exceeded",
        Code::LinkMtu | Code::TunnelMtu => words == "too big",
        Code::NotRouted | Code::PolicyRoute => {
            matches!(words, "no route" | "host unreachable" | "prohibited")
        }
        Code::TunnelDown => words == "protocol unreachable",
        // Round and round, until its time is over.
        Code::NotAdjacent | Code::VipMissingForwarding => {
            matches!(
                words,
                "hop limit exceeded" | "no route" | "host unreachable"
            )
        }
        Code::ServiceBind | Code::PortMismatch => words == "port unreachable",
        _ => {
            let rule = finding.rule.as_ref().map(|rule| rule.text.to_lowercase());
            if rule.is_some_and(|text| text.contains("reject")) {
                return Some(Witness::Refusal);
            }
            // It is how paths with small links are learned.
            return (words != "too big").then_some(Witness::Capture);
        }
    };
    says_so.then_some(Witness::Refusal)
}

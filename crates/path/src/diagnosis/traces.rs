//! What probes left in tables.

use super::{Observed, Witness, elsewhere, witnessed};
use crate::catalogue::Code;
use crate::finding::{Evidence, Finding};
use crate::snapshot::Snapshot;

/// An entry that the probes left behind and that fits.
pub(super) fn see(finding: &Finding, observed: &Observed<'_>) -> Option<Evidence> {
    let node = observed.after.node(&finding.node)?;
    match finding.code {
        Code::ArpFlux | Code::ArpAnnounce | Code::DuplicateVip | Code::StaleNeighbour => {
            neighbour(finding, observed)
        }
        Code::MacFlapping => elsewhere::learned(finding, observed),
        Code::PolicyRoute => silent_router(finding, observed),
        Code::StatefulDirector | Code::StatefulReturn | Code::KubeInvalid => {
            connection(node, observed, &["[UNREPLIED]", "SYN_SENT", "SYN_RECV"])
        }
        Code::BridgeDestinationNat | Code::BridgeAsymmetricVlan | Code::BridgeFullNat => {
            connection(node, observed, &["SYN_RECV", "SYN_SENT"])
        }
        _ => None,
    }
}

/// Somebody's neighbour entry for the virtual address names the finding's node, or nobody of now.
fn neighbour(finding: &Finding, observed: &Observed<'_>) -> Option<Evidence> {
    let vip = observed.service.ip();
    let guilty = observed.after.node(&finding.node)?;
    let is_guilty = |node: &Snapshot, mac| node.links.iter().any(|link| link.mac == Some(mac));
    observed.after.nodes.iter().find_map(|node| {
        let entry = node.neighbours.iter().find(|entry| entry.address == vip)?;
        let mac = entry.mac?;
        let fits = match finding.code {
            // The finding is at who believes it.
            Code::StaleNeighbour => node.node == finding.node,
            _ => node.node != finding.node && is_guilty(guilty, mac),
        };
        fits.then(|| {
            let fact = format!("{} takes {mac} for {vip}", node.node);
            let command = format!("ip neighbour show {vip}");
            Evidence {
                node: Some(node.node.clone()),
                ..witnessed(Witness::Trace, fact, command)
            }
        })
    })
}

/// The router that the finding's node is to send answers to does not say where it is.
fn silent_router(finding: &Finding, observed: &Observed<'_>) -> Option<Evidence> {
    let node = observed.after.node(&finding.node)?;
    let bound = Some(observed.service.ip());
    let via = observed.routes.iter().find_map(|told| {
        (told.asked.node == finding.node && told.asked.from == bound)
            .then_some(told.via)
            .flatten()
    })?;
    let is_silent = |state: &String| state == "FAILED" || state == "INCOMPLETE";
    let mut entries = node.neighbours.iter();
    entries.find(|entry| entry.address == via && entry.states.iter().any(is_silent))?;
    let fact = format!("{} asked for {via}, and nobody answered", finding.node);
    let command = format!("ip neighbour show {via}");
    Some(witnessed(Witness::Trace, fact, command))
}

/// A tracked connection of the service in one of these states.
fn connection(node: &Snapshot, observed: &Observed<'_>, states: &[&str]) -> Option<Evidence> {
    let vip = observed.service.ip().to_string();
    let port = format!("dport={}", observed.service.port());
    let mut lines = node.connections.iter();
    let line = lines.find(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let about = words
            .iter()
            .any(|word| word.strip_prefix("dst=") == Some(&*vip))
            && words.iter().any(|word| *word == port);
        about && states.iter().any(|state| words.contains(state))
    })?;
    let fact = format!("a tracked connection stays half open: {}", line.trim());
    Some(witnessed(Witness::Trace, fact, "conntrack -L"))
}

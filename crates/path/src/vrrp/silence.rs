//! Nodes that have a virtual address and do not advertise it.

use std::net::IpAddr;

use super::frame::arp;
use super::split::saying;
use super::way::{arrives, way};
use super::{Scene, Speaker, WATCH, captured};
use crate::catalogue::Code;
use crate::finding::{Confidence, Finding};
use crate::snapshot::Snapshot;

/// Nodes that have an address which another one advertises, and do not advertise it themselves.
pub(super) fn silent(scene: Scene<'_>, masters: &[&Speaker]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for master in masters {
        let holder = scene.node_with(master.source);
        for address in master.addresses() {
            let others = scene.bundle.nodes.iter().filter(|node| {
                let own = node.owner_of(*address);
                holder != Some(node.node.as_str())
                    // Of those with one address more cannot be told by it.
                    && node.owner_of(master.source).is_none()
                    && own.is_some_and(|(link, _)| !link.is_loopback())
                    && !masters
                        .iter()
                        .any(|other| scene.node_with(other.source) == Some(&node.node))
            });
            for node in others {
                findings.push(mute(scene, master, *address, node));
            }
        }
    }
    findings
}

/// A node that has the address and does not say so. A keepalived that rejects what it hears puts its own
/// advertisements off each time, and may never send one.
fn mute(scene: Scene<'_>, master: &Speaker, address: IpAddr, node: &Snapshot) -> Finding {
    let name = scene.name_of(master);
    let device = node.owner_of(address).map_or("", |(link, _)| &link.name);
    let show = format!("ip address show dev {device}");
    let fact = format!("{} has {address} on {device}", node.node);
    // A peer that is not there is asked for again and again.
    let mut asked = scene
        .recording
        .observations
        .iter()
        .filter_map(|seen| arp(&seen.bytes));
    let mut messages = asked.clone();
    let unanswered = messages.find(|(request, sender, target)| {
        *request
            && sender != target
            && node.owner_of(*sender).is_some()
            && !asked.any(|(request, answer, _)| !request && answer == *target)
            && scene.node_with(*target).is_none()
    });
    if let Some((_, sender, target)) = unanswered {
        let words = format!(
            "{name} and {} both have {address}: {} has a peer {target} to which nobody answers",
            node.node, node.node
        );
        let finding = Finding::new(Code::VrrpMismatch, &node.node, words)
            .with(Confidence::Likely)
            .because(fact, show);
        let finding = captured(
            finding,
            format!("{sender} asks for {target} in vain, and advertises to nobody"),
            "tcpdump -ni any arp",
        );
        return captured(finding, saying(scene, master), WATCH).mended_by(
            "mend unicast_peer",
            [""; 0],
            [""; 0],
        );
    }
    if let Some(finding) = way(scene, master, &node.node) {
        return finding.because(fact, show);
    }
    if arrives(scene, master, &node.node).is_some() {
        let words = format!(
            "{name} and {0} both have {address}: {0} hears {name} and does not yield, for it rejects what it \
             hears (version, id, password, interval, addresses, peers)",
            node.node
        );
        let finding = Finding::new(Code::VrrpMismatch, &node.node, words)
            .with(Confidence::Likely)
            .because(fact, show);
        return captured(finding, saying(scene, master), WATCH).mended_by(
            format!(
                "set both alike; the log of {} says what it rejects",
                node.node
            ),
            [""; 0],
            [""; 0],
        );
    }
    let words = format!(
        "{name} and {} both have {address}, and {} does not advertise it",
        node.node, node.node
    );
    let finding = Finding::new(Code::DuplicateVip, &node.node, words).because(fact, show);
    let finding = captured(finding, saying(scene, master), WATCH);
    let words = format!("take it from {}, if nothing there manages it", node.node);
    let Some(own) = node
        .owner_of(address)
        .and_then(|(link, _)| link.address(address))
    else {
        return finding.mended_by(words, [""; 0], [""; 0]);
    };
    let change = |how: &str| {
        let length = own.prefix.length;
        [format!("ip address {how} {address}/{length} dev {device}")]
    };
    finding.mended_by(words, change("del"), change("add"))
}

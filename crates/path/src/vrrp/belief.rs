//! A master, and whether the segment believes that it has its addresses.

use std::net::IpAddr;

use pointsman_filter::route::Direction;
use pointsman_wire::Mac;
use pointsman_wire::build::{arp_reply, neighbor_announcement};

use super::gate::{self, Gate};
use super::mending::{Passing, let_pass};
use super::{Scene, Speaker};
use crate::catalogue::Code;
use crate::finding::{Confidence, Evidence, Finding, Shows, Trial, Witness};
use crate::lint::node_rules;
use crate::snapshot::Snapshot;

pub(super) fn find(scene: Scene<'_>) -> Vec<Finding> {
    let mut findings = Vec::new();
    let masters = scene.masters();
    for speaker in &masters {
        // Of two masters each is believed by somebody.
        let rival = masters
            .iter()
            .any(|other| other.source != speaker.source && other.shares_addresses(speaker));
        if rival {
            continue;
        }
        for address in speaker.addresses() {
            let macs = macs(scene, speaker, *address);
            findings.extend(unanswered(scene, speaker, *address, &macs));
            findings.extend(remembered(scene, speaker, *address, &macs));
        }
        findings.extend(fixed(scene, speaker));
    }
    findings
}

/// The link-layer addresses at which an address may be.
fn macs(scene: Scene<'_>, speaker: &Speaker, address: IpAddr) -> Vec<Mac> {
    let node = scene.node_with(speaker.source);
    let node = node.and_then(|name| scene.bundle.node(name));
    let links = node.into_iter().flat_map(|node| &node.links);
    let own = links.filter(|link| link.address(address).is_some() || link.kind == "macvlan");
    let mut macs: Vec<Mac> = own.filter_map(|link| link.mac).collect();
    macs.push(speaker.last.mac);
    macs
}

/// Nobody, or somebody else, answers for the address.
fn unanswered(
    scene: Scene<'_>,
    speaker: &Speaker,
    address: IpAddr,
    macs: &[Mac],
) -> Option<Finding> {
    let name = scene.name_of(speaker);
    let asked: Vec<_> = scene
        .asked
        .iter()
        .filter(|asked| asked.address == address && asked.node != name)
        .collect();
    let deceived = asked.iter().find_map(|asked| {
        let other = asked.answers.iter().find(|mac| {
            // Who is known to have it is told of elsewhere.
            let mut nodes = scene.bundle.nodes.iter();
            let known = nodes.any(|node| {
                node.owner_of(address).is_some()
                    && node.links.iter().any(|link| link.mac == Some(**mac))
            });
            !macs.contains(mac) && !known
        })?;
        Some((&asked.node, other))
    });
    if let Some((node, other)) = deceived {
        let words = format!("{name} is master, and {other} answers for {address} too");
        let finding = Finding::new(Code::DuplicateVip, &name, words).with(Confidence::Likely);
        return Some(seen(
            finding,
            format!("{node} asked, and {other} answered"),
            &ask(address),
            Some(node),
        ));
    }
    let mut silent = asked.iter().filter(|asked| asked.answers.is_empty());
    let first = silent.next()?;
    let gate = gate(scene, speaker, address, macs);
    let place = gate.as_ref().map_or_else(String::new, |(gate, ..)| {
        format!(", {} drops it at {}", gate.node.node, gate.link.name)
    });
    let words =
        format!("{name} is master of {address}, and its segment does not hear it say so{place}");
    let at = gate.as_ref().map_or(&name, |(gate, ..)| &gate.node.node);
    let mut finding = Finding::new(Code::VipNotBelieved, at, words).with(Confidence::Likely);
    if let Some((gate, ..)) = &gate {
        finding = finding.at(&gate.link.name);
    }
    let finding = seen(
        finding,
        format!("{} asked for {address}, and nobody answered", first.node),
        &ask(address),
        Some(&first.node),
    );
    let words = "let the master speak for the address: allow it at the port's ARP and IP lists (allowed \
                 address pair)";
    let Some((gate, frame, direction)) = gate else {
        return Some(finding.mended_by(words, [""; 0], [""; 0]));
    };
    let Some(step) = gate.judgement.deciding() else {
        return Some(finding.mended_by(words, [""; 0], [""; 0]));
    };
    let finding = node_rules::because(finding, step).shown_by(Some(Trial {
        frame,
        enters: direction == Direction::Out,
        port: None,
        shows: Shows::Passes,
        tempting: Vec::new(),
    }));
    Some(let_pass(finding, step, Passing::Speaking(address), words))
}

fn ask(address: IpAddr) -> String {
    match address {
        IpAddr::V4(_) => format!("arping -c 3 -I DEVICE {address}"),
        IpAddr::V6(_) => format!("ndisc6 {address} DEVICE"),
    }
}

/// The port's rule that drops the master's answer, that answer, and which way it goes there.
fn gate<'a>(
    scene: Scene<'a>,
    speaker: &Speaker,
    address: IpAddr,
    macs: &[Mac],
) -> Option<(Gate<'a>, Vec<u8>, Direction)> {
    let mac = *macs.first()?;
    let frame = match (address, speaker.source) {
        (IpAddr::V4(vip), IpAddr::V4(other)) => arp_reply(mac, vip, Mac::BROADCAST, other),
        (IpAddr::V6(vip), _) => neighbor_announcement(mac, vip, false),
        _ => return None,
    };
    let points = &scene.recording.points;
    scene.bundle.nodes.iter().find_map(|node| {
        let mut ports = node.links.iter().filter(|link| link.port.is_some());
        ports.find_map(|link| {
            // Out of the master's port, where its advertisements come in.
            let enters = speaker.points.iter().any(|at| {
                points[*at].node == node.node
                    && points[*at].device == link.name
                    && first_at(scene, speaker, node, &link.name)
            });
            let direction = if enters {
                Direction::Out
            } else {
                Direction::In
            };
            let gate = gate::at_port(node, link, &frame, direction)?;
            Some((gate, frame.clone(), direction))
        })
    })
}

/// Whether a speaker's frames come in at a port, not out.
fn first_at(scene: Scene<'_>, speaker: &Speaker, node: &Snapshot, port: &str) -> bool {
    scene.recording.observations.iter().any(|seen| {
        let point = &scene.recording.points[seen.point];
        point.node == node.node
            && point.device == port
            && seen.way.is_in()
            && super::AdvertFrame::read(seen).is_some_and(|one| one.source == speaker.source)
    })
}

/// Somebody has another link-layer address for it.
fn remembered(scene: Scene<'_>, speaker: &Speaker, address: IpAddr, macs: &[Mac]) -> Vec<Finding> {
    let name = scene.name_of(speaker);
    let mut findings = Vec::new();
    for node in &scene.bundle.nodes {
        for entry in node.neighbours.iter().filter(|own| own.address == address) {
            let Some(mac) = entry.mac.filter(|mac| !macs.contains(mac)) else {
                continue;
            };
            if entry.states.iter().any(|state| state == "FAILED") {
                continue;
            }
            let is_fixed = entry.states.iter().any(|state| state == "PERMANENT");
            let words = format!(
                "{} still sends what is for {address} to {mac}, and {name} is master",
                node.node
            );
            let device = &entry.device;
            let finding = Finding::new(Code::StaleNeighbour, &node.node, words)
                .at(device)
                .with(Confidence::Likely);
            let finding = seen(
                finding,
                format!(
                    "its neighbour entry is {mac}, {}; the master is at {}",
                    entry.states.join(" "),
                    speaker.last.mac
                ),
                &format!("ip neighbour show {address} dev {device}"),
                None,
            );
            let words = if is_fixed {
                "remove the entry that somebody fixed"
            } else {
                "forget the entry, and have the master announce itself again and again (garp_master_refresh)"
            };
            findings.push(finding.mended_by(
                words,
                [format!("ip neighbour del {address} dev {device}")],
                if is_fixed {
                    vec![format!(
                        "ip neighbour add {address} lladdr {mac} dev {device} nud permanent"
                    )]
                } else {
                    Vec::new()
                },
            ));
        }
    }
    findings
}

/// A bridge that was told where the master's link-layer address is, and does not learn otherwise.
fn fixed(scene: Scene<'_>, speaker: &Speaker) -> Vec<Finding> {
    let mac = speaker.last.mac;
    let mut findings = Vec::new();
    for node in &scene.bundle.nodes {
        let entries = node.forwarding.iter();
        for entry in entries.filter(|own| own.mac == Some(mac) && !own.is_learned()) {
            let elsewhere = node.links.iter().filter(|link| link.port.is_some());
            let elsewhere = elsewhere
                .map(|link| &link.name)
                .find(|port| **port != entry.port && first_at(scene, speaker, node, port));
            let Some(port) = elsewhere else { continue };
            let words = format!(
                "{} has {mac} fixed at {}, and the master is behind {port}",
                node.node, entry.port
            );
            let show = format!("bridge fdb show | grep {mac}");
            let finding = Finding::new(Code::VipNotBelieved, &node.node, words)
                .at(&entry.port)
                .with(Confidence::Likely);
            let finding = seen(
                finding,
                format!("the entry is {}", entry.state),
                &show,
                None,
            );
            findings.push(finding.mended_by(
                "remove the fixed entry",
                [format!("bridge fdb del {mac} dev {} master", entry.port)],
                [format!(
                    "bridge fdb add {mac} dev {} master static",
                    entry.port
                )],
            ));
        }
    }
    findings
}

fn seen(mut finding: Finding, fact: String, command: &str, node: Option<&str>) -> Finding {
    finding.evidence.push(Evidence {
        fact,
        command: command.to_owned(),
        node: node.map(str::to_owned),
        witness: Some(Witness::Trace),
    });
    finding
}

//! Two masters, and why neither believes the other.

use std::collections::BTreeMap;
use std::net::IpAddr;

use pointsman_wire::Mac;

use super::mismatch::mismatch;
use super::silence::silent;
use super::way::way;
use super::{AdvertFrame, Scene, Speaker, WATCH, captured};
use crate::catalogue::Code;
use crate::finding::{Confidence, Finding};
use crate::observation::Way;
use crate::snapshot::Snapshot;

/// The priority of who owns the addresses, and never yields.
const OWNER: u8 = 255;

/// Everything about more than one master.
pub(super) fn find(scene: Scene<'_>) -> Vec<Finding> {
    let mut findings = Vec::new();
    let masters = scene.masters();
    for (at, one) in masters.iter().enumerate() {
        for other in &masters[at + 1..] {
            let both = scene.has_addresses(one) && scene.has_addresses(other);
            if one.source.is_ipv6() != other.source.is_ipv6() || !(both || one.overlaps(other)) {
                continue;
            }
            let same_id = one.vrid == other.vrid;
            if one.shares_addresses(other) || (same_id && scene.holds_in_common(one, other)) {
                findings.extend(split(scene, one, other));
            } else if same_id && one.points.intersection(&other.points).next().is_some() {
                findings.push(taken(scene, one, other));
            }
        }
    }
    findings.extend(silent(scene, &masters));
    findings.extend(doubled(scene));
    if scene.recording.observations.is_empty() {
        findings.extend(held_twice(scene));
    }
    findings
}

/// Addresses that two nodes have, where nothing was captured.
fn held_twice(scene: Scene<'_>) -> Vec<Finding> {
    let nodes = &scene.bundle.nodes;
    let mut findings = Vec::new();
    for (at, one) in nodes.iter().enumerate() {
        let links = one.links.iter().filter(|link| !link.is_loopback());
        for own in links.flat_map(|link| &link.addresses) {
            let address = own.prefix.address;
            let holds = |node: &&Snapshot| {
                let owner = node.owner_of(address);
                owner.is_some_and(|(link, _)| !link.is_loopback())
            };
            if own.scope == "link" {
                continue;
            }
            for other in nodes[at + 1..].iter().filter(holds) {
                let words = format!("{} and {} both have {address}", one.node, other.node);
                let mut finding = Finding::new(Code::DuplicateVip, &other.node, words);
                for node in [one, other] {
                    let device = node.owner_of(address).map_or("", |(link, _)| &link.name);
                    finding = finding.seen_at(
                        &node.node,
                        format!("{} has it on {device}", node.node),
                        format!("ip address show dev {device}"),
                    );
                }
                findings.push(finding.mended_by(
                    "capture at both (`pointsman doctor vrrp --netns`, `--read FILE`) to see why",
                    [""; 0],
                    [""; 0],
                ));
            }
        }
    }
    findings
}

impl Scene<'_> {
    /// Whether both senders' nodes have one of the addresses that either of them advertises.
    fn holds_in_common(&self, one: &Speaker, other: &Speaker) -> bool {
        let node = |speaker: &Speaker| self.node_with(speaker.source).map(str::to_owned);
        let (Some(a), Some(b)) = (node(one), node(other)) else {
            return false;
        };
        let (Some(a), Some(b)) = (self.bundle.node(&a), self.bundle.node(&b)) else {
            return false;
        };
        let mut all = one.addresses().iter().chain(other.addresses());
        all.any(|address| a.owner_of(*address).is_some() && b.owner_of(*address).is_some())
    }
}

pub(super) fn list(addresses: &[IpAddr]) -> String {
    let texts: Vec<String> = addresses.iter().map(ToString::to_string).collect();
    texts.join(" ")
}

/// What a speaker says, in words.
pub(super) fn saying(scene: Scene<'_>, speaker: &Speaker) -> String {
    let name = scene.name_of(speaker);
    let priority = speaker.advert().map_or(0, |advert| advert.priority);
    format!(
        "{name} ({}) advertises virtual router {}, priority {priority}, {} times here",
        speaker.source,
        speaker.vrid,
        speaker.times.len()
    )
}

/// Two masters of the same addresses.
fn split(scene: Scene<'_>, one: &Speaker, other: &Speaker) -> Vec<Finding> {
    if let Some((what, fix)) = mismatch(one, other) {
        let (a, b) = (scene.name_of(one), scene.name_of(other));
        let words = format!("{a} and {b} are both master, for they do not agree: {what}");
        let mut finding = Finding::new(Code::VrrpMismatch, &a, words).with(Confidence::Likely);
        for speaker in [one, other] {
            finding = captured(finding, saying(scene, speaker), WATCH);
        }
        return vec![finding.mended_by(fix, [""; 0], [""; 0])];
    }
    let to = |speaker: &Speaker| scene.node_with(speaker.source);
    let ways = [(one, to(other)), (other, to(one))];
    let mut found: Vec<Finding> = ways
        .into_iter()
        .filter_map(|(from, to)| way(scene, from, to?))
        .collect();
    if found.is_empty() {
        found.extend(owners(scene, one, other));
    }
    if found.is_empty() {
        let (a, b) = (scene.name_of(one), scene.name_of(other));
        let words = format!(
            "{a} and {b} are both master of {}, and nothing tells why they do not hear each other",
            list(one.addresses())
        );
        let mut finding = Finding::new(Code::VrrpSplit, &a, words).with(Confidence::Likely);
        for speaker in [one, other] {
            finding = captured(finding, saying(scene, speaker), WATCH);
        }
        found.push(finding.mended_by(
            "let protocol 112 pass between them, or give unicast_peer",
            [""; 0],
            [""; 0],
        ));
    }
    found
}

/// Both say that the addresses are their own.
fn owners(scene: Scene<'_>, one: &Speaker, other: &Speaker) -> Option<Finding> {
    let owns = |speaker: &Speaker| speaker.advert().is_some_and(|own| own.priority == OWNER);
    if !owns(one) || !owns(other) {
        return None;
    }
    let (a, b) = (scene.name_of(one), scene.name_of(other));
    let words = format!(
        "{a} and {b} are both master, for both say that they own the addresses (priority {OWNER})"
    );
    let mut finding = Finding::new(Code::VrrpMismatch, &a, words).with(Confidence::Likely);
    for speaker in [one, other] {
        finding = captured(finding, saying(scene, speaker), WATCH);
    }
    Some(finding.mended_by(
        format!("give priority {OWNER} to none, or only to the one whose own address it is"),
        [""; 0],
        [""; 0],
    ))
}

/// Two routers that advertise from one address: with the same priority neither yields, for a tie goes to
/// the higher address.
fn doubled(scene: Scene<'_>) -> Vec<Finding> {
    let mut heard: BTreeMap<(usize, IpAddr, u8), Vec<Mac>> = BTreeMap::new();
    for seen in &scene.recording.observations {
        // What a node sends itself may be seen before its address is put in.
        if seen.way == Way::Out {
            continue;
        }
        if let Some(frame) = AdvertFrame::read(seen) {
            let turns = heard
                .entry((seen.point, frame.source, frame.vrid))
                .or_default();
            if turns.last() != Some(&frame.mac) {
                turns.push(frame.mac);
            }
        }
    }
    let mut findings = Vec::new();
    for speaker in scene.speakers {
        let turns = heard.iter().find(|((_, source, vrid), turns)| {
            (*source, *vrid) == (speaker.source, speaker.vrid) && turns.len() > 2
        });
        let Some(((point, ..), turns)) = turns else {
            continue;
        };
        let nodes = scene.bundle.nodes.iter();
        let nodes = nodes.filter(|node| node.owner_of(speaker.source).is_some());
        let names: Vec<&str> = nodes.map(|node| node.node.as_str()).collect();
        let who = match names.as_slice() {
            [] | [_] => format!("two routers, {} and {},", turns[0], turns[1]),
            several => several.join(" and "),
        };
        let source = speaker.source;
        let words = format!(
            "{who} advertise virtual router {} from the same address {source}: neither yields, for a tie \
             of priority goes to the higher address",
            speaker.vrid
        );
        let at = scene.name_of(speaker);
        let finding = Finding::new(Code::VrrpMismatch, &at, words).with(Confidence::Likely);
        let fact = format!(
            "at {} they come from {} and {} in turns",
            scene.recording.points[*point], turns[0], turns[1]
        );
        let finding = captured(finding, fact, WATCH);
        findings.push(finding.mended_by(
            "give each an address of its own (mcast_src_ip, unicast_src_ip)",
            [""; 0],
            [""; 0],
        ));
    }
    findings
}

/// Two virtual routers of the same id on one segment.
fn taken(scene: Scene<'_>, one: &Speaker, other: &Speaker) -> Finding {
    let (a, b) = (scene.name_of(one), scene.name_of(other));
    let words = format!(
        "{a} and {b} use virtual router id {} for different addresses on one segment",
        one.vrid
    );
    let mut finding = Finding::new(Code::VrrpIdTaken, &a, words).with(Confidence::Likely);
    for speaker in [one, other] {
        let fact = format!(
            "{} for {}",
            saying(scene, speaker),
            list(speaker.addresses())
        );
        finding = captured(finding, fact, WATCH);
    }
    finding.mended_by(
        "give one of them another virtual_router_id",
        [""; 0],
        [""; 0],
    )
}

#[cfg(test)]
mod tests {
    use pointsman_wire::advert::{Advert, ChecksumStyle, Form};
    use pointsman_wire::build::Frame;

    use super::*;
    use crate::bundle::Bundle;
    use crate::observation::{Observation, Point, Recording};
    use crate::vrrp::{examine, speakers};

    /// An advertisement of priority 255 or less, received at a client.
    fn heard(at: u64, mac: u8, source: u8, priority: u8) -> Observation {
        let advert = Advert {
            form: Form::V3 { centiseconds: 10 },
            vrid: 51,
            priority,
            addresses: vec![[10, 0, 0, 100].into()],
        };
        let (own, group) = ([10, 0, 0, source], [224, 0, 0, 18]);
        let bytes = Frame::ipv4(own, group)
            .macs(Mac([2, 0, 0, 0, 0, mac]), Mac([1, 0, 0x5e, 0, 0, 0x12]))
            .ttl(255)
            .vrrp(&advert, ChecksumStyle::PseudoHeader)
            .build();
        Observation {
            point: 0,
            way: Way::In,
            at_ns: at * 50_000_000,
            length: bytes.len(),
            bytes,
            checksum_pending: false,
            gso: false,
            note: None,
        }
    }

    fn found(observations: Vec<Observation>) -> Vec<Finding> {
        let recording = Recording {
            points: vec![Point::new("client", "eth0")],
            observations,
        };
        let speakers = speakers(&recording);
        examine(Scene {
            bundle: &Bundle::default(),
            recording: &recording,
            speakers: &speakers,
            asked: &[],
        })
    }

    #[test]
    fn routers_with_one_address_are_told_apart_by_their_frames() {
        let turns = (0..6).map(|at| heard(at, 1 + at as u8 % 2, 1, 100));
        let found_in = found(turns.collect());
        let [one] = found_in.as_slice() else {
            panic!("{found_in:?}");
        };
        assert_eq!(one.code, Code::VrrpMismatch);
        assert!(one.words.contains("same address 10.0.0.1"), "{}", one.words);
        // One after the other is a failover.
        let after = (0..6).map(|at| heard(at, 1 + at as u8 / 3, 1, 100));
        assert_eq!(found(after.collect()), []);
    }

    #[test]
    fn two_owners_are_told() {
        let turns = (0..6).map(|at| heard(at, 1 + at as u8 % 2, 1 + at as u8 % 2, 255));
        let found = found(turns.collect());
        let [one] = found.as_slice() else {
            panic!("{found:?}");
        };
        assert_eq!(one.code, Code::VrrpMismatch);
        assert!(one.words.contains("priority 255"), "{}", one.words);
    }
}

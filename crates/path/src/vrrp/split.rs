//! Two masters, and why neither believes the other.

use std::net::IpAddr;

use pointsman_filter::route::Direction;
use pointsman_wire::Mac;
use pointsman_wire::advert::{Authentication, Form};
use pointsman_wire::vrrp::{HOP_LIMIT, virtual_mac};

use super::frame::arp;
use super::gate::{self, Gate};
use super::{Scene, Speaker, captured};
use crate::catalogue::Code;
use crate::finding::{Confidence, Finding};
use crate::lint::node_rules;
use crate::observation::Way;
use crate::snapshot::Snapshot;

/// How to see advertisements.
const WATCH: &str = "tcpdump -nevvi any 'ip proto 112 or ip6 proto 112'";

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

fn list(addresses: &[IpAddr]) -> String {
    let texts: Vec<String> = addresses.iter().map(ToString::to_string).collect();
    texts.join(" ")
}

/// What a speaker says, in words.
fn saying(scene: Scene<'_>, speaker: &Speaker) -> String {
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

/// What the two do not agree about, and what to do.
fn mismatch(one: &Speaker, other: &Speaker) -> Option<(String, String)> {
    let both = |what: &str, a: &dyn std::fmt::Display, b: &dyn std::fmt::Display, fix: &str| {
        Some((format!("{what} {a} and {b}"), fix.to_owned()))
    };
    let (Some(a), Some(b)) = (one.advert(), other.advert()) else {
        let broken = [one, other].into_iter().find_map(|speaker| {
            let error = speaker.last.advert.as_ref().err()?;
            Some((speaker.source, error))
        });
        let (source, error) = broken?;
        return Some((
            format!("what {source} sends is no advertisement: {error}"),
            "use another version of its program".to_owned(),
        ));
    };
    let (version_a, version_b) = (a.form.version(), b.form.version());
    if version_a != version_b {
        return both(
            "VRRP versions",
            &version_a,
            &version_b,
            "set the same version (`version`, `vrrp_version`) on both",
        );
    }
    if one.vrid != other.vrid {
        return both(
            "virtual router ids",
            &one.vrid,
            &other.vrid,
            "set the same virtual_router_id on both",
        );
    }
    if let Some(found) = destinations(one, other) {
        return Some(found);
    }
    for speaker in [one, other] {
        let last = &speaker.last;
        if last.destination.is_multicast() && last.hop_limit != HOP_LIMIT {
            return Some((
                format!(
                    "what {} sends has hop limit {} instead of {HOP_LIMIT}",
                    speaker.source, last.hop_limit
                ),
                "find the router or rule that changes the hop limit".to_owned(),
            ));
        }
        if last.style.is_none() {
            return Some((
                format!("what {} sends has a wrong checksum", speaker.source),
                "see whether a card or a filter on the way changes it".to_owned(),
            ));
        }
    }
    if one.last.style != other.last.style {
        return Some((
            "one takes the checksum over a pseudo header (keepalived, FRR), the other does not (RFC 9568)"
                .to_owned(),
            "set v3_checksum_as_v2 (keepalived 2.2.8 and later) alike on both".to_owned(),
        ));
    }
    if let (
        Form::V2 {
            authentication: first,
            seconds,
        },
        Form::V2 {
            authentication: second,
            seconds: other_seconds,
        },
    ) = (a.form, b.form)
    {
        if first.kind() != second.kind() {
            return both(
                "authentication types",
                &kind(first),
                &kind(second),
                "set the same auth_type on both",
            );
        }
        if first != second {
            return Some((
                "their passwords differ".to_owned(),
                "set the same auth_pass on both".to_owned(),
            ));
        }
        if seconds != other_seconds {
            return both(
                "intervals of seconds",
                &seconds,
                &other_seconds,
                "set the same advert_int on both: version 2 wants it",
            );
        }
    }
    let sorted = |addresses: &[IpAddr]| {
        let mut sorted = addresses.to_vec();
        sorted.sort();
        sorted
    };
    if sorted(&a.addresses) != sorted(&b.addresses) {
        return both(
            "virtual addresses",
            &list(&a.addresses),
            &list(&b.addresses),
            "set the same virtual_ipaddress on both; others into virtual_ipaddress_excluded",
        );
    }
    None
}

fn kind(authentication: Authentication) -> String {
    match authentication {
        Authentication::None => "none".to_owned(),
        Authentication::Password(_) => "PASS".to_owned(),
        Authentication::Other(2) => "AH".to_owned(),
        Authentication::Other(other) => other.to_string(),
    }
}

/// Whether one sends where the other does not listen.
fn destinations(one: &Speaker, other: &Speaker) -> Option<(String, String)> {
    let (to_one, to_other) = (other.last.destination, one.last.destination);
    if to_one.is_multicast() != to_other.is_multicast() {
        return Some((
            format!("one sends to {to_one}, the other to {to_other}"),
            "set unicast_peer on both, or on neither".to_owned(),
        ));
    }
    if to_one.is_multicast() {
        return (to_one != to_other).then(|| {
            (
                format!("groups {to_one} and {to_other}"),
                "set the same group on both".to_owned(),
            )
        });
    }
    for (speaker, peer) in [(one, other), (other, one)] {
        let to = speaker.last.destination;
        if to != peer.source {
            return Some((
                format!(
                    "{} sends to {to}, and the other is {}",
                    speaker.source, peer.source
                ),
                "mend unicast_peer and unicast_src_ip".to_owned(),
            ));
        }
    }
    None
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

/// The point of a node at which a speaker's advertisements come in.
fn arrives(scene: Scene<'_>, from: &Speaker, receiver: &str) -> Option<usize> {
    from.points.iter().copied().find(|at| {
        let point = &scene.recording.points[*at];
        let mut seen = scene.recording.observations.iter();
        point.node == receiver
            && seen.any(|seen| {
                seen.point == *at
                    && seen.way != Way::Out
                    && super::AdvertFrame::read(seen)
                        .is_some_and(|one| (one.source, one.vrid) == (from.source, from.vrid))
            })
    })
}

/// Why what one sends does not count at another node, if places on the way tell.
fn way(scene: Scene<'_>, from: &Speaker, receiver: &str) -> Option<Finding> {
    let frame = &scene.recording.observations.get(from.sample)?.bytes;
    // A master that yields would have stopped: what arrives is not taken.
    if let Some(at) = arrives(scene, from, receiver) {
        let node = scene.bundle.node(receiver)?;
        let link = node.link(&scene.recording.points[at].device)?;
        let gate = gate::at_router(node, link, frame)?;
        let place = format!("{receiver} drops them itself, on {}", link.name);
        return Some(dropped(scene, (from, receiver), frame, &gate, &place));
    }
    // Bridges' ports: out of the sender where it was seen, in to the receiver where it was not.
    let bridges = scene.bundle.nodes.iter();
    for node in bridges {
        let ports = node.links.iter().filter(|link| link.port.is_some());
        for link in ports {
            let is_seen = from.points.iter().any(|at| {
                let point = &scene.recording.points[*at];
                point.node == node.node && point.device == link.name
            });
            let direction = if is_seen {
                Direction::Out
            } else {
                Direction::In
            };
            if let Some(gate) = gate::at_port(node, link, frame, direction) {
                let place = format!("{} drops them at {}", node.node, link.name);
                return Some(dropped(scene, (from, receiver), frame, &gate, &place));
            }
        }
    }
    unexplained(scene, from, receiver)
}

/// A rule that drops advertisements.
fn dropped(
    scene: Scene<'_>,
    (from, b): (&Speaker, &str),
    frame: &[u8],
    gate: &Gate<'_>,
    place: &str,
) -> Finding {
    let a = scene.name_of(from);
    let is_virtual = from.last.mac == virtual_mac(from.vrid, from.source.is_ipv6());
    // With the interface's own link-layer address it would have passed.
    let own = own_mac(scene, from).filter(|_| is_virtual);
    let passes = own.is_some_and(|mac| {
        let mut other = frame.to_vec();
        if let Some(source) = other.get_mut(6..12) {
            source.copy_from_slice(&mac.0);
        }
        gate::at_port(gate.node, gate.link, &other, Direction::Out).is_none()
    });
    let (code, because) = if passes {
        (
            Code::HostMacSpoof,
            format!(
                ", for they come from the virtual link-layer address {}",
                from.last.mac
            ),
        )
    } else {
        (Code::VrrpSplit, String::new())
    };
    let words = format!(
        "{a} and {b} are both master: {b} does not hear {a}'s advertisements, {place}{because}"
    );
    let mut finding = Finding::new(code, &gate.node.node, words)
        .at(&gate.link.name)
        .with(Confidence::Likely);
    if let Some(step) = gate.judgement.deciding() {
        finding = node_rules::because(finding, step);
    }
    let others = scene.speakers.iter();
    for speaker in others.filter(|one| one.vrid == from.vrid && one.shares_addresses(from)) {
        finding = captured(finding, saying(scene, speaker), WATCH);
    }
    let fix = if passes {
        "switch use_vmac off, or allow the virtual link-layer address at the port"
    } else {
        "let protocol 112 pass there, before that rule"
    };
    finding.mended_by(fix, [""; 0], [""; 0])
}

/// The link-layer address of the interface that has a speaker's address.
fn own_mac(scene: Scene<'_>, speaker: &Speaker) -> Option<Mac> {
    let node = scene.bundle.node(scene.node_with(speaker.source)?)?;
    node.owner_of(speaker.source)?.0.mac
}

/// Advertisements that are lost where no rule says so.
fn unexplained(scene: Scene<'_>, from: &Speaker, b: &str) -> Option<Finding> {
    let points = &scene.recording.points;
    // Nobody captured there.
    points.iter().find(|point| point.node == b)?;
    let last: Vec<String> = from
        .points
        .iter()
        .map(|at| points[*at].to_string())
        .collect();
    let a = scene.name_of(from);
    let ports = scene.bundle.nodes.iter().flat_map(|node| &node.links);
    let isolated = ports.filter(|link| link.port.as_ref().is_some_and(|port| port.isolated));
    let hint = match isolated.count() {
        0 | 1 => {
            "a switch that does not pass the group on (IGMP snooping), or a filter that was not read"
        }
        _ => "ports of the bridge are isolated from each other",
    };
    let words =
        format!("{a} and {b} are both master: {a}'s advertisements do not arrive at {b}; {hint}");
    let finding = Finding::new(Code::VrrpSplit, b, words).with(Confidence::Likely);
    let finding = captured(
        finding,
        format!("they are seen at {} and nowhere at {b}", last.join(", ")),
        WATCH,
    );
    Some(finding.mended_by(
        "let protocol 112 and its group pass, or give unicast_peer",
        [""; 0],
        [""; 0],
    ))
}

/// Nodes that have an address which another one advertises, and do not advertise it themselves.
fn silent(scene: Scene<'_>, masters: &[&Speaker]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for master in masters {
        let holder = scene.node_with(master.source);
        for address in master.addresses() {
            let others = scene.bundle.nodes.iter().filter(|node| {
                let own = node.owner_of(*address);
                holder != Some(node.node.as_str())
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
    captured(finding, saying(scene, master), WATCH).mended_by(
        format!("take it from {}, if nothing there manages it", node.node),
        [""; 0],
        [""; 0],
    )
}

#[cfg(test)]
mod tests {
    use pointsman_wire::advert::{Advert, ChecksumStyle};

    use super::super::AdvertFrame;
    use super::*;

    fn speaker(last: u8) -> Speaker {
        let source: IpAddr = [10, 0, 0, last].into();
        Speaker {
            source,
            vrid: 51,
            last: AdvertFrame {
                mac: Mac([2, 0, 0, 0, 0, last]),
                source,
                destination: [224, 0, 0, 18].into(),
                hop_limit: 255,
                vrid: 51,
                advert: Ok(Advert {
                    form: Form::V2 {
                        authentication: Authentication::None,
                        seconds: 1,
                    },
                    vrid: 51,
                    priority: 100,
                    addresses: vec![[10, 0, 0, 100].into()],
                }),
                style: Some(ChecksumStyle::Message),
            },
            times: Vec::new(),
            stopped: false,
            points: Default::default(),
            sample: 0,
        }
    }

    #[test]
    fn what_two_do_not_agree_about_is_told() {
        assert_eq!(mismatch(&speaker(1), &speaker(2)), None);
        type Change = fn(&mut Speaker);
        fn advert(speaker: &mut Speaker) -> &mut Advert {
            speaker.last.advert.as_mut().expect("an advertisement")
        }
        let changes: [(Change, &str); 10] = [
            (
                |it| advert(it).form = Form::V3 { centiseconds: 100 },
                "VRRP versions 2 and 3",
            ),
            (|it| it.vrid = 52, "virtual router ids 51 and 52"),
            (
                |it| it.last.destination = [10, 0, 0, 1].into(),
                "one sends to",
            ),
            (
                |it| it.last.destination = [224, 0, 0, 19].into(),
                "groups 224.0.0.19 and 224.0.0.18",
            ),
            (
                |it| it.last.hop_limit = 64,
                "10.0.0.2 sends has hop limit 64",
            ),
            (
                |it| it.last.style = None,
                "10.0.0.2 sends has a wrong checksum",
            ),
            (
                |it| it.last.style = Some(ChecksumStyle::PseudoHeader),
                "checksum over a pseudo header",
            ),
            (
                |it| {
                    advert(it).form = Form::V2 {
                        authentication: Authentication::Password([1; 8]),
                        seconds: 1,
                    };
                },
                "authentication types none and PASS",
            ),
            (
                |it| {
                    advert(it).form = Form::V2 {
                        authentication: Authentication::None,
                        seconds: 2,
                    };
                },
                "intervals of seconds 1 and 2",
            ),
            (
                |it| advert(it).addresses.push([10, 0, 0, 101].into()),
                "virtual addresses 10.0.0.100 and 10.0.0.100 10.0.0.101",
            ),
        ];
        for (change, wanted) in changes {
            let mut other = speaker(2);
            change(&mut other);
            let (what, fix) = mismatch(&speaker(1), &other).expect(wanted);
            assert!(what.contains(wanted), "{what}");
            assert!(!fix.is_empty());
        }
    }

    #[test]
    fn peers_have_to_be_each_other() {
        let pair = |to_one: u8, to_other: u8| {
            let (mut one, mut other) = (speaker(1), speaker(2));
            one.last.destination = [10, 0, 0, to_other].into();
            other.last.destination = [10, 0, 0, to_one].into();
            mismatch(&one, &other).map(|(what, _)| what)
        };
        assert_eq!(pair(1, 2), None);
        let wrong = pair(1, 9).expect("a mismatch");
        assert_eq!(
            wrong,
            "10.0.0.1 sends to 10.0.0.9, and the other is 10.0.0.2"
        );
    }
}

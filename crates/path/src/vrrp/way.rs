//! The way of one router's advertisements to the other, and where they end.

use pointsman_filter::route::Direction;
use pointsman_wire::Mac;
use pointsman_wire::vrrp::virtual_mac;

use super::gate::{self, Gate};
use super::mending::{Passing, let_pass};
use super::split::saying;
use super::{AdvertFrame, Scene, Speaker, WATCH, captured, multicast};
use crate::catalogue::Code;
use crate::finding::{Confidence, Finding, Shows, Trial};
use crate::lint::node_rules;
use crate::observation::Way;
use crate::snapshot::{Link, Snapshot};

/// Advertisements that do not come to count.
#[derive(Debug, Clone, Copy)]
pub(super) struct Lost<'a> {
    /// Whose.
    pub(super) from: &'a Speaker,
    /// The node that they are for.
    pub(super) to: &'a str,
}

impl Lost<'_> {
    /// Who does not hear whom.
    pub(super) fn words(self, scene: Scene<'_>) -> String {
        let (a, b) = (scene.name_of(self.from), self.to);
        format!("{a} and {b} are both master: {b} does not hear {a}'s advertisements")
    }

    /// Where they were seen last.
    pub(super) fn saying(self, scene: Scene<'_>) -> String {
        let points = &scene.recording.points;
        let at = self.from.points.iter().map(|at| points[*at].to_string());
        let at: Vec<String> = at.collect();
        format!(
            "they are seen at {} and nowhere at {}",
            at.join(", "),
            self.to
        )
    }
}

/// The point of a node at which a speaker's advertisements come in.
pub(super) fn arrives(scene: Scene<'_>, from: &Speaker, receiver: &str) -> Option<usize> {
    from.points.iter().copied().find(|at| {
        let point = &scene.recording.points[*at];
        point.node == receiver && comes(scene, from, *at, |way| way != Way::Out)
    })
}

/// Whether a speaker's advertisements were seen at a point on such a way.
fn comes(scene: Scene<'_>, from: &Speaker, at: usize, wanted: impl Fn(Way) -> bool) -> bool {
    let mut seen = scene.recording.observations.iter();
    seen.any(|seen| {
        seen.point == at
            && wanted(seen.way)
            && AdvertFrame::read(seen)
                .is_some_and(|one| (one.source, one.vrid) == (from.source, from.vrid))
    })
}

/// Why what one sends does not count at another node, if places on the way tell.
pub(super) fn way(scene: Scene<'_>, from: &Speaker, receiver: &str) -> Option<Finding> {
    let lost = Lost { from, to: receiver };
    let frame = &scene.recording.observations.get(from.sample)?.bytes;
    // A master that yields would have stopped: what arrives is not taken.
    if let Some(at) = arrives(scene, from, receiver) {
        let node = scene.bundle.node(receiver)?;
        let link = node.link(&scene.recording.points[at].device)?;
        let gate = gate::at_router(node, link, frame)?;
        let place = format!("{receiver} drops them itself, on {}", link.name);
        return Some(dropped(scene, lost, frame, (&gate, None), &place));
    }
    // Bridges' ports: out of the sender where they come in, in to the receiver where they do not leave.
    let mut exits = Vec::new();
    for node in &scene.bundle.nodes {
        let ports = node.links.iter().filter(|link| link.port.is_some());
        for link in ports {
            let at = from.points.iter().find(|at| {
                let point = &scene.recording.points[**at];
                point.node == node.node && point.device == link.name
            });
            let direction = match at {
                Some(at) if comes(scene, from, *at, |way| way != Way::Out) => Direction::Out,
                None if leads_to(scene, node, link, receiver) != Some(false) => {
                    exits.push((node, link));
                    Direction::In
                }
                _ => continue,
            };
            if let Some(gate) = gate::at_port(node, link, frame, direction) {
                let place = format!("{} drops them at {}", node.node, link.name);
                return Some(dropped(
                    scene,
                    lost,
                    frame,
                    (&gate, Some(direction)),
                    &place,
                ));
            }
        }
    }
    let withheld = exits.into_iter().find_map(|(node, link)| {
        let why = multicast::withheld(node, link, from.last.destination)?;
        Some(multicast::finding(scene, lost, node, link, why))
    });
    withheld.or_else(|| unexplained(scene, lost))
}

/// Whether a port of a node leads to another node, if that is known: by its cable, or by what its
/// bridge has learned.
fn leads_to(scene: Scene<'_>, node: &Snapshot, link: &Link, other: &str) -> Option<bool> {
    let mut points = scene.recording.points.iter();
    let point = points.find(|point| point.node == node.node && point.device == link.name);
    if let Some((peer, device)) = point.and_then(|point| point.peer.as_ref()) {
        if peer == other {
            return Some(true);
        }
        // Behind another bridge there may be anybody.
        let behind = scene.bundle.node(peer).and_then(|node| node.link(device));
        if behind.is_some_and(|link| link.master.is_none()) {
            return Some(false);
        }
    }
    let macs: Vec<Mac> = scene
        .bundle
        .node(other)?
        .links
        .iter()
        .filter_map(|link| link.mac)
        .collect();
    let mut known = node
        .forwarding
        .iter()
        .filter(|entry| entry.is_learned() && entry.mac.is_some_and(|mac| macs.contains(&mac)))
        .filter(|entry| entry.bridge == link.master)
        .peekable();
    known.peek()?;
    Some(known.any(|entry| entry.port == link.name))
}

/// A rule that drops advertisements: at a bridge's port on such a way, or at the router itself.
fn dropped(
    scene: Scene<'_>,
    lost: Lost<'_>,
    frame: &[u8],
    (gate, at_port): (&Gate<'_>, Option<Direction>),
    place: &str,
) -> Finding {
    let from = lost.from;
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
    let words = format!("{}, {place}{because}", lost.words(scene));
    let mut finding = Finding::new(code, &gate.node.node, words)
        .at(&gate.link.name)
        .with(Confidence::Likely)
        .shown_by(at_port.map(|direction| Trial {
            frame: frame.to_vec(),
            enters: direction == Direction::Out,
            port: None,
            shows: Shows::Passes,
            tempting: Vec::new(),
        }));
    let others = scene.speakers.iter();
    let others = others.filter(|one| one.vrid == from.vrid && one.shares_addresses(from));
    let Some(step) = gate.judgement.deciding() else {
        return finding;
    };
    finding = node_rules::because(finding, step);
    for speaker in others {
        finding = captured(finding, saying(scene, speaker), WATCH);
    }
    let (passing, words) = if passes {
        (
            Passing::From(from.last.mac),
            "allow the virtual link-layer address there, or switch use_vmac off",
        )
    } else {
        let v6 = from.source.is_ipv6();
        (
            Passing::Adverts { v6 },
            "let protocol 112 pass there, before that rule",
        )
    };
    let_pass(finding, step, passing, words)
}

/// The link-layer address of the interface that has a speaker's address.
fn own_mac(scene: Scene<'_>, speaker: &Speaker) -> Option<Mac> {
    let node = scene.bundle.node(scene.node_with(speaker.source)?)?;
    node.owner_of(speaker.source)?.0.mac
}

/// Advertisements that are lost where no rule says so.
fn unexplained(scene: Scene<'_>, lost: Lost<'_>) -> Option<Finding> {
    // Nobody captured there.
    let mut points = scene.recording.points.iter();
    points.find(|point| point.node == lost.to)?;
    let a = scene.name_of(lost.from);
    let b = lost.to;
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
    let finding = captured(finding, lost.saying(scene), WATCH);
    Some(finding.mended_by(
        "let protocol 112 and its group pass, or give unicast_peer",
        [""; 0],
        [""; 0],
    ))
}

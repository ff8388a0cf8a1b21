//! What packet filters do to a frame on its way from one router to another.

use pointsman_filter::judge::{Judgement, Verdict, judge};
use pointsman_filter::model::Engine;
use pointsman_filter::route::{Direction, Host, Port};

use crate::lint::node_rules;
use crate::snapshot::{Link, Snapshot};

/// A rule that drops a frame at a node, and the interface where it does.
pub(super) struct Gate<'a> {
    pub(super) node: &'a Snapshot,
    pub(super) link: &'a Link,
    pub(super) judgement: Judgement,
}

/// The verdict at a bridge's port, if it is to drop: `Out` of the guest, or `In` to it.
pub(super) fn at_port<'a>(
    node: &'a Snapshot,
    link: &'a Link,
    frame: &[u8],
    direction: Direction,
) -> Option<Gate<'a>> {
    let rules = node_rules::read(node);
    let (port, host) = node_rules::bridge_port(node, link);
    let judgement = judge(frame, port, direction, &rules, &host).ok()?;
    (judgement.verdict == Verdict::Drop && judgement.deciding().is_some()).then_some(Gate {
        node,
        link,
        judgement,
    })
}

/// The verdict of a node's own rules about what comes in, if it is to drop.
pub(super) fn at_router<'a>(node: &'a Snapshot, link: &'a Link, frame: &[u8]) -> Option<Gate<'a>> {
    let rules = node_rules::read(node);
    let host = Host {
        call_iptables: true,
        call_ip6tables: true,
        ..Host::default()
    };
    // The judge thinks of bridges: the device takes the place of one whose port no rule names.
    let port = Port {
        name: "",
        bridge: Some(&link.name),
        peer: None,
    };
    let judgement = judge(frame, port, Direction::ToHost, &rules, &host).ok()?;
    let step = judgement.deciding()?;
    let of_bridge = step.engine == Engine::Ebtables || step.table.starts_with("nft bridge");
    (judgement.verdict == Verdict::Drop && !of_bridge).then_some(Gate {
        node,
        link,
        judgement,
    })
}

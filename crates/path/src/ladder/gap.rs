//! Places where a packet should have been seen and was not.

use std::collections::{HashMap, HashSet};

use pointsman_wire::Mac;

use crate::ladder::{Conversation, Hop, Packet};
use crate::observation::{Point, Source, Way};

/// What is known about a place where a packet should have been seen and was not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Gap {
    /// An XDP program handles frames at this point before a capture can see them.
    Hidden(usize),
    /// Nothing hides frames at this point: the packet did not get there.
    Missing(usize),
}

/// Finds where packets went and were not seen.
pub(crate) fn find_gaps(points: &[Point], conversations: &mut [Conversation]) {
    let learned = learn(points, conversations);
    for conversation in conversations {
        let usual = usual_next(&conversation.packets);
        for packet in &mut conversation.packets {
            find_in_cables(points, packet);
            if packet.delivered
                || packet.dropped().is_some()
                || packet.gaps.iter().any(|(at, _)| *at == packet.hops.len())
            {
                continue;
            }
            let next = packet
                .hops
                .last()
                .and_then(|last| expected(points, &learned, &usual, packet, last));
            if let Some(gap) = next {
                packet.gaps.push((packet.hops.len(), gap));
            }
        }
    }
}

/// Finds where a packet went into a cable and did not come out at the other end.
fn find_in_cables(points: &[Point], packet: &mut Packet) {
    for at in 0..packet.hops.len() {
        let point = &points[packet.hops[at].point];
        let Some(beyond) = other_end(points, point) else {
            continue;
        };
        let is_there = |hop: &Hop| {
            let other = &points[hop.point];
            (&other.node, &other.device) == (&points[beyond].node, &points[beyond].device)
        };
        // Out of one end, it should come in at the other; and what comes in has gone out there. Of a flooded
        // frame other copies may be seen in between.
        let (seen, after) = match packet.hops[at].way {
            Way::Out => {
                let mut later = packet.hops[at + 1..].iter();
                let arrives = |hop: &Hop| is_there(hop) && hop.way != Way::Out;
                (later.any(arrives), at + 1)
            }
            Way::In | Way::OtherHost => {
                let mut earlier = packet.hops[..at].iter();
                (earlier.any(|hop| is_there(hop) && !hop.way.is_in()), at)
            }
            Way::Unknown => continue,
        };
        if seen {
            continue;
        }
        let gap = match missing(points, beyond) {
            Gap::Missing(_) if packet.hops[at].way != Way::Out => continue,
            gap => gap,
        };
        if !packet.gaps.contains(&(after, gap)) {
            packet.gaps.push((after, gap));
        }
    }
}

/// A place where a packet was not seen; XDP hides it unless the director tells of its frames itself.
fn missing(points: &[Point], at: usize) -> Gap {
    let point = &points[at];
    let told = points.iter().any(|other| {
        other.source == Source::Director
            && (&other.node, &other.device) == (&point.node, &point.device)
    });
    if point.xdp.is_some() && !told {
        Gap::Hidden(at)
    } else {
        Gap::Missing(at)
    }
}

/// The point at the other end of a point's cable.
fn other_end(points: &[Point], point: &Point) -> Option<usize> {
    let (node, device) = point.peer.as_ref()?;
    points.iter().position(|other| {
        other.source == Source::Capture && other.node == *node && other.device == *device
    })
}

/// Behind which port of which node a link-layer address was seen.
type Learned = HashMap<(String, Mac), usize>;

/// Learns as a bridge does.
fn learn(points: &[Point], conversations: &[Conversation]) -> Learned {
    let packets = conversations.iter().flat_map(|one| &one.packets);
    let hops = packets.flat_map(|packet| &packet.hops);
    let mut learned = Learned::new();
    for hop in hops.filter(|hop| hop.way.is_in()) {
        let point = &points[hop.point];
        if let Some(link) = hop.headers.link()
            && point.bridge.is_some()
        {
            learned.insert((point.node.clone(), link.source), hop.point);
        }
    }
    learned
}

/// A place, a direction, and where most packets of that direction went on to.
type Usual = HashMap<(bool, usize, Way), HashMap<usize, usize>>;

fn usual_next(packets: &[Packet]) -> Usual {
    let mut usual = Usual::new();
    for packet in packets {
        for pair in packet.hops.windows(2) {
            let place = (packet.forward, pair[0].point, pair[0].way);
            *usual
                .entry(place)
                .or_default()
                .entry(pair[1].point)
                .or_default() += 1;
        }
    }
    usual
}

/// Where a packet should have been seen next.
fn expected(
    points: &[Point],
    learned: &Learned,
    usual: &Usual,
    packet: &Packet,
    last: &Hop,
) -> Option<Gap> {
    let point = &points[last.point];
    let seen: HashSet<usize> = packet.hops.iter().map(|hop| hop.point).collect();
    let left_by = |port: usize| {
        let mut hops = packet.hops.iter();
        hops.any(|hop| hop.point == port && !hop.way.is_in())
    };
    let missing = |at: usize| missing(points, at);
    // Where others of its kind went.
    if let Some(others) = usual.get(&(packet.forward, last.point, last.way)) {
        let most = others
            .iter()
            .max_by_key(|(at, count)| (**count, usize::MAX - **at));
        return most.map(|(at, _)| missing(*at));
    }
    let target = last.headers.link()?.destination;
    if target.0[0] & 1 != 0 {
        return None;
    }
    let owner = points.iter().position(|other| {
        other.mac == Some(target)
            && other.source == Source::Capture
            && other.bridge.is_none()
            && other.device != "lo"
    });
    if let (Some(bridge), true) = (&point.bridge, last.way != Way::Out) {
        let ports = points.iter().enumerate().filter(|(at, other)| {
            *at != last.point && other.node == point.node && other.bridge.as_ref() == Some(bridge)
        });
        let ports: Vec<usize> = ports.map(|(at, _)| at).collect();
        let behind = learned.get(&(point.node.clone(), target)).copied();
        let towards = |owner: usize| {
            let to_owner = |port: &&usize| other_end(points, &points[**port]) == Some(owner);
            ports.iter().find(to_owner).copied()
        };
        let only = (ports.len() == 1).then(|| ports[0]);
        let port = behind.or_else(|| owner.and_then(towards)).or(only);
        if let Some(port) = port.filter(|port| !left_by(*port)) {
            return Some(missing(port));
        }
    }
    // Nobody knows the way, but whom it was addressed to.
    owner
        .filter(|owner| !seen.contains(owner) && points[*owner].node != point.node)
        .map(missing)
}

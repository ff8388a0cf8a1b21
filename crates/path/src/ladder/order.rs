//! The order of a packet's hops, by what the frames say rather than by clocks.
//!
//! Points of one host share a clock, which orders them. Between hosts, the hop limit falls; who
//! sends a frame had it before all others, and whom it is addressed to had it last; and a frame that
//! is addressed to a node comes before the frame that this node sends on.

use crate::ladder::Hop;
use crate::ladder::clocks::{Clocks, Evidence};
use crate::ladder::headers::hash_of;
use crate::observation::{Point, Way};

/// Brings the hops of one packet into the order of its way.
pub(crate) fn order(points: &[Point], clocks: &Clocks, mut hops: Vec<Hop>) -> Vec<Hop> {
    // Leaving comes before arriving where the clock is too coarse to say.
    hops.sort_by_key(|hop| (clocks.set(host(points, hop), hop.at_ns), hop.way.is_in()));
    if hops
        .iter()
        .all(|hop| host(points, hop) == host(points, &hops[0]))
    {
        return hops;
    }
    let mut ordered: Vec<Hop> = Vec::with_capacity(hops.len());
    while !hops.is_empty() {
        // The earliest of each host that is left.
        let heads = (0..hops.len()).filter(|at| {
            let own = host(points, &hops[*at]);
            hops[..*at].iter().all(|other| host(points, other) != own)
        });
        let heads: Vec<usize> = heads.collect();
        let free = |head: &&usize| {
            let head = **head;
            !hops
                .iter()
                .enumerate()
                .any(|(at, other)| at != head && is_before(points, other, &hops[head]))
        };
        let mut candidates: Vec<usize> = heads.iter().filter(free).copied().collect();
        if candidates.is_empty() {
            // What contradicts itself, as a loop does, goes by time.
            candidates = heads;
        }
        let rank = |at: &usize| {
            let hop = &hops[*at];
            let changed = ordered
                .last()
                .is_some_and(|last| !last.headers.changes(&hop.headers).is_empty());
            (changed, *at)
        };
        let Some(next) = candidates.into_iter().min_by_key(rank) else {
            break;
        };
        ordered.push(hops.remove(next));
    }
    ordered
}

/// Notes what the hops of one packet say about clocks.
pub(crate) fn compare_clocks(
    points: &[Point],
    hops: &[Hop],
    forward: bool,
    evidence: &mut Evidence,
) {
    for one in hops {
        for other in hops {
            if is_before(points, one, other) {
                let (one, other) = (self::at(points, one), self::at(points, other));
                evidence.before((&one.0, one.1), (&other.0, other.1));
            }
        }
    }
    for (at, one) in hops.iter().enumerate() {
        let course = match one.headers.link() {
            Some(link) => (hash_of(link.source), hash_of(link.destination)),
            None if forward => (0, 1),
            None => (1, 0),
        };
        for other in &hops[at + 1..] {
            let near = host(points, one) != host(points, other)
                && one.headers.changes(&other.headers).is_empty();
            if near {
                let (one, other) = (self::at(points, one), self::at(points, other));
                evidence.seen((&one.0, one.1), (&other.0, other.1), course);
            }
        }
    }
}

fn at(points: &[Point], hop: &Hop) -> (String, u64) {
    (host(points, hop).to_owned(), hop.at_ns)
}

fn host<'a>(points: &'a [Point], hop: &Hop) -> &'a str {
    &points[hop.point].host
}

/// Whether two sightings of a packet on different hosts can only be in this order.
fn is_before(points: &[Point], one: &Hop, other: &Hop) -> bool {
    let (here, there) = (&points[one.point], &points[other.point]);
    if here.host == there.host {
        return false;
    }
    // A hop limit only falls.
    if let (Some(old), Some(new)) = (one.headers.ttl(), other.headers.ttl())
        && old != new
    {
        return old > new;
    }
    let cable = |from: &Point, to: &Point| {
        from.peer
            .as_ref()
            .is_some_and(|(node, device)| *node == to.node && *device == to.device)
    };
    if cable(here, there) && one.way != other.way {
        return one.way == Way::Out;
    }
    let (Some(old), Some(new)) = (one.headers.link(), other.headers.link()) else {
        return false;
    };
    if (old.source, old.destination) == (new.source, new.destination) {
        let sends = |point: &Point, hop: &Hop| {
            hop.way == Way::Out && point.mac == Some(old.source) && point.bridge.is_none()
        };
        let receives = |point: &Point, hop: &Hop| {
            hop.way == Way::In && point.mac == Some(old.destination) && point.bridge.is_none()
        };
        return (sends(here, one) && !sends(there, other))
            || (receives(there, other) && !receives(here, one));
    }
    // Who gets the one sends the other.
    old.destination == new.source && new.destination != old.source
}

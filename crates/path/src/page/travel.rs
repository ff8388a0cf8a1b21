//! Ways as lines through the drawing: which boxes they visit, and by which cables and lanes.

use super::scene::{Cable, Card};
use crate::ladder::{Course, CourseEnd, CourseHop};
use crate::lint;
use crate::report::{Report, Status};
use crate::topology::Topology;

/// What a line stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Requests, seen.
    Request,
    /// Answers, seen.
    Answer,
    /// What was to follow, and was not seen.
    Ahead,
}

impl Kind {
    /// The class of its line.
    pub(super) const fn class(self) -> &'static str {
        match self {
            Self::Request => "request",
            Self::Answer => "answer",
            Self::Ahead => "ahead",
        }
    }
}

/// A way.
pub(super) struct Travel {
    pub(super) kind: Kind,
    /// Nodes and devices, in order.
    pub(super) places: Vec<(String, String)>,
    pub(super) lost: Option<Lost>,
    pub(super) visits: Vec<Visit>,
}

/// Where a way ends too soon.
#[derive(Debug, Clone)]
pub(super) struct Lost {
    /// Whether the node sent it before it was missed.
    pub(super) sent: bool,
    /// Where it was missed first: node and device.
    pub(super) missing: Option<(String, String)>,
}

/// A box on a way.
pub(super) struct Visit {
    pub(super) card: usize,
    /// The cable's end by which the way comes in, and its lane there.
    pub(super) enters: Option<Step>,
    /// That by which it goes on.
    pub(super) leaves: Option<Step>,
    /// Devices on the way that are neither.
    pub(super) inner: Vec<String>,
    /// The place missed, if the way ends in this box.
    pub(super) lost: Option<String>,
    /// The place missed, if it ends on the cable by which it left.
    pub(super) lost_beyond: Option<String>,
}

/// A lane of a cable, at one of its ends.
#[derive(Debug, Clone, Copy)]
pub(super) struct Step {
    pub(super) cable: usize,
    pub(super) end: usize,
    pub(super) lane: usize,
}

/// The ways worth drawing of a report: one for each direction, and what was to follow.
pub(super) fn travels(report: &Report) -> Vec<Travel> {
    let is_healthy = report.verdict.status == Status::Healthy;
    let ways = report
        .courses
        .as_ref()
        .map_or(&[][..], |courses| &courses.ways);
    let cause = report.cause.as_ref().map(|cause| &*cause.node);
    let mut travels = Vec::new();
    for (forward, kind) in [(true, Kind::Request), (false, Kind::Answer)] {
        let of = || ways.iter().filter(move |course| course.forward == forward);
        let course = if is_healthy {
            of().rev()
                .max_by_key(|course| (course.end == CourseEnd::Delivered, course.hops.len()))
        } else {
            lint::main(ways, forward, cause)
        };
        travels.extend(course.map(|course| of_course(course, kind, report)));
    }
    end_at_cause(&mut travels, report);
    if !is_healthy {
        travels.extend(report.ahead.iter().map(|ahead| {
            Travel {
                kind: Kind::Ahead,
                places: ahead
                    .places
                    .iter()
                    .map(|place| (place.node.clone(), place.port.clone()))
                    .collect(),
                lost: None,
                visits: Vec::new(),
            }
        }));
    }
    travels
}

fn of_course(course: &Course, kind: Kind, report: &Report) -> Travel {
    let hops = chain(course, report.topology.as_ref());
    let places = hops
        .iter()
        .map(|hop| (hop.node.clone(), hop.device.clone()));
    let sent = course.hops.last().is_some_and(is_out);
    let missing = course.first_missing();
    Travel {
        kind,
        places: places.collect(),
        lost: (course.end == CourseEnd::Lost).then(|| Lost {
            sent,
            missing: missing.map(|gap| (gap.node.clone(), gap.device.clone())),
        }),
        visits: Vec::new(),
    }
}

/// What arrived at the node that the verdict is about, and was not answered, ends there.
fn end_at_cause(travels: &mut [Travel], report: &Report) {
    let is_fault = report.verdict.status == Status::Fault;
    let Some(cause) = report.cause.as_ref().filter(|_| is_fault) else {
        return;
    };
    if travels.iter().all(|travel| travel.lost.is_none())
        && let Some(last) = travels.last_mut()
        && last
            .places
            .last()
            .is_some_and(|(node, _)| *node == cause.node)
    {
        last.lost = Some(Lost {
            sent: false,
            missing: None,
        });
    }
}

/// The hops from the first to the last that follow each other; bridges also flood frames elsewhere.
fn chain<'a>(course: &'a Course, topology: Option<&Topology>) -> Vec<&'a CourseHop> {
    let hops = &course.hops;
    let port = |hop: &CourseHop| {
        let node = topology?.node(&hop.node)?;
        node.ports.iter().find(|port| port.name == hop.device)
    };
    let follows = |one: &CourseHop, other: &CourseHop| {
        let bridge = |hop: &CourseHop| port(hop).and_then(|port| port.bridge.as_ref());
        if one.node == other.node {
            // What left by one port of a bridge does not leave by the next.
            return !(is_out(one)
                && is_out(other)
                && bridge(one).is_some()
                && bridge(other).is_some());
        }
        port(one)
            .and_then(|port| port.peer.as_ref())
            .is_some_and(|peer| {
                is_out(one)
                    && !is_out(other)
                    && (&peer.node, &peer.port) == (&other.node, &other.device)
            })
    };
    // The longest chain to each hop from the first: its length, and the hop before.
    let mut best: Vec<Option<(usize, usize)>> = vec![None; hops.len()];
    if let Some(first) = best.first_mut() {
        *first = Some((1, 0));
    }
    for at in 1..hops.len() {
        let befores = (0..at).filter(|before| follows(&hops[*before], &hops[at]));
        let lengths = befores.filter_map(|before| Some((best[before]?.0 + 1, before)));
        best[at] = lengths.max();
    }
    let Some((_, mut before)) = best.last().copied().flatten() else {
        return hops.iter().collect();
    };
    let mut at = hops.len() - 1;
    let mut chain = vec![&hops[at]];
    while at > 0 {
        at = before;
        chain.push(&hops[at]);
        before = best[at].map_or(0, |(_, before)| before);
    }
    chain.reverse();
    chain
}

fn is_out(hop: &CourseHop) -> bool {
    hop.way.ends_with("out")
}

impl Travel {
    /// Finds the boxes and cables of the way, and takes a lane of each cable.
    pub(super) fn find_visits(&mut self, cards: &[Card<'_>], cables: &mut [Cable]) {
        let card_of = |name: &str| {
            let mut nodes = cards.iter().map(|card| card.node.map(|node| &*node.name));
            nodes.position(|own| own == Some(name))
        };
        // Devices in a row at the same node.
        let mut groups: Vec<(usize, Vec<&str>)> = Vec::new();
        for (node, device) in &self.places {
            let Some(card) = card_of(node) else { continue };
            match groups.last_mut() {
                Some((last, devices)) if *last == card => devices.push(device),
                _ => groups.push((card, vec![device])),
            }
        }
        let mut visits: Vec<Visit> = Vec::new();
        let mut enters = None;
        for at in 0..groups.len() {
            let (card, devices) = &groups[at];
            let next = groups.get(at + 1);
            let step =
                next.and_then(|(next, there)| between(cables, (*card, devices), (*next, there)));
            let leaves = step.map(|(cable, end)| {
                let lane = cables[cable].lanes;
                cables[cable].lanes += 1;
                Step { cable, end, lane }
            });
            let at_port = |step: Option<Step>, device: &str| {
                step.is_some_and(|step: Step| cables[step.cable].ends[step.end].port == device)
            };
            let mut inner: Vec<String> = Vec::new();
            for device in devices {
                let is_port = at_port(enters, device) || at_port(leaves, device);
                if !is_port && inner.last().is_none_or(|last| last != device) {
                    inner.push((*device).to_owned());
                }
            }
            visits.push(Visit {
                card: *card,
                enters,
                leaves,
                inner,
                lost: None,
                lost_beyond: None,
            });
            enters = leaves.map(|step| Step {
                end: 1 - step.end,
                ..step
            });
        }
        if let (Some(lost), Some(last)) = (&self.lost, visits.last_mut()) {
            let (card, devices) = &groups[groups.len() - 1];
            let device = devices.last().copied().unwrap_or_default();
            let wire = cables.iter().enumerate().find_map(|(number, cable)| {
                let end = (0..2).find(|end| {
                    let own = &cable.ends[*end];
                    own.card == *card && own.port == device
                })?;
                Some((number, end))
            });
            let missing = lost.missing.as_ref();
            let words = missing.map_or_else(
                || "went no further".to_owned(),
                |(node, device)| {
                    let here = card_of(node) == Some(*card);
                    if here || node.is_empty() || lost.sent {
                        format!("never seen at {device}")
                    } else {
                        format!(
                            "never seen at {} {device}",
                            card_of(node).map_or("", |at| &*cards[at].name)
                        )
                    }
                },
            );
            match wire.filter(|_| lost.sent) {
                Some((cable, end)) => {
                    let lane = cables[cable].lanes;
                    cables[cable].lanes += 1;
                    last.inner.retain(|own| own != device);
                    last.leaves = Some(Step { cable, end, lane });
                    last.lost_beyond = Some(words);
                }
                None => last.lost = Some(words),
            }
        }
        self.visits = visits;
    }
}

/// The cable by which a way goes from the devices of one box to those of the next: that of the devices
/// named last and first, else any.
fn between(
    cables: &[Cable],
    (from, out): (usize, &[&str]),
    (to, into): (usize, &[&str]),
) -> Option<(usize, usize)> {
    let all = || {
        cables.iter().enumerate().flat_map(move |(number, cable)| {
            let ends = [0, 1].into_iter();
            ends.filter(move |end| cable.ends[*end].card == from && cable.ends[1 - *end].card == to)
                .map(move |end| (number, end))
        })
    };
    let leaves = |&(number, end): &(usize, usize)| {
        out.last()
            .is_some_and(|device| cables[number].ends[end].port == **device)
    };
    let arrives = |&(number, end): &(usize, usize)| {
        into.first()
            .is_some_and(|device| cables[number].ends[1 - end].port == **device)
    };
    all()
        .find(leaves)
        .or_else(|| all().find(arrives))
        .or_else(|| all().next())
}

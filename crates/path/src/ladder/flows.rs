//! Which flows are one conversation, though a translation on the way gave them other addresses.

use std::collections::HashMap;

use crate::ladder::headers::{Directed, Facts};

/// More flows than this that share an identity are chance, or a flood.
const RELATED_MAX: usize = 16;

/// Flows, joined where they carry the same packets.
#[derive(Debug, Default)]
pub(crate) struct Flows {
    numbers: HashMap<Directed, usize>,
    parents: Vec<usize>,
}

impl Flows {
    /// Joins flows by the packets that were seen in several of them.
    ///
    /// `groups` are sightings of the same identity: what was seen of it and at which place.
    pub(crate) fn new<'a, P: Copy + Eq>(groups: impl Iterator<Item = Vec<(&'a Facts, P)>>) -> Self {
        let mut flows = Self::default();
        for group in groups {
            let mut variants: Vec<Directed> = group.iter().map(|(one, _)| one.directed).collect();
            variants.sort_unstable();
            variants.dedup();
            for variant in &variants {
                flows.number(*variant);
                flows.number(variant.reversed());
            }
            if variants.len() < 2 || variants.len() > RELATED_MAX {
                continue;
            }
            for (at, one) in variants.iter().enumerate() {
                for other in &variants[at + 1..] {
                    if related(&group, *one, *other) {
                        flows.join(*one, *other);
                        flows.join(one.reversed(), other.reversed());
                    }
                }
            }
        }
        flows
    }

    /// The number of the conversation that a flow belongs to, and the number of its direction there;
    /// both are the same for all flows that are joined.
    pub(crate) fn find(&mut self, directed: Directed) -> (usize, usize) {
        let own = self.number(directed);
        let own = self.root(own);
        let back = self.number(directed.reversed());
        let back = self.root(back);
        (own.min(back), own)
    }

    fn number(&mut self, directed: Directed) -> usize {
        let next = self.parents.len();
        let number = *self.numbers.entry(directed).or_insert(next);
        if number == next {
            self.parents.push(next);
        }
        number
    }

    fn root(&mut self, mut at: usize) -> usize {
        while self.parents[at] != at {
            self.parents[at] = self.parents[self.parents[at]];
            at = self.parents[at];
        }
        at
    }

    fn join(&mut self, one: Directed, other: Directed) {
        let (one, other) = (self.number(one), self.number(other));
        let (one, other) = (self.root(one), self.root(other));
        let (low, high) = (one.min(other), one.max(other));
        self.parents[high] = low;
    }
}

/// Whether sightings of two flows with the same identity are sightings of the same packets.
fn related<P: Copy + Eq>(group: &[(&Facts, P)], one: Directed, other: Directed) -> bool {
    if one.protocol != other.protocol || one == other.reversed() {
        return false;
    }
    let sure = |flow: Directed| {
        group
            .iter()
            .any(|(facts, _)| facts.directed == flow && facts.sure)
    };
    if sure(one) && sure(other) {
        return true;
    }
    // Without numbers to know a packet by, a translation must have left one end as it was. And what
    // translates shows the one before it and the other behind it: a place that sees both sees two
    // packets.
    let places = |flow: Directed| {
        group
            .iter()
            .filter(move |(facts, _)| facts.directed == flow)
            .map(|(_, place)| *place)
    };
    let shares = one.from == other.from || one.to == other.to;
    shares && !places(one).any(|place| places(other).any(|other| other == place))
}

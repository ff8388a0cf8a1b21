//! How far the clocks of hosts are apart, by the packets that they saw.
//!
//! Time alone never orders hops on different hosts. It does order what nothing else orders, and for
//! that the clocks are set: by packets that certainly were at one host before the other, and by
//! requests and answers, which are late by as much as the other is early.

use std::collections::{BTreeMap, VecDeque};

/// Two hosts, the lesser name first.
type Pair = (String, String);

/// What is known of two clocks; all in nanoseconds of the second clock minus the first.
#[derive(Debug, Clone, Default)]
struct Between {
    /// It is at least this.
    least: Option<i64>,
    /// It is at most this.
    most: Option<i64>,
    /// As packets of one direction suggest, and of the other.
    suggested: [Vec<i64>; 2],
}

impl Between {
    fn offset(&self) -> i64 {
        let [one, other] = self.suggested.each_ref().map(|list| median(list));
        let guess = match (one, other, self.least, self.most) {
            (Some(one), Some(other), ..) => one.midpoint(other),
            (.., Some(least), Some(most)) => least.midpoint(most),
            // Nothing says that they are apart.
            _ => 0,
        };
        match (self.least, self.most) {
            (Some(least), Some(most)) if least > most => least.midpoint(most),
            (least, most) => {
                let guess = least.map_or(guess, |least| guess.max(least));
                most.map_or(guess, |most| guess.min(most))
            }
        }
    }
}

fn median(list: &[i64]) -> Option<i64> {
    let mut list = list.to_vec();
    list.sort_unstable();
    list.get(list.len() / 2).copied()
}

/// What packets say about clocks.
#[derive(Debug, Clone, Default)]
pub(crate) struct Evidence {
    pairs: BTreeMap<Pair, Between>,
}

impl Evidence {
    /// A packet was at `one` at `one_ns` before it was at `other` at `other_ns`.
    pub(crate) fn before(&mut self, one: (&str, u64), other: (&str, u64)) {
        let apart = difference(other.1, one.1);
        if one.0 < other.0 {
            let known = self.pair(one.0, other.0);
            known.most = Some(known.most.map_or(apart, |most| most.min(apart)));
        } else if one.0 > other.0 {
            let known = self.pair(other.0, one.0);
            known.least = Some(known.least.map_or(-apart, |least| least.max(-apart)));
        }
    }

    /// A packet was first seen at both hosts at these times; `forward` is its direction.
    pub(crate) fn seen(&mut self, one: (&str, u64), other: (&str, u64), forward: bool) {
        let (one, other) = if one.0 < other.0 {
            (one, other)
        } else {
            (other, one)
        };
        if one.0 != other.0 {
            let apart = difference(other.1, one.1);
            self.pair(one.0, other.0).suggested[usize::from(forward)].push(apart);
        }
    }

    fn pair(&mut self, one: &str, other: &str) -> &mut Between {
        self.pairs
            .entry((one.to_owned(), other.to_owned()))
            .or_default()
    }
}

fn difference(later: u64, earlier: u64) -> i64 {
    later.cast_signed().wrapping_sub(earlier.cast_signed())
}

/// How far each host's clock is ahead of the first's, nanoseconds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Clocks {
    ahead: BTreeMap<String, i64>,
}

impl Clocks {
    /// Sets the clocks of all hosts by that of the first that is named.
    pub(crate) fn new(hosts: &[String], evidence: &Evidence) -> Self {
        let mut ahead: BTreeMap<String, i64> = BTreeMap::new();
        for first in hosts {
            if ahead.contains_key(first) {
                continue;
            }
            ahead.insert(first.clone(), 0);
            let mut next = VecDeque::from([first.clone()]);
            while let Some(host) = next.pop_front() {
                let own = ahead.get(&host).copied().unwrap_or(0);
                for ((one, other), between) in &evidence.pairs {
                    let (known, offset) = if *one == host {
                        (other, between.offset())
                    } else if *other == host {
                        (one, -between.offset())
                    } else {
                        continue;
                    };
                    if !ahead.contains_key(known) {
                        ahead.insert(known.clone(), own.saturating_add(offset));
                        next.push_back(known.clone());
                    }
                }
            }
        }
        Self { ahead }
    }

    /// How far a host's clock is ahead of the first's, nanoseconds.
    pub(crate) fn ahead(&self, host: &str) -> i64 {
        self.ahead.get(host).copied().unwrap_or(0)
    }

    /// A host's time by the first's clock.
    pub(crate) fn set(&self, host: &str, at_ns: u64) -> u64 {
        at_ns.saturating_add_signed(self.ahead(host).saturating_neg())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hosts() -> [String; 2] {
        ["a".to_owned(), "b".to_owned()]
    }

    #[test]
    fn requests_and_answers_set_clocks_though_nobody_knows_who_was_first() {
        let mut evidence = Evidence::default();
        // b's clock is a second ahead; each way takes 100.
        evidence.seen(("a", 5_000), ("b", 1_000_005_100), true);
        evidence.seen(("b", 1_000_005_300), ("a", 5_400), false);
        let clocks = Clocks::new(&hosts(), &evidence);
        assert_eq!(clocks.ahead("b"), 1_000_000_000);
        assert_eq!(clocks.set("b", 1_000_005_300), 5_300);
    }

    #[test]
    fn order_bounds_the_difference() {
        let mut evidence = Evidence::default();
        evidence.before(("a", 1_000), ("b", 400));
        evidence.before(("b", 500), ("a", 1_300));
        // At most -600, at least -800.
        assert_eq!(Clocks::new(&hosts(), &evidence).ahead("b"), -700);
    }
}

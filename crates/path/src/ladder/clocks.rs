//! How far the clocks of hosts are apart, by the packets that they saw.
//!
//! Time alone never orders hops on different hosts. It does order what nothing else orders, and for
//! that the clocks are set: by packets that certainly were at one host before the other, and by
//! requests and answers, which are late by as much as the other is early.

use std::collections::BTreeMap;

/// Two hosts, the lesser name first.
type Pair = (String, String);

/// From whom to whom frames go over a link.
pub(crate) type Course = (u64, u64);

/// What is known of two clocks; all in nanoseconds of the second clock minus the first.
#[derive(Debug, Clone, Default)]
struct Between {
    /// It is at least this.
    least: Option<i64>,
    /// It is at most this.
    most: Option<i64>,
    /// The least and the most of what frames of each course suggest.
    suggested: BTreeMap<Course, (i64, i64)>,
}

impl Between {
    /// What frames that go to and fro suggest: the fastest of each way is late by as much as that of the
    /// other is early. The host that the one way reaches first, the other reaches last.
    fn by_answers(&self) -> Option<(i64, i64)> {
        let mut bounds: Option<(i64, i64)> = None;
        for ((from, to), (low, high)) in &self.suggested {
            let Some((other_low, other_high)) = self.suggested.get(&(*to, *from)) else {
                continue;
            };
            let (early, late) = if low.midpoint(*high) >= other_low.midpoint(*other_high) {
                (*other_high, *low)
            } else {
                (*high, *other_low)
            };
            bounds = Some(bounds.map_or((early, late), |(most, least)| {
                (most.max(early), least.min(late))
            }));
        }
        bounds
    }

    /// How far the second clock is ahead, and how far off that may be.
    fn offset(&self) -> (i64, u64) {
        let (least, most) = match (self.least, self.most) {
            // Contradictions say nothing.
            (Some(least), Some(most)) if least > most => (None, None),
            bounds => bounds,
        };
        let (guess, doubt) = match (self.by_answers(), least, most) {
            (Some((early, late)), ..) => (early.midpoint(late), early.abs_diff(late)),
            (None, Some(least), Some(most)) => (least.midpoint(most), least.abs_diff(most)),
            // Nothing says that they are apart.
            _ => (0, u64::MAX),
        };
        let guess = least.map_or(guess, |least| guess.max(least));
        (most.map_or(guess, |most| guess.min(most)), doubt)
    }
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

    /// A packet was seen at both hosts at these times and looked the same.
    pub(crate) fn seen(&mut self, one: (&str, u64), other: (&str, u64), course: Course) {
        let (one, other) = if one.0 < other.0 {
            (one, other)
        } else {
            (other, one)
        };
        if one.0 != other.0 {
            let apart = difference(other.1, one.1);
            let known = &mut self.pair(one.0, other.0).suggested;
            let (low, high) = known.entry(course).or_insert((apart, apart));
            *low = apart.min(*low);
            *high = apart.max(*high);
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
            // From host to host, the surest step first.
            loop {
                let steps = evidence.pairs.iter().filter_map(|((one, other), between)| {
                    let (offset, doubt) = between.offset();
                    match (ahead.get(one), ahead.get(other)) {
                        (Some(known), None) => Some((doubt, other, known.saturating_add(offset))),
                        (None, Some(known)) => Some((doubt, one, known.saturating_sub(offset))),
                        _ => None,
                    }
                });
                let Some((_, host, offset)) = steps.min() else {
                    break;
                };
                let host = host.clone();
                ahead.insert(host, offset);
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
        evidence.seen(("a", 5_000), ("b", 1_000_005_100), (1, 2));
        evidence.seen(("b", 1_000_005_300), ("a", 5_400), (2, 1));
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

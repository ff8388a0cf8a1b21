//! What the rules of a chain want of a frame, and what the frame has.

use super::phrase::{self, condition, label, value};
use super::{ALTERNATIVES, Pinned};
use crate::field::Field;
use crate::judge::{Judgement, Outcome, Step, Verdict};
use crate::model::{Action, Chain, End, Origin, Rule};
use crate::nwfilter::Reached;
use crate::owner::{self, Owner};
use crate::test::{Key, Range, Situation, Test, Truth};

/// A chain as a frame sees it.
pub(super) struct View<'a> {
    pub(super) situation: Situation<'a>,
    pub(super) chain: &'a Chain,
    pub(super) filters: &'a [Reached<'a>],
    /// The chain that called this one, and the number of its rule.
    pub(super) caller: Option<(Box<View<'a>>, usize)>,
}

impl View<'_> {
    /// Why the step decides, and what it pins.
    pub(super) fn reason(&self, step: &Step, judgement: &Judgement) -> (String, Option<Pinned>) {
        let rule = step
            .number
            .and_then(|number| self.chain.rules.get(number.checked_sub(1)?));
        match (&step.outcome, rule) {
            (Outcome::Applied(Action::Drop | Action::Reject), Some(rule)) => {
                let number = step.number.unwrap_or_default();
                let (found, pins) = self.dropped(rule, number);
                let mut reason =
                    found.unwrap_or_else(|| "everything that gets here is dropped".into());
                if step.outcome == Outcome::Applied(Action::Reject) {
                    reason += ", and the sender is told";
                }
                (reason, pins)
            }
            (Outcome::Applied(Action::Opaque(text)), _) => {
                (format!("what `{text}` does is not known"), None)
            }
            (Outcome::Applied(_), Some(rule)) if judgement.verdict == Verdict::Unknown => {
                (format!("what follows `{}` is not known", rule.text), None)
            }
            (Outcome::Applied(_), Some(rule)) => (self.accepted(rule, judgement), None),
            (Outcome::Doubtful(_), Some(rule)) => (self.doubt(rule), None),
            (Outcome::ChainEnded(End::Accept), _) => (
                "no rule of the chain is about it, and the end of a user chain of ebtables accepts: \
                 rules behind it are not asked"
                    .into(),
                None,
            ),
            (Outcome::ChainEnded(End::AcceptOrReturn), _) => (
                "no rule of the chain is about it, and the listing does not tell whether its end \
                 accepts or returns"
                    .into(),
                None,
            ),
            (Outcome::Policy(_) | Outcome::ChainEnded(_), _) => {
                let (what, pins) = self.missed(self.chain.rules.len());
                let why = what.unwrap_or_else(|| "no rule accepts it".into());
                (format!("{why}; the chain's policy drops the rest"), pins)
            }
            (Outcome::GaveUp(why), _) => ((*why).into(), None),
            (_, None) => (step.text.clone(), None),
        }
    }

    /// Why a rule drops: by its own tests, and by what the rules before it would let pass.
    fn dropped(&self, rule: &Rule, number: usize) -> (Option<String>, Option<Pinned>) {
        let own = self.own(rule);
        // A rule that names a spoofed address by itself: `-s ! MAC -j DROP`.
        let pins = rule.tests.iter().find_map(|test| match test {
            Test::Compare {
                key, negated: true, ..
            } => Pinned::of(key.field),
            _ => None,
        });
        if pins.is_some() {
            return (own, pins);
        }
        let (missed, pins) = self.missed(number - 1);
        let reason = match (own, missed) {
            (Some(own), Some(missed)) => Some(format!("{own}; {missed}")),
            // A chain that only drops is entered by another one for all that it did not let pass.
            (None, None) => {
                let missed = self
                    .caller
                    .as_ref()
                    .and_then(|(caller, number)| caller.missed(number - 1).0);
                return (missed, None);
            }
            (own, missed) => own.or(missed),
        };
        (reason, pins)
    }

    fn accepted(&self, rule: &Rule, judgement: &Judgement) -> String {
        let evident = |test: &Test| matches!(test, Test::Compare { .. });
        let own = self
            .own(rule)
            .or_else(|| self.words(rule, evident))
            .unwrap_or_else(|| "everything that gets here is accepted".into());
        // What let it on before is what people look for: which address was recognised.
        let let_on: Vec<String> = judgement
            .path
            .iter()
            .filter(|step| step.outcome == Outcome::Applied(Action::Return))
            .filter(|step| owner_of(step).is_some_and(|owner| owner.filter.is_some()))
            .map(|step| format!("{} lets it on", step.chain))
            .collect();
        if let_on.is_empty() {
            own
        } else {
            format!("{own}, and {}", let_on.join(", "))
        }
    }

    fn doubt(&self, rule: &Rule) -> String {
        let unknown = |test: &&Test| {
            self.situation.all(&[(*test).clone()], rule.behind_tag) == Truth::Unknown
        };
        let what: Vec<String> = rule
            .tests
            .iter()
            .filter(unknown)
            .map(|test| match test {
                Test::Opaque(text) => format!("`{text}` is not understood"),
                test => format!(
                    "whether {} is not known here",
                    phrase::test(test, &|_| None)
                ),
            })
            .collect();
        if what.is_empty() {
            format!("whether `{}` applies is not known here", rule.text)
        } else {
            what.join("; ")
        }
    }

    /// A rule's own tests in words, without those that its chain's name says.
    fn own(&self, rule: &Rule) -> Option<String> {
        self.words(rule, |test| !is_evident(test))
    }

    /// Those tests of a rule in words that are wanted.
    fn words(&self, rule: &Rule, wanted: impl Fn(&Test) -> bool) -> Option<String> {
        let labels = self.labels(rule);
        let words: Vec<String> = rule
            .tests
            .iter()
            .filter(|test| wanted(test))
            .map(|test| phrase::held(test, &self.situation, &labels))
            .collect();
        (!words.is_empty()).then(|| words.join(" and "))
    }

    /// What the rules before one would have let out of the chain, and why this frame is not it.
    fn missed(&self, rules: usize) -> (Option<String>, Option<Pinned>) {
        let mut misses: Vec<(&Rule, Vec<&Test>)> = Vec::new();
        for rule in &self.chain.rules[..rules.min(self.chain.rules.len())] {
            if !matches!(rule.action, Action::Return | Action::Accept) {
                continue;
            }
            let no = |test: &&Test| {
                self.situation
                    .all(std::slice::from_ref(*test), rule.behind_tag)
                    == Truth::No
            };
            let failing: Vec<&Test> = rule.tests.iter().filter(no).collect();
            if !failing.is_empty() {
                misses.push((rule, failing));
            }
        }
        let Some(key) = self.common(&misses) else {
            let other: Vec<String> = misses
                .iter()
                .take(ALTERNATIVES)
                .map(|(rule, failing)| {
                    let labels = self.labels(rule);
                    phrase::failed(failing[0], &self.situation, &labels)
                })
                .collect();
            return ((!other.is_empty()).then(|| other.join(", ")), None);
        };
        let alternatives: Vec<String> = misses
            .iter()
            .filter_map(|(rule, failing)| self.alternative(key, rule, failing))
            .collect();
        let more = alternatives.len().saturating_sub(ALTERNATIVES);
        let mut shown = alternatives[..alternatives.len() - more].to_vec();
        if more > 0 {
            shown.push(format!("one of {more} more"));
        }
        let what = match self.situation.field(key) {
            Some(number) => format!("{} {}", phrase::field(key.field), value(key.field, number)),
            None => phrase::field(key.field).to_owned(),
        };
        let reason = match shown.as_slice() {
            [only] => format!("{what} is not {only}"),
            [first @ .., last] => format!("{what} is neither {} nor {last}", first.join(" nor ")),
            [] => return (None, None),
        };
        (Some(reason), Pinned::of(key.field))
    }

    /// The field that most rules would have wanted otherwise; addresses before anything else.
    fn common(&self, misses: &[(&Rule, Vec<&Test>)]) -> Option<Key> {
        let mut counts: Vec<(Key, bool, usize)> = Vec::new();
        for (_, failing) in misses {
            for test in failing {
                let Some((key, _)) = wanted(test) else {
                    continue;
                };
                match counts.iter_mut().find(|(known, ..)| *known == key) {
                    Some((.., count)) => *count += 1,
                    None => counts.push((key, is_evident(test), 1)),
                }
            }
        }
        let mut best: Option<(Key, (bool, bool, usize))> = None;
        for (key, evident, count) in counts {
            let rank = (Pinned::of(key.field).is_some(), !evident, count);
            if best.is_none_or(|(_, found)| rank > found) {
                best = Some((key, rank));
            }
        }
        best.map(|(key, _)| key)
    }

    /// What a rule wants of a field, and what else it wants that this frame has not.
    fn alternative(&self, key: Key, rule: &Rule, failing: &[&Test]) -> Option<String> {
        let labels = self.labels(rule);
        let (_, ranges) = failing
            .iter()
            .find_map(|test| wanted(test).filter(|(its, _)| *its == key))?;
        let values: Vec<String> = ranges
            .iter()
            .map(|range| label(key.field, *range, &labels))
            .collect();
        let others: Vec<String> = rule
            .tests
            .iter()
            .filter(|test| wanted(test).is_none_or(|(its, _)| its != key))
            .filter(|test| !is_evident(test))
            .map(|test| condition(test, &labels))
            .collect();
        let with = if others.is_empty() {
            String::new()
        } else {
            format!(" with {}", others.join(" and "))
        };
        Some(format!("{}{with}", values.join(" or ")))
    }

    /// Names for values that come from parameters of the rule's filter: `IP=198.51.100.200`.
    fn labels(&self, rule: &Rule) -> impl Fn(&str) -> Option<String> + use<'_> {
        let variables = match &rule.origin {
            Origin::Filter(origin) => self
                .filters
                .iter()
                .filter(|reached| reached.filter.name == origin.filter)
                .flat_map(|reached| reached.variables(origin.number))
                .collect(),
            _ => Vec::new(),
        };
        move |text: &str| {
            let (name, _) = variables
                .iter()
                .find(|(_, values)| values.iter().any(|value| phrase::same(value, text)))?;
            Some(format!("{name}={text}"))
        }
    }
}

/// What a test wants a field to be, if it is that simple.
fn wanted(test: &Test) -> Option<(Key, &[Range])> {
    match test {
        Test::Compare {
            key,
            negated: false,
            ranges,
        } => Some((*key, ranges)),
        _ => None,
    }
}

/// Tests of the EtherType and of ports' names: who is in a chain of a port knows them.
fn is_evident(test: &Test) -> bool {
    match test {
        Test::Compare { key, negated, .. } => {
            !negated
                && matches!(
                    key.field,
                    Field::EtherType | Field::Carried | Field::NetworkFamily
                )
        }
        Test::Name { .. } | Test::Bridged(_) => true,
        _ => false,
    }
}

fn owner_of(step: &Step) -> Option<Owner> {
    owner::of_names(
        step.engine,
        step.table.rsplit(' ').next().unwrap_or_default(),
        &step.chain,
    )
}

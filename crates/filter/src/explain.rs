//! Why a frame passes or is lost, in words.
//!
//! A filter of spoofed addresses is a list of what may pass and a last rule that drops everything; that
//! rule says nothing. So its explanation is what the rules before it would have let pass.

mod phrase;

use std::fmt;

use crate::connection::Connections;
use crate::field::Field;
use crate::frame::{Frame, Sight};
use crate::judge::{Judgement, Outcome, Step, Verdict};
use crate::model::{Action, Chain, End, Engine, FilterRule, Origin, Rule, Ruleset, Table};
use crate::nwfilter::Reached;
use crate::owner::{self, Owner};
use crate::test::{Key, Name, Range, Situation, Test, Truth};
use phrase::{condition, label, value};

pub use phrase::test as test_words;

/// How many alternatives are listed.
const ALTERNATIVES: usize = 5;

/// Why a frame's fate is what it is.
#[derive(Debug, Clone, PartialEq)]
pub struct Explanation {
    /// What becomes of it.
    pub verdict: Verdict,
    /// Why: `source address 203.0.113.77 is not IP=198.51.100.200`.
    pub reason: String,
    /// The rule that decides; nothing if only policies let the frame pass.
    pub rule: Option<Deciding>,
    /// What the deciding chain pins the guest to, if that is what it is about.
    pub pins: Option<Pinned>,
    /// Who installed the deciding rule.
    pub owner: Option<Owner>,
}

/// A rule that decides, and where it is.
#[derive(Debug, Clone, PartialEq)]
pub struct Deciding {
    /// The table as people name it.
    pub table: String,
    /// The chain.
    pub chain: String,
    /// Number in the chain, from 1; nothing for the end of the chain.
    pub number: Option<usize>,
    /// The rule in its dialect.
    pub text: String,
    /// The rule of a libvirt filter that it was made of.
    pub filter: Option<FilterRule>,
    /// Filters by way of which that filter is at the port, the outermost first.
    pub by_way_of: Vec<String>,
    /// Packets counted by the rule, if the text had it.
    pub packets: Option<u64>,
    /// Where the text has it, `file:line:col`.
    pub place: Option<String>,
}

/// What a chain pins a guest to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Pinned {
    /// The source MAC of frames.
    Mac,
    /// The sender MAC in ARP.
    ArpMac,
    /// The sender address in ARP.
    Arp,
    /// The source address of packets.
    Source,
}

impl Pinned {
    /// As a heading says it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Mac => "source MAC",
            Self::ArpMac => "sender MAC of ARP",
            Self::Arp => "ARP",
            Self::Source => "source address",
        }
    }

    fn of(field: Field) -> Option<Self> {
        Some(match field {
            Field::EtherSource => Self::Mac,
            Field::ArpSenderMac => Self::ArpMac,
            Field::ArpSenderIp => Self::Arp,
            Field::Ip4Source | Field::Ip6Source => Self::Source,
            _ => return None,
        })
    }
}

impl fmt::Display for Explanation {
    /// `drop: filter no-ip-spoofing (by way of clean-traffic), ...: source address ... is not ...`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.verdict)?;
        let Some(rule) = &self.rule else {
            return f.write_str(&self.reason);
        };
        if let Some(origin) = rule.origin_words() {
            write!(f, "{origin}: ")?;
        }
        write!(f, "{}; {}", self.reason, rule.place_words())
    }
}

impl Deciding {
    /// The rule of libvirt's filter: `filter no-ip-spoofing (by way of clean-traffic), rule `drop out`,
    /// priority 1000`.
    pub fn origin_words(&self) -> Option<String> {
        let origin = self.filter.as_ref()?;
        let by_way_of = if self.by_way_of.is_empty() {
            String::new()
        } else {
            format!(" (by way of {})", self.by_way_of.join(", "))
        };
        Some(format!(
            "filter {}{by_way_of}, rule `{} {}`, priority {}",
            origin.filter, origin.action, origin.direction, origin.priority
        ))
    }

    /// Where the rule is in the kernel: `ebtables nat, chain I-vnet0-ipv4-ip, rule 3: -j DROP`.
    pub fn place_words(&self) -> String {
        match self.number {
            Some(number) => format!(
                "{}, chain {}, rule {number}: {}",
                self.table, self.chain, self.text
            ),
            None => format!("{}, chain {}, {}", self.table, self.chain, self.text),
        }
    }
}

/// Explains a judgement of a frame by these rules. `filters` are the libvirt filters that the rules were
/// made of, if they were.
pub fn explain(
    judgement: &Judgement,
    frame: &[u8],
    rules: &Ruleset,
    filters: &[Reached<'_>],
) -> Explanation {
    let mut explanation = Explanation {
        verdict: judgement.verdict,
        reason: String::new(),
        rule: None,
        pins: None,
        owner: None,
    };
    let Some(step) = judgement.deciding() else {
        explanation.reason = if judgement.path.is_empty() {
            "no rule is about it".into()
        } else {
            "no rule drops it".into()
        };
        return explanation;
    };
    let found = rules
        .tables
        .iter()
        .filter(|table| table.title() == step.table)
        .find_map(|table| Some((table, table.chain(&step.chain)?)));
    explanation.rule = Some(deciding(step, found.map(|(_, chain)| chain), filters));
    let (Some((table, chain)), Ok(frame)) = (found, Frame::parse(frame)) else {
        explanation.reason = step.text.clone();
        return explanation;
    };
    let made_of = explanation.rule.as_ref().and_then(|rule| {
        let filter = rule.filter.as_ref()?;
        let path = rule.by_way_of.iter().map(String::as_str);
        owner::of_filters(path.chain([filter.filter.as_str()]))
    });
    explanation.owner = made_of.or_else(|| owner::owner(table, &chain.name));
    let view = View {
        situation: situation(&frame, table),
        chain,
        filters,
    };
    (explanation.reason, explanation.pins) = view.reason(step, judgement);
    explanation
}

fn deciding(step: &Step, chain: Option<&Chain>, filters: &[Reached<'_>]) -> Deciding {
    let filter = match &step.origin {
        Some(Origin::Filter(filter)) => Some(filter.clone()),
        _ => None,
    };
    let by_way_of = filter
        .as_ref()
        .and_then(|rule| {
            filters
                .iter()
                .find(|reached| reached.filter.name == rule.filter)
        })
        .map(|reached| reached.by_way_of.iter().map(|name| (*name).to_owned()))
        .map(Iterator::collect)
        .unwrap_or_default();
    let rule = step
        .number
        .and_then(|number| chain?.rules.get(number.checked_sub(1)?));
    let place = match &step.origin {
        Some(Origin::Text(place)) if place.line > 0 => Some(place.to_string()),
        Some(Origin::Filter(rule)) => Some(rule.place.to_string()),
        _ => None,
    };
    Deciding {
        table: step.table.clone(),
        chain: step.chain.clone(),
        number: step.number,
        text: step.text.clone(),
        filter,
        by_way_of,
        packets: rule.and_then(|rule| rule.packets),
        place,
    }
}

/// What is known of a frame by itself.
fn situation<'a>(frame: &'a Frame<'a>, table: &Table) -> Situation<'a> {
    const NOBODY: Option<&Connections> = None;
    Situation {
        frame,
        input_port: Name::Unknown,
        output_port: Name::Unknown,
        input_device: Name::Unknown,
        output_device: Name::Unknown,
        mark: None,
        standing: None,
        connections: NOBODY,
        rewritten: false,
        sight: Sight {
            behind_tag: false,
            any_fragment: table.engine == Engine::Nftables,
        },
    }
}

/// A chain as a frame sees it.
struct View<'a> {
    situation: Situation<'a>,
    chain: &'a Chain,
    filters: &'a [Reached<'a>],
}

impl View<'_> {
    fn reason(&self, step: &Step, judgement: &Judgement) -> (String, Option<Pinned>) {
        let rule = step
            .number
            .and_then(|number| self.chain.rules.get(number.checked_sub(1)?));
        match (&step.outcome, rule) {
            (Outcome::Applied(Action::Drop | Action::Reject), Some(rule)) => {
                let number = step.number.unwrap_or_default();
                let (mut reason, pins) = self.dropped(rule, number);
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
    fn dropped(&self, rule: &Rule, number: usize) -> (String, Option<Pinned>) {
        let own = self.own(rule);
        // A rule that names a spoofed address by itself: `-s ! MAC -j DROP`.
        let pins = rule.tests.iter().find_map(|test| match test {
            Test::Compare {
                key, negated: true, ..
            } => Pinned::of(key.field),
            _ => None,
        });
        if pins.is_some() {
            return (own.unwrap_or_default(), pins);
        }
        let (missed, pins) = self.missed(number - 1);
        let reason = match (own, missed) {
            (Some(own), Some(missed)) => format!("{own}; {missed}"),
            (Some(own), None) => own,
            (None, Some(missed)) => missed,
            (None, None) => "everything that gets here is dropped".into(),
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

#[cfg(test)]
mod tests;

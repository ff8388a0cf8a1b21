//! Why a frame passes or is lost, in words.
//!
//! A filter of spoofed addresses is a list of what may pass and a last rule that drops everything; that
//! rule says nothing. So its explanation is what the rules before it would have let pass.

mod phrase;
mod view;

use std::fmt;

use crate::connection::Connections;
use crate::field::Field;
use crate::frame::{Frame, Sight};
use crate::judge::{Judgement, Outcome, Step, Verdict};
use crate::model::{Action, Chain, Engine, FilterRule, Origin, Ruleset, Table};
use crate::nwfilter::Reached;
use crate::owner::{self, Owner};
use crate::test::{Name, Situation};
use view::View;

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
    let view = |chain| View {
        situation: situation(&frame, table),
        chain,
        filters,
        caller: None,
    };
    let caller = judgement.path.iter().rev().find_map(|from| {
        let Outcome::Applied(Action::Jump(to) | Action::Goto(to)) = &from.outcome else {
            return None;
        };
        let is_call = *to == step.chain && from.table == step.table;
        let caller = table.chain(&from.chain).filter(|_| is_call)?;
        Some((Box::new(view(caller)), from.number?))
    });
    let view = View {
        caller,
        ..view(chain)
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

#[cfg(test)]
mod tests;

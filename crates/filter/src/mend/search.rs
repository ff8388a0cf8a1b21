//! Tries changes, the smallest first.

use super::documents::{Edits, Written, write};
use super::exemption::{Exemption, Layer, Width};
use super::list::{Extension, Scope, extensions, merge};
use super::{Bench, Judged, Lacking, MendError, is_out};
use crate::catalogue::Need;
use crate::model::{Engine, FilterRule, Origin};

/// How often a change may grow.
const ROUNDS: usize = 24;

/// A change that does it.
pub(super) struct Found {
    pub(super) edits: Edits,
    pub(super) written: Written,
    pub(super) judged: Judged,
}

/// How a change is looked for.
#[derive(Debug, Clone, Copy)]
struct Strategy {
    /// Whether it is also for what should pass, not only for what must.
    should: bool,
    /// Whether lists may grow.
    lists: bool,
    /// Whether rules name the guest's link-layer address.
    own_mac: bool,
}

impl Strategy {
    /// From the smallest change for all to the largest for less.
    fn all() -> impl Iterator<Item = Self> {
        let ways = [(true, false), (true, true), (false, false), (false, true)];
        [true, false].into_iter().flat_map(move |should| {
            ways.into_iter().map(move |(lists, own_mac)| Self {
                should,
                lists,
                own_mac,
            })
        })
    }
}

/// The first change that lets pass what is wanted and nothing that was stopped; or why there is none.
pub(super) fn search(
    bench: &Bench<'_>,
    before: &Judged,
) -> Result<Result<Found, Vec<String>>, MendError> {
    let mut reasons: Vec<String> = Vec::new();
    for strategy in Strategy::all() {
        match attempt(bench, before, strategy)? {
            Ok(found) => return Ok(Ok(shrink(bench, before, found, strategy)?)),
            Err(reason) if reasons.contains(&reason) => {}
            Err(reason) => reasons.push(reason),
        }
    }
    Ok(Err(reasons))
}

fn attempt(
    bench: &Bench<'_>,
    before: &Judged,
    strategy: Strategy,
) -> Result<Result<Found, String>, MendError> {
    let mut edits = Edits::default();
    if before.learning {
        let own = learned(bench);
        let assumed = bench.facts.assumed.iter().map(ToString::to_string);
        if assumed
            .into_iter()
            .any(|assumed| own.values.contains(&assumed))
            || own.values.is_empty()
        {
            return Ok(Err(
                "the list of addresses must have the guest's own beside the virtual one, and nobody told \
                 it: say --address"
                    .into(),
            ));
        }
        edits.lists.push(own);
    }
    // What should pass and does not in spite of all; the role works without it.
    let mut given_up: Vec<Vec<u8>> = Vec::new();
    for _ in 0..ROUNDS {
        let found = match try_edits(bench, edits.clone())? {
            Ok(found) => found,
            Err(reason) => return Ok(Err(reason)),
        };
        let mut blocked = still(bench, &found, strategy);
        blocked.retain(|one| !given_up.contains(&one.kind.frame));
        if blocked.is_empty() {
            return Ok(check(bench, before, found));
        }
        let mut grown = false;
        let mut reason = None;
        for one in &blocked {
            match cure(bench, &found, one, strategy, &mut edits) {
                Ok(more) => grown |= more,
                Err(_) if one.kind.need == Need::Should => {
                    given_up.push(one.kind.frame.clone());
                    grown = true;
                }
                Err(text) => reason = reason.or(Some(text)),
            }
        }
        // One list or rule may cure several.
        if !grown {
            let stuck = |one: &Lacking| {
                format!("no rule that was tried lets this pass: {}", one.kind.words)
            };
            match blocked.iter().find(|one| one.kind.need == Need::Must) {
                Some(one) => return Ok(Err(reason.unwrap_or_else(|| stuck(one)))),
                None => given_up.extend(blocked.into_iter().map(|one| one.kind.frame)),
            }
        }
    }
    Ok(Err("the filter needs more changes than can be tried".into()))
}

/// What is wanted and does not pass yet.
fn still(bench: &Bench<'_>, found: &Found, strategy: Strategy) -> Vec<Lacking> {
    let mut blocked = bench.blocked(&found.judged);
    blocked.retain(|one| strategy.should || one.kind.need == Need::Must);
    blocked
}

/// Whether what was stopped before is stopped still.
fn check(bench: &Bench<'_>, before: &Judged, found: Found) -> Result<Found, String> {
    let lost = bench.lost(before, &found.judged);
    match lost.first() {
        None => Ok(found),
        Some(kind) => {
            let parts: Vec<String> = found
                .edits
                .lists
                .iter()
                .map(Extension::words)
                .chain(found.edits.rules.iter().map(Exemption::words))
                .collect();
            Err(format!(
                "with \"{}\" this would pass, which is dropped now: {}",
                parts.join("; "),
                kind.words
            ))
        }
    }
}

/// Leaves out, one by one, what the change does without.
fn shrink(
    bench: &Bench<'_>,
    before: &Judged,
    mut found: Found,
    strategy: Strategy,
) -> Result<Found, MendError> {
    let left = still(bench, &found, strategy).len();
    let mut at = found.edits.len();
    while at > 0 {
        at -= 1;
        if found.edits.len() == 1 {
            break;
        }
        let Ok(less) = try_edits(bench, found.edits.without(at))? else {
            continue;
        };
        if still(bench, &less, strategy).len() <= left
            && bench.lost(before, &less.judged).is_empty()
        {
            found = less;
        }
    }
    Ok(found)
}

fn try_edits(bench: &Bench<'_>, edits: Edits) -> Result<Result<Found, String>, MendError> {
    let question = bench.question;
    let written = write(
        question.library,
        question.binding,
        &question.source,
        bench.role(),
        &edits,
    )?;
    match bench.judge(&written.library, &written.binding) {
        Ok(judged) => Ok(Ok(Found {
            edits,
            written,
            judged,
        })),
        // A filter that libvirt would refuse is no change.
        Err(MendError::Diagnostic(error)) => Ok(Err(format!("libvirt would refuse it: {error}"))),
        Err(error) => Err(error),
    }
}

/// The guest's own addresses, said instead of learned.
pub(super) fn learned(bench: &Bench<'_>) -> Extension {
    let own = bench.facts.own.iter().filter(|own| own.is_ipv4());
    Extension {
        scope: Scope::Port,
        name: "IP".into(),
        values: own.map(ToString::to_string).collect(),
    }
}

/// Lets one kind of frame pass the rule that drops it. Whether the change has grown by it.
fn cure(
    bench: &Bench<'_>,
    found: &Found,
    blocked: &Lacking,
    strategy: Strategy,
    edits: &mut Edits,
) -> Result<bool, String> {
    let kind = &blocked.kind;
    let step = blocked.step.as_ref();
    if blocked.unknown {
        let by = step.map_or("something that is not known", |step| step.text.as_str());
        return Err(format!(
            "whether this passes depends on `{by}`: {}",
            kind.words
        ));
    }
    let (Some(step), Some(rule)) = (step, step.and_then(rule_of)) else {
        return Err(format!("no rule of a filter drops this: {}", kind.words));
    };
    let written = &found.written;
    if strategy.lists {
        let lists = extensions(
            &kind.frame,
            is_out(kind),
            rule,
            &written.library,
            &written.binding,
            &bench.facts,
        );
        if !lists.is_empty() {
            let mut grown = false;
            for list in lists {
                grown |= merge(&mut edits.lists, original(list, &found.edits));
            }
            return Ok(grown);
        }
    }
    let Some(filter) = written.library.get(&rule.filter) else {
        return Err(format!("there is no filter `{}`", rule.filter));
    };
    let layer = match step.engine {
        Engine::Iptables | Engine::Ip6tables => Layer::Packets,
        Engine::Nftables if step.table.ends_with("_inet") => Layer::Packets,
        _ => Layer::Frames,
    };
    // The root chain's rules and its jumps to others stand in the order of their priorities.
    let place = match layer {
        Layer::Frames if filter.chain != "root" => filter.chain_priority,
        _ => rule.priority,
    };
    let wishes = bench.question.wishes;
    let width = Width {
        fragments: wishes.fragments,
        tight: wishes.tight,
        own_mac: strategy.own_mac,
    };
    let rules = Exemption::of(
        &kind.frame,
        is_out(kind),
        layer,
        (place - 1).max(-1000),
        &bench.facts,
        width,
        &purpose(kind.id),
    );
    if rules.is_empty() {
        return Err(format!(
            "{} drops this, and no rule can let it pass without letting pass much more: {}",
            rule.filter, kind.words
        ));
    }
    let mut grown = false;
    for rule in rules {
        if let Some(value) = bench.facts.assumed_in(&rule) {
            return Err(format!(
                "a rule for this would name {value}, which nobody told: say --address for the guest, \
                 --real-server for real servers ({})",
                kind.words
            ));
        }
        if edits.rules.iter().any(|other| other.covers(&rule)) {
            continue;
        }
        edits.rules.retain(|other| !rule.covers(other));
        edits.rules.push(rule);
        grown = true;
    }
    edits.rules.sort_by_key(|rule| rule.priority);
    Ok(grown)
}

/// An extension that was found in the changed filters, as one of the filters before: what the change
/// adds already is not there, and references have the same numbers.
fn original(mut list: Extension, edits: &Edits) -> Extension {
    for other in &edits.lists {
        if other.name == list.name && other.scope == list.scope {
            list.values.retain(|value| !other.values.contains(value));
        }
    }
    list
}

/// The rule of a filter that a step comes from.
fn rule_of(step: &crate::judge::Step) -> Option<&FilterRule> {
    match &step.origin {
        Some(Origin::Filter(rule)) => Some(rule),
        _ => None,
    }
}

/// What a rule is for, by the kind of frame that it was made of.
fn purpose(id: &str) -> String {
    match id {
        "forward-open-out" | "forward-data-out" | "forward-fragment-out" => {
            "clients' packets on their way to real servers, with the clients' addresses".into()
        }
        "server-reply-out" | "reply-out" => "replies with the virtual address".into(),
        "forward-path-error-out" => "ICMP errors on their way to real servers".into(),
        "check-out" | "check-answer-in" => "health checks".into(),
        id if id.starts_with("advert") => "VRRP advertisements".into(),
        id if id.starts_with("client") => "clients' packets".into(),
        id if id.contains("connection") => "connections of the guest's own".into(),
        id if id.starts_with("router") => "finding routers".into(),
        id if ["question", "answer", "announcement", "asked"]
            .iter()
            .any(|part| id.contains(part)) =>
        {
            "who has which address".into()
        }
        id => id
            .trim_end_matches("-out")
            .trim_end_matches("-in")
            .replace('-', " "),
    }
}

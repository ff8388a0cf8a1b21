//! nftables statements, as tests, effects and actions.

use serde_json::Value;

use super::{Scope, expression, print};
use crate::field::Field;
use crate::model::{Action, BehindTag, Effect, Family, MapEntry, Origin, Rule};
use crate::nwfilter;
use crate::test::Test;

/// Statements that only count, show or remember.
const NEUTRAL: &[&str] = &[
    "counter",
    "log",
    "set",
    "map",
    "notrack",
    "ct helper",
    "ct timeout",
    "ct expectation",
    "flow",
    "dup",
    "last",
];

/// Reads a rule from its statements.
pub(super) fn rule(scope: Scope<'_>, statements: &[Value]) -> Rule {
    let mut rule = Rule {
        tests: Vec::new(),
        effects: Vec::new(),
        action: Action::Continue,
        text: print::rule(statements),
        origin: Origin::Frame,
        behind_tag: BehindTag::Hidden,
        packets: None,
    };
    for statement in statements {
        let Some((name, value)) = only_entry(statement) else {
            rule.tests.push(Test::Opaque(print::statement(statement)));
            continue;
        };
        if name == "counter" {
            rule.packets = value
                .get("packets")
                .and_then(Value::as_u64)
                .or(rule.packets);
        }
        if NEUTRAL.contains(&name) {
            continue;
        }
        if let Some(action) = verdict(name, value) {
            rule.action = action;
            continue;
        }
        match name {
            "match" => {
                if !expression::add(scope, value, &mut rule.tests) {
                    rule.tests.push(Test::Opaque(print::statement(statement)));
                }
            }
            "vmap" => match entries(scope, value) {
                Some(entries) => rule.action = Action::Map(entries),
                None => rule.action = Action::Opaque(print::statement(statement)),
            },
            "ct count" => rule.tests.push(crowded(value)),
            "mangle" => {
                let effect =
                    mark(value).unwrap_or_else(|| Effect::Rewrite(print::statement(statement)));
                rule.effects.push(effect);
            }
            "snat" | "dnat" | "masquerade" | "redirect" | "tproxy" => {
                rule.effects
                    .push(Effect::Rewrite(print::statement(statement)));
                rule.action = Action::Accept;
            }
            "xt" if value.get("type").and_then(Value::as_str) == Some("watcher") => {}
            "queue" | "fwd" | "synproxy" => {
                rule.action = Action::Opaque(print::statement(statement));
            }
            "xt" if value.get("type").and_then(Value::as_str) == Some("target") => {
                rule.action = Action::Opaque(print::statement(statement));
            }
            _ => rule.tests.push(Test::Opaque(print::statement(statement))),
        }
    }
    rule.behind_tag = behind_tag(scope, &rule.tests);
    rule
}

/// Whether tests look behind a tag: `ip saddr` alone does, for nft adds a test of the protocol behind the
/// tag; after `ether type ip` it does not, and nft does not list that then. libvirt always writes it, and so do we.
fn behind_tag(scope: Scope<'_>, tests: &[Test]) -> BehindTag {
    let names = |wanted: fn(Field) -> bool| {
        tests.iter().any(|test| match test {
            Test::Compare { key, .. } => wanted(key.field),
            Test::Tuple { keys, .. } => keys.iter().any(|key| wanted(key.field)),
            _ => false,
        })
    };
    let tag = |field| {
        matches!(
            field,
            Field::VlanId | Field::VlanPriority | Field::VlanCarried | Field::Carried
        )
    };
    if scope.family != Family::Bridge && scope.family != Family::Netdev || names(tag) {
        BehindTag::Seen
    } else if scope.table.starts_with("libvirt_nwfilter_")
        || scope.table.starts_with(nwfilter::TABLE)
    {
        BehindTag::Hidden
    } else if names(Field::is_of_ip) {
        BehindTag::Unsure
    } else {
        BehindTag::Seen
    }
}

fn only_entry(statement: &Value) -> Option<(&str, &Value)> {
    let object = statement.as_object().filter(|object| object.len() == 1)?;
    object
        .iter()
        .next()
        .map(|(name, value)| (name.as_str(), value))
}

fn verdict(name: &str, value: &Value) -> Option<Action> {
    let target = || {
        value
            .get("target")
            .and_then(Value::as_str)
            .map(str::to_owned)
    };
    Some(match name {
        "accept" => Action::Accept,
        "drop" => Action::Drop,
        "return" => Action::Return,
        "continue" => Action::Continue,
        "reject" => Action::Reject,
        "jump" => Action::Jump(target()?),
        "goto" => Action::Goto(target()?),
        _ => return None,
    })
}

fn entries(scope: Scope<'_>, map: &Value) -> Option<Vec<MapEntry>> {
    let key = map.get("key")?;
    let data = map.get("data")?;
    let pairs = match data.as_str().and_then(|text| text.strip_prefix('@')) {
        Some(name) => scope.set(name)?,
        None => data.get("set").and_then(Value::as_array)?,
    };
    pairs
        .iter()
        .map(|pair| {
            let [value, action] = pair.as_array()?.as_slice() else {
                return None;
            };
            let (name, target) = only_entry(action)?;
            Some(MapEntry {
                tests: vec![expression::entry(scope, key, value)?],
                action: verdict(name, target)?,
            })
        })
        .collect()
}

/// `ct count over N`.
fn crowded(value: &Value) -> Test {
    let above = value
        .get("val")
        .and_then(Value::as_u64)
        .and_then(|above| u32::try_from(above).ok());
    match above {
        // nftables counts all connections that come here, whatever their addresses are.
        Some(above) => Test::Crowded {
            above,
            negated: !value.get("inv").and_then(Value::as_bool).unwrap_or(false),
            prefix: 0,
            by_destination: false,
        },
        None => Test::Opaque("ct count".into()),
    }
}

/// `meta mark set NUMBER`, and bits of the mark cleared (`meta mark & NUMBER`) or set (`meta mark | NUMBER`).
fn mark(value: &Value) -> Option<Effect> {
    let is_mark =
        |value: &Value| value.get("meta").and_then(|meta| meta.get("key")) == Some(&"mark".into());
    if !is_mark(value.get("key")?) {
        return None;
    }
    let number = |value: &Value| value.as_u64().and_then(|number| u32::try_from(number).ok());
    let value = value.get("value")?;
    let bits = |operator: &str| match value.get(operator)?.as_array()?.as_slice() {
        [left, right] if is_mark(left) => number(right),
        _ => None,
    };
    let (mask, value) = if let Some(bits) = bits("&") {
        (!bits, 0)
    } else if let Some(bits) = bits("|") {
        (bits, bits)
    } else {
        (u32::MAX, number(value)?)
    };
    Some(Effect::Mark { mask, value })
}

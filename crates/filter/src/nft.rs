//! Reader of `nft -j list ruleset`, of every family.

use std::collections::HashMap;

use serde_json::Value;

use crate::diagnostic::{Diagnostic, Place, within_limit};
use crate::model::{Base, Chain, End, Engine, Family, Hook, Rule, Ruleset, Table};

mod expression;
mod print;
mod statement;

/// Named sets and maps of a table.
#[derive(Debug, Default)]
pub(crate) struct Sets {
    /// By family, table and name.
    elements: HashMap<(Family, String, String), Vec<Value>>,
}

impl Sets {
    pub(crate) fn insert(&mut self, family: Family, table: &str, name: &str, list: Vec<Value>) {
        let key = (family, table.to_owned(), name.to_owned());
        self.elements.insert(key, list);
    }

    fn get(&self, family: Family, table: &str, name: &str) -> Option<&[Value]> {
        let key = (family, table.to_owned(), name.to_owned());
        self.elements.get(&key).map(Vec::as_slice)
    }
}

/// Where a rule stands: what its words mean, and which sets it may name.
#[derive(Clone, Copy)]
pub(crate) struct Scope<'a> {
    pub(crate) family: Family,
    pub(crate) table: &'a str,
    pub(crate) sets: &'a Sets,
}

impl<'a> Scope<'a> {
    /// The elements of `@name`.
    fn set(&self, name: &str) -> Option<&'a [Value]> {
        self.sets.get(self.family, self.table, name)
    }
}

/// Reads what `nft -j list ruleset` prints.
pub fn read(file: &str, text: &str) -> Result<Ruleset, Diagnostic> {
    within_limit(file, text)?;
    let document: Value = serde_json::from_str(text).map_err(|error| {
        let place = Place::new(file, error.line() as u32, error.column() as u32);
        let text = error.to_string();
        let text = text.split(" at line ").next().unwrap_or_default();
        place.error(format!("not the JSON of `nft -j list ruleset`: {text}"))
    })?;
    read_document(file, &document)
}

/// Reads the JSON of a ruleset.
pub fn read_document(file: &str, document: &Value) -> Result<Ruleset, Diagnostic> {
    let place = Place::new(file, 0, 0);
    let Some(items) = document.get("nftables").and_then(Value::as_array) else {
        return Err(place.error("the JSON has no list `nftables`"));
    };
    let mut sets = Sets::default();
    for item in items {
        if let Some(set) = item.get("set").or_else(|| item.get("map")) {
            read_set(&mut sets, set, &place)?;
        }
    }
    let mut ruleset = Ruleset::default();
    let mut tables: HashMap<(Family, String), usize> = HashMap::new();
    let mut dormant = Vec::new();
    for item in items {
        if let Some(table) = item.get("table") {
            let family = family(table, &place)?;
            let name = text(table, "name", &place)?;
            // Chains of a dormant table are not hooked in.
            if has_flag(table, "dormant") {
                dormant.push((family, name.to_owned()));
            }
            tables.insert((family, name.to_owned()), ruleset.tables.len());
            ruleset
                .tables
                .push(Table::new(Engine::Nftables, family, name));
        } else if let Some(chain) = item.get("chain") {
            let at = table_of(&tables, chain, &place)?;
            let table = &mut ruleset.tables[at];
            let mut chain = read_chain(chain, &place)?;
            if dormant.contains(&(table.family, table.name.clone())) {
                chain.base = None;
            }
            let name = chain.name.clone();
            if !table.add(chain) {
                return Err(
                    place.error(format!("chain {name} of {} is there twice", table.title()))
                );
            }
        }
    }
    for item in items {
        let Some(rule) = item.get("rule") else {
            continue;
        };
        let at = table_of(&tables, rule, &place)?;
        let table = &mut ruleset.tables[at];
        let scope = Scope {
            family: table.family,
            table: &table.name.clone(),
            sets: &sets,
        };
        let read = read_rule(scope, rule);
        let name = text(rule, "chain", &place)?;
        let Some(chain) = table.chain_mut(name) else {
            return Err(place.error(format!("a rule is in chain {name}, which is not there")));
        };
        chain.rules.push(read);
    }
    Ok(ruleset)
}

/// A rule from its statements.
pub(crate) fn rule(family: Family, table: &str, sets: &Sets, statements: &[Value]) -> Rule {
    let scope = Scope {
        family,
        table,
        sets,
    };
    statement::rule(scope, statements)
}

/// Statements as nft writes them, without counters.
pub(crate) fn written(statements: &[Value]) -> String {
    print::rule(statements)
}

/// Reads a rule; what is not understood becomes opaque.
fn read_rule(scope: Scope<'_>, rule: &Value) -> Rule {
    let statements = rule.get("expr").and_then(Value::as_array);
    let statements = statements.map(Vec::as_slice).unwrap_or_default();
    let mut read = statement::rule(scope, statements);
    if let Some(handle) = rule.get("handle").and_then(Value::as_u64) {
        read.origin = crate::model::Origin::Handle(handle);
    }
    read
}

fn read_set(sets: &mut Sets, set: &Value, place: &Place) -> Result<(), Diagnostic> {
    let family = family(set, place)?;
    let table = text(set, "table", place)?.to_owned();
    let name = text(set, "name", place)?.to_owned();
    let elements = match set.get("elem") {
        Some(Value::Array(elements)) => elements.clone(),
        _ => Vec::new(),
    };
    sets.elements.insert((family, table, name), elements);
    Ok(())
}

fn read_chain(chain: &Value, place: &Place) -> Result<Chain, Diagnostic> {
    let name = text(chain, "name", place)?;
    let Some(hook_name) = chain.get("hook").and_then(Value::as_str) else {
        return Ok(Chain::new(name, End::Return));
    };
    let hook = match hook_name {
        "ingress" => Hook::Ingress,
        "prerouting" => Hook::Prerouting,
        "input" => Hook::Input,
        "forward" => Hook::Forward,
        "output" => Hook::Output,
        "postrouting" => Hook::Postrouting,
        "egress" => Hook::Egress,
        _ => return Err(place.error(format!("chain {name}: there is no hook `{hook_name}`"))),
    };
    let priority = chain.get("prio").and_then(Value::as_i64);
    let Some(priority) = priority.and_then(|priority| i32::try_from(priority).ok()) else {
        return Err(place.error(format!("chain {name} has a hook and no number `prio`")));
    };
    let end = match chain.get("policy").and_then(Value::as_str) {
        None | Some("accept") => End::Accept,
        Some("drop") => End::Drop,
        Some(policy) => {
            return Err(place.error(format!("chain {name}: there is no policy `{policy}`")));
        }
    };
    let devices = match chain.get("dev") {
        Some(Value::String(device)) => vec![device.clone()],
        Some(Value::Array(devices)) => devices
            .iter()
            .filter_map(|device| device.as_str().map(str::to_owned))
            .collect(),
        _ => Vec::new(),
    };
    let mut read = Chain::new(name, end);
    read.base = Some(Base {
        hook,
        priority,
        devices,
        translation: chain.get("type").and_then(Value::as_str) == Some("nat"),
    });
    Ok(read)
}

fn table_of(
    tables: &HashMap<(Family, String), usize>,
    item: &Value,
    place: &Place,
) -> Result<usize, Diagnostic> {
    let family = family(item, place)?;
    let name = text(item, "table", place)?;
    tables
        .get(&(family, name.to_owned()))
        .copied()
        .ok_or_else(|| {
            place.error(format!(
                "something is in table {} {name}, which is not there",
                family.name()
            ))
        })
}

fn family(item: &Value, place: &Place) -> Result<Family, Diagnostic> {
    Ok(match text(item, "family", place)? {
        "bridge" => Family::Bridge,
        "arp" => Family::Arp,
        "ip" => Family::Ip,
        "ip6" => Family::Ip6,
        "inet" => Family::Inet,
        "netdev" => Family::Netdev,
        other => return Err(place.error(format!("there is no family `{other}`"))),
    })
}

fn text<'v>(item: &'v Value, key: &str, place: &Place) -> Result<&'v str, Diagnostic> {
    item.get(key)
        .and_then(Value::as_str)
        .ok_or_else(|| place.error(format!("an entry has no text `{key}`")))
}

fn has_flag(item: &Value, flag: &str) -> bool {
    match item.get("flags") {
        Some(Value::String(only)) => only == flag,
        Some(Value::Array(flags)) => flags.iter().any(|one| one == flag),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::connection::State;
    use crate::field::{Field, Start};
    use crate::model::{Action, Effect};
    use crate::test::{Interface, Key, Test};

    fn rule(family: &str, statements: Value) -> Rule {
        let document = json!({"nftables": [
            {"table": {"family": family, "name": "t"}},
            {"chain": {"family": family, "table": "t", "name": "c"}},
            {"set": {"family": family, "table": "t", "name": "s", "elem": [
                "10.0.0.1", {"prefix": {"addr": "10.1.0.0", "len": 16}},
                {"elem": {"val": {"range": ["10.2.0.1", "10.2.0.9"]}, "timeout": 3}},
            ]}},
            {"map": {"family": family, "table": "t", "name": "m", "elem": [
                ["vnet0", {"jump": {"target": "c"}}], ["vnet1", {"drop": null}],
            ]}},
            {"rule": {"family": family, "table": "t", "chain": "c", "handle": 4,
                "expr": statements}},
        ]});
        read_document("f", &document).unwrap().tables[0].chains[0].rules[0].clone()
    }

    fn equal(left: Value, right: Value) -> Value {
        json!({"match": {"op": "==", "left": left, "right": right}})
    }

    fn payload(protocol: &str, field: &str) -> Value {
        json!({"payload": {"protocol": protocol, "field": field}})
    }

    #[test]
    fn expressions_become_tests_and_text() {
        let source = Field::Ip4Source;
        for (statement, test, text) in [
            (
                equal(payload("ether", "saddr"), json!("02:00:73:b6:53:c8")),
                Test::is(Field::EtherSource, 0x0200_73b6_53c8, false),
                "ether saddr 02:00:73:b6:53:c8",
            ),
            (
                equal(payload("ether", "type"), json!(32821)),
                Test::is(Field::EtherType, 0x8035, false),
                "ether type 0x8035",
            ),
            (
                json!({"match": {"op": "!=", "left": payload("ip", "saddr"),
                    "right": {"prefix": {"addr": "10.0.0.0", "len": 8}}}}),
                Test::within(source, (0x0a00_0000, 0x0aff_ffff), true),
                "ip saddr != 10.0.0.0/8",
            ),
            (
                equal(payload("ip", "saddr"), json!("@s")),
                Test::Compare {
                    key: source.into(),
                    negated: false,
                    ranges: vec![
                        (0x0a00_0001, 0x0a00_0001),
                        (0x0a01_0000, 0x0a01_ffff),
                        (0x0a02_0001, 0x0a02_0009),
                    ],
                },
                "ip saddr @s",
            ),
            (
                equal(
                    payload("tcp", "dport"),
                    json!({"set": [22, {"range": [80, 81]}]}),
                ),
                Test::Compare {
                    key: Field::DestinationPort(Some(6)).into(),
                    negated: false,
                    ranges: vec![(22, 22), (80, 81)],
                },
                "tcp dport { 22, 80-81 }",
            ),
            (
                json!({"match": {"op": "in", "left": {"ct": {"key": "state"}},
                    "right": ["established", "new"]}}),
                Test::Compare {
                    key: Field::ConnectionState.into(),
                    negated: false,
                    ranges: vec![
                        (State::Established as u128, State::Established as u128),
                        (State::New as u128, State::New as u128),
                    ],
                },
                "ct state established,new",
            ),
            (
                equal(
                    json!({"&": [payload("tcp", "flags"), {"|": ["syn", "ack"]}]}),
                    json!("syn"),
                ),
                Test::is(
                    Key {
                        field: Field::TcpFlags,
                        mask: Some(0x12),
                    },
                    2,
                    false,
                ),
                "tcp flags & (syn | ack) == syn",
            ),
            (
                equal(
                    json!({"payload": {"base": "nh", "offset": 48, "len": 96}}),
                    json!("0x3020073b653c800000000"),
                ),
                Test::is(
                    Field::Raw(Start::Network, 48, 96),
                    0x0003_0200_73b6_53c8_0000_0000,
                    false,
                ),
                "@nh,48,96 0x3020073b653c800000000",
            ),
            (
                equal(json!({"meta": {"key": "iifname"}}), json!("vnet*")),
                Test::Name {
                    interface: Interface::InputPort,
                    negated: false,
                    names: vec!["vnet*".into()],
                },
                "iifname \"vnet*\"",
            ),
            (
                equal(
                    json!({"concat": [payload("ether", "saddr"), payload("ip", "saddr")]}),
                    json!({"set": [{"concat": ["02:00:00:00:00:01", "10.0.0.1"]}]}),
                ),
                Test::Tuple {
                    keys: vec![Field::EtherSource.into(), source.into()],
                    negated: false,
                    elements: vec![vec![
                        (0x0200_0000_0001, 0x0200_0000_0001),
                        (0x0a00_0001, 0x0a00_0001),
                    ]],
                },
                "ether saddr . ip saddr { 02:00:00:00:00:01 . 10.0.0.1 }",
            ),
        ] {
            let rule = rule(
                "bridge",
                json!([statement, {"counter": {}}, {"drop": null}]),
            );
            assert_eq!(rule.tests, [test], "{text}");
            assert_eq!(rule.text, format!("{text} drop"));
            assert_eq!(rule.action, Action::Drop);
        }
    }

    #[test]
    fn verdict_maps_name_chains() {
        let read = rule(
            "bridge",
            json!([{"vmap": {"key": {"meta": {"key": "iif"}}, "data": "@m"}}]),
        );
        let Action::Map(entries) = &read.action else {
            panic!("{:?}", read.action);
        };
        assert_eq!(entries[0].action, Action::Jump("c".into()));
        assert_eq!(entries[1].action, Action::Drop);
        assert_eq!(read.text, "iif vmap @m");
    }

    #[test]
    fn what_is_not_understood_is_opaque() {
        for statement in [
            json!({"match": {"op": "==", "left": {"socket": {"key": "mark"}}, "right": 1}}),
            json!({"match": {"op": "==", "left": payload("ip", "saddr"), "right": "@gone"}}),
            json!({"match": {"op": "==", "left": payload("ip", "saddr"), "right": "banana"}}),
            json!({"limit": {"rate": 3, "per": "second"}}),
            json!({"xt": {"type": "match", "name": "conntrack"}}),
            json!({"new thing": 3}),
        ] {
            let rule = rule("ip", json!([statement, {"accept": null}]));
            assert!(matches!(rule.tests[..], [Test::Opaque(_)]), "{rule:?}");
        }
        let read = rule("ip", json!([{"queue": {"num": 1}}]));
        assert!(matches!(read.action, Action::Opaque(_)));
        let read = rule("ip", json!([{"log": null}, {"counter": null}]));
        assert_eq!((read.tests.len(), read.action), (0, Action::Continue));
        let read = rule(
            "ip",
            json!([{"mangle": {"key": {"meta": {"key": "mark"}}, "value": 7}}]),
        );
        assert_eq!(
            read.effects,
            [Effect::Mark {
                mask: u32::MAX,
                value: 7
            }]
        );
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (text, error) in [
            (
                "{\n  x",
                "f:2:3: not the JSON of `nft -j list ruleset`: key must be a string",
            ),
            ("{}", "f: the JSON has no list `nftables`"),
            (
                r#"{"nftables":[{"table":{"family":"ip"}}]}"#,
                "f: an entry has no text `name`",
            ),
            (
                r#"{"nftables":[{"table":{"family":"ipx","name":"t"}}]}"#,
                "f: there is no family `ipx`",
            ),
            (
                r#"{"nftables":[{"chain":{"family":"ip","table":"t","name":"c"}}]}"#,
                "f: something is in table ip t, which is not there",
            ),
            (
                r#"{"nftables":[{"table":{"family":"ip","name":"t"}},
                   {"chain":{"family":"ip","table":"t","name":"c","hook":"forward"}}]}"#,
                "f: chain c has a hook and no number `prio`",
            ),
        ] {
            assert_eq!(read("f", text).unwrap_err().to_string(), error);
        }
    }
}

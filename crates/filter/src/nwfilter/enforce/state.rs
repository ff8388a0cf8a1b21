//! The state of connections, as rules of a bridge can ask for it.
//!
//! Where the kernel tracks connections on bridges, rules ask with nft's `ct`. Elsewhere the bridge hands
//! packets to IP's hooks, and a table there writes the state into four bits of the packet's mark, which
//! rules of the bridge read afterwards. A packet that nobody classified has none of the states.

use serde_json::{Value, json};

use super::{TABLE, compare};
use crate::model::{Base, Chain, End, Engine, Family, Hook, Origin, Ruleset, Table};
use crate::nft;

/// How rules learn the state of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Tracking {
    /// The kernel tracks connections on bridges (`nf_conntrack_bridge`).
    Bridge,
    /// IP's hooks mark packets; needs `net.bridge.bridge-nf-call-iptables`.
    Marks,
}

/// The bits of the mark that hold a state.
pub(super) const MASK: u32 = 0x0f00_0000;
/// The bit for replies.
const REPLY: u32 = 0x0800_0000;
/// States with their number in the mark.
const STATES: [(&str, u32); 5] = [
    ("NEW", 0x0100_0000),
    ("ESTABLISHED", 0x0200_0000),
    ("RELATED", 0x0300_0000),
    ("INVALID", 0x0400_0000),
    ("UNTRACKED", 0x0500_0000),
];

/// Which states a rule accepts.
pub(super) struct Wanted<'a> {
    pub(super) states: Vec<&'a str>,
    /// Only replies, or none of them.
    pub(super) reply: Option<bool>,
}

impl Wanted<'_> {
    pub(super) fn tests(&self, tracking: Tracking) -> Vec<Value> {
        match tracking {
            Tracking::Bridge => self.by_connection(),
            Tracking::Marks => vec![self.by_mark()],
        }
    }

    fn by_connection(&self) -> Vec<Value> {
        let ct = |key: &str| json!({"ct": {"key": key}});
        let direction = self.reply.map(|reply| {
            let word = if reply { "reply" } else { "original" };
            compare(ct("direction"), json!(word), false)
        });
        let states: Vec<String> = self.states.iter().map(|s| s.to_ascii_lowercase()).collect();
        let state = json!({"match": {"op": "in", "left": ct("state"), "right": states}});
        direction.into_iter().chain([state]).collect()
    }

    fn by_mark(&self) -> Value {
        let numbers = STATES
            .iter()
            .filter(|(name, _)| self.states.contains(name))
            .map(|(_, number)| *number);
        let replies: &[u32] = match self.reply {
            Some(true) => &[REPLY],
            Some(false) => &[0],
            None => &[0, REPLY],
        };
        let mut values: Vec<u32> = numbers
            .flat_map(|number| replies.iter().map(move |reply| number | reply))
            .collect();
        values.sort_unstable();
        let value = match values.as_slice() {
            [one] => json!(one),
            several => json!({"set": several}),
        };
        compare(json!({"&": [mark(), MASK]}), value, false)
    }
}

fn mark() -> Value {
    json!({"meta": {"key": "mark"}})
}

/// `meta mark set meta mark OPERATOR NUMBER`.
fn changed(operator: &str, number: u32) -> Value {
    json!({"mangle": {"key": mark(), "value": {operator: [mark(), number]}}})
}

/// A table that has to do with marks: base chains, which all have the same rules.
struct Marker {
    family: Family,
    bases: Vec<(&'static str, Hook, i32)>,
    rules: Vec<Vec<Value>>,
}

fn markers() -> [Marker; 2] {
    let mut classify = vec![vec![changed("&", !MASK)]];
    for (name, number) in STATES {
        let state = name.to_ascii_lowercase();
        let test = json!({"match": {"op": "in", "left": {"ct": {"key": "state"}}, "right": state}});
        classify.push(vec![test, changed("|", number)]);
    }
    let reply = compare(json!({"ct": {"key": "direction"}}), json!("reply"), false);
    classify.push(vec![reply, changed("|", REPLY)]);
    [
        // A mark that a device left is not ours.
        Marker {
            family: Family::Bridge,
            bases: vec![("prerouting", Hook::Prerouting, -251)],
            rules: vec![vec![changed("&", !MASK)]],
        },
        // After connection tracking (-200) and what marks packets (-150).
        Marker {
            family: Family::Inet,
            bases: vec![
                ("prerouting", Hook::Prerouting, -149),
                ("output", Hook::Output, -149),
            ],
            rules: classify,
        },
    ]
}

/// The name of the tables that mark packets, in the families `bridge` and `inet`. No port's table is
/// named so.
pub(super) fn table_name() -> String {
    format!("{TABLE}/state")
}

/// The tables as the judge walks them.
pub(super) fn tables() -> Ruleset {
    let sets = nft::Sets::default();
    let name = table_name();
    let mut ruleset = Ruleset::default();
    for marker in markers() {
        let mut table = Table::new(Engine::Nftables, marker.family, &name);
        for (chain, hook, priority) in marker.bases {
            let mut chain = Chain::new(chain, End::Accept);
            chain.base = Some(Base {
                hook,
                priority,
                devices: Vec::new(),
                translation: false,
            });
            for statements in &marker.rules {
                let mut rule = nft::rule(marker.family, &name, &sets, statements);
                rule.origin = Origin::Frame;
                chain.rules.push(rule);
            }
            table.add(chain);
        }
        ruleset.tables.push(table);
    }
    ruleset
}

/// What loads the tables.
pub(super) fn script() -> String {
    let mut text = String::new();
    for marker in markers() {
        let own = format!("{} {}", marker.family.name(), table_name());
        text += &format!("add table {own}\ndelete table {own}\ntable {own} {{\n");
        for (chain, hook, priority) in marker.bases {
            let hook = super::script::hook_name(hook);
            text += &format!(
                "\tchain {chain} {{\n\t\ttype filter hook {hook} priority {priority}; policy accept;\n"
            );
            for statements in &marker.rules {
                text += &format!("\t\t{}\n", nft::written(statements));
            }
            text += "\t}\n";
        }
        text += "}\n";
    }
    text
}

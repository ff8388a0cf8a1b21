//! Filters as Pointsman itself enforces them: one nftables table for a port, loaded as a whole.
//!
//! The order of rules is libvirt's, and so are the names of chains. What the rules mean is what libvirt's
//! manual says, not what either of its backends makes of it: the end of a sub-chain returns, a code point
//! is a code point, and what is written for both directions is turned for one of them.

use serde_json::{Value, json};

use super::document::{Act, Library, Sense};
use super::instance::{Instance, Learning, Tree};
use super::{Binding, Parameters};
use crate::diagnostic::{Diagnostic, Place};
use crate::model::{Base, Chain, End, Engine, Family, Hook, Origin, Ruleset, Table};
use crate::nft;

pub use installed::{Installed, InstalledRule, Learned, port_of, script_of_removal};
pub use state::Tracking;

mod about;
mod frame;
mod installed;
mod learning;
mod packet;
mod script;
mod state;
mod tests;

/// How the names of our tables begin.
pub const TABLE: &str = "pointsman_";
/// Stands for the address that is learned: the set that holds it.
const LEARNED: &str = "@learned-ip";
/// The set that holds the port's name while its address is known.
const KNOWN: &str = "@known";
/// The set of pairs of equal octets.
const SAME: &str = "@same-ip-set";

/// Parameters that have a meaning of their own.
const SPECIAL: [&str; 3] = ["MAC", "DHCPSERVER", "CTRL_IP_LEARNING"];

/// What each base chain is for: hook, priority, way, and whether it has the rules for packets.
///
/// Frames are judged before, packets after the bridge calls connection tracking (-200) and IP's hooks (0).
const BASES: [(&str, Hook, i32, bool, bool); 4] = [
    ("prerouting", Hook::Prerouting, -250, false, false),
    ("prerouting-l4", Hook::Prerouting, 10, false, true),
    ("postrouting-l4", Hook::Postrouting, 240, true, true),
    ("postrouting", Hook::Postrouting, 250, true, false),
];

/// The rules of a port, ready to be loaded.
#[derive(Debug, Clone)]
pub struct Enforced {
    /// The table's name, in the family `bridge`.
    pub table: String,
    /// The rules as the judge walks them, with the tables that tell the state of connections.
    pub ruleset: Ruleset,
    /// What `nft -f` loads: one transaction, which replaces what was there.
    pub script: String,
    /// Tells whether what is in force is the same; 16 hexadecimal digits.
    pub digest: String,
    /// Rules of the table, by which one sees whether somebody changed it.
    pub rules: usize,
    /// Set when the address is not known.
    pub learning: Option<Learning>,
    /// All parameters, `MAC` among them.
    pub parameters: Parameters,
    /// Rules read the state of connections from marks.
    pub by_marks: bool,
    /// The first rules that ask for the state of connections, of IPv4 and of IPv6.
    pub tracked: [Option<Place>; 2],
    /// What libvirt takes without a word and people should know.
    pub warnings: Vec<Diagnostic>,
}

/// Compiles the filter of a port to be enforced.
pub fn enforce(
    library: &Library,
    binding: &Binding,
    port: &str,
    tracking: Tracking,
) -> Result<Enforced, Diagnostic> {
    let at = &binding.filter.place;
    if port.is_empty() || port.len() > 15 || port.contains(['"', '\\', '/']) {
        return Err(at.error(format!("nft has no way to name the port `{port}`")));
    }
    let mut tree = Tree::new(library, binding)?;
    let learning = tree.learning;
    for (name, _) in binding.filter.parameters.iter() {
        if !SPECIAL.contains(&name) && !tree.names(name) {
            let filter = &binding.filter.filter;
            return Err(at.error(format!("no rule of {filter} names ${name}")));
        }
    }
    let instances = tree.instances(LEARNED)?;
    let mut builder = Builder::new(port, tracking);
    if let Some(learning) = learning {
        learning::add(&mut builder, learning, &tree.parameters).map_err(|text| at.error(text))?;
    }
    builder.all(&instances)?;
    let tracked = [false, true].map(|v6| {
        let asks = |one: &&Instance<'_>| packet::asks_for_state(one, v6);
        instances
            .iter()
            .find(asks)
            .map(|one| one.rule.place.clone())
    });
    let mut made = builder.made;
    made.add_jumps();
    let about = about::About {
        port,
        filter: &binding.filter.filter,
        parameters: &tree.parameters,
        learning,
        by_marks: tracking == Tracking::Marks && tracked.iter().any(Option::is_some),
    };
    let (script, digest, rules) = script::write(&made, &about);
    let mut ruleset = made.ruleset();
    if about.by_marks {
        ruleset.extend(state::tables());
    }
    let by_marks = about.by_marks;
    Ok(Enforced {
        table: table_name(port),
        by_marks,
        ruleset,
        script,
        digest,
        rules,
        learning,
        tracked,
        warnings: tree.warnings,
        parameters: tree.parameters,
    })
}

impl Enforced {
    /// The values of a parameter.
    pub fn values(&self, name: &str) -> impl Iterator<Item = &str> {
        let list = self.parameters.get(name).unwrap_or_default();
        list.iter().map(String::as_str)
    }
}

/// The name of a port's table.
pub fn table_name(port: &str) -> String {
    format!("{TABLE}{}", escaped(port))
}

/// A name of letters that nft takes; others become `/` and two hexadecimal digits. No port has a slash.
fn escaped(name: &str) -> String {
    let mut text = String::new();
    for byte in name.bytes() {
        match byte {
            b'-' | b'_' | b'.' => text.push(byte.into()),
            byte if byte.is_ascii_alphanumeric() => text.push(byte.into()),
            byte => text += &format!("/{byte:02x}"),
        }
    }
    text
}

/// The port as nft's words compare it: a star at the end would stand for any end.
fn quoted(port: &str) -> String {
    match port.strip_suffix('*') {
        Some(stem) => format!("{stem}\\*"),
        None => port.to_owned(),
    }
}

/// A rule before it is text or model.
#[derive(Debug, Clone)]
struct MadeRule {
    statements: Vec<Value>,
    origin: Origin,
}

#[derive(Debug, Clone)]
struct MadeChain {
    name: String,
    base: Option<Base>,
    rules: Vec<MadeRule>,
}

/// A port's table before it is text or model.
#[derive(Debug, Clone)]
struct Made {
    port: String,
    chains: Vec<MadeChain>,
    learning: Option<Learning>,
    /// Pairs of equal octets are asked for.
    same: bool,
}

impl Made {
    fn chain(&mut self, name: &str) -> &mut MadeChain {
        let at = match self.chains.iter().position(|chain| chain.name == name) {
            Some(at) => at,
            None => {
                self.chains.push(MadeChain {
                    name: name.to_owned(),
                    base: None,
                    rules: Vec::new(),
                });
                self.chains.len() - 1
            }
        };
        &mut self.chains[at]
    }

    fn has(&self, name: &str) -> bool {
        self.chains.iter().any(|chain| chain.name == name)
    }

    /// Hooks the chains in that have rules.
    fn add_jumps(&mut self) {
        let mut bases = Vec::new();
        for (name, hook, priority, into, packets) in BASES {
            let key = if into { "oifname" } else { "iifname" };
            let meta = json!({"meta": {"key": key}});
            let own = compare(meta.clone(), json!(quoted(&self.port)), false);
            let mut rules = Vec::new();
            let mut jump = |tests: Vec<Value>, chain: String| {
                let mut statements = tests;
                statements.push(json!({"jump": {"target": chain}}));
                rules.push(MadeRule {
                    statements,
                    origin: Origin::Frame,
                });
            };
            let unknown = learning::chain(&self.port, into);
            if !packets && self.has(&unknown) {
                let test = compare(meta.clone(), json!(KNOWN), true);
                jump(vec![own.clone(), test], unknown);
            }
            let root = root(&self.port, into, packets);
            if self.has(&root) {
                let mut tests = vec![own];
                // What the guest sends goes through the filter even before anything is learned.
                if self.learning.is_some() && (into || packets) {
                    tests.push(compare(meta, json!(KNOWN), false));
                }
                jump(tests, root);
            }
            if !rules.is_empty() {
                bases.push(MadeChain {
                    name: name.to_owned(),
                    base: Some(Base {
                        hook,
                        priority,
                        devices: Vec::new(),
                        translation: false,
                    }),
                    rules,
                });
            }
        }
        self.chains.splice(0..0, bases);
    }

    /// As the judge walks it, nothing learned yet.
    fn ruleset(&self) -> Ruleset {
        let name = table_name(&self.port);
        let mut sets = nft::Sets::default();
        for set in [LEARNED, KNOWN] {
            sets.insert(Family::Bridge, &name, &set[1..], Vec::new());
        }
        let pairs = same_octets().map(|octet| json!({"concat": [octet, octet]}));
        sets.insert(Family::Bridge, &name, &SAME[1..], pairs.collect());
        let mut table = Table::new(Engine::Nftables, Family::Bridge, &name);
        for made in &self.chains {
            let end = if made.base.is_some() {
                End::Accept
            } else {
                End::Return
            };
            let mut chain = Chain::new(&made.name, end);
            chain.base = made.base.clone();
            for rule in &made.rules {
                let mut read = nft::rule(Family::Bridge, &name, &sets, &rule.statements);
                read.origin = rule.origin.clone();
                chain.rules.push(read);
            }
            table.add(chain);
        }
        Ruleset {
            tables: vec![table],
        }
    }
}

/// The addresses with one octet that may be other than 0.
fn same_octets() -> impl Iterator<Item = String> {
    let octets = (0..4).flat_map(|octet| (0..256u32).map(move |value| value << (8 * octet)));
    let distinct = octets.filter(|&value| value != 0);
    std::iter::once(0)
        .chain(distinct)
        .map(|value| std::net::Ipv4Addr::from(value).to_string())
}

/// The first chain of a way: libvirt's names for frames and for packets.
fn root(port: &str, into: bool, packets: bool) -> String {
    let letter = if into { "O" } else { "I" };
    let prefix = if packets { "F" } else { "libvirt-" };
    format!("{prefix}{letter}-{}", escaped(port))
}

/// A sub-chain of a way.
fn sub(port: &str, into: bool, chain: &str) -> String {
    let letter = if into { "O" } else { "I" };
    format!("{letter}-{}-{}", escaped(port), escaped(chain))
}

fn equal(protocol: &str, field: &str, value: Value, negated: bool) -> Value {
    compare(payload(protocol, field), value, negated)
}

fn payload(protocol: &str, field: &str) -> Value {
    json!({"payload": {"protocol": protocol, "field": field}})
}

fn compare(left: Value, value: Value, negated: bool) -> Value {
    let operator = if negated { "!=" } else { "==" };
    json!({"match": {"op": operator, "left": left, "right": value}})
}

struct Builder {
    made: Made,
    tracking: Tracking,
}

impl Builder {
    fn new(port: &str, tracking: Tracking) -> Self {
        Self {
            made: Made {
                port: port.to_owned(),
                chains: Vec::new(),
                learning: None,
                same: false,
            },
            tracking,
        }
    }

    /// Adds rules in their final order, and the jumps to sub-chains among them.
    fn all(&mut self, instances: &[Instance<'_>]) -> Result<(), Diagnostic> {
        // Sub-chains in the order of their priority, with the directions that they have.
        let mut subs: Vec<(&str, i32, [bool; 2])> = Vec::new();
        let in_sub = |one: &&Instance<'_>| one.chain != "root" && one.is_ethernet();
        for one in instances.iter().filter(in_sub) {
            let there = [Sense::Out, Sense::In].map(|sense| one.goes(sense));
            match subs.iter_mut().find(|(chain, ..)| *chain == one.chain) {
                Some((.., known)) => *known = [known[0] | there[0], known[1] | there[1]],
                None => subs.push((one.chain, one.chain_priority, there)),
            }
        }
        subs.sort_by_key(|&(_, priority, _)| priority);
        let in_root = |one: &&Instance<'_>| one.chain == "root" && one.is_ethernet();
        let mut roots = instances.iter().filter(in_root).peekable();
        for (chain, priority, there) in subs {
            while let Some(one) = roots.next_if(|one| one.priority < priority) {
                self.rules(one)?;
            }
            self.enter(chain, there);
        }
        for one in roots {
            self.rules(one)?;
        }
        for one in instances.iter().filter(|one| !in_root(one)) {
            self.rules(one)?;
        }
        Ok(())
    }

    fn push(&mut self, chain: &str, statements: Vec<Value>, origin: Origin) {
        let rules = &mut self.made.chain(chain).rules;
        rules.push(MadeRule { statements, origin });
    }

    /// Adds the jumps to a sub-chain.
    fn enter(&mut self, chain: &str, there: [bool; 2]) {
        let carried = match chain {
            name if name.starts_with("mac") => None,
            name if name.starts_with("stp") => None,
            name if name.starts_with("vlan") => Some(json!("8021q")),
            name if name.starts_with("arp") => Some(json!("arp")),
            name if name.starts_with("rarp") => Some(json!(0x8035)),
            name if name.starts_with("ipv4") => Some(json!("ip")),
            _ => Some(json!("ip6")),
        };
        let mut tests: Vec<Value> = carried
            .map(|carried| equal("ether", "type", carried, false))
            .into_iter()
            .collect();
        if chain.starts_with("stp") {
            tests.push(equal("ether", "daddr", json!(frame::BRIDGE_GROUP), false));
        }
        for (into, there) in [false, true].into_iter().zip(there) {
            if there {
                let name = sub(&self.made.port, into, chain);
                let mut statements = tests.clone();
                statements.push(json!({"jump": {"target": name}}));
                let root = root(&self.made.port, into, false);
                self.push(&root, statements, Origin::Frame);
                self.made.chain(&name);
            }
        }
    }

    /// Adds the rules of an instance, for each direction.
    fn rules(&mut self, one: &Instance<'_>) -> Result<(), Diagnostic> {
        for into in [false, true] {
            if one.is_ethernet() {
                if one.goes(if into { Sense::In } else { Sense::Out }) {
                    // What is for both directions is written for the one towards the guest.
                    let turned = one.rule.sense == Sense::InOut && !into;
                    self.frame(one, into, turned)?;
                }
            } else if let Some(statements) = packet::statements(one, into, self.tracking)? {
                let chain = root(&self.made.port, into, true);
                self.end(one, &chain, statements);
            }
        }
        Ok(())
    }

    fn frame(&mut self, one: &Instance<'_>, into: bool, turned: bool) -> Result<(), Diagnostic> {
        let chain = match one.chain {
            "root" => root(&self.made.port, into, false),
            chain => sub(&self.made.port, into, chain),
        };
        let gratuitous = one.get("gratuitous") == Some("1");
        self.made.same |= gratuitous;
        let statements = frame::statements(one, turned)?;
        if !(gratuitous && one.is_negated("gratuitous")) {
            self.end(one, &chain, statements);
            return Ok(());
        }
        // Not gratuitous is what does not come back from a chain that returns gratuitous ones.
        if matches!(one.rule.act, Act::Return | Act::Continue) {
            let place = &one.rule.place;
            return Err(place.error(
                "a rule with gratuitous and match='no' can only accept or drop: write what it is about \
                 in a rule before it",
            ));
        }
        let number = self.made.chains.len();
        let other = format!("{}-not-gratuitous-{number}", escaped(&self.made.port));
        let mut statements = statements;
        statements.push(json!({"jump": {"target": other}}));
        self.push(&chain, statements, Origin::Filter(one.origin.clone()));
        let mut same = frame::gratuitous();
        same.push(json!({"return": null}));
        self.push(&other, same, Origin::Frame);
        self.end(one, &other, Vec::new());
        Ok(())
    }

    fn end(&mut self, one: &Instance<'_>, chain: &str, mut statements: Vec<Value>) {
        let verdict = match one.rule.act {
            Act::Accept => "accept",
            // The family has no way to tell the sender.
            Act::Drop | Act::Reject => "drop",
            Act::Return => "return",
            Act::Continue => "continue",
        };
        statements.push(json!({verdict: null}));
        self.push(chain, statements, Origin::Filter(one.origin.clone()));
    }
}

/// The only value of a parameter, or the first.
fn first<'p>(parameters: &'p Parameters, name: &str) -> Option<&'p str> {
    parameters.get(name)?.first().map(String::as_str)
}

//! A filter at a port: the tree of references flattened, variables filled in, compiled.

use super::document::{Datum, Entry, Filter, Library, Reference, Sense, XmlRule};
use super::element::Kind;
use super::variable::{Parameters, combinations};
use super::{Binding, ebiptables, nftables};
use crate::diagnostic::{Diagnostic, Place};
use crate::model::{FilterRule, Ruleset};

/// How many rules a port may have after variables are filled in.
const RULES: usize = 100_000;
/// How deep filters may refer to each other.
const DEPTH: usize = 128;

/// Which of libvirt's two ways to install rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Backend {
    /// `ebtables`, `iptables` and `ip6tables`: every libvirt so far.
    Ebiptables,
    /// nftables, since libvirt 12.
    Nftables,
}

/// How libvirt finds out a guest's address when nobody says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Learning {
    /// From the first IPv4 packet.
    Any,
    /// From DHCP answers.
    Dhcp,
}

/// The rules of a port.
#[derive(Debug, Clone)]
pub struct Compiled {
    /// As libvirt installs them.
    pub ruleset: Ruleset,
    /// Set when the address is not known: these are the rules until it is.
    pub learning: Option<Learning>,
    /// What libvirt takes without a word and people should know.
    pub warnings: Vec<Diagnostic>,
}

/// Compiles the filter of a port as libvirt would install it.
pub fn compile(
    library: &Library,
    binding: &Binding,
    port: &str,
    backend: Backend,
) -> Result<Compiled, Diagnostic> {
    let Tree {
        mut rules,
        warnings,
        parameters,
        learning,
    } = Tree::new(library, binding)?;
    if let Some(learning) = learning {
        let servers = parameters.get("DHCPSERVER").unwrap_or_default();
        // Whatever the parameters say.
        let mac = binding.mac.as_str();
        let ruleset = match backend {
            Backend::Ebiptables => ebiptables::learn(port, mac, learning, servers),
            Backend::Nftables => nftables::learn(port, mac, learning, servers),
        };
        return Ok(Compiled {
            ruleset: ruleset.map_err(|text| binding.filter.place.error(text))?,
            learning: Some(learning),
            warnings,
        });
    }
    if backend == Backend::Nftables {
        raise(&mut rules);
    }
    sort(&mut rules);
    if backend == Backend::Ebiptables {
        raise(&mut rules);
    }
    let instances = fill(&rules)?;
    let ruleset = match backend {
        Backend::Ebiptables => ebiptables::compile(port, &instances)?,
        Backend::Nftables => nftables::compile(port, &instances)?,
    };
    Ok(Compiled {
        ruleset,
        learning: None,
        warnings,
    })
}

/// Raises rules of sub-chains to the priority of their chain.
fn raise(rules: &mut [Flattened<'_>]) {
    for rule in rules.iter_mut().filter(|rule| rule.chain != "root") {
        rule.priority = rule.priority.max(rule.chain_priority);
    }
}

fn sort(rules: &mut [Flattened<'_>]) {
    rules.sort_by_key(|rule| (rule.chain != "root", rule.priority));
}

/// The rules of all filters that a port refers to.
pub(super) struct Tree<'a> {
    rules: Vec<Flattened<'a>>,
    pub(super) warnings: Vec<Diagnostic>,
    pub(super) parameters: Parameters,
    /// Set when the address is not known.
    pub(super) learning: Option<Learning>,
}

impl<'a> Tree<'a> {
    pub(super) fn new(library: &'a Library, binding: &Binding) -> Result<Self, Diagnostic> {
        let mut own = Parameters::new();
        own.add("MAC", &binding.mac);
        let parameters = binding.filter.parameters.over(&own);
        let mut flat = Flat {
            library,
            path: Vec::new(),
            rules: Vec::new(),
            warnings: binding.warnings.clone(),
            steps: 0,
        };
        flat.reference(&binding.filter, &parameters)?;
        let learning = missing(&flat.rules, &parameters, &binding.filter.place)?;
        Ok(Self {
            rules: flat.rules,
            warnings: flat.warnings,
            parameters,
            learning,
        })
    }

    /// Whether a rule names this variable.
    pub(super) fn names(&self, variable: &str) -> bool {
        self.rules.iter().any(|rule| {
            let accesses = rule.rule.is_about.as_ref().map(|about| about.accesses());
            let accesses = accesses.unwrap_or_default();
            accesses.iter().any(|access| access.name == variable)
        })
    }

    /// The rules in their order, variables filled in; `learned` stands for an address that is not known.
    pub(super) fn instances(&mut self, learned: &str) -> Result<Vec<Instance<'a>>, Diagnostic> {
        if self.learning.is_some() {
            for rule in &mut self.rules {
                rule.parameters.stand_in("IP", learned);
            }
        }
        raise(&mut self.rules);
        sort(&mut self.rules);
        fill(&self.rules)
    }
}

/// A rule of the flattened tree.
#[derive(Debug, Clone)]
struct Flattened<'a> {
    filter: &'a str,
    chain: &'a str,
    chain_priority: i32,
    priority: i32,
    rule: &'a XmlRule,
    parameters: Parameters,
}

struct Flat<'a> {
    library: &'a Library,
    /// Filters from the outermost to this one.
    path: Vec<&'a str>,
    rules: Vec<Flattened<'a>>,
    warnings: Vec<Diagnostic>,
    steps: usize,
}

impl<'a> Flat<'a> {
    fn reference(
        &mut self,
        reference: &Reference,
        parameters: &Parameters,
    ) -> Result<(), Diagnostic> {
        let Some(filter) = self.library.get(&reference.filter) else {
            return Err(reference
                .place
                .error(format!("there is no filter `{}`", reference.filter)));
        };
        if self.path.contains(&filter.name.as_str()) {
            return Err(reference.place.error(format!(
                "filters refer to each other in a loop: {} -> {}",
                self.path.join(" -> "),
                filter.name
            )));
        }
        self.steps += 1;
        if self.path.len() >= DEPTH || self.steps > RULES {
            return Err(reference
                .place
                .error("filters refer to each other too deeply or too often"));
        }
        self.warnings.extend(filter.warnings.iter().cloned());
        self.path.push(&filter.name);
        self.filter(filter, parameters)?;
        self.path.pop();
        Ok(())
    }

    fn filter(&mut self, filter: &'a Filter, parameters: &Parameters) -> Result<(), Diagnostic> {
        for entry in &filter.entries {
            match entry {
                Entry::Rule(rule) => self.rules.push(Flattened {
                    filter: &filter.name,
                    chain: &filter.chain,
                    chain_priority: filter.chain_priority,
                    priority: rule.priority,
                    rule,
                    parameters: parameters.clone(),
                }),
                Entry::Reference(reference) => {
                    // What is said outside wins over what is written inside.
                    let inner = parameters.over(&reference.parameters);
                    self.reference(reference, &inner)?;
                }
            }
            if self.rules.len() > RULES {
                return Err(filter
                    .place
                    .error(format!("a port can't have more than {RULES} rules")));
            }
        }
        Ok(())
    }
}

/// How to learn what is missing, if only the address is.
fn missing(
    rules: &[Flattened<'_>],
    parameters: &Parameters,
    place: &Place,
) -> Result<Option<Learning>, Diagnostic> {
    let mut names: Vec<String> = Vec::new();
    for rule in rules {
        let accesses = rule.rule.is_about.as_ref().map(|about| about.accesses());
        for access in accesses.unwrap_or_default() {
            let name = access.missing();
            if !access.is_there(&rule.parameters) && !names.contains(&name) {
                names.push(name);
            }
        }
    }
    if names.is_empty() {
        return Ok(None);
    }
    if names != ["IP"] {
        names.retain(|name| name != "IP");
        return Err(place.error(format!(
            "variables without a value, or list elements that are not there: {}; add \
             <parameter name='...' value='...'/>",
            names.join(", ")
        )));
    }
    let how = parameters
        .get("CTRL_IP_LEARNING")
        .and_then(|list| list.first())
        .map_or("any", String::as_str);
    match how.to_ascii_lowercase().as_str() {
        "any" => Ok(Some(Learning::Any)),
        "dhcp" => Ok(Some(Learning::Dhcp)),
        "none" => Err(place.error("IP has no value, and CTRL_IP_LEARNING is none")),
        _ => Err(place.error(format!(
            "CTRL_IP_LEARNING is any, dhcp or none, not `{how}`"
        ))),
    }
}

/// A rule with values for its variables.
#[derive(Debug, Clone)]
pub(super) struct Instance<'a> {
    pub(super) chain: &'a str,
    pub(super) chain_priority: i32,
    /// Raised to the chain's.
    pub(super) priority: i32,
    pub(super) rule: &'a XmlRule,
    pub(super) origin: FilterRule,
    /// Attributes by name, in libvirt's order.
    values: Vec<(&'static str, String, bool)>,
}

impl Instance<'_> {
    /// Nothing stands for everything.
    pub(super) fn kind(&self) -> Option<Kind> {
        self.rule.is_about.as_ref().map(|about| about.kind)
    }

    pub(super) fn is_ethernet(&self) -> bool {
        self.kind().is_none_or(Kind::is_ethernet)
    }

    /// An attribute's value.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.values
            .iter()
            .find(|(known, ..)| *known == name)
            .map(|(_, value, _)| value.as_str())
    }

    /// Whether an attribute is negated.
    pub(super) fn is_negated(&self, name: &str) -> bool {
        self.values
            .iter()
            .any(|(known, _, negated)| *known == name && *negated)
    }

    /// Whether an attribute is filled in from a variable.
    pub(super) fn is_variable(&self, name: &str) -> bool {
        let items = self.rule.is_about.iter().flat_map(|about| &about.items);
        items
            .filter(|item| item.name == name)
            .any(|item| matches!(item.datum, Datum::Variable(_)))
    }

    /// An attribute that is a number.
    pub(super) fn number(&self, name: &str) -> Result<Option<u64>, Diagnostic> {
        self.get(name)
            .map(|value| {
                crate::names::number(value).ok_or_else(|| {
                    let place = &self.rule.place;
                    place.error(format!("`{name}` became `{value}`, which is not a number"))
                })
            })
            .transpose()
    }

    pub(super) fn goes(&self, sense: Sense) -> bool {
        self.rule.sense == sense || self.rule.sense == Sense::InOut
    }
}

fn fill<'a>(rules: &[Flattened<'a>]) -> Result<Vec<Instance<'a>>, Diagnostic> {
    let mut instances = Vec::new();
    for flat in rules {
        let rule = flat.rule;
        let accesses = rule
            .is_about
            .as_ref()
            .map(|about| about.accesses())
            .unwrap_or_default();
        let filled =
            combinations(accesses, &flat.parameters).map_err(|text| rule.place.error(text))?;
        if instances.len() + filled.len() > RULES {
            return Err(rule
                .place
                .error(format!("a port can't have more than {RULES} rules")));
        }
        for combination in filled {
            let items = rule.is_about.as_ref().map(|about| about.items.as_slice());
            let mut values = Vec::new();
            for item in items.unwrap_or_default() {
                let text = match &item.datum {
                    Datum::Text(text) => text.clone(),
                    Datum::Variable(access) => accesses
                        .iter()
                        .position(|known| known == access)
                        .and_then(|at| combination.get(at))
                        .cloned()
                        .unwrap_or_default(),
                };
                values.push((item.name, text, item.negated));
            }
            instances.push(Instance {
                chain: flat.chain,
                chain_priority: flat.chain_priority,
                priority: flat.priority,
                rule,
                origin: FilterRule {
                    filter: flat.filter.to_owned(),
                    number: rule.number,
                    action: rule.act.name().to_owned(),
                    direction: rule.sense.name().to_owned(),
                    priority: rule.priority,
                    place: rule.place.clone(),
                },
                values,
            });
        }
    }
    Ok(instances)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn library(filters: &[&str]) -> Library {
        let mut library = Library::new();
        for (at, text) in filters.iter().enumerate() {
            library.add(&format!("f{at}"), text).unwrap();
        }
        library
    }

    fn binding(filter: &str, parameters: &[(&str, &str)]) -> Binding {
        let mut list = Parameters::new();
        for (name, value) in parameters {
            list.add(name, value);
        }
        Binding {
            port: None,
            mac: "02:00:73:b6:53:c8".into(),
            filter: Reference {
                filter: filter.into(),
                parameters: list,
                place: Place::new("b", 1, 1),
            },
            owner: None,
            warnings: Vec::new(),
        }
    }

    const SOURCE: &str = "<filter name='x' chain='ipv4'>\
        <rule action='return' direction='out'><ip srcipaddr='$IP'/></rule></filter>";

    fn error(filters: &[&str], name: &str, parameters: &[(&str, &str)]) -> String {
        let library = library(filters);
        let binding = binding(name, parameters);
        match compile(&library, &binding, "v", Backend::Ebiptables) {
            Ok(compiled) => panic!("{compiled:?}"),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn what_is_said_outside_wins() {
        let outer = "<filter name='o'><filterref filter='x'>\
                     <parameter name='IP' value='10.0.0.9'/></filterref></filter>";
        let library = library(&[SOURCE, outer]);
        for (parameters, text) in [
            (&[][..], "-p IPv4 --ip-src 10.0.0.9 -j RETURN"),
            (
                &[("IP", "10.0.0.1")][..],
                "-p IPv4 --ip-src 10.0.0.1 -j RETURN",
            ),
        ] {
            let binding = binding("o", parameters);
            let compiled = compile(&library, &binding, "v", Backend::Ebiptables).unwrap();
            let chain = compiled.ruleset.tables[0].chain("I-v-ipv4").unwrap();
            assert_eq!(chain.rules[0].text, text);
        }
    }

    #[test]
    fn a_missing_address_is_learned() {
        let library = library(&[SOURCE]);
        for (how, learning) in [("any", Learning::Any), ("DHCP", Learning::Dhcp)] {
            let binding = binding("x", &[("CTRL_IP_LEARNING", how)]);
            for backend in [Backend::Ebiptables, Backend::Nftables] {
                let compiled = compile(&library, &binding, "v", backend).unwrap();
                assert_eq!(compiled.learning, Some(learning));
            }
        }
    }

    #[test]
    fn while_an_address_is_learned_servers_answer_in_their_order_to_the_ports_own_mac() {
        let library = library(&[SOURCE]);
        let binding = binding(
            "x",
            &[
                ("CTRL_IP_LEARNING", "dhcp"),
                ("DHCPSERVER", "10.0.0.1"),
                ("DHCPSERVER", "10.0.0.2"),
                ("MAC", "02:00:00:00:00:01"),
            ],
        );
        for (backend, chain, own) in [
            (Backend::Ebiptables, "libvirt-O-v", "-d 02:00:73:b6:53:c8"),
            (Backend::Nftables, "v-in", "ether daddr 02:00:73:b6:53:c8"),
        ] {
            let compiled = compile(&library, &binding, "v", backend).unwrap();
            let rules = &compiled.ruleset.tables[0].chain(chain).unwrap().rules;
            let texts: Vec<&str> = rules.iter().map(|rule| rule.text.as_str()).collect();
            assert_eq!(texts.len(), 5, "{texts:?}");
            for (at, server) in ["10.0.0.1", "10.0.0.1", "10.0.0.2", "10.0.0.2"]
                .iter()
                .enumerate()
            {
                assert!(texts[at].contains(server), "{texts:?}");
                assert_eq!(texts[at].contains(own), at % 2 == 0, "{texts:?}");
            }
        }
    }

    #[test]
    fn what_can_not_be_compiled_is_said_with_its_place() {
        let loops = [
            "<filter name='a'><filterref filter='b'/></filter>",
            "<filter name='b'>\n<filterref filter='a'/></filter>",
        ];
        assert_eq!(
            error(&loops, "a", &[]),
            "f1:2:1: filters refer to each other in a loop: a -> b -> a"
        );
        assert_eq!(error(&[], "gone", &[]), "b:1:1: there is no filter `gone`");
        assert_eq!(
            error(&[SOURCE], "x", &[("CTRL_IP_LEARNING", "none")]),
            "b:1:1: IP has no value, and CTRL_IP_LEARNING is none"
        );
        let two = "<filter name='y'><rule action='drop' direction='in'>\
                   <mac srcmacaddr='$GW' dstmacaddr='$MAC[3]'/></rule></filter>";
        assert!(error(&[two], "y", &[]).contains("GW, MAC[3]"));
        let bad = error(&[SOURCE], "x", &[("IP", "banana")]);
        assert!(bad.contains("`banana` is not an IPv4 address"), "{bad}");
    }

    #[test]
    fn a_tree_that_doubles_again_and_again_is_refused() {
        let mut filters =
            vec!["<filter name='f0'><rule action='drop' direction='in'/></filter>".to_owned()];
        for at in 1..60 {
            let below = at - 1;
            filters.push(format!(
                "<filter name='f{at}'><filterref filter='f{below}'/><filterref filter='f{below}'/></filter>"
            ));
        }
        let filters: Vec<&str> = filters.iter().map(String::as_str).collect();
        let error = error(&filters, "f59", &[]);
        assert!(error.contains("too deeply or too often"), "{error}");
    }
}

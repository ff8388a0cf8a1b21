//! Which filter's rule a host's rule was made of, and where the host's rules are not the filter's.

use std::fmt;

use crate::model::{Chain, FilterRule, Origin, Rule, Ruleset, Table};
use crate::same::same_rule;

/// A difference between a host's rules and those that libvirt makes of a port's filter.
#[derive(Debug, Clone, PartialEq)]
pub enum Drift {
    /// The host has no rules of the filter at all in this table: they were flushed, or never installed.
    NoTable {
        /// The table, as people name it.
        table: String,
    },
    /// The host does not have a rule that the filter makes.
    Missing {
        /// The table, as people name it.
        table: String,
        /// The chain.
        chain: String,
        /// The rule in its dialect.
        text: String,
        /// What it is made of, if of a filter.
        filter: Option<FilterRule>,
    },
    /// A chain of the port has a rule that the filter does not make.
    Foreign {
        /// The table, as people name it.
        table: String,
        /// The chain.
        chain: String,
        /// Its number in the chain, from 1.
        number: usize,
        /// The rule in its dialect.
        text: String,
    },
}

impl fmt::Display for Drift {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoTable { table } => write!(
                f,
                "the host has none of the filter's rules in {table}: flushed, or not installed; until \
                 libvirt makes them anew the port is open"
            ),
            Self::Missing {
                table,
                chain,
                text,
                filter,
            } => {
                write!(
                    f,
                    "the host lacks a rule of the filter: {table}, chain {chain}: {text}"
                )?;
                match filter {
                    Some(rule) => write!(f, " (filter {})", rule.filter),
                    None => Ok(()),
                }
            }
            Self::Foreign {
                table,
                chain,
                number,
                text,
            } => write!(
                f,
                "somebody else's rule is in the filter's chain: {table}, chain {chain}, rule {number}: \
                 {text}"
            ),
        }
    }
}

/// Finds the rules that libvirt makes of a filter among a host's rules, and tells these what they were
/// made of. Says what differs.
pub fn attribute(host: &mut Ruleset, compiled: &Ruleset) -> Vec<Drift> {
    let mut drift = Vec::new();
    for own in &compiled.tables {
        let found = host
            .tables
            .iter_mut()
            .find(|table| table.title() == own.title());
        let has_any = found
            .as_ref()
            .is_some_and(|table| own.chains.iter().any(|chain| is_there(table, chain)));
        match found {
            Some(table) if has_any => {
                for chain in &own.chains {
                    compare(table, chain, &mut drift);
                }
            }
            _ => drift.push(Drift::NoTable { table: own.title() }),
        }
    }
    drift
}

/// Whether a table has a chain that only this filter makes.
fn is_there(table: &Table, chain: &Chain) -> bool {
    chain.base.is_none()
        && !chain.rules.is_empty()
        && table
            .chain(&chain.name)
            .is_some_and(|found| !found.rules.is_empty())
}

fn compare(table: &mut Table, own: &Chain, drift: &mut Vec<Drift>) {
    let (title, engine) = (table.title(), table.engine);
    let missing = |rule: &Rule| Drift::Missing {
        table: title.clone(),
        chain: own.name.clone(),
        text: rule.text.clone(),
        filter: of_filter(rule),
    };
    let Some(chain) = table.chain_mut(&own.name) else {
        drift.extend(own.rules.iter().map(missing));
        return;
    };
    let mut taken = vec![false; chain.rules.len()];
    for (at, rule) in own.rules.iter().enumerate() {
        // Usually it is at the same place; chains of the same priority come in any order.
        let is_same = |&at: &usize| {
            let found = chain.rules.get(at);
            found.is_some_and(|found| !taken[at] && same_rule(engine, found, rule))
        };
        let place = Some(at)
            .filter(is_same)
            .or_else(|| (0..chain.rules.len()).find(is_same));
        match place {
            Some(at) => {
                taken[at] = true;
                if of_filter(rule).is_some() {
                    chain.rules[at].origin = rule.origin.clone();
                }
            }
            None => drift.push(missing(rule)),
        }
    }
    // Hooks, and libvirt's own ways to all ports, belong to everybody.
    let shared = own.base.is_some()
        || matches!(
            own.name.as_str(),
            "libvirt-in" | "libvirt-out" | "libvirt-in-post" | "libvirt-host-in"
        );
    if shared {
        return;
    }
    for (at, rule) in chain.rules.iter().enumerate().filter(|(at, _)| !taken[*at]) {
        drift.push(Drift::Foreign {
            table: title.clone(),
            chain: own.name.clone(),
            number: at + 1,
            text: rule.text.clone(),
        });
    }
}

fn of_filter(rule: &Rule) -> Option<FilterRule> {
    match &rule.origin {
        Origin::Filter(filter) => Some(filter.clone()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ebtables;
    use crate::nwfilter::{Backend, Library, compile, read_bindings};

    fn compiled() -> Ruleset {
        let mut library = Library::new();
        let filter = "<filter name='pin' chain='ipv4-ip' priority='-710'>\
             <rule action='return' direction='out'><ip srcipaddr='$IP'/></rule>\
             <rule action='drop' direction='out' priority='1000'/></filter>";
        library.add("pin.xml", filter).unwrap();
        let binding = "<filterbinding><mac address='2:0:73:b6:53:c8'/><filterref filter='pin'>\
                       <parameter name='IP' value='192.0.2.200'/></filterref></filterbinding>";
        let binding = &read_bindings("f", binding).unwrap()[0];
        let compiled = compile(&library, binding, "vnet0", Backend::Ebiptables);
        compiled.unwrap().ruleset
    }

    const HOST: &str = "*nat\n:PREROUTING ACCEPT\n:libvirt-I-vnet0 ACCEPT\n:I-vnet0-ipv4-ip ACCEPT\n\
        -A PREROUTING -i vnet9 -j DROP\n\
        -A PREROUTING -i vnet0 -j libvirt-I-vnet0\n\
        -A libvirt-I-vnet0 -p IPv4 -j I-vnet0-ipv4-ip\n\
        -A I-vnet0-ipv4-ip -p IPv4 --ip-src 192.0.2.200 -j RETURN\n\
        -A I-vnet0-ipv4-ip -j DROP\n";

    fn drift(text: &str) -> (Ruleset, Vec<String>) {
        let mut rules = ebtables::read("f", text).unwrap();
        let drift = attribute(&mut rules, &compiled());
        (rules, drift.iter().map(Drift::to_string).collect())
    }

    #[test]
    fn rules_of_a_host_are_told_what_they_were_made_of() {
        let (rules, drift) = drift(HOST);
        assert_eq!(drift, [""; 0]);
        let chain = rules.tables[0].chain("I-vnet0-ipv4-ip").unwrap();
        let numbers: Vec<_> = chain
            .rules
            .iter()
            .map(|rule| of_filter(rule).unwrap().number)
            .collect();
        assert_eq!(numbers, [0, 1]);
    }

    #[test]
    fn what_somebody_changed_is_said() {
        let (_, found) =
            drift(&HOST.replace("-A I-vnet0-ipv4-ip -j DROP", "-A I-vnet0-ipv4-ip -j ACCEPT"));
        assert_eq!(
            found,
            [
                "the host lacks a rule of the filter: ebtables nat, chain I-vnet0-ipv4-ip: -j DROP \
                 (filter pin)",
                "somebody else's rule is in the filter's chain: ebtables nat, chain \
                 I-vnet0-ipv4-ip, rule 2: -j ACCEPT",
            ]
        );
        let (_, found) = drift(&HOST.replace("-A PREROUTING -i vnet0 -j libvirt-I-vnet0\n", ""));
        assert_eq!(
            found,
            [
                "the host lacks a rule of the filter: ebtables nat, chain PREROUTING: -i vnet0 -j \
              libvirt-I-vnet0"
            ]
        );
        let (_, found) = drift("*nat\n:PREROUTING ACCEPT\n");
        assert!(found[0].starts_with("the host has none of the filter's rules in ebtables nat"));
        assert_eq!(found.len(), 1);
    }
}

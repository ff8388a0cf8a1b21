//! The way into libvirt's chains that a listing of them leaves out.

use crate::diagnostic::{Diagnostic, Place};
use crate::ebtables;
use crate::model::{Action, End, Engine, Origin, Ruleset, Table};

/// Adds the rules by which libvirt enters a port's chains, `PREROUTING -i PORT -j libvirt-I-PORT` and
/// `POSTROUTING -o PORT -j libvirt-O-PORT`, where nothing else enters them: people paste the chains
/// alone. Says what was added.
pub fn complete(rules: &mut Ruleset, port: &str) -> Result<Vec<String>, Diagnostic> {
    let mut added = Vec::new();
    for table in &mut rules.tables {
        if table.engine != Engine::Ebtables || table.name != "nat" {
            continue;
        }
        for (hook, option, letter) in [("PREROUTING", "-i", "I"), ("POSTROUTING", "-o", "O")] {
            let chain = format!("libvirt-{letter}-{port}");
            if table.chain(&chain).is_none() || is_entered(table, &chain) {
                continue;
            }
            let text = format!("{option} {port} -j {chain}");
            let mut rule = ebtables::read_rule("libvirt", &text)?;
            rule.origin = Origin::Frame;
            if table.chain(hook).is_none() {
                ebtables::new_chain(table, hook, End::Accept, &Place::default())?;
            }
            if let Some(hook) = table.chain_mut(hook) {
                hook.rules.push(rule);
                added.push(format!("{hook} {text}", hook = hook.name));
            }
        }
    }
    Ok(added)
}

fn is_entered(table: &Table, name: &str) -> bool {
    table.chains.iter().flat_map(|chain| &chain.rules).any(
        |rule| matches!(&rule.action, Action::Jump(chain) | Action::Goto(chain) if chain == name),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chains_that_nothing_enters_are_hooked_up() {
        let text = "Bridge chain: libvirt-I-tap1, entries: 1, policy: ACCEPT\n-j DROP\n\
                    Bridge chain: libvirt-O-tap1, entries: 0, policy: ACCEPT\n";
        let mut rules = ebtables::read("f", text).unwrap();
        assert!(complete(&mut rules, "tap2").unwrap().is_empty());
        assert_eq!(
            complete(&mut rules, "tap1").unwrap(),
            [
                "PREROUTING -i tap1 -j libvirt-I-tap1",
                "POSTROUTING -o tap1 -j libvirt-O-tap1"
            ]
        );
        let chain = rules.tables[0].chain("PREROUTING").unwrap();
        assert!(chain.base.is_some());
        // Now they are entered.
        assert!(complete(&mut rules, "tap1").unwrap().is_empty());
    }
}

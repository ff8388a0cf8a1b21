//! Packet-filter rules of a twin.

use serde_json::{Value, json};

use super::{Plan, Step};
use crate::snapshot::{RuleDumps, SavedRules, Snapshot};

/// Loads the rules of the node.
pub(super) fn plan(node: &Snapshot, plan: &mut Plan) {
    let rules = &node.rules;
    for (saved, program) in [
        (&rules.iptables, "iptables"),
        (&rules.ip6tables, "ip6tables"),
        (&rules.ebtables, "ebtables"),
    ] {
        for dump in saved.iter().filter(|dump| dump.says_anything()) {
            // The kernel has the older tables once for each family; who has both has them one by one.
            let kind = if dump.is_legacy() { "legacy" } else { "nft" };
            let restore = format!("{program}-{kind}-restore");
            plan.steps
                .push(Step::new(&[restore.as_str()], restorable(program, dump)));
        }
    }
    if let Some(ruleset) = native(rules) {
        let text = ruleset.to_string();
        plan.steps.push(Step::new(&["nft", "-j", "-f", "-"], text));
    }
}

/// What the program that restores reads: `ebtables-save -c` writes counters where its other half
/// takes none.
fn restorable(program: &str, dump: &SavedRules) -> String {
    if program != "ebtables" {
        return dump.text.clone();
    }
    let lines = dump.text.lines().map(|line| {
        let line = match line.strip_prefix('[') {
            Some(rest) => rest.split_once("] ").map_or(line, |(_, rule)| rule),
            None => line,
        };
        let Some((rule, counters)) = line.rsplit_once(" -c ") else {
            return line;
        };
        let numbers = counters.split_whitespace();
        let is_count = numbers.clone().all(|word| word.parse::<u64>().is_ok());
        if is_count && numbers.count() == 2 {
            rule
        } else {
            line
        }
    });
    lines.map(|line| format!("{line}\n")).collect()
}

/// The tables of nftables that no `...-save` has; nothing if there are none.
fn native(rules: &RuleDumps) -> Option<Value> {
    let listed = rules.nft.as_ref()?.get("nftables")?.as_array()?;
    let saved = |family: &str| match family {
        "ip" => &rules.iptables,
        "ip6" => &rules.ip6tables,
        "bridge" => &rules.ebtables,
        _ => const { &Vec::new() },
    };
    let is_saved = |object: &Value, name: &str| {
        let family = object
            .get("family")
            .and_then(Value::as_str)
            .unwrap_or_default();
        let table = object.get(name).and_then(Value::as_str).unwrap_or_default();
        let heading = format!("*{table}");
        let mut dumps = saved(family).iter().filter(|dump| !dump.is_legacy());
        dumps.any(|dump| dump.text.lines().any(|line| line == heading))
    };
    let mut commands = Vec::new();
    for entry in listed {
        let Some((kind, object)) = entry.as_object().and_then(|entry| entry.iter().next()) else {
            continue;
        };
        let name = if kind == "table" { "name" } else { "table" };
        if kind == "metainfo" || is_saved(object, name) {
            continue;
        }
        commands.push(json!({ "add": { kind.as_str(): object } }));
    }
    (!commands.is_empty()).then(|| json!({ "nftables": commands }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn saved(program: &str, text: &str) -> SavedRules {
        SavedRules {
            program: program.to_owned(),
            text: text.to_owned(),
        }
    }

    #[test]
    fn counters_of_ebtables_are_taken_out() {
        let dump = saved(
            "ebtables-nft-save",
            "*nat\n:PREROUTING ACCEPT\n-A PREROUTING -i vnet0 -j DROP -c 3 84\n[4:9] -A x -j y\n",
        );
        assert_eq!(
            restorable("ebtables", &dump),
            "*nat\n:PREROUTING ACCEPT\n-A PREROUTING -i vnet0 -j DROP\n-A x -j y\n"
        );
        let mark = saved("ebtables-nft-save", "-A x -p IPv4 -c y\n");
        assert_eq!(restorable("ebtables", &mark), "-A x -p IPv4 -c y\n");
    }

    #[test]
    fn tables_that_were_saved_are_not_loaded_twice() {
        let listed = json!({ "nftables": [
            { "metainfo": { "version": "1.0.6" } },
            { "table": { "family": "ip", "name": "filter", "handle": 1 } },
            { "chain": { "family": "ip", "table": "filter", "name": "INPUT", "handle": 1 } },
            { "table": { "family": "bridge", "name": "mine", "handle": 2 } },
            { "rule": { "family": "bridge", "table": "mine", "chain": "x", "expr": [] } },
        ]});
        let rules = RuleDumps {
            nft: Some(listed),
            iptables: vec![saved("iptables-nft-save", "*filter\nCOMMIT\n")],
            ..RuleDumps::default()
        };
        let native = native(&rules).expect("one table");
        let commands = native["nftables"].as_array().expect("commands");
        assert_eq!(commands.len(), 2);
        assert_eq!(commands[0]["add"]["table"]["name"], "mine");
        assert_eq!(commands[1]["add"]["rule"]["table"], "mine");
    }
}

//! Reader of `ebtables-save` and of `ebtables -L`, as printed or as people paste it.

use std::sync::Arc;

use crate::append;
use crate::diagnostic::{Diagnostic, Place, within_limit};
use crate::model::{Base, Chain, End, Engine, Family, Hook, Rule, Ruleset, Table};
use crate::words::{self, Cursor, Word, parsed};

mod list;
mod options;

pub use list::read_list;
pub(crate) use options::is_target_option;

/// Reads any form: what has `Bridge table:` or `Bridge chain:` is a listing, what has lines that begin
/// with `ebtables` are commands.
pub fn read(file: &str, text: &str) -> Result<Ruleset, Diagnostic> {
    let listing = text
        .lines()
        .any(|line| line.contains("Bridge chain:") || line.contains("Bridge table:"));
    let commands = text.lines().any(|line| line.starts_with("ebtables "));
    if listing {
        read_list(file, text)
    } else if commands {
        read_commands(file, text)
    } else {
        read_save(file, text)
    }
}

/// Reads commands, as `ebtables -L --Lx` of the legacy tool prints them: `-N`, `-P` and `-A`.
pub fn read_commands(file: &str, text: &str) -> Result<Ruleset, Diagnostic> {
    within_limit(file, text)?;
    let file: Arc<str> = file.into();
    let mut ruleset = Ruleset::default();
    for (at, line) in text.lines().enumerate() {
        let all = words::split(&file, at as u32 + 1, line)?;
        let Some(first) = all.first().filter(|word| !word.text.starts_with('#')) else {
            continue;
        };
        let place = first.place.clone();
        if !first.text.ends_with("ebtables") {
            return Err(place.error(format!("`{}` is not `ebtables`", first.text)));
        }
        let mut rest: Vec<Word> = all[1..].to_vec();
        rest.retain(|word| !word.is("--concurrent"));
        let mut name = "filter".to_owned();
        if rest.first().is_some_and(|word| word.is("-t")) && rest.len() > 1 {
            name = rest.remove(1).text;
            rest.remove(0);
        }
        let at = match ruleset.tables.iter().position(|table| table.name == name) {
            Some(at) => at,
            None => {
                let mut table = new_table(&name, &place)?;
                for hook in [
                    "BROUTING",
                    "PREROUTING",
                    "INPUT",
                    "FORWARD",
                    "OUTPUT",
                    "POSTROUTING",
                ] {
                    if base(&name, hook).is_some() {
                        new_chain(&mut table, hook, End::Accept, &place)?;
                    }
                }
                ruleset.tables.push(table);
                ruleset.tables.len() - 1
            }
        };
        let table = &mut ruleset.tables[at];
        match rest.as_slice() {
            [command, chain, options @ ..] if command.is("-N") => {
                let policy = match options {
                    [option, policy] if option.is("-P") => parsed(
                        policy,
                        "a policy; ACCEPT, DROP and RETURN are",
                        end(&policy.text),
                    )?,
                    _ => End::Accept,
                };
                new_chain(table, &chain.text, policy, &chain.place)?;
            }
            [command, name, policy] if command.is("-P") => {
                let end = parsed(
                    policy,
                    "a policy; ACCEPT, DROP and RETURN are",
                    end(&policy.text),
                )?;
                let Some(chain) = table.chain_mut(&name.text) else {
                    return Err(name
                        .place
                        .error(format!("no `-N {}` makes this chain", name.text)));
                };
                chain.end = end;
            }
            [command, ..] if command.is("-A") => append(table, &rest, None, &place)?,
            _ => {
                return Err(
                    place.error("expected `-N CHAIN`, `-P CHAIN POLICY` or `-A CHAIN` and a rule")
                );
            }
        }
    }
    Ok(ruleset)
}

/// Reads what `ebtables-save` prints, with or without counters.
pub fn read_save(file: &str, text: &str) -> Result<Ruleset, Diagnostic> {
    within_limit(file, text)?;
    let file: Arc<str> = file.into();
    let mut ruleset = Ruleset::default();
    let mut table: Option<Table> = None;
    for (at, line) in text.lines().enumerate() {
        let number = at as u32 + 1;
        let trimmed = line.trim();
        if trimmed.is_empty() || trimmed.starts_with('#') || trimmed == "COMMIT" {
            continue;
        }
        let place = Place::new(Arc::clone(&file), number, 1);
        if let Some(name) = trimmed.strip_prefix('*') {
            ruleset.tables.extend(table.take());
            table = Some(new_table(name.trim(), &place)?);
            continue;
        }
        let Some(table) = table.as_mut() else {
            return Err(place.error("this comes before any table; a table begins with `*nat`"));
        };
        if trimmed.starts_with(':') {
            let words = words::split(&file, number, line)?;
            declare(table, &words)?;
            continue;
        }
        let mut words = words::split(&file, number, line)?;
        // Counters may stand before the rule: [packets:bytes].
        let mut packets = None;
        if let Some(count) = words
            .first()
            .and_then(|word| word.text.strip_prefix('[')?.strip_suffix(']'))
        {
            packets = count.split(':').next().and_then(|text| text.parse().ok());
            words.remove(0);
        }
        append(table, &words, packets, &place)?;
    }
    ruleset.tables.extend(table);
    if ruleset.tables.is_empty() {
        return Err(Place::new(file, 1, 1).error("there is no table; one begins with `*nat`"));
    }
    Ok(ruleset)
}

/// Reads one rule: what stands behind `-A CHAIN`.
pub fn read_rule(file: &str, text: &str) -> Result<Rule, Diagnostic> {
    let words = words::split(&file.into(), 1, text)?;
    options::rule(&words)
}

/// `:NAME POLICY`
fn declare(table: &mut Table, words: &[Word]) -> Result<(), Diagnostic> {
    let [first, policy, ..] = words else {
        return Err(words[0]
            .place
            .error("a chain needs a policy: `:NAME ACCEPT`"));
    };
    let end = parsed(
        policy,
        "a policy; ACCEPT, DROP and RETURN are",
        end(&policy.text),
    )?;
    new_chain(table, &first.text[1..], end, &first.place)
}

/// `-A CHAIN rule...`
fn append(
    table: &mut Table,
    words: &[Word],
    packets: Option<u64>,
    place: &Place,
) -> Result<(), Diagnostic> {
    append::rule(table, words, packets, place, options::rule)
}

fn end(policy: &str) -> Option<End> {
    Some(match policy {
        "ACCEPT" => End::Accept,
        "DROP" => End::Drop,
        "RETURN" | "CONTINUE" => End::Return,
        _ => return None,
    })
}

pub(crate) fn new_table(name: &str, place: &Place) -> Result<Table, Diagnostic> {
    if !matches!(name, "filter" | "nat" | "broute") {
        return Err(place.error(format!(
            "ebtables has no table `{name}`; there are filter, nat and broute"
        )));
    }
    Ok(Table::new(Engine::Ebtables, Family::Bridge, name))
}

pub(crate) fn new_chain(
    table: &mut Table,
    name: &str,
    end: End,
    place: &Place,
) -> Result<(), Diagnostic> {
    let mut chain = Chain::new(name, end);
    chain.base = base(&table.name, name);
    if chain.base.is_some() && end == End::Return {
        return Err(place.error(format!(
            "the built-in chain {name} can't have policy RETURN"
        )));
    }
    if table.add(chain) {
        Ok(())
    } else {
        Err(place.error(format!("chain {name} is there twice")))
    }
}

/// Hooks and priorities of `include/uapi/linux/netfilter_bridge.h`.
pub(crate) fn base(table: &str, chain: &str) -> Option<Base> {
    let (hook, priority) = match (table, chain) {
        ("broute", "BROUTING") => (Hook::Brouting, i32::MIN),
        ("nat", "PREROUTING") => (Hook::Prerouting, -300),
        ("nat", "OUTPUT") => (Hook::Output, 100),
        ("nat", "POSTROUTING") => (Hook::Postrouting, 300),
        ("filter", "INPUT") => (Hook::Input, -200),
        ("filter", "FORWARD") => (Hook::Forward, -200),
        ("filter", "OUTPUT") => (Hook::Output, 200),
        _ => return None,
    };
    Some(Base {
        hook,
        priority,
        devices: Vec::new(),
        translation: false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::field::Field;
    use crate::model::Action;
    use crate::test::Test;

    const SAVED: &str = "\
# Generated
*nat
:PREROUTING ACCEPT
:POSTROUTING ACCEPT
:I-vnet0-mac ACCEPT
:x DROP
-A PREROUTING -i vnet0 -j I-vnet0-mac
[3:99] -A I-vnet0-mac -s 2:0:73:b6:53:c8 -j RETURN
-A I-vnet0-mac -p 0x835 ! -d ff:ff:ff:ff:ff:ff -j DROP
";

    #[test]
    fn a_saved_table_is_read() {
        let ruleset = read("f", SAVED).unwrap();
        let table = &ruleset.tables[0];
        assert_eq!(table.title(), "ebtables nat");
        assert_eq!(
            table
                .chain("PREROUTING")
                .unwrap()
                .base
                .as_ref()
                .unwrap()
                .priority,
            -300
        );
        assert_eq!(table.chain("x").unwrap().end, End::Drop);
        let chain = table.chain("I-vnet0-mac").unwrap();
        assert_eq!(chain.rules[0].packets, Some(3));
        assert_eq!(chain.rules[0].action, Action::Return);
        assert_eq!(chain.rules[0].text, "-s 2:0:73:b6:53:c8 -j RETURN");
        assert_eq!(
            chain.rules[0].tests,
            [Test::is(Field::EtherSource, 0x0200_73b6_53c8, false)]
        );
        assert_eq!(
            chain.rules[1].tests,
            [
                Test::is(Field::EtherType, 0x0835, false),
                Test::is(Field::EtherDestination, 0xffff_ffff_ffff, true),
            ]
        );
    }

    #[test]
    fn what_is_wrong_is_said_with_its_place() {
        for (text, error) in [
            ("", "f:1:1: there is no table; one begins with `*nat`"),
            (
                ":x ACCEPT\n",
                "f:1:1: this comes before any table; a table begins with `*nat`",
            ),
            (
                "*nut\n",
                "f:1:1: ebtables has no table `nut`; there are filter, nat and broute",
            ),
            (
                "*nat\n:x\n",
                "f:2:1: a chain needs a policy: `:NAME ACCEPT`",
            ),
            (
                "*nat\n:x MAYBE\n",
                "f:2:4: `MAYBE` is not a policy; ACCEPT, DROP and RETURN are",
            ),
            ("*nat\n:x DROP\n:x DROP\n", "f:3:1: chain x is there twice"),
            (
                "*nat\n-A x -j DROP\n",
                "f:2:4: no line `:x ...` declares this chain",
            ),
            ("*nat\n-X x\n", "f:2:1: `-X` is not `-A`, nor `*` or `:`"),
            ("*nat\n:x DROP\n-A x -s\n", "f:3:6: `-s` needs a value"),
            (
                "*nat\n:x DROP\n-A x -s 1:2:3 -j DROP\n",
                "f:3:9: `1:2:3` is not a link-layer address",
            ),
            (
                "*nat\n:x DROP\n-A x -p IPv4 --ip-src 300.1.1.1 -j DROP\n",
                "f:3:23: `300.1.1.1` is not an IPv4 address or network",
            ),
            (
                "*nat\n:x DROP\n-A x --ip-dport 70000 -j DROP\n",
                "f:3:17: `70000` is not a port or a range of ports",
            ),
        ] {
            assert_eq!(
                read_save("f", text).unwrap_err().to_string(),
                error,
                "{text:?}"
            );
        }
    }

    #[test]
    fn what_is_not_understood_stays_as_an_opaque_test() {
        let rule = read_rule("f", "--limit 3/hour --limit-burst 5 --weird a b -j DROP").unwrap();
        assert_eq!(
            rule.tests,
            [
                Test::Opaque("--limit 3/hour".into()),
                Test::Opaque("--limit-burst 5".into()),
                Test::Opaque("--weird a b".into()),
            ]
        );
        let rule = read_rule("f", "-j somewhere --odd 3").unwrap();
        assert_eq!(rule.action, Action::Opaque("somewhere --odd 3".into()));
    }

    #[test]
    fn commands_are_read() {
        let text = "ebtables -t nat -N x -P RETURN\nebtables -t nat -P PREROUTING DROP\n\
                    ebtables -t nat -A PREROUTING -i vnet0 -j x\n# no\n\
                    ebtables --concurrent -t nat -A x -p ARP -j DROP\n";
        let ruleset = read("f", text).unwrap();
        let table = &ruleset.tables[0];
        assert_eq!(table.chain("x").unwrap().end, End::Return);
        assert_eq!(table.chain("x").unwrap().rules[0].action, Action::Drop);
        assert_eq!(table.chain("PREROUTING").unwrap().end, End::Drop);
        for (text, error) in [
            (
                "ebtables -t nat -A x -j DROP",
                "f:1:20: no line `:x ...` declares this chain",
            ),
            (
                "ebtables -t nat -P x DROP",
                "f:1:20: no `-N x` makes this chain",
            ),
            ("ebtables -t nut -N x", "f:1:1: ebtables has no table `nut`"),
            ("ebtables -X", "f:1:1: expected `-N CHAIN`"),
        ] {
            let found = read("f", text).unwrap_err().to_string();
            assert!(found.starts_with(error), "{found}");
        }
    }

    #[test]
    fn watchers_and_comments_decide_nothing() {
        let rule = read_rule(
            "f",
            "-p ARP --log-level notice --log-prefix \"arp -j x\" --log-arp -j CONTINUE",
        )
        .unwrap();
        assert_eq!(rule.tests.len(), 1);
        assert_eq!(rule.action, Action::Continue);
    }
}

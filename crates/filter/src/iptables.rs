//! Reader of `iptables-save` and `ip6tables-save`.

use std::sync::Arc;

use crate::append;
use crate::diagnostic::{Diagnostic, Place, within_limit};
use crate::model::{Action, Base, Chain, End, Engine, Family, Hook, Rule, Ruleset, Table};
use crate::words::{self, Cursor, Word, parsed};

mod options;

/// Which of the two programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// `iptables`.
    V4,
    /// `ip6tables`.
    V6,
}

/// Reads what `iptables-save` or `ip6tables-save` prints, with or without counters.
pub fn read_save(version: Version, file: &str, text: &str) -> Result<Ruleset, Diagnostic> {
    within_limit(file, text)?;
    let file: Arc<str> = file.into();
    let (engine, family) = match version {
        Version::V4 => (Engine::Iptables, Family::Ip),
        Version::V6 => (Engine::Ip6tables, Family::Ip6),
    };
    let mut ruleset = Ruleset::default();
    let mut table: Option<Table> = None;
    for (at, line) in text.lines().enumerate() {
        let number = at as u32 + 1;
        let trimmed = line.trim();
        if trimmed.is_empty() || trimmed.starts_with('#') {
            continue;
        }
        let place = Place::new(Arc::clone(&file), number, 1);
        if trimmed == "COMMIT" {
            ruleset.tables.extend(table.take());
            continue;
        }
        if let Some(name) = trimmed.strip_prefix('*') {
            ruleset.tables.extend(table.take());
            if !matches!(name, "filter" | "nat" | "mangle" | "raw" | "security") {
                return Err(place.error(format!(
                    "there is no table `{name}`; there are filter, nat, mangle, raw and security"
                )));
            }
            table = Some(Table::new(engine, family, name));
            continue;
        }
        let Some(table) = table.as_mut() else {
            return Err(place.error("this comes before any table; a table begins with `*filter`"));
        };
        let words = words::split(&file, number, line)?;
        if trimmed.starts_with(':') {
            declare(table, &words)?;
        } else {
            append(version, table, words, &place)?;
        }
    }
    ruleset.tables.extend(table);
    for table in &mut ruleset.tables {
        resolve(table);
    }
    Ok(ruleset)
}

/// Reads one rule: what stands behind `-A CHAIN`. A target that is no verdict is taken for a chain.
pub fn read_rule(version: Version, file: &str, text: &str) -> Result<Rule, Diagnostic> {
    let words = words::split(&file.into(), 1, text)?;
    options::rule(version, &words)
}

/// `:NAME POLICY [packets:bytes]`
fn declare(table: &mut Table, words: &[Word]) -> Result<(), Diagnostic> {
    let [first, policy, ..] = words else {
        return Err(words[0]
            .place
            .error("a chain needs a policy: `:NAME ACCEPT`, or `:NAME -`"));
    };
    let name = &first.text[1..];
    let end = match policy.text.as_str() {
        "ACCEPT" => Some(End::Accept),
        "DROP" => Some(End::Drop),
        "-" => Some(End::Return),
        _ => None,
    };
    let mut chain = Chain::new(
        name,
        parsed(policy, "a policy; ACCEPT, DROP and - are", end)?,
    );
    chain.base = base(&table.name, name);
    if table.add(chain) {
        Ok(())
    } else {
        Err(first.place.error(format!("chain {name} is there twice")))
    }
}

fn append(
    version: Version,
    table: &mut Table,
    mut words: Vec<Word>,
    place: &Place,
) -> Result<(), Diagnostic> {
    let mut packets = None;
    if let Some(count) = words
        .first()
        .and_then(|word| word.text.strip_prefix('[')?.strip_suffix(']'))
    {
        packets = count.split(':').next().and_then(|text| text.parse().ok());
        words.remove(0);
    }
    append::rule(table, &words, packets, place, |rest| {
        options::rule(version, rest)
    })
}

/// Targets that are not chains of the table are extensions that nobody knows here.
fn resolve(table: &mut Table) {
    let names: std::collections::HashSet<String> = table
        .chains
        .iter()
        .map(|chain| chain.name.clone())
        .collect();
    for rule in table.chains.iter_mut().flat_map(|chain| &mut chain.rules) {
        if let Action::Jump(name) | Action::Goto(name) = &rule.action
            && !names.contains(name)
        {
            rule.action = Action::Opaque(name.clone());
        }
    }
}

/// Hooks and priorities of `include/uapi/linux/netfilter_ipv4.h`.
pub(crate) fn base(table: &str, chain: &str) -> Option<Base> {
    let hook = match chain {
        "PREROUTING" => Hook::Prerouting,
        "INPUT" => Hook::Input,
        "FORWARD" => Hook::Forward,
        "OUTPUT" => Hook::Output,
        "POSTROUTING" => Hook::Postrouting,
        _ => return None,
    };
    let priority = match table {
        "raw" => -300,
        "mangle" => -150,
        "nat" if matches!(hook, Hook::Prerouting | Hook::Output) => -100,
        "nat" => 100,
        "security" => 50,
        _ => 0,
    };
    Some(Base {
        hook,
        priority,
        devices: Vec::new(),
        translation: table == "nat",
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connection::State;
    use crate::field::Field;
    use crate::model::Effect;
    use crate::test::{Interface, Test};

    fn rule(text: &str) -> Rule {
        read_rule(Version::V4, "f", text).unwrap()
    }

    #[test]
    fn a_saved_table_is_read() {
        let text = "# x\n*filter\n:FORWARD DROP [1:2]\n:mine - [0:0]\n\
                    [5:60] -A FORWARD -m physdev --physdev-in vnet0 -g mine\n\
                    -A mine -s 10.0.0.0/8 ! -d 10.1.0.0/16 -p tcp -m tcp --dport 80:81 -j ACCEPT\n\
                    -A mine -j WEIRD --some 3\nCOMMIT\n";
        let ruleset = read_save(Version::V4, "f", text).unwrap();
        let table = &ruleset.tables[0];
        let forward = table.chain("FORWARD").unwrap();
        assert_eq!(forward.end, End::Drop);
        assert_eq!(forward.rules[0].action, Action::Goto("mine".into()));
        assert_eq!(forward.rules[0].packets, Some(5));
        let mine = table.chain("mine").unwrap();
        assert_eq!(mine.end, End::Return);
        assert_eq!(
            mine.rules[0].tests,
            [
                Test::within(Field::Ip4Source, (0x0a00_0000, 0x0aff_ffff), false),
                Test::within(Field::Ip4Destination, (0x0a01_0000, 0x0a01_ffff), true),
                Test::is(Field::Transport, 6, false),
                Test::within(Field::DestinationPort(None), (80, 81), false),
            ]
        );
        assert_eq!(
            mine.rules[1].action,
            Action::Opaque("WEIRD --some 3".into())
        );
    }

    #[test]
    fn matches_of_the_field_are_understood() {
        let state = |list: &[State]| Test::Compare {
            key: Field::ConnectionState.into(),
            negated: false,
            ranges: list.iter().map(|&s| (s as u128, s as u128)).collect(),
        };
        assert_eq!(
            rule("-m conntrack --ctstate NEW,ESTABLISHED -m conntrack --ctdir REPLY -j RETURN")
                .tests,
            [
                state(&[State::Established, State::New]),
                Test::is(Field::ConnectionDirection, 1, false)
            ]
        );
        assert_eq!(
            rule("-m state --state INVALID -j DROP").tests,
            [state(&[State::Invalid])]
        );
        assert_eq!(
            rule("-m physdev ! --physdev-out vnet0 --physdev-is-bridged").tests,
            [
                Test::Name {
                    interface: Interface::OutputPort,
                    negated: true,
                    names: vec!["vnet0".into()]
                },
                Test::Bridged(true)
            ]
        );
        assert_eq!(
            rule("-p tcp -m tcp --tcp-flags SYN,ACK SYN -m multiport --dports 80,443:445").tests
                [1..],
            [
                Test::Compare {
                    key: crate::test::Key {
                        field: Field::TcpFlags,
                        mask: Some(0x12)
                    },
                    negated: false,
                    ranges: vec![(2, 2)]
                },
                Test::Compare {
                    key: Field::DestinationPort(None).into(),
                    negated: false,
                    ranges: vec![(80, 80), (443, 445)]
                }
            ]
        );
        assert_eq!(
            rule("-j MARK --set-xmark 0x10000/0x10000").effects,
            [Effect::Mark {
                mask: 0x10000,
                value: 0x10000
            }]
        );
        let dnat = rule("-j DNAT --to-destination 10.0.0.1:80");
        assert_eq!(dnat.action, Action::Accept);
        assert!(matches!(dnat.effects[0], Effect::Rewrite(_)));
    }

    #[test]
    fn what_is_not_understood_is_opaque() {
        assert_eq!(
            rule("-m hashlimit --hashlimit-upto 3/sec --hashlimit-name x -p udp -j ACCEPT").tests,
            [
                Test::Opaque("--hashlimit-upto 3/sec".into()),
                Test::Opaque("--hashlimit-name x".into()),
                Test::is(Field::Transport, 17, false),
            ]
        );
        assert_eq!(
            rule("-m set ! --match-set good src -j DROP").tests,
            [Test::Opaque("! --match-set good src".into())]
        );
        // A match without options of its own tests something, too.
        assert_eq!(
            rule("-m socket -j DROP").tests,
            [Test::Opaque("-m socket".into())]
        );
        assert_eq!(rule("-m comment --comment \"-m x ! y\" -j DROP").tests, []);
    }

    #[test]
    fn what_is_wrong_is_said_with_its_place() {
        for (text, error) in [
            (
                "-A x -j DROP\n",
                "f:1:1: this comes before any table; a table begins with `*filter`",
            ),
            (
                "*nit\n",
                "f:1:1: there is no table `nit`; there are filter, nat, mangle, raw and security",
            ),
            (
                "*nat\n:x MAYBE\n",
                "f:2:4: `MAYBE` is not a policy; ACCEPT, DROP and - are",
            ),
            (
                "*nat\n-A x -j DROP\n",
                "f:2:4: no line `:x ...` declares this chain",
            ),
            (
                "*nat\n:x -\n-A x -s 1.2.3 -j DROP\n",
                "f:3:9: `1.2.3` is not an IPv4 address or network",
            ),
            (
                "*nat\n:x -\n-A x --dport http:99999 -j DROP\n",
                "f:3:14: `http:99999` is not a port or a range of ports",
            ),
            (
                "*nat\n:x -\n-A x -m state --state NEW,OLD -j DROP\n",
                "f:3:23: `NEW,OLD` is not a list of connection states",
            ),
            (
                "*nat\n:x -\n-A x foo -j DROP\n",
                "f:3:6: `foo` is not an option, and no option asks for it",
            ),
            ("*nat\n:x -\n-A x -j\n", "f:3:6: `-j` needs a value"),
        ] {
            let found = read_save(Version::V4, "f", text).unwrap_err();
            assert_eq!(found.to_string(), error, "{text:?}");
        }
    }
}

//! Walks a frame through the rules and says what becomes of it, and which rule decides.

use std::fmt;

use crate::connection::Standing;
use crate::frame::{Frame, FrameError, Sight};
use crate::model::{Action, Chain, Effect, End, Engine, Hook, Origin, Rule, Ruleset, Table};
use crate::route::{self, Direction, Host, Port};
use crate::test::{Situation, Truth};

/// How many rules are tried for one frame.
const BUDGET: usize = 2_000_000;
/// How deep chains may call each other.
const DEPTH: usize = 64;
/// How many rules that may or may not apply are followed both ways, one in another.
const FORKS: usize = 6;

/// What becomes of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// It passes.
    Pass,
    /// It is lost.
    Drop,
    /// It depends on something that is not understood or not known here.
    Unknown,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Pass => "pass",
            Self::Drop => "drop",
            Self::Unknown => "unknown here",
        })
    }
}

/// A rule that applied, or the end of a chain that was reached.
#[derive(Debug, Clone, PartialEq)]
pub struct Step {
    /// The table, as people name it.
    pub table: String,
    /// Who installed the table.
    pub engine: Engine,
    /// The chain.
    pub chain: String,
    /// The rule in its dialect, or what the chain's end does in parentheses.
    pub text: String,
    /// What happened.
    pub outcome: Outcome,
    /// Where the rule comes from; nothing for the end of a chain.
    pub origin: Option<Origin>,
    /// The rule's number in its chain, from 1; nothing for the end of a chain.
    pub number: Option<usize>,
}

/// What happened at a step.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// The rule applied.
    Applied(Action),
    /// The rule may apply or not.
    Doubtful(Action),
    /// A chain ended that only rules enter.
    ChainEnded(End),
    /// A base chain ended: its policy.
    Policy(End),
    /// Rules go on and on.
    GaveUp(&'static str),
}

/// What becomes of a frame, and why.
#[derive(Debug, Clone, PartialEq)]
pub struct Judgement {
    /// What becomes of it.
    pub verdict: Verdict,
    /// All rules that applied, in order.
    pub path: Vec<Step>,
    /// The step that decides, in `path`: what drops the frame, what can't be told, or what accepts it
    /// last. Nothing if only policies of base chains, or no chain at all, let it pass.
    pub deciding: Option<usize>,
}

impl Judgement {
    /// The step that decides.
    pub fn deciding(&self) -> Option<&Step> {
        self.path.get(self.deciding?)
    }
}

/// Judges a frame at a port.
pub fn judge(
    frame: &[u8],
    port: Port<'_>,
    direction: Direction,
    rules: &Ruleset,
    host: &Host<'_>,
) -> Result<Judgement, FrameError> {
    let frame = Frame::parse(frame)?;
    let standing = host
        .connections
        .and_then(|connections| connections.standing(&frame));
    let mut walker = Walker {
        path: Vec::new(),
        budget: BUDGET,
    };
    let (mut deciding, mut unknown) = (None, None);
    let (mut mark, mut rewritten) = (Some(0), false);
    for stage in route::stages(rules, &frame, port, direction, host) {
        let table = &rules.tables[stage.table];
        let chain = &table.chains[stage.chain];
        let base = chain.base.as_ref();
        let answered = |standing: Standing| standing.state != crate::connection::State::New;
        if base.is_some_and(|base| base.translation) && standing.is_some_and(answered) {
            continue;
        }
        let situation = Situation {
            frame: &frame,
            input_port: stage.input_port,
            output_port: stage.output_port,
            input_device: stage.input_device,
            output_device: stage.output_device,
            mark,
            standing: standing.filter(|_| !stage.untracked),
            connections: host.connections,
            rewritten,
            sight: Sight {
                behind_tag: false,
                any_fragment: table.engine == Engine::Nftables,
            },
        };
        let mut walk = Walk {
            table,
            stack: vec![(chain, 0)],
            situation,
            forks: 0,
        };
        let mut fate = walker.run(&mut walk);
        (mark, rewritten) = (walk.situation.mark, walk.situation.rewritten);
        if base.is_some_and(|base| base.hook == Hook::Brouting)
            && let Fate::Drop(step) = fate
        {
            // Not lost, but routed instead of bridged: another way than the one asked about.
            fate = Fate::Unknown(step);
        }
        match fate {
            Fate::Accept(step) => deciding = step.or(deciding),
            Fate::Unknown(step) => unknown = unknown.or(Some(step)),
            Fate::Drop(step) => {
                return Ok(Judgement {
                    verdict: Verdict::Drop,
                    path: walker.path,
                    deciding: Some(step),
                });
            }
        }
    }
    let verdict = if unknown.is_some() {
        Verdict::Unknown
    } else {
        Verdict::Pass
    };
    Ok(Judgement {
        verdict,
        path: walker.path,
        deciding: unknown.or(deciding),
    })
}

/// How a base chain ends; steps are places in the path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// Without a step when the policy accepts.
    Accept(Option<usize>),
    Drop(usize),
    Unknown(usize),
}

#[derive(Clone)]
struct Walk<'a> {
    table: &'a Table,
    /// Chains and the next rule in each; the last one is walked.
    stack: Vec<(&'a Chain, usize)>,
    situation: Situation<'a>,
    /// How many doubtful rules were taken to apply.
    forks: usize,
}

struct Walker {
    path: Vec<Step>,
    budget: usize,
}

impl Walker {
    /// Walks a base chain to its end.
    fn run(&mut self, walk: &mut Walk<'_>) -> Fate {
        // What else may happen, and where the doubt began.
        let mut doubts: Vec<(Option<Fate>, usize)> = Vec::new();
        let fate = loop {
            let depth = walk.stack.len();
            let Some((chain, next)) = walk.stack.last_mut() else {
                break Fate::Accept(None);
            };
            let chain = *chain;
            let Some(rule) = chain.rules.get(*next) else {
                if let Some(fate) = self.end(walk, chain, depth, &mut doubts) {
                    break fate;
                }
                continue;
            };
            *next += 1;
            let number = *next;
            if self.budget == 0 {
                break Fate::Unknown(self.give_up(walk.table, chain, "too many rules to try"));
            }
            self.budget -= 1;
            let truth = walk.situation.all(&rule.tests, rule.behind_tag);
            if truth == Truth::No {
                continue;
            }
            let (action, certain) = self.action(walk, rule, truth);
            for effect in &rule.effects {
                affect(&mut walk.situation, effect, certain);
            }
            let outcome = if certain {
                Outcome::Applied(action.clone())
            } else {
                Outcome::Doubtful(action.clone())
            };
            let step = self.step(walk.table, chain, rule.text.clone(), outcome);
            self.path[step].origin = Some(rule.origin.clone());
            self.path[step].number = Some(number);
            if let Action::Opaque(_) = action {
                doubts.push((None, step));
                continue;
            }
            if certain {
                if let Some(fate) = self.apply(walk, &action, step) {
                    break fate;
                }
                continue;
            }
            // Whether a rule applies that goes on with the next one decides nothing here.
            if action != Action::Continue {
                let fate = self.suppose(walk, &action, step);
                doubts.push((fate, step));
            }
        };
        for (other, step) in doubts {
            let same = match other {
                Some(Fate::Accept(_)) => matches!(fate, Fate::Accept(_)),
                Some(Fate::Drop(_)) => matches!(fate, Fate::Drop(_)),
                _ => false,
            };
            if !same {
                return Fate::Unknown(step);
            }
        }
        fate
    }

    /// What the rule does, and whether it surely applies.
    fn action(&self, walk: &Walk<'_>, rule: &Rule, truth: Truth) -> (Action, bool) {
        let Action::Map(entries) = &rule.action else {
            return (rule.action.clone(), truth == Truth::Yes);
        };
        for entry in entries {
            match walk.situation.all(&entry.tests, rule.behind_tag) {
                Truth::No => {}
                found => {
                    let certain = truth == Truth::Yes && found == Truth::Yes;
                    return (entry.action.clone(), certain);
                }
            }
        }
        (Action::Continue, true)
    }

    /// The end of a chain: what becomes of the frame, if that decides.
    fn end(
        &mut self,
        walk: &mut Walk<'_>,
        chain: &Chain,
        depth: usize,
        doubts: &mut Vec<(Option<Fate>, usize)>,
    ) -> Option<Fate> {
        let is_base = depth == 1;
        walk.stack.pop();
        if is_base && chain.base.is_some() {
            let text = match chain.end {
                End::Drop => "(end of chain: policy DROP)",
                _ => "(end of chain: policy ACCEPT)",
            };
            if chain.end == End::Drop {
                let step = self.step(walk.table, chain, text.into(), Outcome::Policy(chain.end));
                return Some(Fate::Drop(step));
            }
            return Some(Fate::Accept(None));
        }
        let outcome = Outcome::ChainEnded(chain.end);
        match chain.end {
            End::Return => None,
            End::Accept => {
                let text = "(end of chain: policy ACCEPT)".into();
                let step = self.step(walk.table, chain, text, outcome);
                Some(Fate::Accept(Some(step)))
            }
            End::Drop => {
                let text = "(end of chain: policy DROP)".into();
                let step = self.step(walk.table, chain, text, outcome);
                Some(Fate::Drop(step))
            }
            End::AcceptOrReturn => {
                let text = "(end of chain: policy ACCEPT or RETURN)".into();
                let step = self.step(walk.table, chain, text, outcome);
                doubts.push((Some(Fate::Accept(Some(step))), step));
                None
            }
        }
    }

    /// Applies an action; the fate, if that ends the base chain.
    fn apply(&mut self, walk: &mut Walk<'_>, action: &Action, step: usize) -> Option<Fate> {
        match action {
            Action::Accept => return Some(Fate::Accept(Some(step))),
            Action::Drop | Action::Reject => return Some(Fate::Drop(step)),
            Action::Return => {
                if walk.stack.len() == 1 {
                    // From a base chain: its policy.
                    if let Some((chain, next)) = walk.stack.last_mut() {
                        *next = chain.rules.len();
                    }
                } else {
                    walk.stack.pop();
                }
            }
            Action::Jump(name) | Action::Goto(name) => {
                let Some(chain) = walk.table.chain(name) else {
                    return Some(Fate::Unknown(step));
                };
                if walk.stack.len() >= DEPTH {
                    let why = "chains call each other without end";
                    return Some(Fate::Unknown(self.give_up(walk.table, chain, why)));
                }
                if matches!(action, Action::Goto(_)) {
                    if walk.stack.len() == 1 {
                        if let Some((chain, next)) = walk.stack.last_mut() {
                            *next = chain.rules.len();
                        }
                    } else {
                        walk.stack.pop();
                    }
                }
                walk.stack.push((chain, 0));
            }
            Action::Continue | Action::Map(_) => {}
            Action::Opaque(_) => return Some(Fate::Unknown(step)),
        }
        None
    }

    /// What would become of the frame if a doubtful rule applied; nothing if that can't be told.
    fn suppose(&mut self, walk: &Walk<'_>, action: &Action, step: usize) -> Option<Fate> {
        if walk.forks >= FORKS {
            return None;
        }
        let mut other = walk.clone();
        other.forks += 1;
        let length = self.path.len();
        let fate = match self.apply(&mut other, action, step) {
            Some(fate) => fate,
            None => self.run(&mut other),
        };
        self.path.truncate(length);
        match fate {
            Fate::Unknown(_) => None,
            fate => Some(fate),
        }
    }

    fn step(&mut self, table: &Table, chain: &Chain, text: String, outcome: Outcome) -> usize {
        self.path.push(Step {
            table: table.title(),
            engine: table.engine,
            chain: chain.name.clone(),
            text,
            outcome,
            origin: None,
            number: None,
        });
        self.path.len() - 1
    }

    fn give_up(&mut self, table: &Table, chain: &Chain, why: &'static str) -> usize {
        self.step(table, chain, format!("({why})"), Outcome::GaveUp(why))
    }
}

fn affect(situation: &mut Situation<'_>, effect: &Effect, certain: bool) {
    match effect {
        Effect::Mark { mask, value } if certain => {
            situation.mark = situation.mark.map(|mark| mark & !mask ^ value);
        }
        Effect::Mark { .. } => situation.mark = None,
        Effect::Rewrite(_) => situation.rewritten = true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connection::Connections;
    use crate::ebtables;
    use crate::iptables::{self, Version};

    const PORT: Port<'static> = Port {
        name: "vnet0",
        bridge: Some("br0"),
        peer: None,
    };

    /// TCP from 192.0.2.1:1024 to 192.0.2.2:80, SYN.
    fn frame() -> Vec<u8> {
        let mut frame = vec![2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 8, 0];
        frame.extend([
            0x45, 0, 0, 40, 0, 0, 0, 0, 64, 6, 0, 0, 192, 0, 2, 1, 192, 0, 2, 2,
        ]);
        frame.extend([
            4, 0, 0, 80, 0, 0, 0, 0, 0, 0, 0, 0, 0x50, 2, 0, 0, 0, 0, 0, 0,
        ]);
        frame
    }

    fn filter(rules: &str) -> Ruleset {
        let text = format!(
            "*filter\n:FORWARD ACCEPT\n:a -\n:b -\n{}",
            rules
                .lines()
                .map(|line| format!("-A {line}\n"))
                .collect::<String>()
        );
        iptables::read_save(Version::V4, "f", &text).unwrap()
    }

    fn judged(rules: &Ruleset, connections: Option<&Connections>) -> Judgement {
        let host = Host {
            call_iptables: true,
            connections,
            ..Host::default()
        };
        judge(&frame(), PORT, Direction::Out, rules, &host).unwrap()
    }

    fn decided(rules: &str) -> (Verdict, String) {
        let judgement = judged(&filter(rules), None);
        let text = judgement
            .deciding()
            .map_or("-".to_owned(), |step| step.text.clone());
        (judgement.verdict, text)
    }

    #[test]
    fn chains_are_entered_left_and_passed_on() {
        for (rules, verdict, text) in [
            ("FORWARD -j DROP", Verdict::Drop, "-j DROP"),
            ("FORWARD -p udp -j DROP", Verdict::Pass, "-"),
            ("FORWARD -j a\na -j RETURN\na -j DROP", Verdict::Pass, "-"),
            (
                "FORWARD -j a\nFORWARD -j DROP\na -p tcp -j ACCEPT",
                Verdict::Pass,
                "-p tcp -j ACCEPT",
            ),
            // What is entered by goto does not come back.
            ("FORWARD -g a\nFORWARD -j DROP", Verdict::Pass, "-"),
            (
                "FORWARD -j a\nFORWARD -j DROP\na -g b\na -j ACCEPT",
                Verdict::Drop,
                "-j DROP",
            ),
            (
                "FORWARD -j a\na -j b\nb -j a",
                Verdict::Unknown,
                "(chains call each other without end)",
            ),
            (
                "FORWARD -m physdev --physdev-in vnet0 -j DROP",
                Verdict::Drop,
                "-m physdev --physdev-in vnet0 -j DROP",
            ),
            (
                "FORWARD -m physdev --physdev-out vnet0 -j DROP",
                Verdict::Pass,
                "-",
            ),
            (
                "FORWARD -i br0 -j MARK --set-mark 3\nFORWARD -m mark --mark 3 -j DROP",
                Verdict::Drop,
                "-m mark --mark 3 -j DROP",
            ),
        ] {
            assert_eq!(decided(rules), (verdict, text.to_owned()), "{rules}");
        }
    }

    #[test]
    fn what_is_not_understood_makes_unknown_only_where_it_matters() {
        for (rules, verdict) in [
            ("FORWARD -m set --match-set x src -j DROP", Verdict::Unknown),
            ("FORWARD -m set --match-set x src -j LOG", Verdict::Pass),
            ("FORWARD -m set --match-set x src -j ACCEPT", Verdict::Pass),
            (
                "FORWARD -p udp -m set --match-set x src -j DROP",
                Verdict::Pass,
            ),
            (
                "FORWARD -m set --match-set x src -j DROP\nFORWARD -j DROP",
                Verdict::Drop,
            ),
            (
                "FORWARD -m set --match-set x src -j a\na -p udp -j DROP",
                Verdict::Pass,
            ),
            (
                "FORWARD -m set --match-set x src -j a\na -p tcp -j DROP",
                Verdict::Unknown,
            ),
            ("FORWARD -j NFQUEUE --queue-num 1", Verdict::Unknown),
            ("FORWARD -j STRANGE --x 1", Verdict::Unknown),
            (
                "FORWARD -m conntrack --ctstate NEW -j DROP",
                Verdict::Unknown,
            ),
        ] {
            assert_eq!(decided(rules).0, verdict, "{rules}");
        }
    }

    #[test]
    fn connections_tell_the_state() {
        let rules = filter("FORWARD -m conntrack --ctstate NEW -j DROP");
        let connections = Connections::new();
        assert_eq!(judged(&rules, Some(&connections)).verdict, Verdict::Drop);
    }

    #[test]
    fn the_bridge_comes_before_and_after_ip() {
        let bridge = "*nat\n:PREROUTING ACCEPT\n:POSTROUTING ACCEPT\n\
                      -A PREROUTING -i vnet0 -p IPv4 -j ACCEPT\n\
                      -A POSTROUTING -o vnet0 -p IPv4 -j ACCEPT\n";
        let mut rules = ebtables::read("f", bridge).unwrap();
        rules.extend(filter("FORWARD -p tcp -j ACCEPT"));
        let host = Host {
            call_iptables: true,
            ..Host::default()
        };
        let tables = |direction| {
            let judgement = judge(&frame(), PORT, direction, &rules, &host).unwrap();
            let tables: Vec<_> = judgement
                .path
                .iter()
                .map(|step| step.table.clone())
                .collect();
            tables
        };
        assert_eq!(tables(Direction::Out), ["ebtables nat", "iptables filter"]);
        assert_eq!(tables(Direction::In), ["iptables filter", "ebtables nat"]);
        // Without the bridge's setting IP rules see nothing.
        let judgement = judge(&frame(), PORT, Direction::In, &rules, &Host::default()).unwrap();
        assert_eq!(judgement.path.len(), 1);
    }

    #[test]
    fn the_other_port_is_one_that_no_rule_names_unless_it_is_said() {
        let rules = filter("FORWARD -m physdev --physdev-out eth0 -j DROP");
        let host = Host {
            call_iptables: true,
            ..Host::default()
        };
        for (peer, verdict) in [(None, Verdict::Pass), (Some("eth0"), Verdict::Drop)] {
            let port = Port { peer, ..PORT };
            let judgement = judge(&frame(), port, Direction::Out, &rules, &host).unwrap();
            assert_eq!(judgement.verdict, verdict);
        }
    }

    #[test]
    fn a_tag_that_may_hide_ip_makes_unknown() {
        let mut frame = frame();
        frame.splice(12..12, [0x81, 0, 0, 100]);
        let judged = |table: &str, tests: serde_json::Value| {
            let document = serde_json::json!({"nftables": [
                {"table": {"family": "bridge", "name": table}},
                {"chain": {"family": "bridge", "table": table, "name": "c",
                    "type": "filter", "hook": "forward", "prio": 0, "policy": "accept"}},
                {"rule": {"family": "bridge", "table": table, "chain": "c", "handle": 1,
                    "expr": [tests, {"drop": null}]}},
            ]});
            let rules = crate::nft::read_document("f", &document).unwrap();
            let host = Host::default();
            judge(&frame, PORT, Direction::Out, &rules, &host)
                .unwrap()
                .verdict
        };
        let test = |protocol: &str, field: &str, right: serde_json::Value| {
            serde_json::json!({"match": {"op": "==", "right": right,
                "left": {"payload": {"protocol": protocol, "field": field}}}})
        };
        let source = || test("ip", "saddr", "192.0.2.1".into());
        assert_eq!(judged("t", source()), Verdict::Unknown);
        assert_eq!(
            judged("t", test("ip", "saddr", "192.0.2.9".into())),
            Verdict::Pass
        );
        // libvirt writes the EtherType.
        assert_eq!(judged("libvirt_nwfilter_ethernet", source()), Verdict::Pass);
        assert_eq!(judged("t", test("tcp", "dport", 80.into())), Verdict::Drop);
        assert_eq!(judged("t", test("vlan", "id", 100.into())), Verdict::Drop);
    }

    #[test]
    fn the_end_of_a_bridge_chain_accepts() {
        let text =
            "*nat\n:PREROUTING ACCEPT\n:x ACCEPT\n-A PREROUTING -j x\n-A PREROUTING -j DROP\n";
        let rules = ebtables::read("f", text).unwrap();
        let judgement = judge(&frame(), PORT, Direction::Out, &rules, &Host::default()).unwrap();
        assert_eq!(judgement.verdict, Verdict::Pass);
        let step = judgement.deciding().unwrap();
        assert_eq!(
            (step.chain.as_str(), &step.outcome),
            ("x", &Outcome::ChainEnded(End::Accept))
        );
    }
}

//! From chains with conditions, jumps and verdicts to a list of mark rules that only goes forward.

use std::{collections::HashMap, rc::Rc};

use pointsman_director::model::{
    Family, MarkAction, MarkMatch, MarkRule, PortRange, Prefix, Protocol,
};

use super::{Import, Obstacle};

/// The deepest nesting of chains followed; the kernel refuses loops.
const DEPTH: usize = 16;
/// The most rules made before reading is given up: jumps multiply.
const MOST: usize = 1 << 14;

/// Where a chain of a hook comes in the path of a packet: lower comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Position {
    /// 0 for prerouting, 1 for input.
    pub hook: u8,
    /// The kernel's priority.
    pub priority: i64,
}

/// The chain of a hook, with the chains of its table that it may jump to.
#[derive(Debug)]
pub(super) struct BaseChain {
    pub position: Position,
    /// Packets of which family the table sees.
    pub family: Family,
    pub rules: Rc<Vec<Rule>>,
    pub others: Rc<HashMap<String, Rc<Vec<Rule>>>>,
}

/// A rule of a chain.
#[derive(Debug, Clone)]
pub(super) struct Rule {
    pub place: String,
    pub text: String,
    /// What has to hold, or what of it is not understood.
    pub conditions: Result<Vec<Condition>, String>,
    pub steps: Vec<Step>,
}

/// One of these holds, or, negated, none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Condition {
    pub any_of: Vec<Field>,
    pub negated: bool,
}

impl Condition {
    pub(super) fn is(field: Field) -> Self {
        Self {
            any_of: vec![field],
            negated: false,
        }
    }
}

/// Something about a packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Field {
    Family(Family),
    Destination(Prefix),
    Source(Prefix),
    Protocol(Protocol),
    Ports(Vec<PortRange>),
    SourcePorts(Vec<PortRange>),
    Interface(String),
    Mark(MarkMatch),
    /// No packet that a virtual service balances is like that.
    Never,
}

/// What a rule does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    /// `mark = (mark & !mask) ^ value`.
    Set {
        value: u32,
        mask: u32,
    },
    /// The rest of the hook's chain is not looked at; the packet goes on or not.
    End,
    /// Back to the chain that jumped here.
    Return,
    Jump(String),
    Goto(String),
    /// Changes the mark in a way that is not understood.
    Unknown(String),
}

/// Translates chains in the order in which packets meet them.
pub(super) fn compile(mut chains: Vec<BaseChain>) -> Import {
    chains.sort_by_key(|chain| chain.position);
    let mut rules: Vec<Item> = Vec::new();
    let mut import = Import::default();
    let mut labels = Labels::default();
    for chain in &chains {
        let mut walk = Walk {
            family: chain.family,
            others: &chain.others,
            items: Vec::new(),
            labels: &mut labels,
            hook_end: 0,
        };
        walk.hook_end = walk.labels.another();
        let end = walk.hook_end;
        walk.chain(&chain.rules, end, 0);
        let mut items = walk.items;
        // What comes behind the last mark only decides what else becomes of the packet.
        let last = items.iter().rposition(Item::makes_marks);
        let rest = items.split_off(last.map_or(0, |last| last + 1));
        // Where rules before it lead to stays.
        items.extend(rest.into_iter().filter(Item::is_label));
        items.push(Item::Label(end));
        rules.extend(items);
    }
    let mut seen = Vec::new();
    rules.retain(|item| match item {
        Item::Obstacle { obstacle, .. } => {
            if !seen.contains(obstacle) {
                seen.push(obstacle.clone());
            }
            false
        }
        _ => true,
    });
    import.obstacles = seen;
    import.rules = assemble(rules);
    import
}

#[derive(Debug, Default)]
struct Labels(usize);

impl Labels {
    fn another(&mut self) -> usize {
        self.0 += 1;
        self.0
    }
}

/// What is written behind one another.
#[derive(Debug)]
enum Item {
    Set(MarkRule),
    /// Passes over everything before the label; the rule's action is not used.
    Skip(MarkRule, usize),
    Label(usize),
    Obstacle {
        obstacle: Obstacle,
        makes_marks: bool,
    },
}

impl Item {
    fn is_label(&self) -> bool {
        matches!(self, Self::Label(_))
    }

    fn makes_marks(&self) -> bool {
        matches!(
            self,
            Self::Set(_)
                | Self::Obstacle {
                    makes_marks: true,
                    ..
                }
        )
    }
}

struct Walk<'a> {
    family: Family,
    others: &'a HashMap<String, Rc<Vec<Rule>>>,
    items: Vec<Item>,
    labels: &'a mut Labels,
    hook_end: usize,
}

fn every() -> MarkRule {
    MarkRule::every(MarkAction::STOP)
}

impl Walk<'_> {
    fn chain(&mut self, rules: &[Rule], end: usize, depth: usize) {
        for rule in rules {
            if !self.matters(rule, 0) {
                continue;
            }
            if depth > DEPTH || self.items.len() > MOST {
                self.obstacle(rule, "too many chains follow one another", 0);
                return;
            }
            self.rule(rule, end, depth);
        }
    }

    fn rule(&mut self, rule: &Rule, end: usize, depth: usize) {
        let conditions = match &rule.conditions {
            Ok(conditions) => conditions,
            Err(why) => return self.obstacle(rule, why, 0),
        };
        for step in &rule.steps {
            if let Step::Unknown(why) = step {
                return self.obstacle(rule, why, 0);
            }
        }
        let start = self.items.len();
        let behind = self.labels.another();
        let Some(mut base) = self.conditions(conditions, behind) else {
            // It can't match.
            self.items.truncate(start);
            return;
        };
        let several = rule.steps.len() > 1;
        if several && base.mark.is_some() {
            // A step may change what the next one's condition looks at: ask once.
            let family = self.family;
            let rest = MarkRule { family, ..every() };
            self.enter(std::mem::replace(&mut base, rest), behind);
        }
        for step in &rule.steps {
            match step {
                Step::Set { value, mask } => {
                    let action = MarkAction::Set {
                        value: *value,
                        mask: *mask,
                    };
                    self.items.push(Item::Set(MarkRule {
                        action,
                        ..base.clone()
                    }));
                }
                Step::End => self.items.push(Item::Skip(base.clone(), self.hook_end)),
                Step::Return => self.items.push(Item::Skip(base.clone(), end)),
                Step::Jump(name) | Step::Goto(name) => {
                    let Some(chain) = self.others.get(name).cloned() else {
                        self.items.truncate(start);
                        return self.obstacle(rule, &format!("there is no chain {name}"), 0);
                    };
                    let outside = self.labels.another();
                    self.enter(base.clone(), outside);
                    if matches!(step, Step::Goto(_)) {
                        self.chain(&chain, end, depth + 1);
                        self.items.push(Item::Skip(every(), end));
                        self.items.push(Item::Label(outside));
                    } else {
                        let inner = self.labels.another();
                        self.chain(&chain, inner, depth + 1);
                        self.items.push(Item::Label(inner));
                        self.items.push(Item::Label(outside));
                    }
                }
                Step::Unknown(_) => {}
            }
        }
        self.items.push(Item::Label(behind));
    }

    /// Lets only packets in that match `base`; the others go on at `outside`.
    fn enter(&mut self, base: MarkRule, outside: usize) {
        // Every rule of the table asks for the table's family itself.
        let family = self.family;
        if base == (MarkRule { family, ..every() }) {
            return;
        }
        let inside = self.labels.another();
        self.items.push(Item::Skip(base, inside));
        self.items.push(Item::Skip(every(), outside));
        self.items.push(Item::Label(inside));
    }

    /// Writes what lets a packet pass to `behind` that does not meet the conditions, and returns
    /// what is left for the rule itself; none when no packet meets them.
    fn conditions(&mut self, conditions: &[Condition], behind: usize) -> Option<MarkRule> {
        let mut base = MarkRule {
            family: self.family,
            ..every()
        };
        for Condition { any_of, negated } in conditions {
            let fields = any_of.iter().filter(|field| **field != Field::Never);
            let fields: Vec<&Field> = fields.collect();
            if *negated {
                for field in fields {
                    let mut rule = every();
                    let _ = merge(&mut rule, field);
                    self.items.push(Item::Skip(rule, behind));
                }
                continue;
            }
            match fields.as_slice() {
                [] => return None,
                [field] => match merge(&mut base, field) {
                    Merged::Yes => continue,
                    Merged::Never => return None,
                    Merged::No => {}
                },
                _ => {}
            }
            let fine = self.labels.another();
            for field in fields {
                let mut rule = every();
                let _ = merge(&mut rule, field);
                self.items.push(Item::Skip(rule, fine));
            }
            self.items.push(Item::Skip(every(), behind));
            self.items.push(Item::Label(fine));
        }
        // A prefix says the family, too.
        if base.destination.is_some() || base.source.is_some() {
            base.family = Family::Any;
        }
        Some(base)
    }

    fn obstacle(&mut self, rule: &Rule, why: &str, depth: usize) {
        let obstacle = Obstacle {
            place: rule.place.clone(),
            rule: rule.text.clone(),
            why: why.to_owned(),
        };
        let makes_marks = self.makes_marks(rule, depth);
        self.items.push(Item::Obstacle {
            obstacle,
            makes_marks,
        });
    }

    /// True when a rule, or one of a chain that it leads to, changes marks.
    fn makes_marks(&self, rule: &Rule, depth: usize) -> bool {
        rule.steps.iter().any(|step| match step {
            Step::Set { .. } | Step::Unknown(_) => true,
            Step::Jump(name) | Step::Goto(name) => {
                depth <= DEPTH
                    && self
                        .others
                        .get(name)
                        .is_some_and(|chain| chain.iter().any(|r| self.makes_marks(r, depth + 1)))
            }
            Step::End | Step::Return => false,
        })
    }

    /// True when a rule can change a mark, or whether later rules are looked at.
    fn matters(&self, rule: &Rule, depth: usize) -> bool {
        rule.steps.iter().any(|step| match step {
            Step::Set { .. } | Step::Unknown(_) | Step::End | Step::Goto(_) => true,
            Step::Return => true,
            Step::Jump(name) => {
                let Some(chain) = self.others.get(name) else {
                    return true;
                };
                // A chain that only returns does nothing.
                depth > DEPTH
                    || chain
                        .iter()
                        .filter(|rule| rule.steps != [Step::Return])
                        .any(|rule| self.matters(rule, depth + 1))
            }
        })
    }
}

enum Merged {
    Yes,
    /// The rule has such a condition already.
    No,
    /// Both can't be.
    Never,
}

/// Adds a condition to a rule.
fn merge(rule: &mut MarkRule, field: &Field) -> Merged {
    fn put<T: PartialEq + Clone>(place: &mut Option<T>, value: &T) -> Merged {
        match place {
            Some(old) if old == value => Merged::Yes,
            Some(_) => Merged::No,
            None => {
                *place = Some(value.clone());
                Merged::Yes
            }
        }
    }
    let family_of = |prefix: &Prefix| match prefix.address.is_ipv6() {
        true => Family::Ipv6,
        false => Family::Ipv4,
    };
    let add_family = |rule: &mut MarkRule, family: Family| {
        if rule.family != Family::Any && rule.family != family {
            return false;
        }
        rule.family = family;
        true
    };
    match field {
        Field::Never => Merged::Never,
        Field::Family(family) => match add_family(rule, *family) {
            true => Merged::Yes,
            false => Merged::Never,
        },
        Field::Destination(prefix) | Field::Source(prefix) => {
            if !add_family(rule, family_of(prefix)) {
                return Merged::Never;
            }
            match field {
                Field::Source(_) => put(&mut rule.source, prefix),
                _ => put(&mut rule.destination, prefix),
            }
        }
        Field::Protocol(protocol) => match rule.protocol {
            Some(old) if old != *protocol => Merged::Never,
            _ => put(&mut rule.protocol, protocol),
        },
        Field::Ports(ranges) | Field::SourcePorts(ranges) => {
            let place = match field {
                Field::SourcePorts(_) => &mut rule.source_ports,
                _ => &mut rule.ports,
            };
            if !place.is_empty() {
                return Merged::No;
            }
            place.clone_from(ranges);
            Merged::Yes
        }
        Field::Interface(name) => match &rule.interface {
            Some(old) if old != name => Merged::Never,
            _ => put(&mut rule.interface, name),
        },
        Field::Mark(mark) => put(&mut rule.mark, mark),
    }
}

/// Gives labels their places, and leaves out what passes over nothing.
fn assemble(mut items: Vec<Item>) -> Vec<MarkRule> {
    loop {
        let places = places(&items);
        let mut number = 0;
        let before = items.len();
        // Of the removed only rules count: labels stay where they are.
        items.retain(|item| match item {
            Item::Label(_) => true,
            Item::Skip(_, label) => {
                number += 1;
                places.get(label).is_some_and(|place| *place > number)
            }
            Item::Set(_) | Item::Obstacle { .. } => {
                number += 1;
                true
            }
        });
        if items.len() == before {
            break;
        }
    }
    let places = places(&items);
    let mut rules = Vec::new();
    for item in items {
        match item {
            Item::Label(_) | Item::Obstacle { .. } => {}
            Item::Set(rule) => rules.push(rule),
            Item::Skip(mut rule, label) => {
                let place = places.get(&label).copied().unwrap_or(usize::MAX);
                rule.action = MarkAction::Skip {
                    rules: (place - rules.len() - 1) as u32,
                };
                rules.push(rule);
            }
        }
    }
    // Nothing is left to be passed over behind the last mark.
    let last = rules
        .iter()
        .rposition(|rule| matches!(rule.action, MarkAction::Set { .. }));
    rules.truncate(last.map_or(0, |last| last + 1));
    let end = rules.len();
    for (at, rule) in rules.iter_mut().enumerate() {
        if let MarkAction::Skip { rules } = &mut rule.action {
            *rules = (*rules).min((end - at - 1) as u32);
        }
    }
    rules
}

/// The number of rules before each label.
fn places(items: &[Item]) -> HashMap<usize, usize> {
    let mut number = 0;
    let mut places = HashMap::new();
    for item in items {
        match item {
            Item::Label(label) => {
                places.insert(*label, number);
            }
            _ => number += 1,
        }
    }
    places
}

/// The conditions of a rule of which some are not understood, for `why`; one that no packet meets
/// makes all others needless.
pub(super) fn understood(
    conditions: Vec<Condition>,
    why: Option<String>,
) -> Result<Vec<Condition>, String> {
    let never = |condition: &Condition| {
        !condition.negated && condition.any_of.iter().all(|field| *field == Field::Never)
    };
    match why {
        None => Ok(conditions),
        Some(_) if conditions.iter().any(never) => Ok(vec![Condition::is(Field::Never)]),
        Some(why) => Err(why),
    }
}

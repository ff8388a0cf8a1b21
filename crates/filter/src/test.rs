//! Tests of rules, and whether they hold: yes, no, or nobody can tell from here.

use crate::connection::{Connections, Standing};
use crate::field::Field;
use crate::frame::{Frame, Sight};
use crate::model::BehindTag;

/// Whether something holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Truth {
    /// It does.
    Yes,
    /// It does not.
    No,
    /// It can't be told.
    Unknown,
}

impl Truth {
    fn of(holds: bool) -> Self {
        if holds { Self::Yes } else { Self::No }
    }

    fn turned(self, turn: bool) -> Self {
        match self {
            Self::Yes if turn => Self::No,
            Self::No if turn => Self::Yes,
            other => other,
        }
    }
}

/// A field, or bits of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Key {
    /// The field.
    pub field: Field,
    /// Bits that are kept.
    pub mask: Option<u128>,
}

impl From<Field> for Key {
    fn from(field: Field) -> Self {
        Self { field, mask: None }
    }
}

/// Numbers from the first to the second, both included.
pub type Range = (u128, u128);

/// An interface that a rule may name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Interface {
    /// The bridge port a frame came by.
    InputPort,
    /// The bridge port a frame leaves by.
    OutputPort,
    /// The bridge, or the device without a bridge, that a packet came by.
    InputDevice,
    /// The bridge, or the device without a bridge, that a packet leaves by.
    OutputDevice,
}

/// Something that must hold for a rule to apply.
#[derive(Debug, Clone, PartialEq)]
pub enum Test {
    /// A field is in one of the ranges, or in none. A field that the frame does not have never holds.
    Compare {
        /// What is looked at.
        key: Key,
        /// In none of the ranges.
        negated: bool,
        /// The ranges.
        ranges: Vec<Range>,
    },
    /// Several fields are together an element of a set, or are not.
    Tuple {
        /// What is looked at.
        keys: Vec<Key>,
        /// Not an element.
        negated: bool,
        /// Elements: one range a key.
        elements: Vec<Vec<Range>>,
    },
    /// An interface has one of the names, or none. `+` or `*` at the end stands for anything.
    Name {
        /// Which interface.
        interface: Interface,
        /// None of the names.
        negated: bool,
        /// The names.
        names: Vec<String>,
    },
    /// The frame passes through a bridge (iptables `--physdev-is-bridged`).
    Bridged(bool),
    /// The packet's source (or destination) has more connections than this.
    Crowded {
        /// As many are allowed.
        above: u32,
        /// As many or fewer.
        negated: bool,
        /// Addresses with these bits in common count together.
        prefix: u32,
        /// Counts by destination, not by source.
        by_destination: bool,
    },
    /// One of these holds, or none does.
    Any {
        /// None does.
        negated: bool,
        /// The tests.
        tests: Vec<Test>,
    },
    /// Not understood, or not to be known from frame and rules.
    Opaque(String),
}

impl Test {
    /// A field has this value, or another one.
    pub fn is(field: impl Into<Key>, value: u128, negated: bool) -> Self {
        Self::within(field, (value, value), negated)
    }

    /// A field is in a range, or outside.
    pub fn within(field: impl Into<Key>, range: Range, negated: bool) -> Self {
        Self::Compare {
            key: field.into(),
            negated,
            ranges: vec![range],
        }
    }

    /// Bits of a field have this value, or another one; a prefix becomes a range.
    pub fn masked(field: Field, value: u128, mask: u128, negated: bool) -> Self {
        let all = field.all_ones();
        let mask = mask & all;
        let host = all & !mask;
        // A contiguous mask is a range.
        let value = value & mask;
        if host & host.wrapping_add(1) == 0 {
            return Self::within(field, (value, value | host), negated);
        }
        let key = Key {
            field,
            mask: Some(mask),
        };
        Self::is(key, value, negated)
    }
}

/// A name, or why there is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Name<'a> {
    /// The name.
    Known(&'a str),
    /// A port that no rule names.
    Other,
    /// There is none at this hook.
    None,
    /// Nobody said.
    Unknown,
}

/// What is known about a frame at a hook.
#[derive(Debug, Clone)]
pub(crate) struct Situation<'a> {
    pub(crate) frame: &'a Frame<'a>,
    pub(crate) input_port: Name<'a>,
    pub(crate) output_port: Name<'a>,
    pub(crate) input_device: Name<'a>,
    pub(crate) output_device: Name<'a>,
    /// Nothing where a rule changed it in an unknown way.
    pub(crate) mark: Option<u32>,
    /// Nothing where connections are not known.
    pub(crate) standing: Option<Standing>,
    pub(crate) connections: Option<&'a Connections>,
    /// The frame was changed by a rule.
    pub(crate) rewritten: bool,
    /// How far tests see.
    pub(crate) sight: Sight,
}

enum Value {
    Is(u128),
    Absent,
    Unknown,
}

impl Situation<'_> {
    /// Whether all tests hold.
    pub(crate) fn all(&self, tests: &[Test], behind_tag: BehindTag) -> Truth {
        if !self.frame.is_tagged() {
            return self.every(tests);
        }
        let seeing = |behind_tag| {
            let mut own = self.clone();
            own.sight.behind_tag = behind_tag;
            own.every(tests)
        };
        match behind_tag {
            BehindTag::Hidden => seeing(false),
            BehindTag::Seen => seeing(true),
            BehindTag::Unsure => match (seeing(false), seeing(true)) {
                (one, other) if one == other => one,
                _ => Truth::Unknown,
            },
        }
    }

    /// The value of a field of the frame; nothing where the frame does not have it, or nobody knows.
    pub(crate) fn field(&self, key: Key) -> Option<u128> {
        match self.value(key) {
            Value::Is(value) => Some(value),
            Value::Absent | Value::Unknown => None,
        }
    }

    fn every(&self, tests: &[Test]) -> Truth {
        let mut all = Truth::Yes;
        for test in tests {
            match self.holds(test) {
                Truth::Yes => {}
                Truth::No => return Truth::No,
                Truth::Unknown => all = Truth::Unknown,
            }
        }
        all
    }

    fn holds(&self, test: &Test) -> Truth {
        match test {
            Test::Compare {
                key,
                negated,
                ranges,
            } => match self.value(*key) {
                Value::Is(value) => Truth::of(contains(ranges, value)).turned(*negated),
                Value::Absent => Truth::No,
                Value::Unknown => Truth::Unknown,
            },
            Test::Tuple {
                keys,
                negated,
                elements,
            } => {
                let mut values = Vec::with_capacity(keys.len());
                for &key in keys {
                    match self.value(key) {
                        Value::Is(value) => values.push(value),
                        Value::Absent => return Truth::No,
                        Value::Unknown => return Truth::Unknown,
                    }
                }
                let found = elements.iter().any(|element| {
                    element.len() == values.len()
                        && element
                            .iter()
                            .zip(&values)
                            .all(|(range, &value)| contains(std::slice::from_ref(range), value))
                });
                Truth::of(found).turned(*negated)
            }
            Test::Name {
                interface,
                negated,
                names,
            } => self.named(*interface, names).turned(*negated),
            Test::Bridged(wanted) => {
                let bridged = !matches!(self.output_port, Name::None);
                Truth::of(bridged == *wanted)
            }
            Test::Crowded {
                above,
                negated,
                prefix,
                by_destination,
            } => match (self.connections, self.frame.packet()) {
                (Some(connections), Some(packet)) => {
                    let address = if *by_destination {
                        packet.destination
                    } else {
                        packet.source
                    };
                    let count = connections.count(packet, address, *prefix, *by_destination);
                    Truth::of(count > *above).turned(*negated)
                }
                (None, Some(_)) => Truth::Unknown,
                (_, None) => Truth::No,
            },
            Test::Any { negated, tests } => {
                let mut any = Truth::No;
                for test in tests {
                    match self.holds(test) {
                        Truth::Yes => {
                            any = Truth::Yes;
                            break;
                        }
                        Truth::Unknown => any = Truth::Unknown,
                        Truth::No => {}
                    }
                }
                any.turned(*negated)
            }
            Test::Opaque(_) => Truth::Unknown,
        }
    }

    fn value(&self, key: Key) -> Value {
        let value = match key.field {
            Field::Mark => match self.mark {
                Some(mark) => Some(mark.into()),
                None => return Value::Unknown,
            },
            Field::ConnectionState | Field::ConnectionDirection => match self.standing {
                None => return Value::Unknown,
                Some(standing) if key.field == Field::ConnectionState => {
                    Some(standing.state as u128)
                }
                Some(standing) => standing.reply.map(u128::from),
            },
            field => self.frame.get(field, self.sight),
        };
        match value {
            None => Value::Absent,
            // What a rule rewrote is no longer what the frame says.
            Some(_) if self.rewritten && !is_about_link(key.field) => Value::Unknown,
            Some(value) => Value::Is(key.mask.map_or(value, |mask| value & mask)),
        }
    }

    fn named(&self, interface: Interface, names: &[String]) -> Truth {
        let name = match interface {
            Interface::InputPort => self.input_port,
            Interface::OutputPort => self.output_port,
            Interface::InputDevice => self.input_device,
            Interface::OutputDevice => self.output_device,
        };
        let stem = |pattern: &str| pattern.strip_suffix(['+', '*']).map(str::to_owned);
        match name {
            Name::None => Truth::No,
            Name::Known(name) => Truth::of(names.iter().any(|pattern| match stem(pattern) {
                Some(stem) => name.starts_with(&stem),
                None => pattern == name,
            })),
            Name::Other => {
                let stems: Vec<_> = names.iter().filter_map(|pattern| stem(pattern)).collect();
                if stems.iter().any(String::is_empty) {
                    Truth::Yes
                } else if stems.is_empty() {
                    Truth::No
                } else {
                    Truth::Unknown
                }
            }
            Name::Unknown => Truth::Unknown,
        }
    }
}

fn contains(ranges: &[Range], value: u128) -> bool {
    ranges
        .iter()
        .any(|&(first, last)| first <= value && value <= last)
}

fn is_about_link(field: Field) -> bool {
    matches!(
        field,
        Field::EtherSource
            | Field::EtherDestination
            | Field::EtherType
            | Field::Carried
            | Field::VlanId
            | Field::VlanPriority
            | Field::VlanCarried
            | Field::Mark
    )
}

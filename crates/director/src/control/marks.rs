//! Rules that make firewall marks: checked, turned into records, taken over.

use std::{
    collections::{BTreeMap, HashMap},
    net::IpAddr,
};

use zerocopy::FromZeros;

use super::{Director, Mirror, MirrorError, address_words, words_address};
use crate::{
    model::{
        ControlError, Family, INTERFACE_NAME, MarkAction, MarkMatch, MarkRule, MarkRuleView,
        PortRange, Prefix, Protocol,
    },
    record::{
        Address, MARK_PORTS, MARK_RULES, MarkRuleRecord, NONE, PortSpan, Settings, mark_flag,
    },
};

/// The rules, and what their records were made of.
#[derive(Debug, Default)]
pub(super) struct Marks {
    rules: Vec<MarkRule>,
    /// Indices of the host's interfaces by name.
    interfaces: HashMap<String, u32>,
    records: Vec<MarkRuleRecord>,
}

impl Director {
    /// The rules that make firewall marks, in order.
    pub fn mark_rules(&self) -> &[MarkRule] {
        &self.marks.rules
    }

    /// The rules that make firewall marks, and whether they can match.
    pub fn mark_rule_views(&self) -> Vec<MarkRuleView> {
        let exists = |name: &String| self.marks.interfaces.contains_key(name);
        let view = |rule: &MarkRule| MarkRuleView {
            rule: rule.clone(),
            interface_exists: rule.interface.as_ref().is_none_or(exists),
        };
        self.marks.rules.iter().map(view).collect()
    }

    /// True when a rule gives a mark to packets for this destination by name of it or its prefix.
    pub fn is_marked(&self, destination: IpAddr) -> bool {
        self.marks.rules.iter().any(|rule| {
            matches!(rule.action, MarkAction::Set { .. })
                && rule
                    .destination
                    .is_some_and(|prefix| prefix.length > 0 && prefix.contains(destination))
        })
    }

    /// Tells which interfaces exist; rules that name them follow.
    ///
    /// # Errors
    ///
    /// When records can't be written; then the rules are as before.
    pub fn set_interfaces<M: Mirror>(
        &mut self,
        interfaces: HashMap<String, u32>,
        mirror: &mut M,
    ) -> Result<(), MirrorError> {
        if interfaces == self.marks.interfaces {
            return Ok(());
        }
        // What was written once fits: names change nothing about the number of records.
        if let Ok(records) = records(&self.marks.rules, &interfaces) {
            self.write_marks(records, mirror)?;
        }
        self.marks.interfaces = interfaces;
        Ok(())
    }

    pub(super) fn add_mark_rule<M: Mirror>(
        &mut self,
        rule: &MarkRule,
        number: Option<usize>,
        mirror: &mut M,
    ) -> Result<(), ControlError> {
        let mut rules = self.marks.rules.clone();
        let count = rules.len();
        let at = match number {
            None => count,
            Some(number @ 1..) if number <= count + 1 => number - 1,
            Some(number) => {
                return Err(ControlError::MarkRule(format!(
                    "no mark rule can have number {number}: there are {count}"
                )));
            }
        };
        rules.insert(at, rule.clone());
        self.set_mark_rules(rules, mirror)
    }

    pub(super) fn delete_mark_rule<M: Mirror>(
        &mut self,
        number: usize,
        mirror: &mut M,
    ) -> Result<(), ControlError> {
        let mut rules = self.marks.rules.clone();
        if number == 0 || number > rules.len() {
            return Err(ControlError::MarkRule(format!(
                "there is no mark rule {number}"
            )));
        }
        rules.remove(number - 1);
        self.set_mark_rules(rules, mirror)
    }

    pub(super) fn set_mark_rules<M: Mirror>(
        &mut self,
        rules: Vec<MarkRule>,
        mirror: &mut M,
    ) -> Result<(), ControlError> {
        let rules = rules
            .into_iter()
            .zip(1..)
            .map(|(rule, number)| {
                check(rule)
                    .map_err(|text| ControlError::MarkRule(format!("mark rule {number}: {text}")))
            })
            .collect::<Result<Vec<_>, _>>()?;
        let records = records(&rules, &self.marks.interfaces).map_err(|count| {
            ControlError::MarkRule(format!(
                "the mark rules need {count} places, and there are {MARK_RULES}: a rule needs one \
                 for every {MARK_PORTS} ranges of ports, times its ranges of source ports"
            ))
        })?;
        self.write_marks(records, mirror)?;
        self.marks.rules = rules;
        Ok(())
    }

    /// Writes records beside those in use, then switches to them: a packet meets the old rules or
    /// the new ones.
    fn write_marks<M: Mirror>(
        &mut self,
        records: Vec<MarkRuleRecord>,
        mirror: &mut M,
    ) -> Result<(), MirrorError> {
        if records == self.marks.records {
            return Ok(());
        }
        let (in_use, _) = place_of(&self.settings);
        let first = if in_use == 0 { MARK_RULES } else { 0 };
        mirror.set_mark_rules(first, &records)?;
        let settings = Settings {
            mark_rules: first << 16 | records.len() as u32,
            ..self.settings
        };
        mirror.set_settings(&settings)?;
        self.settings = settings;
        self.marks.records = records;
        Ok(())
    }

    /// Takes rules over from `all` records.
    pub(super) fn restore_marks(&mut self, all: &[MarkRuleRecord]) -> Result<(), MirrorError> {
        let (first, count) = place_of(&self.settings);
        let (first, count) = (first as usize, count as usize);
        let records = all
            .get(first..first + count)
            .ok_or_else(|| MirrorError("mark rules have an impossible place".to_owned()))?;
        self.marks.rules = rules(records)?;
        self.marks.records = records.to_vec();
        for record in records {
            let name = interface_name(&record.interface)?;
            if let Some(name) = name.filter(|_| record.ifindex != NONE) {
                self.marks.interfaces.insert(name, record.ifindex);
            }
        }
        Ok(())
    }
}

/// Place of the first record, and their number.
fn place_of(settings: &Settings) -> (u32, u32) {
    (settings.mark_rules >> 16, settings.mark_rules & 0xffff)
}

/// The rule in its plainest form, or what is wrong with it.
fn check(mut rule: MarkRule) -> Result<MarkRule, String> {
    for (prefix, what) in [
        (&mut rule.destination, "destination"),
        (&mut rule.source, "source"),
    ] {
        if let Some(given) = prefix {
            let masked = given.masked();
            *given = masked.ok_or_else(|| format!("the {what}'s prefix is too long"))?;
            let family = match given.address {
                IpAddr::V4(_) => Family::Ipv4,
                IpAddr::V6(_) => Family::Ipv6,
            };
            if rule.family != Family::Any && rule.family != family {
                return Err("it asks for IPv4 and IPv6 at once".to_owned());
            }
            rule.family = family;
        }
        if given_all(prefix) {
            *prefix = None;
        }
    }
    for ports in [&mut rule.ports, &mut rule.source_ports] {
        if let Some(range) = ports.iter().find(|range| range.low > range.high) {
            return Err(format!("ports {range} are no range"));
        }
        *ports = joined(std::mem::take(ports));
        if *ports == [EVERY_PORT] {
            ports.clear();
        }
    }
    if let Some(name) = &rule.interface
        && (name.is_empty()
            || name.len() > INTERFACE_NAME
            || name.contains(['/', '\0'])
            || name.contains(char::is_whitespace))
    {
        return Err(format!("`{name}` can't be the name of an interface"));
    }
    if let Some(MarkMatch { value, mask }) = rule.mark
        && value & !mask != 0
    {
        return Err(format!("no mark is {value:#x} in the bits {mask:#x}"));
    }
    if rule.mark.is_some_and(|mark| mark.mask == 0) {
        rule.mark = None;
    }
    Ok(rule)
}

const EVERY_PORT: PortRange = PortRange {
    low: 0,
    high: u16::MAX,
};

/// True for a prefix that every address of its family has.
fn given_all(prefix: &Option<Prefix>) -> bool {
    prefix.is_some_and(|prefix| prefix.length == 0)
}

/// Ranges in order, those that meet made one.
fn joined(mut ranges: Vec<PortRange>) -> Vec<PortRange> {
    ranges.sort();
    let mut joined: Vec<PortRange> = Vec::new();
    for range in ranges {
        match joined.last_mut() {
            Some(last) if u32::from(range.low) <= u32::from(last.high) + 1 => {
                last.high = last.high.max(range.high);
            }
            _ => joined.push(range),
        }
    }
    joined
}

/// How many records a rule needs.
fn count(rule: &MarkRule) -> usize {
    rule.ports.len().div_ceil(MARK_PORTS).max(1) * rule.source_ports.len().max(1)
}

/// The records of checked rules, or how many there would be if that is too many.
///
/// Records of one rule have different ports, so a packet matches one of them at most.
fn records(
    rules: &[MarkRule],
    interfaces: &HashMap<String, u32>,
) -> Result<Vec<MarkRuleRecord>, usize> {
    let mut starts = vec![0];
    for rule in rules {
        starts.push(starts.last().unwrap_or(&0) + count(rule));
    }
    let total = starts.last().copied().unwrap_or(0);
    if total > MARK_RULES as usize {
        return Err(total);
    }
    let mut records = Vec::with_capacity(total);
    for (number, rule) in rules.iter().enumerate() {
        let base = without_ports(rule, number as u32, interfaces);
        let sources = match rule.source_ports.as_slice() {
            [] => vec![PortSpan::ALL],
            ranges => ranges.iter().map(span).collect(),
        };
        let chunks: Vec<&[PortRange]> = match rule.ports.as_slice() {
            [] => vec![&[]],
            ranges => ranges.chunks(MARK_PORTS).collect(),
        };
        for source_ports in &sources {
            for chunk in &chunks {
                let mut record = base;
                record.source_ports = *source_ports;
                if *source_ports != PortSpan::ALL {
                    record.flags |= mark_flag::MORE;
                }
                if chunk.is_empty() {
                    record.ports[0] = PortSpan::ALL;
                }
                for (place, range) in record.ports.iter_mut().zip(*chunk) {
                    *place = span(range);
                }
                if let MarkAction::Skip { rules: by } = rule.action {
                    let target = (number + 1).saturating_add(by as usize);
                    let target = starts.get(target).copied().unwrap_or(total);
                    record.value = (target - records.len() - 1) as u32;
                }
                records.push(record);
            }
        }
    }
    Ok(records)
}

fn span(range: &PortRange) -> PortSpan {
    PortSpan {
        low: range.low,
        high: range.high,
    }
}

fn without_ports(
    rule: &MarkRule,
    number: u32,
    interfaces: &HashMap<String, u32>,
) -> MarkRuleRecord {
    let mut record = MarkRuleRecord::new_zeroed();
    (record.destination, record.destination_mask) = words(rule.destination);
    (record.source, record.source_mask) = words(rule.source);
    record.protocol = rule.protocol.map_or(0, Protocol::number);
    record.families = match rule.family {
        Family::Ipv4 => 1,
        Family::Ipv6 => 2,
        Family::Any => 3,
    };
    if let Some(name) = &rule.interface {
        record.ifindex = interfaces.get(name).copied().unwrap_or(NONE);
        for (place, byte) in record.interface.iter_mut().zip(name.bytes()) {
            *place = byte;
        }
    }
    if let Some(MarkMatch { value, mask }) = rule.mark {
        (record.match_value, record.match_mask) = (value, mask);
    }
    if rule.source.is_some() || rule.mark.is_some() {
        record.flags |= mark_flag::MORE;
    }
    match rule.action {
        MarkAction::Set { value, mask } => (record.value, record.mask) = (value, mask),
        MarkAction::Skip { rules } => {
            record.flags |= mark_flag::SKIP;
            // How many rules, to be taken over; the programs count records.
            record.mask = rules;
        }
    }
    record.ports = [PortSpan::NONE; MARK_PORTS];
    record.rule = number;
    record
}

/// A checked prefix and its mask as records hold them.
fn words(prefix: Option<Prefix>) -> (Address, Address) {
    let Some(Prefix { address, length }) = prefix else {
        return ([0; 4], [0; 4]);
    };
    let ones: IpAddr = match address {
        IpAddr::V4(_) => [255; 4].into(),
        IpAddr::V6(_) => [255; 16].into(),
    };
    let mask = Prefix {
        address: ones,
        length,
    };
    let mask = mask.masked().map_or(ones, |mask| mask.address);
    (address_words(address), address_words(mask))
}

/// The rules whose records these are.
fn rules(records: &[MarkRuleRecord]) -> Result<Vec<MarkRule>, MirrorError> {
    let mut rules: BTreeMap<u32, MarkRule> = BTreeMap::new();
    for record in records {
        let rule = match rules.get_mut(&record.rule) {
            Some(rule) => rule,
            None => {
                let rule = rule(record)?;
                rules.entry(record.rule).or_insert(rule)
            }
        };
        let range = |span: PortSpan| PortRange {
            low: span.low,
            high: span.high,
        };
        let some = |span: &&PortSpan| span.low <= span.high && **span != PortSpan::ALL;
        rule.ports
            .extend(record.ports.iter().filter(some).copied().map(range));
        let sources = [record.source_ports];
        rule.source_ports
            .extend(sources.iter().filter(some).copied().map(range));
    }
    let numbers = rules.keys().copied();
    if !numbers.eq(0..rules.len() as u32) {
        return Err(MirrorError("mark rules are missing".to_owned()));
    }
    rules
        .into_values()
        .map(|rule| check(rule).map_err(|text| MirrorError(format!("mark rule: {text}"))))
        .collect()
}

/// The rule of a record, without its ports.
fn rule(record: &MarkRuleRecord) -> Result<MarkRule, MirrorError> {
    let family = match record.families {
        1 => Family::Ipv4,
        2 => Family::Ipv6,
        _ => Family::Any,
    };
    let prefix = |address: &Address, mask: &Address| {
        let length: u32 = mask.iter().map(|word| word.count_ones()).sum();
        (length != 0).then(|| Prefix {
            address: words_address(address, family == Family::Ipv6),
            length: length as u8,
        })
    };
    let action = if record.flags & mark_flag::SKIP != 0 {
        MarkAction::Skip { rules: record.mask }
    } else {
        MarkAction::Set {
            value: record.value,
            mask: record.mask,
        }
    };
    Ok(MarkRule {
        family,
        destination: prefix(&record.destination, &record.destination_mask),
        source: prefix(&record.source, &record.source_mask),
        protocol: Protocol::from_number(record.protocol),
        ports: Vec::new(),
        source_ports: Vec::new(),
        interface: interface_name(&record.interface)?,
        mark: (record.match_mask != 0).then_some(MarkMatch {
            value: record.match_value,
            mask: record.match_mask,
        }),
        action,
    })
}

fn interface_name(bytes: &[u8; 16]) -> Result<Option<String>, MirrorError> {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(16);
    let name = str::from_utf8(&bytes[..end])
        .map_err(|_| MirrorError("a mark rule's interface has an impossible name".to_owned()))?;
    Ok((!name.is_empty()).then(|| name.to_owned()))
}

//! A line of `static_rules` or `virtual_rules`.

use super::super::document::{Statement, Word};
use super::super::model::{Id, Places, Rule, RuleAction, Tracking};
use super::super::reader::Reader;
use super::host_words::{Family, Refusal, Words, number, settle_tracking, track_group};
use super::route_line::TABLES;

/// Rules that name no preference get this one and those below it, in the order of the text.
const FIRST_PREFERENCE: u32 = 16384;
/// `RTPROT_KEEPALIVED`.
const KEEPALIVED: u8 = 18;
/// IP protocols by name; others by number.
const PROTOCOLS: [(&str, u8); 8] = [
    ("icmp", 1),
    ("tcp", 6),
    ("udp", 17),
    ("gre", 47),
    ("esp", 50),
    ("ah", 51),
    ("ipv6-icmp", 58),
    ("sctp", 132),
];

/// The preferences that rules get which name none: those of IPv4 and of IPv6.
#[derive(Debug)]
pub(super) struct Preferences([u32; 2]);

impl Default for Preferences {
    fn default() -> Self {
        Self([FIRST_PREFERENCE; 2])
    }
}

/// A rule while its words are read.
struct Draft {
    rule: Rule,
    family: Family,
    preference: Option<u32>,
    action: Option<RuleAction>,
}

/// Reads a rule; `groups` are the track groups that a static one may name.
pub(super) fn read(
    reader: &mut Reader<'_>,
    statement: &Statement,
    preferences: &mut Preferences,
    groups: Option<&[String]>,
) -> Option<Rule> {
    let words = Words::new(statement);
    match draft(reader, words, groups).and_then(|draft| draft.finish(reader, preferences)) {
        Ok(rule) => Some(rule),
        Err(refusal) => {
            refusal.report(reader);
            None
        }
    }
}

fn draft(
    reader: &mut Reader<'_>,
    mut words: Words<'_>,
    groups: Option<&[String]>,
) -> Result<Draft, Refusal> {
    let place = words.peek().map(|word| word.place).unwrap_or_default();
    let mut draft = Draft {
        rule: Rule {
            places: Places::new(place),
            ipv6: false,
            preference: 0,
            action: RuleAction::Nothing,
            from: None,
            to: None,
            not: false,
            tos: Id::Number(0),
            mark: None,
            incoming: None,
            outgoing: None,
            realms: None,
            suppress_prefix: None,
            suppress_group: None,
            tunnel: None,
            users: None,
            protocol: None,
            source_ports: None,
            destination_ports: None,
            made_by: None,
            tracking: Tracking::default(),
        },
        family: Family::default(),
        preference: None,
        action: None,
    };
    while let Some(word) = words.next() {
        if let ("track_group", Some(groups)) = (word.text.as_str(), groups) {
            let name = words.value(word)?;
            track_group(reader, name, groups, &mut draft.rule.tracking);
            continue;
        }
        if !(draft.packet(reader, word, &mut words)? || draft.lookup(word, &mut words)?) {
            draft.act(word, &mut words)?;
        }
    }
    Ok(draft)
}

impl Draft {
    /// Which packets it is about.
    fn packet(
        &mut self,
        reader: &mut Reader<'_>,
        word: &Word,
        words: &mut Words<'_>,
    ) -> Result<bool, Refusal> {
        let rule = &mut self.rule;
        match word.text.as_str() {
            "inet" => self.family.note(word, false)?,
            "inet6" => self.family.note(word, true)?,
            "from" => rule.from = self.family.network(reader, words.value(word)?)?,
            "to" => rule.to = self.family.network(reader, words.value(word)?)?,
            "not" => rule.not = true,
            "tos" | "dsfield" => rule.tos = words.id(word, 255, &[])?,
            "fwmark" => {
                let value = words.value(word)?;
                rule.mark = Some(mark(&value.text).ok_or_else(|| {
                    let text = format!("`fwmark {}`: a mark is MARK[/MASK]", value.text);
                    Refusal::wrong(value, text)
                })?);
            }
            "dev" | "iif" => rule.incoming = Some(words.value(word)?.text.clone()),
            "oif" => rule.outgoing = Some(words.value(word)?.text.clone()),
            "tunnel-id" => rule.tunnel = Some(words.number(word, u64::MAX)?),
            "uidrange" => rule.users = Some(range(word, words, true)?),
            "ipproto" => {
                let value = words.value(word)?;
                let known = PROTOCOLS.iter().find(|(name, _)| *name == value.text);
                let protocol = known.map(|(_, number)| *number);
                let protocol = protocol.or_else(|| value.text.parse().ok());
                rule.protocol = Some(protocol.ok_or_else(|| {
                    let text = format!("`ipproto {}`: it is a number to 255", value.text);
                    Refusal::wrong(value, text)
                })?);
            }
            "sport" => rule.source_ports = Some(ports(word, words)?),
            "dport" => rule.destination_ports = Some(ports(word, words)?),
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// What counts of the table, and which rule it is among others.
    fn lookup(&mut self, word: &Word, words: &mut Words<'_>) -> Result<bool, Refusal> {
        let rule = &mut self.rule;
        match word.text.as_str() {
            "preference" | "order" | "priority" => {
                let number = words.number(word, u32::MAX.into())?;
                self.preference = u32::try_from(number).ok();
            }
            "realms" => {
                self.family.note(word, false)?;
                self.rule.realms = Some(words.realms(word)?);
            }
            "suppress_prefixlength" | "sup_pl" => {
                rule.suppress_prefix = Some(words.decimal(word, i32::MAX as u32)?);
            }
            "suppress_ifgroup" | "sup_group" => {
                rule.suppress_group = Some(words.id(word, i32::MAX as u32, &[("default", 0)])?);
            }
            "protocol" => {
                let number = words.decimal(word, 255)?;
                rule.made_by = u8::try_from(number).ok();
            }
            "no_track" => rule.tracking.tracked = false,
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// What is done.
    fn act(&mut self, word: &Word, words: &mut Words<'_>) -> Result<(), Refusal> {
        let word = match word.text.as_str() {
            "type" => words.value(word)?,
            _ => word,
        };
        let action = match word.text.as_str() {
            "table" | "lookup" => match words.id(word, u32::MAX, &TABLES)? {
                Id::Number(0) => {
                    let text = "there is no table 0".to_owned();
                    return Err(Refusal::wrong(word, text));
                }
                id => RuleAction::Table(id),
            },
            "l3mdev" => RuleAction::Vrf,
            "goto" => RuleAction::Goto(words.decimal(word, u32::MAX)?),
            "nop" => RuleAction::Nothing,
            "blackhole" => RuleAction::Blackhole,
            "unreachable" => RuleAction::Unreachable,
            "prohibit" => RuleAction::Prohibit,
            other => {
                let text = format!("`{other}`: nothing that is said of a rule");
                return Err(Refusal::wrong(word, text));
            }
        };
        if self.action.replace(action).is_some() {
            let text = format!("`{}`: a rule does one thing", word.text);
            return Err(Refusal::wrong(word, text));
        }
        Ok(())
    }

    fn finish(
        mut self,
        reader: &mut Reader<'_>,
        preferences: &mut Preferences,
    ) -> Result<Rule, Refusal> {
        let rule = &mut self.rule;
        let place = rule.places.begin();
        let wrong = |text: &str| Err(Refusal::Wrong((place, text.to_owned())));
        let Some(action) = self.action else {
            return wrong("a rule that does nothing; name a table: `table N`");
        };
        if let RuleAction::Goto(target) = action
            && self.preference.is_none_or(|own| own >= target)
        {
            return wrong("`goto` needs a preference, lower than that to which it goes");
        }
        let is_lookup = matches!(action, RuleAction::Table(_) | RuleAction::Vrf);
        let about_table = rule.realms.is_some()
            || rule.suppress_prefix.is_some()
            || rule.suppress_group.is_some();
        if !is_lookup && about_table {
            return wrong("realms and suppressors are for rules with a table");
        }
        rule.action = action;
        rule.ipv6 = self.family.is_ipv6();
        rule.preference = self.preference.unwrap_or_else(|| {
            let next = &mut preferences.0[usize::from(rule.ipv6)];
            let own = *next;
            *next -= 1;
            let text =
                format!("no preference is named: it becomes {own}; name one by `preference`");
            reader.warning(place, text);
            own
        });
        if rule.tracking.tracked {
            if rule.made_by.is_some_and(|number| number != KEEPALIVED) {
                let text = "`protocol` is keepalived's with a rule that is tracked; add `no_track`, or leave it out";
                reader.warning(place, text.to_owned());
            }
            rule.made_by = Some(KEEPALIVED);
        }
        settle_tracking(reader, place, rule.incoming.is_some(), &mut rule.tracking);
        Ok(self.rule)
    }
}

/// `MARK[/MASK]`.
fn mark(text: &str) -> Option<(u32, Option<u32>)> {
    let number = |text| number(text).and_then(|number| u32::try_from(number).ok());
    match text.split_once('/') {
        Some((mark, mask)) => Some((number(mark)?, Some(number(mask)?))),
        None => Some((number(text)?, None)),
    }
}

/// `FIRST-LAST`; `both` when the last has to be there.
fn range(word: &Word, words: &mut Words<'_>, both: bool) -> Result<(u32, u32), Refusal> {
    let value = words.value(word)?;
    let number = |text: &str| text.parse::<u32>().ok();
    let range = match value.text.split_once('-') {
        Some((first, last)) => number(first).zip(number(last)),
        None if both => None,
        None => number(&value.text).map(|one| (one, one)),
    };
    range.ok_or_else(|| {
        let text = format!("`{} {}`: it is FIRST-LAST", word.text, value.text);
        Refusal::wrong(value, text)
    })
}

fn ports(word: &Word, words: &mut Words<'_>) -> Result<(u16, u16), Refusal> {
    let (first, last) = range(word, words, true)?;
    let port = |number| u16::try_from(number).ok();
    port(first).zip(port(last)).ok_or_else(|| {
        let text = format!("`{}`: ports are 0 to 65535", word.text);
        Refusal::wrong(word, text)
    })
}

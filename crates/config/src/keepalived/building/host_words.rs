//! The words of a line about addresses, routes and rules of the host.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::super::document::{Place, Statement, Word};
use super::super::model::{Id, Tracking};
use super::super::reader::Reader;
use super::super::values::Fault;

/// Scopes that have a name everywhere.
pub(super) const SCOPES: [(&str, u8); 5] = [
    ("global", 0),
    ("site", 200),
    ("link", 253),
    ("host", 254),
    ("nowhere", 255),
];

/// Why a line is left out.
#[derive(Debug)]
pub(super) enum Refusal {
    /// It can't be.
    Wrong(Fault),
    /// It is not done.
    Unsupported(Fault),
}

impl Refusal {
    pub(super) fn wrong(word: &Word, text: String) -> Self {
        Self::Wrong((word.place, text))
    }

    pub(super) fn unsupported(word: &Word, text: &str) -> Self {
        let text = format!("`{}`: {text}; the line is left out", word.text);
        Self::Unsupported((word.place, text))
    }

    pub(super) fn report(self, reader: &mut Reader<'_>) {
        match self {
            Self::Wrong(fault) => reader.fault(fault),
            Self::Unsupported((place, text)) => reader.unsupported(place, text),
        }
    }
}

impl From<Fault> for Refusal {
    fn from(fault: Fault) -> Self {
        Self::Wrong(fault)
    }
}

/// Goes through the words of a line.
#[derive(Clone)]
pub(super) struct Words<'a> {
    words: &'a [Word],
    at: usize,
}

impl<'a> Words<'a> {
    pub(super) fn new(statement: &'a Statement) -> Self {
        Self {
            words: &statement.words,
            at: 0,
        }
    }

    pub(super) fn next(&mut self) -> Option<&'a Word> {
        let word = self.words.get(self.at);
        self.at += 1;
        word
    }

    pub(super) fn peek(&self) -> Option<&'a Word> {
        self.words.get(self.at)
    }

    /// What stands behind a keyword.
    pub(super) fn value(&mut self, keyword: &Word) -> Result<&'a Word, Refusal> {
        self.next()
            .ok_or_else(|| Refusal::wrong(keyword, format!("`{}` needs a value", keyword.text)))
    }

    /// A decimal number behind a keyword.
    pub(super) fn decimal(&mut self, keyword: &Word, most: u32) -> Result<u32, Refusal> {
        let word = self.value(keyword)?;
        let number = word.text.parse::<u32>().ok().filter(|n| *n <= most);
        number.ok_or_else(|| {
            let text = format!("`{} {}`: it is 0 to {most}", keyword.text, word.text);
            Refusal::wrong(word, text)
        })
    }

    /// A number behind a keyword, of any base.
    pub(super) fn number(&mut self, keyword: &Word, most: u64) -> Result<u64, Refusal> {
        let word = self.value(keyword)?;
        let number = number(&word.text).filter(|n| *n <= most);
        number.ok_or_else(|| {
            let text = format!("`{} {}`: it is 0 to {most}", keyword.text, word.text);
            Refusal::wrong(word, text)
        })
    }

    /// An address behind a keyword.
    pub(super) fn address(&mut self, keyword: &Word) -> Result<IpAddr, Refusal> {
        let word = self.value(keyword)?;
        word.text.parse().map_err(|_| {
            let text = format!("`{} {}`: no IP address", keyword.text, word.text);
            Refusal::wrong(word, text)
        })
    }

    /// Behind a keyword a number up to `most`, or a name that `known` or a file of the host has.
    pub(super) fn id(
        &mut self,
        keyword: &Word,
        most: u32,
        known: &[(&str, u32)],
    ) -> Result<Id, Refusal> {
        let word = self.value(keyword)?;
        id(&word.text, most, known).ok_or_else(|| {
            let text = format!("`{} {}`: it is 0 to {most}", keyword.text, word.text);
            Refusal::wrong(word, text)
        })
    }

    /// `[FROM/]TO` behind a keyword.
    pub(super) fn realms(&mut self, keyword: &Word) -> Result<(Id, Id), Refusal> {
        let word = self.value(keyword)?;
        let realm = |text: &str| id(text, u16::MAX.into(), &[]);
        let both = match word.text.split_once('/') {
            Some((from, to)) => realm(from).zip(realm(to)),
            None => realm(&word.text).map(|to| (Id::Number(0), to)),
        };
        both.ok_or_else(|| {
            let text = format!("`{}`: realms are two numbers, FROM/TO", word.text);
            Refusal::wrong(word, text)
        })
    }

    /// A scope behind a keyword.
    pub(super) fn scope(&mut self, keyword: &Word) -> Result<u8, Refusal> {
        let word = self.value(keyword)?;
        scope(&word.text).ok_or_else(|| {
            let names: Vec<&str> = SCOPES.iter().map(|(name, _)| *name).collect();
            let text = format!("`scope {}`: it is one of {}", word.text, names.join(", "));
            Refusal::wrong(word, text)
        })
    }
}

/// Which family a line is about, as soon as something says it.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Family {
    ipv6: Option<bool>,
}

impl Family {
    /// IPv4 if nothing says otherwise.
    pub(super) fn is_ipv6(self) -> bool {
        self.ipv6.unwrap_or(false)
    }

    pub(super) fn known(self) -> Option<bool> {
        self.ipv6
    }

    /// Takes note of what a word says of it.
    pub(super) fn note(&mut self, word: &Word, ipv6: bool) -> Result<(), Refusal> {
        if self.ipv6.is_some_and(|known| known != ipv6) {
            let text = format!("`{}`: IPv4 and IPv6 in one line", word.text);
            return Err(Refusal::wrong(word, text));
        }
        self.ipv6 = Some(ipv6);
        Ok(())
    }

    /// A network: `default`, `all` and `any` are everybody, of whichever family.
    pub(super) fn network(
        &mut self,
        reader: &mut Reader<'_>,
        word: &Word,
    ) -> Result<Option<(IpAddr, u8)>, Refusal> {
        if let "default" | "all" | "any" = word.text.as_str() {
            return Ok(None);
        }
        let (address, length) = match word.text.split_once('/') {
            Some((address, length)) => (address, Some(length)),
            None => (word.text.as_str(), None),
        };
        let Ok(address) = address.parse::<IpAddr>() else {
            let text = format!("`{}` is no keyword here, and no network", word.text);
            return Err(Refusal::wrong(word, text));
        };
        let prefix = prefix(reader, word, address, length);
        self.note(word, address.is_ipv6())?;
        Ok(Some((address, prefix)))
    }

    /// Everybody, in this family.
    pub(super) fn everybody(self) -> (IpAddr, u8) {
        match self.is_ipv6() {
            true => (Ipv6Addr::UNSPECIFIED.into(), 0),
            false => (Ipv4Addr::UNSPECIFIED.into(), 0),
        }
    }
}

/// `track_group NAME`, `no_track`.
pub(super) fn track_group(
    reader: &mut Reader<'_>,
    name: &Word,
    groups: &[String],
    tracking: &mut Tracking,
) {
    if tracking.group.is_some() {
        let text = format!("`{}`: a second track_group does not count", name.text);
        reader.error(name.place, text);
    } else if groups.contains(&name.text) {
        tracking.group = Some(name.text.clone());
    } else {
        let text = format!("track_group `{}` is not defined above this line", name.text);
        reader.error(name.place, text);
    }
}

/// What follows of the words about tracking together; `device` tells whether an interface is named.
pub(super) fn settle_tracking(
    reader: &mut Reader<'_>,
    place: Place,
    device: bool,
    tracking: &mut Tracking,
) {
    if tracking.group.is_none() {
        return;
    }
    if !tracking.tracked {
        let text = "`track_group` has no effect with `no_track`".to_owned();
        reader.warning(place, text);
    } else if !device {
        let text = "`track_group` has no effect without an interface (`dev`, or `iif` of a rule)"
            .to_owned();
        reader.error(place, text);
    } else {
        return;
    }
    tracking.group = None;
}

/// A scope's number.
pub(super) fn scope(text: &str) -> Option<u8> {
    let known = SCOPES.iter().find(|(name, _)| *name == text);
    let known = known.map(|(_, number)| *number);
    known.or_else(|| number(text).and_then(|number| u8::try_from(number).ok()))
}

/// A number: hexadecimal with `0x`, octal with `0`, else decimal.
pub(super) fn number(text: &str) -> Option<u64> {
    let (digits, base) = match text.strip_prefix("0x") {
        Some(digits) => (digits, 16),
        None if text.len() > 1 && text.starts_with('0') => (&text[1..], 8),
        None => (text, 10),
    };
    // `from_str_radix` takes a sign.
    let plain = digits.chars().all(|c| c.is_ascii_hexdigit());
    u64::from_str_radix(digits, base).ok().filter(|_| plain)
}

fn id(text: &str, most: u32, known: &[(&str, u32)]) -> Option<Id> {
    if let Some((_, number)) = known.iter().find(|(name, _)| *name == text) {
        return Some(Id::Number(*number));
    }
    match number(text) {
        Some(number) => {
            let number = u32::try_from(number).ok()?;
            (number <= most).then_some(Id::Number(number))
        }
        // The host may know it; what begins as a number is none.
        None if text.starts_with(|c: char| c.is_ascii_digit() || c == '-') => None,
        None => Some(Id::Name(text.to_owned())),
    }
}

/// The length of a word's prefix, all bits without one; what can't be is named and counts as all.
pub(super) fn prefix(
    reader: &mut Reader<'_>,
    word: &Word,
    address: IpAddr,
    length: Option<&str>,
) -> u8 {
    let most = if address.is_ipv4() { 32 } else { 128 };
    match length.map(str::parse::<u8>) {
        None => most,
        Some(Ok(length)) if length <= most => length,
        Some(_) => {
            let text = format!(
                "`{}`: a prefix of {address} has 0 to {most} bits",
                word.text
            );
            reader.error(word.place, text);
            most
        }
    }
}

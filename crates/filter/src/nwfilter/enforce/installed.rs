//! What is in force, read from the kernel's own answer (`nft -j list ruleset bridge`).

use serde_json::Value;

use super::{KNOWN, LEARNED, TABLE, about, state, table_name};
use crate::diagnostic::{Diagnostic, Place};
use crate::nft;

/// A port with rules of ours.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Installed {
    /// The port.
    pub port: String,
    /// The filter.
    pub filter: String,
    /// Names and values, one entry a value; `MAC` is among them.
    pub parameters: Vec<(String, String)>,
    /// How the address is learned: `any` or `dhcp`, if it is.
    pub learning: Option<String>,
    /// Addresses that were learned and still hold.
    pub learned: Vec<Learned>,
    /// Rules read the state of connections from marks.
    pub by_marks: bool,
    /// What the rules were made of; nothing if the table does not tell.
    pub digest: Option<String>,
    /// Every rule of the table.
    pub rules: Vec<InstalledRule>,
}

/// An address that was learned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Learned {
    /// The address.
    pub address: String,
    /// Seconds until it is forgotten; nothing for one that stays.
    pub expires_seconds: Option<u64>,
}

/// A rule with what it counted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InstalledRule {
    /// Its chain.
    pub chain: String,
    /// As nft prints it.
    pub text: String,
    /// The libvirt filter that it comes from.
    pub filter: Option<String>,
    /// The number of the rule in the filter, from 0.
    pub number: Option<usize>,
    /// Packets that it applied to.
    pub packets: u64,
    /// Their bytes.
    pub bytes: u64,
}

impl Installed {
    /// Reads all ports.
    pub fn read(text: &str) -> Result<Vec<Self>, Diagnostic> {
        let place = Place::new("nft", 0, 0);
        let document: Value = serde_json::from_str(text)
            .map_err(|error| place.error(format!("the answer is not JSON: {error}")))?;
        let items = document.get("nftables").and_then(Value::as_array);
        let items = items.map(Vec::as_slice).unwrap_or_default();
        let mut ports: Vec<(String, Self, Vec<String>)> = Vec::new();
        for item in items {
            let Some((kind, value)) = item.as_object().and_then(|object| object.iter().next())
            else {
                continue;
            };
            let text = |key| value.get(key).and_then(Value::as_str);
            if text("family") != Some("bridge") {
                continue;
            }
            if kind == "table" {
                if let Some((name, port)) =
                    text("name").and_then(|name| Some((name, port_of(name)?)))
                {
                    let own = Self {
                        port,
                        ..Self::default()
                    };
                    ports.push((name.to_owned(), own, Vec::new()));
                }
                continue;
            }
            let own = ports
                .iter_mut()
                .find(|(table, ..)| text("table") == Some(table.as_str()));
            let Some((_, own, comments)) = own else {
                continue;
            };
            match kind.as_str() {
                "rule" if text("chain") == Some(about::CHAIN) => {
                    own.rules.push(rule(value));
                    comments.extend(text("comment").map(str::to_owned));
                }
                "rule" => own.rules.push(rule(value)),
                "set" if text("name") == Some(&LEARNED[1..]) => own.learned = learned(value),
                _ => {}
            }
        }
        let finish = |(_, mut own, comments): (String, Self, Vec<String>)| {
            for entry in about::joined(comments.iter().map(String::as_str)) {
                own.told(&entry);
            }
            own
        };
        Ok(ports.into_iter().map(finish).collect())
    }

    fn told(&mut self, entry: &str) {
        let (name, value) = entry.split_once(' ').unwrap_or((entry, ""));
        match name {
            "filter" => self.filter = value.to_owned(),
            "parameter" => {
                let (name, value) = value.split_once(' ').unwrap_or((value, ""));
                self.parameters.push((name.to_owned(), value.to_owned()));
            }
            "learning" => self.learning = Some(value.to_owned()),
            "state" => self.by_marks = value == "marks",
            "digest" => self.digest = Some(value.to_owned()),
            _ => {}
        }
    }

    /// The values of a parameter.
    pub fn values<'p>(&'p self, name: &str) -> impl Iterator<Item = &'p str> {
        let name = name.to_owned();
        let of_it =
            move |(own, value): &'p (String, String)| (*own == name).then_some(value.as_str());
        self.parameters.iter().filter_map(of_it)
    }

    /// Nothing of what was loaded is missing, and nothing was added.
    pub fn is(&self, digest: &str, rules: usize) -> bool {
        self.digest.as_deref() == Some(digest) && self.rules.len() == rules
    }

    /// What `nft -f` loads after the rules of a port were replaced, to know what was learned before.
    pub fn script_of_learned(&self) -> String {
        let own = format!("bridge {}", table_name(&self.port));
        let port = super::quoted(&self.port);
        let mut text = String::new();
        for one in &self.learned {
            let timeout = match one.expires_seconds {
                Some(seconds) => format!(" timeout {}s", seconds.max(1)),
                None => String::new(),
            };
            for (set, value) in [
                (LEARNED, one.address.clone()),
                (KNOWN, format!("\"{port}\"")),
            ] {
                text += &format!("add element {own} {} {{ {value}{timeout} }}\n", &set[1..]);
            }
        }
        text
    }

    /// What `nft -f` loads to make an address known for some seconds, instead of those that were; without
    /// an address, to forget them.
    pub fn script_of_lease(&self, lease: Option<(std::net::Ipv4Addr, u32)>) -> String {
        let own = format!("bridge {}", table_name(&self.port));
        let (learned, known) = (&LEARNED[1..], &KNOWN[1..]);
        let mut text = format!("flush set {own} {learned}\nflush set {own} {known}\n");
        if let Some((address, seconds)) = lease {
            let port = super::quoted(&self.port);
            text += &format!(
                "add element {own} {learned} {{ {address} timeout {seconds}s }}\n\
                 add element {own} {known} {{ \"{port}\" timeout {seconds}s }}\n"
            );
        }
        text
    }
}

fn rule(value: &Value) -> InstalledRule {
    let text = |key| value.get(key).and_then(Value::as_str);
    let statements = value.get("expr").and_then(Value::as_array);
    let statements = statements.map(Vec::as_slice).unwrap_or_default();
    let counter = statements.iter().find_map(|one| one.get("counter"));
    let count = |key| {
        let number = counter.and_then(|counter| counter.get(key));
        number.and_then(Value::as_u64).unwrap_or_default()
    };
    let origin = text("comment")
        .filter(|_| text("chain") != Some(about::CHAIN))
        .and_then(|comment| comment.rsplit_once(' '));
    let filter = origin.map(|(filter, _)| about::joined([filter].into_iter()).concat());
    InstalledRule {
        chain: text("chain").unwrap_or_default().to_owned(),
        text: nft::written(statements),
        filter,
        number: origin.and_then(|(_, number)| number.parse().ok()),
        packets: count("packets"),
        bytes: count("bytes"),
    }
}

fn learned(set: &Value) -> Vec<Learned> {
    let elements = set.get("elem").and_then(Value::as_array);
    let read = |element: &Value| {
        let inner = element.get("elem").unwrap_or(element);
        let address = inner.get("val").unwrap_or(inner).as_str()?;
        Some(Learned {
            address: address.to_owned(),
            expires_seconds: inner.get("expires").and_then(Value::as_u64),
        })
    };
    let elements = elements.map(Vec::as_slice).unwrap_or_default();
    elements.iter().filter_map(read).collect()
}

/// The port whose table has this name.
pub fn port_of(table: &str) -> Option<String> {
    let mut bytes = table.strip_prefix(TABLE)?.bytes();
    let mut port = Vec::new();
    while let Some(byte) = bytes.next() {
        let mut digit = || char::from(bytes.next()?).to_digit(16);
        match byte {
            b'/' => port.push((digit()? << 4 | digit()?) as u8),
            byte => port.push(byte),
        }
    }
    String::from_utf8(port).ok().filter(|port| !port.is_empty())
}

/// What `nft -f` loads to remove the rules of ports; with them, if no other port needs them, the tables
/// that mark packets.
pub fn script_of_removal(ports: &[&Installed], with_marks: bool) -> String {
    let mut tables: Vec<String> = ports
        .iter()
        .map(|one| format!("bridge {}", table_name(&one.port)))
        .collect();
    if with_marks {
        tables.extend(["bridge", "inet"].map(|family| format!("{family} {}", state::table_name())));
    }
    // Added first, so that one that went in the meantime is no error.
    tables
        .iter()
        .map(|table| format!("add table {table}\ndelete table {table}\n"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_named_by_any_port() {
        for port in ["vnet0", "tap@0:x", "é", "a-b_c.d", "ünïcödé#$"] {
            let name = table_name(port);
            let good = |c: char| c.is_ascii_alphanumeric() || "_-./".contains(c);
            assert!(name.chars().all(good), "{name}");
            assert_eq!(port_of(&name).as_deref(), Some(port));
        }
        for other in [
            state::table_name().as_str(),
            "pointsman_",
            "libvirt_nwfilter_inet",
        ] {
            assert_eq!(port_of(other), None, "{other}");
        }
    }
}

//! `nft -j list ruleset`.

use std::{
    collections::{BTreeMap, HashMap},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    rc::Rc,
};

use pointsman_director::model::{Family, MarkMatch, PortRange, Prefix, Protocol};
use serde_json::Value;

use super::{
    ReadError, Source,
    program::{BaseChain, Condition, Field, Position, Rule, Step, understood},
};

/// Family and name of a table.
type TableName = (String, String);

#[derive(Debug, Default)]
struct Table {
    chains: HashMap<String, Vec<Rule>>,
    bases: Vec<Base>,
    sets: HashMap<String, Value>,
}

#[derive(Debug)]
struct Base {
    name: String,
    position: Position,
    nat: bool,
}

/// Reads a text.
pub(super) fn read(source: &Source<'_>) -> Result<Vec<BaseChain>, ReadError> {
    let wrong = |place: String, why: String| ReadError { place, why };
    let document: Value = serde_json::from_str(source.text).map_err(|error| {
        wrong(
            format!("{}:{}", source.name, error.line()),
            format!("this is no JSON: {error}"),
        )
    })?;
    let objects = document["nftables"].as_array().ok_or_else(|| {
        let why = "there is no \"nftables\" in it: is it of `nft -j list ruleset`?";
        wrong(source.name.to_owned(), why.to_owned())
    })?;
    let mut tables: BTreeMap<TableName, Table> = BTreeMap::new();
    let word = |value: &Value, name: &str| value[name].as_str().unwrap_or_default().to_owned();
    // Sets are listed before the rules that use them, but nothing promises it.
    for object in objects {
        if let Some(set) = object.get("set") {
            let table = (word(set, "family"), word(set, "table"));
            let sets = &mut tables.entry(table).or_default().sets;
            sets.insert(word(set, "name"), set.clone());
        }
    }
    for object in objects {
        if let Some(chain) = object.get("chain") {
            let name = word(chain, "name");
            let table = tables
                .entry((word(chain, "family"), word(chain, "table")))
                .or_default();
            table.chains.entry(name.clone()).or_default();
            let hook = match chain["hook"].as_str() {
                Some("prerouting") => 0,
                Some("input") => 1,
                Some("ingress") => 0,
                _ => continue,
            };
            let priority = chain["prio"].as_i64().unwrap_or(0);
            table.bases.push(Base {
                name,
                position: Position { hook, priority },
                nat: chain["type"] == "nat",
            });
        }
        if let Some(rule) = object.get("rule") {
            let (family, table) = (word(rule, "family"), word(rule, "table"));
            let chain = word(rule, "chain");
            let place = format!(
                "{}: {family} {table} {chain}, handle {}",
                source.name, rule["handle"]
            );
            let Some(table) = tables.get_mut(&(family.clone(), table)) else {
                return Err(wrong(place, "its table is not there".to_owned()));
            };
            let rule = Reader::read(rule, &table.sets, place);
            table.chains.entry(chain).or_default().push(rule);
        }
    }
    Ok(base_chains(tables))
}

fn family_of(name: &str) -> Family {
    match name {
        "ip" => Family::Ipv4,
        "ip6" => Family::Ipv6,
        _ => Family::Any,
    }
}

fn base_chains(tables: BTreeMap<TableName, Table>) -> Vec<BaseChain> {
    let mut found = Vec::new();
    for ((family, _), table) in tables {
        let mut chains = table.chains;
        if !["ip", "ip6", "inet"].contains(&family.as_str()) {
            let why = format!("tables of family {family} are not read");
            chains.values_mut().for_each(|rules| spoil(rules, &why));
        }
        let chains = chains.into_iter();
        let chains: HashMap<_, _> = chains.map(|(name, rules)| (name, Rc::new(rules))).collect();
        let others = Rc::new(chains);
        for base in table.bases {
            let mut rules = Rc::clone(&others[&base.name]);
            if base.nat {
                let why = "a chain of type nat sees first packets of connections only";
                spoil(Rc::<Vec<Rule>>::make_mut(&mut rules).as_mut_slice(), why);
            }
            found.push(BaseChain {
                position: base.position,
                family: family_of(&family),
                rules,
                others: Rc::clone(&others),
            });
        }
    }
    found
}

/// Makes marks that these rules set something that can't be imported.
fn spoil(rules: &mut [Rule], why: &str) {
    for step in rules.iter_mut().flat_map(|rule| &mut rule.steps) {
        if matches!(step, Step::Set { .. }) {
            *step = Step::Unknown(why.to_owned());
        }
    }
}

/// Reads the expressions of one rule.
struct Reader<'a> {
    sets: &'a HashMap<String, Value>,
    conditions: Vec<Condition>,
    unknown: Option<String>,
    steps: Vec<Step>,
}

impl<'a> Reader<'a> {
    fn read(rule: &Value, sets: &'a HashMap<String, Value>, place: String) -> Rule {
        let mut reader = Self {
            sets,
            conditions: Vec::new(),
            unknown: None,
            steps: Vec::new(),
        };
        for expression in rule["expr"].as_array().into_iter().flatten() {
            if let Some((name, value)) = expression.as_object().and_then(|map| map.iter().next()) {
                reader.expression(name, value);
            }
        }
        Rule {
            place,
            text: rule["expr"].to_string(),
            conditions: understood(reader.conditions, reader.unknown),
            steps: reader.steps,
        }
    }

    fn expression(&mut self, name: &str, value: &Value) {
        // What stands behind a verdict is never reached; nft refuses it.
        match name {
            "match" => {
                // A condition behind a statement only holds back what comes after it.
                if !self.steps.is_empty() {
                    self.miss("a condition behind a statement".to_owned());
                    return;
                }
                if let Err(why) = self.matches(value) {
                    self.miss(why);
                }
            }
            "mangle" => self.mangle(value),
            "accept" | "drop" | "reject" | "dnat" | "snat" | "redirect" | "masquerade" | "fwd"
            | "synproxy" => self.steps.push(Step::End),
            "return" => self.steps.push(Step::Return),
            "jump" | "goto" => {
                let target = value["target"].as_str().unwrap_or_default().to_owned();
                self.steps.push(match name {
                    "jump" => Step::Jump(target),
                    _ => Step::Goto(target),
                });
            }
            "counter" | "log" | "notrack" | "dup" | "set" | "map" | "ct helper" | "ct timeout"
            | "ct expectation" | "flow" | "secmark" | "continue" | "last" | "comment" => {}
            "xt" => self.extension(value),
            "queue" | "tproxy" => {
                let why = format!("what {name} makes of marks can't be a mark rule");
                self.steps.push(Step::Unknown(why));
            }
            "vmap" => {
                self.miss("a verdict map can't be a mark rule's".to_owned());
                let text = value.to_string();
                // It may lead to chains that set marks.
                self.steps
                    .push(match text.contains("jump") || text.contains("goto") {
                        true => Step::Unknown("a verdict map can't be a mark rule's".to_owned()),
                        false => Step::End,
                    });
            }
            other => self.miss(format!("`{other}` can't be a mark rule's")),
        }
    }

    /// A match or target of iptables, of which nft says no more than the name.
    fn extension(&mut self, value: &Value) {
        let name = value["name"].as_str().unwrap_or_default();
        let why = format!(
            "nft does not show what {name} of iptables is told: read it with iptables-save instead"
        );
        match (value["type"].as_str(), name) {
            (Some("target"), "MARK" | "CONNMARK" | "TPROXY" | "NFQUEUE" | "HMARK") => {
                self.steps.push(Step::Unknown(why));
            }
            (Some("target"), "REJECT" | "DNAT" | "REDIRECT" | "NETMAP" | "SYNPROXY") => {
                self.steps.push(Step::End);
            }
            (Some("target"), _) => {}
            (_, "comment") => {}
            _ => self.miss(why),
        }
    }

    fn mangle(&mut self, value: &Value) {
        let key = &value["key"];
        if key["meta"]["key"] == "mark" {
            self.steps.push(match mark_of(&value["value"]) {
                Some((keep, flip)) => Step::Set {
                    value: flip,
                    mask: !keep,
                },
                None => Step::Unknown("marks are made of something else than marks".to_owned()),
            });
            return;
        }
        if let Some(field) = key["payload"]["field"].as_str()
            && ["saddr", "daddr", "sport", "dport"].contains(&field)
        {
            let why = format!("{field} is changed, and the director sees packets before that");
            self.steps.push(Step::Unknown(why));
        }
    }

    fn matches(&mut self, value: &Value) -> Result<(), String> {
        let (left, right) = (&value["left"], &value["right"]);
        let operator = value["op"].as_str().unwrap_or_default();
        let negated = operator == "!=";
        let subject = self.subject(left)?;
        let fields = match operator {
            "==" | "!=" | "in" => self.fields(&subject, right)?,
            "<" | ">" | "<=" | ">=" => vec![ordered(&subject, operator, right)?],
            _ => return Err(format!("`{operator}` can't be a mark rule's")),
        };
        self.conditions.push(Condition {
            any_of: fields,
            negated,
        });
        Ok(())
    }

    /// What a match looks at; what it takes for granted becomes a condition of its own.
    fn subject(&mut self, left: &Value) -> Result<Subject, String> {
        if let Some(payload) = left.get("payload") {
            let protocol = payload["protocol"].as_str().unwrap_or_default();
            let field = payload["field"].as_str().unwrap_or_default();
            match protocol {
                "ip" => self.implied(Field::Family(Family::Ipv4)),
                "ip6" => self.implied(Field::Family(Family::Ipv6)),
                "tcp" => self.implied(Field::Protocol(Protocol::Tcp)),
                "udp" => self.implied(Field::Protocol(Protocol::Udp)),
                "sctp" => self.implied(Field::Protocol(Protocol::Sctp)),
                "th" => {}
                "icmp" | "icmpv6" | "igmp" | "dccp" | "udplite" | "ah" | "esp" | "comp" => {
                    self.implied(Field::Never);
                }
                _ => {}
            }
            return match (protocol, field) {
                ("ip" | "ip6", "daddr") => Ok(Subject::Destination),
                ("ip" | "ip6", "saddr") => Ok(Subject::Source),
                ("ip", "protocol") | ("ip6", "nexthdr") => Ok(Subject::Protocol),
                ("tcp" | "udp" | "sctp" | "th", "dport") => Ok(Subject::Ports),
                ("tcp" | "udp" | "sctp" | "th", "sport") => Ok(Subject::SourcePorts),
                _ => Err(format!("`{protocol} {field}` can't be a mark rule's")),
            };
        }
        if let Some(key) = left["meta"]["key"].as_str() {
            return match key {
                "l4proto" => Ok(Subject::Protocol),
                "protocol" | "nfproto" => Ok(Subject::Family),
                "iifname" | "iif" => Ok(Subject::Interface),
                "mark" => Ok(Subject::Mark(u32::MAX)),
                _ => Err(format!("`meta {key}` can't be a mark rule's")),
            };
        }
        if let Some([subject, mask]) = left["&"].as_array().map(Vec::as_slice)
            && subject["meta"]["key"] == "mark"
            && let Some(mask) = mask.as_u64().and_then(|mask| u32::try_from(mask).ok())
        {
            return Ok(Subject::Mark(mask));
        }
        let name = left.as_object().and_then(|map| map.keys().next());
        match name {
            Some(name) => Err(format!("`{name}` can't be a mark rule's")),
            None => Err("a match of nothing".to_owned()),
        }
    }

    fn implied(&mut self, field: Field) {
        self.conditions.push(Condition::is(field));
    }

    /// The alternatives on the right of a match.
    fn fields(&self, subject: &Subject, right: &Value) -> Result<Vec<Field>, String> {
        let elements = match right {
            Value::String(name) if name.starts_with('@') => {
                let set = self
                    .sets
                    .get(&name[1..])
                    .ok_or_else(|| format!("there is no set {name}"))?;
                let flags = set["flags"].as_array().into_iter().flatten();
                if flags
                    .clone()
                    .any(|flag| flag == "dynamic" || flag == "timeout")
                {
                    return Err(format!("set {name} changes while packets pass"));
                }
                set["elem"].as_array().cloned().unwrap_or_default()
            }
            Value::Object(object) if object.contains_key("set") => match &right["set"] {
                Value::Array(elements) => elements.clone(),
                one => vec![one.clone()],
            },
            Value::Array(_) => return Err("a list can't be a mark rule's".to_owned()),
            one => vec![one.clone()],
        };
        let mut fields = Vec::new();
        let mut ranges = Vec::new();
        for element in &elements {
            let element = match element.get("elem") {
                Some(inner) => inner.get("val").unwrap_or(inner),
                None => element,
            };
            match subject {
                Subject::Ports | Subject::SourcePorts => ranges.push(ports(element)?),
                Subject::Destination => {
                    fields.extend(prefixes(element)?.into_iter().map(Field::Destination));
                }
                Subject::Source => fields.extend(prefixes(element)?.into_iter().map(Field::Source)),
                Subject::Protocol => {
                    fields.push(protocol(element).map_or(Field::Never, Field::Protocol));
                }
                Subject::Family => fields.push(match element.as_str() {
                    Some("ip" | "ipv4") => Field::Family(Family::Ipv4),
                    Some("ip6" | "ipv6") => Field::Family(Family::Ipv6),
                    _ => Field::Never,
                }),
                Subject::Interface => match element.as_str() {
                    Some(name) if name.ends_with('*') => {
                        return Err(format!("interface `{name}`: a name must be exact"));
                    }
                    Some(name) => fields.push(Field::Interface(name.to_owned())),
                    None => return Err(format!("interface {element} has no name")),
                },
                Subject::Mark(mask) => {
                    let value = element.as_u64().and_then(|value| u32::try_from(value).ok());
                    let value = value.ok_or_else(|| format!("{element} is no mark"))?;
                    let mask = *mask;
                    fields.push(match value & !mask {
                        0 => Field::Mark(MarkMatch { value, mask }),
                        _ => Field::Never,
                    });
                }
            }
        }
        match subject {
            Subject::Ports if !ranges.is_empty() => fields.push(Field::Ports(ranges)),
            Subject::SourcePorts if !ranges.is_empty() => fields.push(Field::SourcePorts(ranges)),
            _ => {}
        }
        Ok(fields)
    }

    fn miss(&mut self, why: String) {
        self.unknown.get_or_insert(why);
    }
}

/// What a match looks at.
enum Subject {
    Destination,
    Source,
    Protocol,
    Family,
    Ports,
    SourcePorts,
    Interface,
    /// The mark in these bits.
    Mark(u32),
}

/// Ports above or below one.
fn ordered(subject: &Subject, operator: &str, right: &Value) -> Result<Field, String> {
    let range = ports(right)?;
    let empty = PortRange { low: 1, high: 0 };
    let range = match operator {
        "<" => match range.low {
            0 => empty,
            low => PortRange {
                low: 0,
                high: low - 1,
            },
        },
        "<=" => PortRange {
            low: 0,
            high: range.low,
        },
        ">" => match range.high {
            u16::MAX => empty,
            high => PortRange {
                low: high + 1,
                high: u16::MAX,
            },
        },
        _ => PortRange {
            low: range.high,
            high: u16::MAX,
        },
    };
    match subject {
        Subject::Ports | Subject::SourcePorts if range == empty => Ok(Field::Never),
        Subject::Ports => Ok(Field::Ports(vec![range])),
        Subject::SourcePorts => Ok(Field::SourcePorts(vec![range])),
        _ => Err(format!("`{operator}` is for ports only in a mark rule")),
    }
}

fn port(value: &Value) -> Result<u16, String> {
    let number = value.as_u64().and_then(|port| u16::try_from(port).ok());
    number.ok_or_else(|| format!("{value} is no port"))
}

fn ports(value: &Value) -> Result<PortRange, String> {
    match value["range"].as_array().map(Vec::as_slice) {
        Some([low, high]) => Ok(PortRange {
            low: port(low)?,
            high: port(high)?,
        }),
        _ => Ok(PortRange::of(port(value)?)),
    }
}

fn protocol(value: &Value) -> Option<Protocol> {
    match (value.as_str(), value.as_u64()) {
        (Some("tcp"), _) | (_, Some(6)) => Some(Protocol::Tcp),
        (Some("udp"), _) | (_, Some(17)) => Some(Protocol::Udp),
        (Some("sctp"), _) | (_, Some(132)) => Some(Protocol::Sctp),
        _ => None,
    }
}

/// The prefixes of an address, a prefix or a range.
fn prefixes(value: &Value) -> Result<Vec<Prefix>, String> {
    let bad = || format!("{value} is no address");
    let address = |value: &Value| -> Option<IpAddr> { value.as_str()?.parse().ok() };
    if let Some(prefix) = value.get("prefix") {
        let length = prefix["len"]
            .as_u64()
            .and_then(|len| u8::try_from(len).ok());
        let prefix = Prefix {
            address: address(&prefix["addr"]).ok_or_else(bad)?,
            length: length.ok_or_else(bad)?,
        };
        return Ok(vec![prefix.masked().ok_or_else(bad)?]);
    }
    if let Some([low, high]) = value["range"].as_array().map(Vec::as_slice) {
        let (low, high) = (
            address(low).ok_or_else(bad)?,
            address(high).ok_or_else(bad)?,
        );
        return Ok(range(low, high));
    }
    Ok(vec![Prefix::of(address(value).ok_or_else(bad)?)])
}

/// The fewest prefixes that hold all addresses from `low` to `high`, and no others.
fn range(low: IpAddr, high: IpAddr) -> Vec<Prefix> {
    let (bits, mut low, high) = match (low, high) {
        (IpAddr::V4(low), IpAddr::V4(high)) => (32, low.to_bits().into(), high.to_bits().into()),
        (IpAddr::V6(low), IpAddr::V6(high)) => (128, low.to_bits(), high.to_bits()),
        _ => return Vec::new(),
    };
    let mut found = Vec::new();
    while low <= high {
        let mut free = low.trailing_zeros().min(bits);
        // The largest block that begins here and does not reach over the end.
        while free > 0 && (free >= 128 || (1_u128 << free) - 1 > high - low) {
            if free >= 128 && low == 0 && high == u128::MAX {
                break;
            }
            free -= 1;
        }
        let address = match bits {
            32 => IpAddr::V4(Ipv4Addr::from_bits(low as u32)),
            _ => IpAddr::V6(Ipv6Addr::from_bits(low)),
        };
        found.push(Prefix {
            address,
            length: (bits - free) as u8,
        });
        let step = match free {
            128 => return found,
            free => 1_u128 << free,
        };
        match low.checked_add(step) {
            Some(next) => low = next,
            None => return found,
        }
    }
    found
}

/// A mark as a function of the mark so far: bits to keep, then bits to flip.
fn mark_of(value: &Value) -> Option<(u32, u32)> {
    if let Some(number) = value.as_u64() {
        return Some((0, u32::try_from(number).ok()?));
    }
    if value["meta"]["key"] == "mark" {
        return Some((u32::MAX, 0));
    }
    for operator in ["&", "|", "^"] {
        let Some(operands) = value[operator].as_array() else {
            continue;
        };
        let mut operands = operands.iter();
        let (mut keep, mut flip) = mark_of(operands.next()?)?;
        for operand in operands {
            let number = u32::try_from(operand.as_u64()?).ok()?;
            (keep, flip) = match operator {
                "&" => (keep & number, flip & number),
                "|" => (keep & !number, flip & !number | number),
                _ => (keep, flip ^ number),
            };
        }
        return Some((keep, flip));
    }
    None
}

//! Reader of `<filter>` documents.

use std::collections::HashMap;
use std::sync::Arc;

use super::Xml;
use super::element::Kind;
use super::value::Type;
use super::variable::{Access, Parameters};
use crate::diagnostic::{Diagnostic, Place};

/// Priorities go from -1000 to this.
const PRIORITY: i32 = 1000;
/// Longest name of a chain.
const CHAIN_LENGTH: usize = 12;
/// Priority of a rule that does not say any.
const DEFAULT_PRIORITY: i32 = 500;

/// A filter as it is written.
#[derive(Debug, Clone)]
pub struct Filter {
    /// Its name.
    pub name: String,
    /// Its chain, `root` if it does not say.
    pub chain: String,
    /// The chain's priority.
    pub chain_priority: i32,
    /// Rules and references, as written.
    pub entries: Vec<Entry>,
    /// What libvirt takes without a word and people should know.
    pub warnings: Vec<Diagnostic>,
    /// Where it is written.
    pub place: Place,
    /// As it is written.
    pub text: Arc<str>,
}

/// What a filter holds.
#[derive(Debug, Clone)]
pub enum Entry {
    /// A rule.
    Rule(XmlRule),
    /// Another filter.
    Reference(Reference),
}

/// A reference to a filter.
#[derive(Debug, Clone)]
pub struct Reference {
    /// The filter's name.
    pub filter: String,
    /// Values for its variables.
    pub parameters: Parameters,
    /// Where it is written.
    pub place: Place,
}

/// What a rule does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Act {
    /// Lost.
    Drop,
    /// Accepted.
    Accept,
    /// Lost, the sender told.
    Reject,
    /// Back to the calling chain.
    Return,
    /// On with the next rule.
    Continue,
}

impl Act {
    /// As written.
    pub fn name(self) -> &'static str {
        match self {
            Self::Drop => "drop",
            Self::Accept => "accept",
            Self::Reject => "reject",
            Self::Return => "return",
            Self::Continue => "continue",
        }
    }
}

/// Which traffic a rule is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Sense {
    /// Towards the guest.
    In,
    /// From the guest.
    Out,
    /// Both; written from the point of view of traffic towards the guest.
    InOut,
}

impl Sense {
    /// As written.
    pub fn name(self) -> &'static str {
        match self {
            Self::In => "in",
            Self::Out => "out",
            Self::InOut => "inout",
        }
    }
}

/// A rule as it is written.
#[derive(Debug, Clone)]
pub struct XmlRule {
    /// What it does.
    pub act: Act,
    /// For which traffic.
    pub sense: Sense,
    /// Its place among the others.
    pub priority: i32,
    /// Whether connection states are added to accepting rules.
    pub state_match: bool,
    /// What it is about; nothing stands for everything.
    pub is_about: Option<Match>,
    /// Number in the filter, from 0.
    pub number: usize,
    /// Where it is written.
    pub place: Place,
}

/// A protocol element's attributes.
#[derive(Debug, Clone)]
pub struct Match {
    /// The element.
    pub kind: Kind,
    /// In libvirt's order, not as written.
    pub(super) items: Vec<Item>,
    /// Variables in the order in which libvirt meets them; also those whose attribute another element of
    /// the rule says again.
    accesses: Vec<Access>,
}

/// An attribute.
#[derive(Debug, Clone)]
pub(super) struct Item {
    pub(super) name: &'static str,
    pub(super) datum: Datum,
    pub(super) negated: bool,
}

/// An attribute's value.
#[derive(Debug, Clone)]
pub(super) enum Datum {
    /// As libvirt hands it on.
    Text(String),
    /// From a variable; what it is, is found out when it is filled in.
    Variable(Access),
}

impl Match {
    /// Attributes whose value comes from a variable.
    pub fn variables(&self) -> impl Iterator<Item = (&'static str, &Access)> {
        self.items.iter().filter_map(|item| match &item.datum {
            Datum::Variable(access) => Some((item.name, access)),
            Datum::Text(_) => None,
        })
    }

    /// Variables in the order in which they are met.
    pub(super) fn accesses(&self) -> &[Access] {
        &self.accesses
    }
}

/// Filters by name.
#[derive(Debug, Clone, Default)]
pub struct Library {
    filters: HashMap<String, Filter>,
}

impl Library {
    /// No filter.
    pub fn new() -> Self {
        Self::default()
    }

    /// Reads a document with one filter and adds it; a filter of the same name is replaced.
    pub fn add(&mut self, file: &str, text: &str) -> Result<&Filter, Diagnostic> {
        let xml = Xml::parse(file, text)?;
        let root = xml.document.root_element();
        if !root.has_tag_name("filter") {
            let name = root.tag_name().name();
            return Err(xml
                .place(root)
                .error(format!("expected <filter>, not <{name}>")));
        }
        let filter = read_filter(&xml, root)?;
        let name = filter.name.clone();
        self.filters.insert(name.clone(), filter);
        Ok(&self.filters[&name])
    }

    /// Adds the filters of another library; those of the same name are replaced.
    pub fn extend(&mut self, other: &Self) {
        let others = other.filters.iter();
        self.filters
            .extend(others.map(|(name, filter)| (name.clone(), filter.clone())));
    }

    /// The filter of this name.
    pub fn get(&self, name: &str) -> Option<&Filter> {
        self.filters.get(name)
    }

    /// All filters, in no order.
    pub fn filters(&self) -> impl Iterator<Item = &Filter> {
        self.filters.values()
    }
}

fn read_filter(xml: &Xml<'_>, node: roxmltree::Node<'_, '_>) -> Result<Filter, Diagnostic> {
    let name = xml.required(node, "name")?.to_owned();
    let chain = node.attribute("chain").unwrap_or("root").to_owned();
    let default = check_chain(&chain).map_err(|text| {
        let attribute = node.attribute_node("chain");
        attribute
            .map_or_else(
                || xml.place(node),
                |attribute| xml.attribute_place(&attribute),
            )
            .error(text)
    })?;
    let chain_priority = match node.attribute_node("priority") {
        None => default,
        Some(attribute) => {
            let priority = attribute.value().parse::<i32>().ok();
            priority
                .filter(|priority| priority.abs() <= PRIORITY)
                .ok_or_else(|| {
                    xml.attribute_place(&attribute)
                        .error("a chain's priority is a number from -1000 to 1000")
                })?
        }
    };
    let mut filter = Filter {
        name,
        chain,
        chain_priority,
        entries: Vec::new(),
        warnings: Vec::new(),
        place: xml.place(node),
        text: xml.document.input_text().into(),
    };
    let mut number = 0;
    for child in node.children().filter(roxmltree::Node::is_element) {
        match child.tag_name().name() {
            "rule" => {
                let rule = read_rule(xml, child, number, &mut filter.warnings)?;
                filter.entries.push(Entry::Rule(rule));
                number += 1;
            }
            "filterref" => {
                let reference = read_reference(xml, child, &mut filter.warnings)?;
                filter.entries.push(Entry::Reference(reference));
            }
            "uuid" => {}
            other => filter.warnings.push(
                xml.place(child)
                    .error(format!("libvirt ignores <{other}> here")),
            ),
        }
    }
    Ok(filter)
}

/// The default priority of a chain, or why it can't be one.
fn check_chain(chain: &str) -> Result<i32, String> {
    if chain == "root" {
        return Ok(0);
    }
    let prefixes = [
        ("mac", -800),
        ("vlan", -750),
        // As libvirt 9 has it; the manual says -810.
        ("stp", 0),
        ("arp", -500),
        ("rarp", -400),
        ("ipv4", -700),
        ("ipv6", -600),
    ];
    let Some((_, priority)) = prefixes
        .iter()
        .find(|(prefix, _)| chain.starts_with(prefix))
    else {
        return Err(format!(
            "chain `{chain}` is neither `root` nor begins with mac, vlan, stp, arp, rarp, ipv4, ipv6"
        ));
    };
    if chain.len() > CHAIN_LENGTH {
        return Err(format!(
            "chain `{chain}` has {} characters; the limit is {CHAIN_LENGTH}",
            chain.len()
        ));
    }
    let good = |c: char| c.is_ascii_alphanumeric() || "_.:-".contains(c);
    if let Some(bad) = chain.chars().find(|&c| !good(c)) {
        return Err(format!("chain `{chain}` has the character `{bad}`"));
    }
    Ok(*priority)
}

/// Reads `<filterref>` with its parameters.
pub(super) fn read_reference(
    xml: &Xml<'_>,
    node: roxmltree::Node<'_, '_>,
    warnings: &mut Vec<Diagnostic>,
) -> Result<Reference, Diagnostic> {
    let mut parameters = Parameters::new();
    for child in node
        .children()
        .filter(|child| child.has_tag_name("parameter"))
    {
        let (name, value) = (child.attribute("name"), child.attribute("value"));
        let taken = match (name, value) {
            (Some(name), Some(value)) => parameters.add(name, value),
            _ => false,
        };
        if !taken {
            warnings.push(xml.place(child).error(format!(
                "libvirt skips this parameter: `{}`=`{}` has a character it does not take",
                name.unwrap_or_default(),
                value.unwrap_or_default()
            )));
        }
    }
    Ok(Reference {
        filter: xml.required(node, "filter")?.to_owned(),
        parameters,
        place: xml.place(node),
    })
}

fn read_rule(
    xml: &Xml<'_>,
    node: roxmltree::Node<'_, '_>,
    number: usize,
    warnings: &mut Vec<Diagnostic>,
) -> Result<XmlRule, Diagnostic> {
    let place = xml.place(node);
    let act = match xml.required(node, "action")? {
        "drop" => Act::Drop,
        "accept" => Act::Accept,
        "reject" => Act::Reject,
        "return" => Act::Return,
        "continue" => Act::Continue,
        other => {
            return Err(place.error(format!(
                "there is no action `{other}`; there are drop, accept, reject, return, continue"
            )));
        }
    };
    let sense = match xml.required(node, "direction")? {
        "in" => Sense::In,
        "out" => Sense::Out,
        "inout" => Sense::InOut,
        other => {
            return Err(place.error(format!(
                "there is no direction `{other}`; there are in, out, inout"
            )));
        }
    };
    let mut priority = DEFAULT_PRIORITY;
    if let Some(attribute) = node.attribute_node("priority") {
        match attribute.value().parse::<i32>() {
            Ok(number) if number.abs() <= PRIORITY => priority = number,
            _ => warnings.push(xml.attribute_place(&attribute).error(format!(
                "`{}` is not a number from -1000 to 1000; libvirt takes {DEFAULT_PRIORITY}",
                attribute.value()
            ))),
        }
    }
    let state_match = !node
        .attribute("statematch")
        .is_some_and(|text| text == "0" || text.eq_ignore_ascii_case("false"));
    let mut is_about: Option<Match> = None;
    for child in node.children().filter(roxmltree::Node::is_element) {
        let name = child.tag_name().name();
        let Some(kind) = Kind::of(name) else {
            warnings.push(xml.place(child).error(format!(
                "libvirt does not know <{name}> and ignores it: the rule is about everything"
            )));
            continue;
        };
        let found = is_about.get_or_insert_with(|| Match {
            kind,
            items: Vec::new(),
            accesses: Vec::new(),
        });
        if found.kind != kind {
            warnings.push(xml.place(child).error(format!(
                "libvirt ignores <{name}> after <{}>",
                found.kind.name()
            )));
            continue;
        }
        read_attributes(xml, child, found, warnings)?;
    }
    if let Some(found) = &mut is_about {
        if !state_match {
            // States count as little as the default ones.
            found.items.retain(|item| item.name != "state");
        }
        settle(found, &place)?;
    }
    Ok(XmlRule {
        act,
        sense,
        priority,
        state_match,
        is_about,
        number,
        place,
    })
}

fn read_attributes(
    xml: &Xml<'_>,
    node: roxmltree::Node<'_, '_>,
    found: &mut Match,
    warnings: &mut Vec<Diagnostic>,
) -> Result<(), Diagnostic> {
    let negated = node.attribute("match") == Some("no");
    let known = found.kind.attributes();
    for attribute in node.attributes() {
        let is_known = known.iter().any(|(name, _)| *name == attribute.name());
        if !is_known && attribute.name() != "match" {
            warnings.push(xml.attribute_place(&attribute).error(format!(
                "libvirt ignores `{}` on <{}>",
                attribute.name(),
                found.kind.name()
            )));
        }
    }
    for (name, kind) in known {
        let Some(attribute) = node.attribute_node(name) else {
            continue;
        };
        let value = attribute.value();
        let place = xml.attribute_place(&attribute);
        let mut datum = match value.strip_prefix('$') {
            Some(variable) => {
                let access = Access::parse(variable).ok_or_else(|| {
                    place.error(format!(
                        "`{value}` is not a variable; write $NAME, $NAME[@0] or $NAME[0]"
                    ))
                })?;
                if !found.accesses.contains(&access) {
                    found.accesses.push(access.clone());
                }
                Datum::Variable(access)
            }
            None => Datum::Text(
                kind.check(value)
                    .ok_or_else(|| place.error(format!("`{value}` is not {}", kind.what())))?,
            ),
        };
        let before = found.items.iter().position(|item| item.name == name);
        let before = before.map(|at| found.items.remove(at).datum);
        // Of several elements all states count.
        if let (Type::States, Some(Datum::Text(before)), Datum::Text(text)) =
            (kind, before, &mut datum)
        {
            *text = format!("{before},{text}");
            *text = text.trim_matches(',').to_owned();
        }
        if kind == Type::States && matches!(&datum, Datum::Text(text) if text.is_empty()) {
            continue;
        }
        found.items.push(Item {
            name,
            datum,
            negated,
        });
    }
    Ok(())
}

/// Sorts the items as libvirt does, and settles what negation is about.
fn settle(found: &mut Match, place: &Place) -> Result<(), Diagnostic> {
    let order: Vec<&str> = found
        .kind
        .attributes()
        .into_iter()
        .map(|(name, _)| name)
        .collect();
    found
        .items
        .sort_by_key(|item| order.iter().position(|name| *name == item.name));
    let items = &mut found.items;
    if matches!(found.kind, Kind::Ip | Kind::Ipv6) {
        let ports = items.iter().any(|item| item.name.contains("port"));
        let protocol = items.iter().find(|item| item.name == "protocol");
        let has_ports = protocol.is_some_and(|item| match &item.datum {
            Datum::Text(number) => matches!(number.as_str(), "6" | "17" | "33" | "132"),
            Datum::Variable(_) => true,
        });
        if ports && !has_ports {
            return Err(place.error("ports need the protocol tcp, udp, dccp or sctp"));
        }
        if found.kind == Kind::Ipv6 {
            copy_sign(items, "type", &["typeend", "code", "codeend"]);
        }
    } else if !found.kind.is_ethernet() {
        copy_sign(
            items,
            "srcportstart",
            &["srcportend", "dstportstart", "dstportend"],
        );
        copy_sign(items, "type", &["code"]);
    }
    Ok(())
}

/// The sign of one attribute counts for others; without that attribute they are not negated.
fn copy_sign(items: &mut [Item], from: &str, to: &[&str]) {
    let sign = items.iter().any(|item| item.name == from && item.negated);
    for item in items.iter_mut().filter(|item| to.contains(&item.name)) {
        item.negated = sign;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Filter, String> {
        let mut library = Library::new();
        match library.add("f", text) {
            Ok(filter) => Ok(filter.clone()),
            Err(error) => Err(error.to_string()),
        }
    }

    fn rule(text: &str) -> Result<Filter, String> {
        read(&format!("<filter name='x'>\n{text}\n</filter>"))
    }

    #[test]
    fn a_filter_is_read() {
        let filter = read(
            "<filter name='no-x' chain='ipv4-x'><uuid>1</uuid>\
             <rule action='drop' direction='out' priority='-5' statematch='False'>\
             <ip srcipaddr='$IP' match='no'/></rule>\
             <filterref filter='y'><parameter name='IP' value='10.0.0.1'/></filterref></filter>",
        )
        .unwrap();
        assert_eq!(
            (filter.chain.as_str(), filter.chain_priority),
            ("ipv4-x", -700)
        );
        let [Entry::Rule(rule), Entry::Reference(reference)] = &filter.entries[..] else {
            panic!("{:?}", filter.entries);
        };
        assert_eq!(
            (rule.act, rule.sense, rule.priority),
            (Act::Drop, Sense::Out, -5)
        );
        assert!(!rule.state_match);
        let found = rule.is_about.as_ref().unwrap();
        assert!(found.items[0].negated);
        assert_eq!(found.accesses(), [Access::parse("IP").unwrap()]);
        assert_eq!(reference.parameters.get("IP").unwrap(), ["10.0.0.1"]);
        assert_eq!(filter.warnings, []);
    }

    #[test]
    fn what_libvirt_takes_without_a_word_is_a_warning() {
        for (text, warning) in [
            (
                "<rule action='drop' direction='in'><ipv7/></rule>",
                "f:2:36: libvirt does not know <ipv7> and ignores it: the rule is about everything",
            ),
            (
                "<rule action='drop' direction='in' priority='1001'/>",
                "f:2:36: `1001` is not a number from -1000 to 1000; libvirt takes 500",
            ),
            (
                "<rule action='drop' direction='in'><tcp dstmacaddr='2:0:0:0:0:1'/></rule>",
                "f:2:41: libvirt ignores `dstmacaddr` on <tcp>",
            ),
            (
                "<filterref filter='y'><parameter name='IP' value='10.0.0.0/8'/></filterref>",
                "f:2:23: libvirt skips this parameter: `IP`=`10.0.0.0/8` has a character it does \
                 not take",
            ),
        ] {
            let filter = rule(text).unwrap();
            let warnings: Vec<String> = filter.warnings.iter().map(ToString::to_string).collect();
            assert_eq!(warnings, [warning]);
        }
    }

    #[test]
    fn what_is_wrong_is_said_with_its_place() {
        for (text, error) in [
            (
                "<rule direction='in'/>",
                "f:2:1: <rule> needs the attribute `action`",
            ),
            (
                "<rule action='DROP' direction='in'/>",
                "f:2:1: there is no action `DROP`; there are drop, accept, reject, return, continue",
            ),
            (
                "<rule action='drop' direction='up'/>",
                "f:2:1: there is no direction `up`; there are in, out, inout",
            ),
            (
                "<rule action='drop' direction='in'><vlan vlanid='4096'/></rule>",
                "f:2:42: `4096` is not a number from 0 to 4095",
            ),
            (
                "<rule action='drop' direction='in'><ip srcipaddr='$I P'/></rule>",
                "f:2:40: `$I P` is not a variable; write $NAME, $NAME[@0] or $NAME[0]",
            ),
            (
                "<rule action='drop' direction='in'><ip dstportstart='1'/></rule>",
                "f:2:1: ports need the protocol tcp, udp, dccp or sctp",
            ),
            (
                "<filterref/>",
                "f:2:1: <filterref> needs the attribute `filter`",
            ),
        ] {
            assert_eq!(rule(text).unwrap_err(), error);
        }
        for (text, error) in [
            ("<filter>", "f:1:1: not well-formed XML: "),
            (
                "<filter name='x'>\n</filte>",
                "f:2:1: not well-formed XML: ",
            ),
            ("<domain/>", "f:1:1: expected <filter>, not <domain>"),
            (
                "<filter name='x' chain='root-x'/>",
                "f:1:18: chain `root-x` is neither",
            ),
            (
                "<filter name='x' chain='ipv4-abcdefghij'/>",
                "f:1:18: chain `ipv4-abcdefghij` has 15",
            ),
            (
                "<filter name='x' chain='mac' priority='2000'/>",
                "f:1:30: a chain's priority is",
            ),
        ] {
            let found = read(text).unwrap_err();
            assert!(found.starts_with(error), "{found}");
        }
    }
}

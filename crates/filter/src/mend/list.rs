//! Lists of values that would let a frame through if they were longer.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::exemption::{Known, ip4, ip6};
use crate::address;
use crate::field::Field;
use crate::frame::{Frame, Sight};
use crate::model::FilterRule;
use crate::nwfilter::{Act, Binding, Entry, Filter, Library, Reference, Sense};

/// How deep filters are followed; compiling has refused deeper ones.
const DEPTH: usize = 128;
/// How many references are followed.
const STEPS: usize = 100_000;

/// Where the values of a variable are written.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Scope {
    /// At the port: in the domain's interface, or in the binding.
    Port,
    /// At a reference in a filter, by its number among the filter's references.
    Reference(String, usize),
}

impl Scope {
    /// Whether other guests may have their values from here, too.
    pub(super) fn is_shared(&self) -> bool {
        match self {
            Self::Port => false,
            Self::Reference(filter, _) => !is_guests_own(filter),
        }
    }

    /// Where values for one guest only are written.
    pub(super) fn own(self) -> Self {
        if self.is_shared() { Self::Port } else { self }
    }
}

/// Whether only one guest refers to the filter: nova makes one for each, and so does this program.
pub(super) fn is_guests_own(filter: &str) -> bool {
    filter.starts_with("nova-instance-") || filter.starts_with("pointsman-")
}

/// Values to be added to a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Extension {
    pub(super) scope: Scope,
    pub(super) name: String,
    pub(super) values: Vec<String>,
}

impl Extension {
    /// In words.
    pub(super) fn words(&self) -> String {
        let place = match &self.scope {
            Scope::Port => String::new(),
            Scope::Reference(filter, _) => format!(" in filter {filter}"),
        };
        format!(
            "{}: {} added to the list{place}",
            self.name,
            self.values.join(", ")
        )
    }
}

/// Where a list is written and what it has, if it is written.
pub(super) fn scope(
    library: &Library,
    binding: &Binding,
    name: &str,
) -> Option<(Scope, Vec<String>)> {
    if let Some(values) = binding.filter.parameters.get(name) {
        return Some((Scope::Port, values.to_vec()));
    }
    // Filters that refer to each other in a circle do not get here, but may refer to one twice.
    let mut waiting = vec![binding.filter.filter.as_str()];
    let mut seen = Vec::new();
    while let Some(filter) = waiting.pop().and_then(|name| library.get(name)) {
        if seen.contains(&&filter.name) {
            continue;
        }
        seen.push(&filter.name);
        let references = filter.entries.iter().filter_map(|entry| match entry {
            Entry::Reference(reference) => Some(reference),
            Entry::Rule(_) => None,
        });
        for (number, reference) in references.enumerate() {
            if let Some(values) = reference.parameters.get(name) {
                let scope = Scope::Reference(filter.name.clone(), number);
                return Some((scope, values.to_vec()));
            }
            waiting.push(&reference.filter);
        }
    }
    None
}

/// Lists that rules beside the one that blocks ask for, and that lack a value of the frame that the
/// guest is to have.
pub(super) fn extensions(
    bytes: &[u8],
    out: bool,
    blocker: &FilterRule,
    library: &Library,
    binding: &Binding,
    known: &Known,
) -> Vec<Extension> {
    let (Ok(frame), Some(filter)) = (Frame::parse(bytes), library.get(&blocker.filter)) else {
        return Vec::new();
    };
    let mut search = Search {
        frame: &frame,
        out,
        chain: &filter.chain,
        library,
        known,
        steps: 0,
        found: Vec::new(),
    };
    let mut scopes = BTreeMap::new();
    search.reference(&binding.filter, &Scope::Port, &mut scopes, 0);
    search.found
}

/// Adds an extension to others: values for one list come together.
pub(super) fn merge(all: &mut Vec<Extension>, new: Extension) -> bool {
    let same = all
        .iter_mut()
        .find(|other| other.scope == new.scope && other.name == new.name);
    let Some(same) = same else {
        all.push(new);
        return true;
    };
    let mut grown = false;
    for value in new.values {
        if !same.values.contains(&value) {
            same.values.push(value);
            grown = true;
        }
    }
    grown
}

/// Where a variable gets its values from, and which.
type Given<'a> = BTreeMap<String, (Scope, &'a [String])>;

struct Search<'a> {
    frame: &'a Frame<'a>,
    out: bool,
    chain: &'a str,
    library: &'a Library,
    known: &'a Known,
    steps: usize,
    found: Vec<Extension>,
}

impl<'a> Search<'a> {
    fn reference(
        &mut self,
        reference: &'a Reference,
        scope: &Scope,
        given: &mut Given<'a>,
        depth: usize,
    ) {
        self.steps += 1;
        let Some(filter) = self.library.get(&reference.filter) else {
            return;
        };
        if depth > DEPTH || self.steps > STEPS {
            return;
        }
        let mut given = given.clone();
        for name in reference.parameters.names() {
            // What is said outside wins.
            let values = reference.parameters.get(name).unwrap_or_default();
            given
                .entry(name.to_owned())
                .or_insert_with(|| (scope.clone(), values));
        }
        self.filter(filter, &mut given, depth);
    }

    fn filter(&mut self, filter: &'a Filter, given: &mut Given<'a>, depth: usize) {
        let mut number = 0;
        for entry in &filter.entries {
            match entry {
                Entry::Reference(reference) => {
                    let scope = Scope::Reference(filter.name.clone(), number);
                    self.reference(reference, &scope, given, depth + 1);
                    number += 1;
                }
                Entry::Rule(rule) if filter.chain == self.chain => {
                    let its = match rule.sense {
                        Sense::In => !self.out,
                        Sense::Out => self.out,
                        Sense::InOut => true,
                    };
                    let turned = rule.sense == Sense::InOut && self.out;
                    let Some(about) = &rule.is_about else {
                        continue;
                    };
                    if !its || !matches!(rule.act, Act::Accept | Act::Return) {
                        continue;
                    }
                    for (attribute, access) in about.variables() {
                        if let Some(value) = self.value(attribute, turned) {
                            self.lacks(&access.name, value, given);
                        }
                    }
                }
                Entry::Rule(_) => {}
            }
        }
    }

    /// What the frame has for an attribute, if the guest is to have that value.
    fn value(&self, attribute: &str, turned: bool) -> Option<String> {
        let swapped = match attribute {
            name if !turned => name.to_owned(),
            name if name.contains("src") => name.replace("src", "dst"),
            name => name.replace("dst", "src"),
        };
        let get = |field| self.frame.get(field, Sight::default());
        let mac = |field| {
            get(field)
                .filter(|&mac| mac != self.known.mac && self.known.virtual_macs.contains(&mac))
                .map(address::mac_text)
        };
        let address = |v4, v6| {
            let address: IpAddr = get(v4).map(ip4).or_else(|| get(v6).map(ip6))?;
            let vips = &self.known.vips;
            vips.contains(&address).then(|| address.to_string())
        };
        match swapped.as_str() {
            "srcmacaddr" => mac(Field::EtherSource),
            "dstmacaddr" => mac(Field::EtherDestination),
            "arpsrcmacaddr" => mac(Field::ArpSenderMac),
            "arpdstmacaddr" => mac(Field::ArpTargetMac),
            "arpsrcipaddr" => address(Field::ArpSenderIp, Field::ArpSenderIp),
            "arpdstipaddr" => address(Field::ArpTargetIp, Field::ArpTargetIp),
            "srcipaddr" => address(Field::Ip4Source, Field::Ip6Source),
            "dstipaddr" => address(Field::Ip4Destination, Field::Ip6Destination),
            _ => None,
        }
    }

    fn lacks(&mut self, name: &str, value: String, given: &Given<'a>) {
        let mut values = Vec::new();
        let scope = match given.get(name) {
            Some((_, list)) if list.contains(&value) => return,
            Some((scope, list)) if scope.is_shared() => {
                // What is said at the port wins over what the filter says to all its guests.
                values.extend_from_slice(list);
                scope.clone().own()
            }
            Some((scope, _)) => scope.clone(),
            // libvirt fills in the interface's address unless a list is given.
            None if name == "MAC" => {
                values.push(address::mac_text(self.known.mac));
                Scope::Port
            }
            None => return,
        };
        values.push(value);
        let new = Extension {
            scope,
            name: name.to_owned(),
            values,
        };
        merge(&mut self.found, new);
    }
}

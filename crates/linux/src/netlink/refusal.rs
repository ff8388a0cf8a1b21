//! Tables of nftables that drop what comes to addresses of this host, and what leaves from them.
//!
//! Neighbor discovery goes on: the addresses are still this host's on the link. The tables stay when
//! their process ends, and say by a comment whose they are.

use std::collections::BTreeSet;
use std::net::IpAddr;

use netlink_sys::protocols::NETLINK_NETFILTER;

use super::message::{Message, Request, attribute, string};
use super::nftables::{
    ACCEPT, AT_LEAST, AT_MOST, CHAIN_HOOK, CHAIN_NAME, CHAIN_POLICY, CHAIN_TABLE, CHAIN_TYPE,
    DELTABLE, EQUAL, EXPRESSION_DATA, EXPRESSION_NAME, HEADER_LEN, HOOK_NUMBER, HOOK_PRIORITY,
    LIST_ELEMENT, Layer, META_TRANSPORT, NESTED, NETWORK_HEADER, NEWCHAIN, NEWRULE, NEWTABLE,
    NLM_F_APPEND, NLM_F_CREATE, NLM_F_EXCL, RULE_CHAIN, RULE_EXPRESSIONS, RULE_TABLE, SUBSYSTEM,
    TABLE_NAME, TRANSPORT_HEADER, commit, compare, expression, load, load_meta, request, text,
};
use super::{Error, NLM_F_DUMP, NLM_F_REQUEST, Netlink};

// `linux/netfilter/nf_tables.h`.
const GETTABLE: u16 = SUBSYSTEM << 8 | 1;
const NEWSET: u16 = SUBSYSTEM << 8 | 9;
const NEWSETELEM: u16 = SUBSYSTEM << 8 | 12;
const TABLE_USERDATA: u16 = 6;
const SET_TABLE: u16 = 1;
const SET_NAME: u16 = 2;
const SET_KEY_TYPE: u16 = 4;
const SET_KEY_LEN: u16 = 5;
const SET_ID: u16 = 10;
const ELEMENTS_TABLE: u16 = 1;
const ELEMENTS_SET: u16 = 2;
const ELEMENTS: u16 = 3;
const ELEMENT_KEY: u16 = 1;
const LOOKUP_SET: u16 = 1;
const LOOKUP_REGISTER: u16 = 2;
const LOOKUP_SET_ID: u16 = 4;
const META_INPUT: u32 = 4;
const META_OUTPUT: u32 = 5;
const LOCAL_IN: u32 = 1;
const LOCAL_OUT: u32 = 3;
const DROP: u32 = 0;
/// Types of nft's sets, which the kernel hands through.
const IPV4: u32 = 7;
const IPV6: u32 = 8;
const INTERFACE: u32 = 20;
/// Bits of a type in one that is put together.
const TYPE_BITS: u32 = 6;
/// ICMPv6 and its first and last message of neighbor discovery about addresses, RFC 4861.
const ICMPV6: u8 = 58;
const NEIGHBOR_SOLICITATION: u8 = 135;
const NEIGHBOR_ADVERTISEMENT: u8 = 136;
/// Most addresses in one message to the kernel.
const ELEMENTS_AT_ONCE: usize = 500;
/// The comment of each such table; the first byte says that it is one, as nft writes them.
const MARK: &[u8] = b"\0\x1apointsman: no_accept mode\0";
const LAYERS: [Layer; 2] = [Layer::Ip, Layer::Ip6];

/// Tables, one for each family, that drop what is for some of this host's addresses or from them.
#[derive(Debug)]
pub struct RefusalTable {
    netlink: Netlink,
    name: String,
    priority: i32,
    counts: bool,
    /// Families of which it is there.
    there: BTreeSet<Layer>,
}

impl RefusalTable {
    /// Tables of this name, with chains of this priority; `counts` has rules count. What is there of ours
    /// stays until [`Self::set`].
    pub fn open(name: &str, priority: i32, counts: bool) -> Result<Self, Error> {
        let mut netlink = Netlink::of(NETLINK_NETFILTER)?;
        let there = ours(&mut netlink)?.into_iter();
        Ok(Self {
            there: there
                .filter(|(_, found)| found == name)
                .map(|(layer, _)| layer)
                .collect(),
            netlink,
            name: name.to_owned(),
            priority,
            counts,
        })
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Refuses these addresses and no others: each family at once. Link-local addresses are those of an
    /// interface, by its number. A table of that name that is not ours is an error (`EEXIST`).
    pub fn set(&mut self, refused: &BTreeSet<(u32, IpAddr)>) -> Result<(), Error> {
        for layer in LAYERS {
            let of_family = |one: &&(u32, IpAddr)| one.1.is_ipv6() == (layer == Layer::Ip6);
            let refused: Vec<_> = refused.iter().filter(of_family).copied().collect();
            match self.replace(layer, &refused) {
                // Somebody has flushed everything.
                Err(error) if error.errno() == Some(libc::ENOENT) && self.there.remove(&layer) => {
                    self.replace(layer, &refused)?;
                }
                result => result?,
            }
        }
        Ok(())
    }

    fn replace(&mut self, layer: Layer, refused: &[(u32, IpAddr)]) -> Result<(), Error> {
        let mut requests = Vec::new();
        if self.there.contains(&layer) {
            requests.push(removal(layer, &self.name));
        }
        if !refused.is_empty() {
            self.make(layer, refused, &mut requests);
        }
        if requests.is_empty() {
            return Ok(());
        }
        let what = format!("the table {} {}", layer.name(), self.name);
        commit(&mut self.netlink, what, requests)?;
        match refused {
            [] => self.there.remove(&layer),
            _ => self.there.insert(layer),
        };
        Ok(())
    }

    fn make(&self, layer: Layer, refused: &[(u32, IpAddr)], requests: &mut Vec<Request>) {
        let name = text(&self.name);
        let create = NLM_F_REQUEST | NLM_F_CREATE;
        requests.push(
            request(NEWTABLE, create | NLM_F_EXCL, layer)
                .attribute(TABLE_NAME, &name)
                .attribute(TABLE_USERDATA, MARK),
        );
        let mut sets = vec![Set::anywhere(layer)];
        if layer == Layer::Ip6 {
            sets.push(Set::LINK);
        }
        for set in &sets {
            requests.push(
                request(NEWSET, create, layer)
                    .attribute(SET_TABLE, &name)
                    .attribute(SET_NAME, &text(set.name))
                    .attribute(SET_KEY_TYPE, &set.kind.to_be_bytes())
                    .attribute(SET_KEY_LEN, &set.length.to_be_bytes())
                    .attribute(SET_ID, &set.id.to_be_bytes()),
            );
            let keys: Vec<Vec<u8>> = refused.iter().filter_map(|one| set.key(*one)).collect();
            for keys in keys.chunks(ELEMENTS_AT_ONCE) {
                let elements: Vec<u8> = keys.iter().flat_map(|key| element(key)).collect();
                requests.push(
                    request(NEWSETELEM, create, layer)
                        .attribute(ELEMENTS_TABLE, &name)
                        .attribute(ELEMENTS_SET, &text(set.name))
                        .attribute(ELEMENTS | NESTED, &elements),
                );
            }
        }
        for (chain, hook) in [("in", LOCAL_IN), ("out", LOCAL_OUT)] {
            let at = [
                attribute(HOOK_NUMBER, &hook.to_be_bytes()),
                attribute(HOOK_PRIORITY, &self.priority.to_be_bytes()),
            ];
            requests.push(
                request(NEWCHAIN, create, layer)
                    .attribute(CHAIN_TABLE, &name)
                    .attribute(CHAIN_NAME, &text(chain))
                    .attribute(CHAIN_HOOK | NESTED, &at.concat())
                    .attribute(CHAIN_POLICY, &ACCEPT.to_be_bytes())
                    .attribute(CHAIN_TYPE, &text("filter")),
            );
            let mut rules = Vec::new();
            if layer == Layer::Ip6 {
                rules.push(neighbor_discovery());
            }
            rules.extend(sets.iter().map(|set| {
                let mut rule = set.lookup(layer, hook == LOCAL_IN);
                if self.counts {
                    rule.extend(expression("counter", &[], None));
                }
                rule.extend(verdict(DROP));
                rule
            }));
            requests.extend(rules.iter().map(|rule| {
                request(NEWRULE, create | NLM_F_APPEND, layer)
                    .attribute(RULE_TABLE, &name)
                    .attribute(RULE_CHAIN, &text(chain))
                    .attribute(RULE_EXPRESSIONS | NESTED, rule)
            }));
        }
    }

    /// Takes away every such table but those of the name `keep`, whoever left it; says how many.
    pub fn sweep(keep: Option<&str>) -> Result<usize, Error> {
        let mut netlink = Netlink::of(NETLINK_NETFILTER)?;
        let mut count = 0;
        for (layer, name) in ours(&mut netlink)? {
            if keep == Some(name.as_str()) {
                continue;
            }
            let what = format!("the table {} {name}", layer.name());
            commit(&mut netlink, what, vec![removal(layer, &name)])?;
            count += 1;
        }
        Ok(count)
    }
}

/// Addresses of a table, in the kernel's words.
struct Set {
    name: &'static str,
    id: u32,
    kind: u32,
    /// Bytes of a key.
    length: u32,
    /// True when they are of one interface each.
    link: bool,
}

impl Set {
    const LINK: Self = Self {
        name: "link_local",
        id: 2,
        kind: IPV6 << TYPE_BITS | INTERFACE,
        length: 20,
        link: true,
    };

    const fn anywhere(layer: Layer) -> Self {
        let (kind, length) = match layer {
            Layer::Ip6 => (IPV6, 16),
            _ => (IPV4, 4),
        };
        Self {
            name: "addresses",
            id: 1,
            kind,
            length,
            link: false,
        }
    }

    /// The address as a key, if it belongs here.
    fn key(&self, (index, address): (u32, IpAddr)) -> Option<Vec<u8>> {
        match address {
            IpAddr::V4(address) => Some(address.octets().to_vec()),
            IpAddr::V6(address) if address.is_unicast_link_local() != self.link => None,
            IpAddr::V6(address) if self.link => {
                Some([&address.octets()[..], &index.to_ne_bytes()].concat())
            }
            IpAddr::V6(address) => Some(address.octets().to_vec()),
        }
    }

    /// What a rule looks up of packets that come in, or leave.
    fn lookup(&self, layer: Layer, comes: bool) -> Vec<u8> {
        let (offset, length) = match (layer, comes) {
            (Layer::Ip6, true) => (24, 16),
            (Layer::Ip6, false) => (8, 16),
            (_, true) => (16, 4),
            (_, false) => (12, 4),
        };
        let mut all = load(NETWORK_HEADER, offset, length);
        if self.link {
            let key = if comes { META_INPUT } else { META_OUTPUT };
            // Registers have 16 bytes: the second goes on where the address ends.
            all.extend(expression("meta", &[(1, 2), (2, key)], None));
        }
        let values = [
            attribute(LOOKUP_SET, &text(self.name)),
            attribute(LOOKUP_REGISTER, &1u32.to_be_bytes()),
            attribute(LOOKUP_SET_ID, &self.id.to_be_bytes()),
        ];
        all.extend(named("lookup", &values.concat()));
        all
    }
}

/// Lets neighbor solicitations and advertisements pass.
fn neighbor_discovery() -> Vec<u8> {
    [
        load_meta(META_TRANSPORT),
        compare(EQUAL, &[ICMPV6]),
        load(TRANSPORT_HEADER, 0, 1),
        compare(AT_LEAST, &[NEIGHBOR_SOLICITATION]),
        compare(AT_MOST, &[NEIGHBOR_ADVERTISEMENT]),
        verdict(ACCEPT),
    ]
    .concat()
}

fn verdict(code: u32) -> Vec<u8> {
    // Register 0 is the verdict's.
    let code = attribute(2 | NESTED, &attribute(1, &code.to_be_bytes()));
    let values = [
        attribute(1, &0u32.to_be_bytes()),
        attribute(2 | NESTED, &code),
    ];
    named("immediate", &values.concat())
}

fn named(name: &str, values: &[u8]) -> Vec<u8> {
    let both = [
        attribute(EXPRESSION_NAME, &text(name)),
        attribute(EXPRESSION_DATA | NESTED, values),
    ];
    attribute(LIST_ELEMENT | NESTED, &both.concat())
}

fn element(key: &[u8]) -> Vec<u8> {
    let key = attribute(ELEMENT_KEY | NESTED, &attribute(1, key));
    attribute(LIST_ELEMENT | NESTED, &key)
}

fn removal(layer: Layer, name: &str) -> Request {
    request(DELTABLE, NLM_F_REQUEST, layer).attribute(TABLE_NAME, &text(name))
}

/// Families and names of all tables of ours.
fn ours(netlink: &mut Netlink) -> Result<Vec<(Layer, String)>, Error> {
    let mut all = Vec::new();
    for layer in LAYERS {
        let list = request(GETTABLE, NLM_F_REQUEST | NLM_F_DUMP, layer);
        let what = format!("NFT_MSG_GETTABLE of {}", layer.name());
        let names = netlink.dump(&what, &list, name_of_ours)?;
        all.extend(names.into_iter().map(|name| (layer, name)));
    }
    Ok(all)
}

fn name_of_ours(message: &Message<'_>) -> Option<String> {
    let mut attributes = message.attributes(HEADER_LEN);
    let is_ours = attributes
        .clone()
        .any(|(kind, value)| kind == TABLE_USERDATA && value == MARK);
    let (_, name) = attributes.find(|(kind, _)| *kind == TABLE_NAME)?;
    is_ours.then(|| string(name))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::net::IpAddr;

    use super::RefusalTable;
    use crate::netns::NetNs;

    fn addresses(all: &[(u32, &str)]) -> BTreeSet<(u32, IpAddr)> {
        let all = all.iter();
        all.map(|(index, address)| (*index, address.parse().expect("an address")))
            .collect()
    }

    fn rules() -> String {
        crate::nft::list(&["ruleset"]).expect("what nft lists")
    }

    #[test]
    fn tables_hold_what_is_refused_and_go_when_nothing_is() {
        if !nix::unistd::geteuid().is_root() {
            eprintln!("skipped: needs root");
            return;
        }
        let name = format!("pml-{}-refusal", std::process::id());
        let namespace = NetNs::create(&name).expect("a namespace").delete_on_drop();
        let test = || {
            let mut table = RefusalTable::open("pm_refusal", -1, true).expect("open");
            let refused = addresses(&[(1, "10.0.0.1"), (1, "fd00::1"), (1, "fe80::1")]);
            table.set(&refused).expect("refuse");
            let listed = rules();
            for word in ["10.0.0.1", "fd00::1", "fe80::1", "\"prio\": -1", "counter"] {
                assert!(listed.contains(word), "{word}: {listed}");
            }
            table.set(&addresses(&[(1, "10.0.0.2")])).expect("others");
            let listed = rules();
            assert!(
                listed.contains("10.0.0.2") && !listed.contains("10.0.0.1"),
                "{listed}"
            );
            assert!(!listed.contains("ip6"), "{listed}");
            // Whoever comes next finds it by its mark, and takes it over.
            drop(table);
            assert_eq!(RefusalTable::sweep(Some("pm_refusal")).expect("sweep"), 0);
            let mut table = RefusalTable::open("pm_refusal", 0, false).expect("open");
            table.set(&addresses(&[(1, "10.0.0.3")])).expect("refuse");
            assert!(rules().contains("10.0.0.3"));
            // Others flush what they like.
            crate::nft::load("flush ruleset\n").expect("flush");
            table.set(&addresses(&[(1, "10.0.0.4")])).expect("refuse");
            assert!(rules().contains("10.0.0.4"));
            assert_eq!(RefusalTable::sweep(None).expect("sweep"), 1);
            assert!(!rules().contains("pm_refusal"));
            // What is somebody else's is left alone.
            crate::nft::load("table ip pm_refusal {\n}\n").expect("load");
            let mut table = RefusalTable::open("pm_refusal", 0, false).expect("open");
            let error = table
                .set(&addresses(&[(1, "10.0.0.5")]))
                .expect_err("taken");
            assert_eq!(error.errno(), Some(libc::EEXIST));
            assert_eq!(RefusalTable::sweep(None).expect("sweep"), 0);
            assert!(rules().contains("pm_refusal"));
        };
        namespace.run_in(test).expect("enter");
    }
}

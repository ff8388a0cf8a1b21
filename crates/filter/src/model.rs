//! Rules of every dialect in one form: tables, chains, hooks, tests, actions.

use std::collections::HashMap;
use std::fmt;

use crate::diagnostic::Place;
use crate::test::Test;

/// All tables of a host, or those that were read so far.
#[derive(Debug, Clone, Default)]
pub struct Ruleset {
    /// In the order of reading.
    pub tables: Vec<Table>,
}

impl Ruleset {
    /// Adds the tables of another ruleset.
    pub fn extend(&mut self, other: Self) {
        self.tables.extend(other.tables);
    }
}

/// Who installed a table, hence what its words mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Engine {
    /// `ebtables`: frames on a bridge.
    Ebtables,
    /// `iptables`: IPv4.
    Iptables,
    /// `ip6tables`: IPv6.
    Ip6tables,
    /// `nft`: any family.
    Nftables,
}

/// What an nftables table sees; the other engines have one each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Family {
    /// Frames on a bridge.
    Bridge,
    /// ARP.
    Arp,
    /// IPv4.
    Ip,
    /// IPv6.
    Ip6,
    /// IPv4 and IPv6.
    Inet,
    /// A device's frames, before and after everything else.
    Netdev,
}

impl Family {
    /// As nft writes it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Bridge => "bridge",
            Self::Arp => "arp",
            Self::Ip => "ip",
            Self::Ip6 => "ip6",
            Self::Inet => "inet",
            Self::Netdev => "netdev",
        }
    }
}

/// A table of chains.
#[derive(Debug, Clone)]
pub struct Table {
    /// Who installed it.
    pub engine: Engine,
    /// What it sees.
    pub family: Family,
    /// Its name: `nat`, `filter`, or an nftables table's own.
    pub name: String,
    /// In the order of reading.
    pub chains: Vec<Chain>,
    /// Chains by name.
    index: HashMap<String, usize>,
}

impl Table {
    /// An empty table.
    pub fn new(engine: Engine, family: Family, name: &str) -> Self {
        Self {
            engine,
            family,
            name: name.to_owned(),
            chains: Vec::new(),
            index: HashMap::new(),
        }
    }

    /// The chain of this name.
    pub fn chain(&self, name: &str) -> Option<&Chain> {
        self.index.get(name).map(|&at| &self.chains[at])
    }

    /// The chain of this name, to change it.
    pub fn chain_mut(&mut self, name: &str) -> Option<&mut Chain> {
        let at = *self.index.get(name)?;
        self.chains.get_mut(at)
    }

    /// Adds a chain; false if the name is taken.
    pub fn add(&mut self, chain: Chain) -> bool {
        if self.index.contains_key(&chain.name) {
            return false;
        }
        self.index.insert(chain.name.clone(), self.chains.len());
        self.chains.push(chain);
        true
    }

    /// As people name the table: `ebtables nat`, `nft bridge libvirt_nwfilter_inet`.
    pub fn title(&self) -> String {
        match self.engine {
            Engine::Ebtables => format!("ebtables {}", self.name),
            Engine::Iptables => format!("iptables {}", self.name),
            Engine::Ip6tables => format!("ip6tables {}", self.name),
            Engine::Nftables => format!("nft {} {}", self.family.name(), self.name),
        }
    }
}

/// Where the kernel enters a chain by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Hook {
    /// A device's frames as they come.
    Ingress,
    /// Before it is decided whether to bridge (ebtables BROUTING).
    Brouting,
    /// Before the way is decided.
    Prerouting,
    /// For this host.
    Input,
    /// Passing through.
    Forward,
    /// From this host.
    Output,
    /// After the way is decided.
    Postrouting,
    /// A device's frames as they leave.
    Egress,
}

/// What makes a chain a base chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Base {
    /// Where it is entered.
    pub hook: Hook,
    /// Order at the hook, lowest first.
    pub priority: i32,
    /// Devices, for netdev chains.
    pub devices: Vec<String>,
    /// True for address translation, which sees the first packet of a connection only.
    pub translation: bool,
}

/// What happens at the end of a chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The frame goes on in this layer's next base chain.
    Accept,
    /// The frame is lost.
    Drop,
    /// Back to the calling chain.
    Return,
    /// The text that was read does not tell: accepted, or back to the calling chain.
    AcceptOrReturn,
}

/// A list of rules.
#[derive(Debug, Clone)]
pub struct Chain {
    /// Its name.
    pub name: String,
    /// Set for chains that the kernel enters.
    pub base: Option<Base>,
    /// What happens when no rule decides.
    pub end: End,
    /// In order.
    pub rules: Vec<Rule>,
}

impl Chain {
    /// A chain that only rules enter.
    pub fn new(name: &str, end: End) -> Self {
        Self {
            name: name.to_owned(),
            base: None,
            end,
            rules: Vec::new(),
        }
    }
}

/// Tests that must all hold, and what happens then.
#[derive(Debug, Clone)]
pub struct Rule {
    /// All must hold, in order.
    pub tests: Vec<Test>,
    /// What else is done when they hold.
    pub effects: Vec<Effect>,
    /// What becomes of the frame.
    pub action: Action,
    /// The rule in its dialect, without chain and counters.
    pub text: String,
    /// Where it comes from.
    pub origin: Origin,
    /// Whether its tests look behind a VLAN tag.
    pub behind_tag: BehindTag,
    /// Packets counted so far, if the text had it.
    pub packets: Option<u64>,
}

/// Whether tests of ARP, IP and what follows look behind a VLAN tag.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum BehindTag {
    /// They don't: a frame with a tag has none of these fields.
    #[default]
    Hidden,
    /// They do.
    Seen,
    /// The text does not tell.
    Unsure,
}

/// Where a rule comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// Text of a dump.
    Text(Place),
    /// An nftables rule's handle.
    Handle(u64),
    /// A rule of a libvirt filter.
    Filter(FilterRule),
    /// What libvirt adds around the rules of filters.
    Frame,
}

/// A rule of a libvirt filter, as it identifies itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FilterRule {
    /// Name of the filter.
    pub filter: String,
    /// Number of the rule in the filter, from 0.
    pub number: usize,
    /// `accept`, `drop`, ...
    pub action: String,
    /// `in`, `out` or `inout`.
    pub direction: String,
    /// As written.
    pub priority: i32,
    /// Where the rule is written.
    pub place: Place,
}

/// Something that a rule does besides deciding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Sets the bits of the mark that are set in `mask` to those of `value`, by exclusive or.
    Mark {
        /// Bits that are cleared first.
        mask: u32,
        /// Bits that are flipped then.
        value: u32,
    },
    /// Changes the packet or its connection in a way that later rules may see.
    Rewrite(String),
}

/// What a rule does with the frame.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// Nothing: the next rule is tried.
    Continue,
    /// Accepted by this base chain.
    Accept,
    /// Lost.
    Drop,
    /// Lost, and the sender is told.
    Reject,
    /// Back to the calling chain.
    Return,
    /// On in another chain, and back here afterwards.
    Jump(String),
    /// On in another chain, without coming back here.
    Goto(String),
    /// By a verdict map: the entry that holds decides.
    Map(Vec<MapEntry>),
    /// Given to a program or a target that is not understood.
    Opaque(String),
}

/// One entry of a verdict map.
#[derive(Debug, Clone, PartialEq)]
pub struct MapEntry {
    /// Values, one test a key.
    pub tests: Vec<Test>,
    /// What happens.
    pub action: Action,
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Continue => f.write_str("continue"),
            Self::Accept => f.write_str("accept"),
            Self::Drop => f.write_str("drop"),
            Self::Reject => f.write_str("reject"),
            Self::Return => f.write_str("return"),
            Self::Jump(chain) => write!(f, "jump {chain}"),
            Self::Goto(chain) => write!(f, "goto {chain}"),
            Self::Map(..) => f.write_str("verdict map"),
            Self::Opaque(text) => f.write_str(text),
        }
    }
}

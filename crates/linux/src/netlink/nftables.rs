//! Tables of nftables that live as long as a socket, and what the kernel lists of others' chains.
//!
//! A table with an owner (Linux 5.12) is bound to the socket that made it: nobody else can change it, and
//! the kernel takes it away when the socket is closed, however its process ended.

use std::io;
use std::net::{IpAddr, Ipv4Addr};

use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_NETFILTER};

use super::message::{Attributes, Message, Messages, Request, attribute, u32_at};
use super::{
    ANSWER_TIMEOUT, Error, NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST, NLMSG_ERROR, Netlink,
    acknowledgement, receive,
};
use crate::deadline::Deadline;

// `linux/netfilter/nfnetlink.h` and `nf_tables.h`.
pub(super) const SUBSYSTEM: u16 = 10;
const BATCH_BEGIN: u16 = 0x10;
const BATCH_END: u16 = 0x11;
pub(super) const NEWTABLE: u16 = SUBSYSTEM << 8;
pub(super) const DELTABLE: u16 = SUBSYSTEM << 8 | 2;
pub(super) const NEWCHAIN: u16 = SUBSYSTEM << 8 | 3;
pub(super) const NEWRULE: u16 = SUBSYSTEM << 8 | 6;
const GETRULE: u16 = SUBSYSTEM << 8 | 7;
pub(super) const NLM_F_CREATE: u16 = 0x400;
pub(super) const NLM_F_EXCL: u16 = 0x200;
pub(super) const NLM_F_APPEND: u16 = 0x800;
pub(super) const NESTED: u16 = 0x8000;
pub(super) const TABLE_NAME: u16 = 1;
const TABLE_FLAGS: u16 = 2;
const TABLE_F_OWNER: u32 = 2;
pub(super) const CHAIN_TABLE: u16 = 1;
pub(super) const CHAIN_NAME: u16 = 3;
pub(super) const CHAIN_HOOK: u16 = 4;
pub(super) const CHAIN_POLICY: u16 = 5;
pub(super) const CHAIN_TYPE: u16 = 7;
pub(super) const HOOK_NUMBER: u16 = 1;
pub(super) const HOOK_PRIORITY: u16 = 2;
pub(super) const RULE_TABLE: u16 = 1;
pub(super) const RULE_CHAIN: u16 = 2;
const RULE_HANDLE: u16 = 3;
pub(super) const RULE_EXPRESSIONS: u16 = 4;
pub(super) const LIST_ELEMENT: u16 = 1;
pub(super) const EXPRESSION_NAME: u16 = 1;
pub(super) const EXPRESSION_DATA: u16 = 2;
pub(super) const DATA_VALUE: u16 = 1;
const COUNTER_PACKETS: u16 = 2;
/// The register that everything is loaded into.
const REGISTER: u32 = 1;
const META_PROTOCOL: u32 = 1;
const META_TRACE: u32 = 12;
pub(super) const META_TRANSPORT: u32 = 16;
pub(super) const NETWORK_HEADER: u32 = 1;
pub(super) const TRANSPORT_HEADER: u32 = 2;
pub(super) const EQUAL: u32 = 0;
const NOT_EQUAL: u32 = 1;
pub(super) const AT_MOST: u32 = 3;
pub(super) const AT_LEAST: u32 = 5;
pub(super) const ACCEPT: u32 = 1;

const ETHERTYPE_IPV4: u16 = 0x0800;
const ETHERTYPE_ARP: u16 = 0x0806;
const ETHERTYPE_IPV6: u16 = 0x86dd;
/// Most rules in one message to the kernel.
const RULES_AT_ONCE: usize = 64;
/// Bytes of `struct nfgenmsg`.
pub(super) const HEADER_LEN: usize = 4;

/// What the tables of a family see.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Layer {
    /// Frames on a bridge.
    Bridge,
    /// IPv4.
    Ip,
    /// IPv6.
    Ip6,
    /// ARP, for this host and from it.
    Arp,
    /// IPv4 and IPv6.
    Inet,
    /// Frames of a device.
    Netdev,
}

impl Layer {
    /// As nft writes it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Bridge => "bridge",
            Self::Ip => "ip",
            Self::Ip6 => "ip6",
            Self::Arp => "arp",
            Self::Inet => "inet",
            Self::Netdev => "netdev",
        }
    }

    /// `NFPROTO_*`.
    const fn number(self) -> u8 {
        match self {
            Self::Inet => 1,
            Self::Ip => 2,
            Self::Arp => 3,
            Self::Netdev => 5,
            Self::Bridge => 7,
            Self::Ip6 => 10,
        }
    }

    /// The layer of a number.
    pub(super) fn of(number: u8) -> Option<Self> {
        use Layer::{Arp, Bridge, Inet, Ip, Ip6, Netdev};
        let mut all = [Bridge, Ip, Ip6, Arp, Inet, Netdev].into_iter();
        all.find(|layer| layer.number() == number)
    }
}

/// Which packets a rule is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Packets {
    /// Those of a flow of TCP or UDP; both addresses of one family.
    Flow {
        /// The protocol's number.
        protocol: u8,
        /// From where.
        source: IpAddr,
        /// From which ports, first and last.
        source_ports: (u16, u16),
        /// Where to.
        destination: IpAddr,
        /// To which ports, first and last.
        destination_ports: (u16, u16),
    },
    /// ARP that asks for an address, or with `told` ARP whose sender says that it is his.
    Arp {
        /// The address.
        address: Ipv4Addr,
        /// Who has it speaks.
        told: bool,
    },
}

/// A rule that counts, and does nothing else but to have packets traced if that is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CountingRule {
    /// What it counts.
    pub packets: Packets,
    /// Whether the kernel is to tell, from here on, which rules these packets meet.
    pub trace: bool,
}

/// A chain of counting rules that accepts everything.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CountingChain {
    /// Its name.
    pub name: String,
    /// The number of its hook in its layer: `NF_INET_*`, `NF_BR_*`, `NF_ARP_*`.
    pub hook: u32,
    /// Its order among other chains, lowest first.
    pub priority: i32,
    /// Its rules.
    pub rules: Vec<CountingRule>,
}

/// A table of counting chains; it is gone as soon as this value, or its process, is.
#[derive(Debug)]
pub struct OwnTable {
    netlink: Netlink,
    layer: Layer,
    name: String,
    chains: Vec<(String, usize)>,
    /// Whether it is there: one of this name may be somebody else's.
    made: bool,
}

impl OwnTable {
    /// Makes a table in the calling thread's network namespace: all of it, or nothing.
    pub fn create(layer: Layer, name: &str, chains: &[CountingChain]) -> Result<Self, Error> {
        let mut table = Self {
            netlink: Netlink::of(NETLINK_NETFILTER)?,
            layer,
            name: name.to_owned(),
            chains: chains
                .iter()
                .map(|chain| (chain.name.clone(), chain.rules.len()))
                .collect(),
            made: false,
        };
        let create = NLM_F_REQUEST | NLM_F_CREATE;
        let mut requests = vec![
            request(NEWTABLE, create | NLM_F_EXCL, layer)
                .attribute(TABLE_NAME, &text(name))
                .attribute(TABLE_FLAGS, &TABLE_F_OWNER.to_be_bytes()),
        ];
        for chain in chains {
            let hook = [
                attribute(HOOK_NUMBER, &chain.hook.to_be_bytes()),
                attribute(HOOK_PRIORITY, &chain.priority.to_be_bytes()),
            ];
            requests.push(
                request(NEWCHAIN, create | NLM_F_EXCL, layer)
                    .attribute(CHAIN_TABLE, &text(name))
                    .attribute(CHAIN_NAME, &text(&chain.name))
                    .attribute(CHAIN_HOOK | NESTED, &hook.concat())
                    .attribute(CHAIN_POLICY, &ACCEPT.to_be_bytes())
                    .attribute(CHAIN_TYPE, &text("filter")),
            );
        }
        table.commit(requests)?;
        table.made = true;
        let rules: Vec<Request> = chains
            .iter()
            .flat_map(|chain| {
                chain.rules.iter().map(|rule| {
                    request(NEWRULE, create | NLM_F_APPEND, layer)
                        .attribute(RULE_TABLE, &text(name))
                        .attribute(RULE_CHAIN, &text(&chain.name))
                        .attribute(RULE_EXPRESSIONS | NESTED, &expressions(rule))
                })
            })
            .collect();
        for rules in rules.chunks(RULES_AT_ONCE) {
            table.commit(rules.to_vec())?;
        }
        Ok(table)
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What its rules counted, chain by chain, in the order that they were given in.
    pub fn packets(&mut self) -> Result<Vec<Vec<u64>>, Error> {
        let mut counted = Vec::new();
        for (chain, rules) in self.chains.clone() {
            let what = format!("NFT_MSG_GETRULE of {} {chain}", self.name);
            let list = listing(self.layer, &self.name, &chain);
            let packets = self.netlink.dump(&what, &list, |message| {
                Some(counter(message).unwrap_or_default())
            })?;
            if packets.len() != rules {
                return Err(Error::Malformed { request: what });
            }
            counted.push(packets);
        }
        Ok(counted)
    }

    /// Has the kernel do all these requests, or none.
    fn commit(&mut self, requests: Vec<Request>) -> Result<(), Error> {
        let what = format!("the table {} {} of our own", self.layer.name(), self.name);
        commit(&mut self.netlink, what, requests)
    }
}

/// Has the kernel do all these requests of a socket of netfilter, or none.
pub(super) fn commit(
    netlink: &mut Netlink,
    what: String,
    requests: Vec<Request>,
) -> Result<(), Error> {
    let header = |kind| {
        let [high, low] = SUBSYSTEM.to_be_bytes();
        Request::new(kind, NLM_F_REQUEST, &[0, 0, high, low])
    };
    let mut datagram = header(BATCH_BEGIN).finish(next_sequence(netlink));
    let first = netlink.sequence;
    let count = requests.len();
    for (at, request) in requests.into_iter().enumerate() {
        let request = request.with_flags(if at + 1 == count { NLM_F_ACK } else { 0 });
        datagram.extend(request.finish(next_sequence(netlink)));
    }
    let last = netlink.sequence;
    datagram.extend(header(BATCH_END).finish(next_sequence(netlink)));
    let socket = &netlink.socket;
    let sent = socket.send_to(&datagram, &SocketAddr::new(0, 0), 0);
    sent.map_err(|source| Error::Socket {
        call: "send",
        source,
    })?;
    let deadline = Deadline::after(ANSWER_TIMEOUT);
    loop {
        let Some(datagram) = receive(socket, deadline)? else {
            return Err(Error::TimedOut { request: what });
        };
        for message in Messages(&datagram) {
            let is_ours = message.sequence.wrapping_sub(first) <= last.wrapping_sub(first);
            if message.kind != NLMSG_ERROR || !is_ours {
                continue;
            }
            acknowledgement(&what, &message)?;
            if message.sequence == last {
                return Ok(());
            }
        }
    }
}

fn next_sequence(netlink: &mut Netlink) -> u32 {
    netlink.sequence = netlink.sequence.wrapping_add(1);
    netlink.sequence
}

impl Drop for OwnTable {
    fn drop(&mut self) {
        // The kernel does it too, but not before a program that is just being started, and for a moment
        // has a copy of the socket, has begun.
        if !self.made {
            return;
        }
        let request = request(DELTABLE, NLM_F_REQUEST, self.layer);
        let _ = self.commit(vec![request.attribute(TABLE_NAME, &text(&self.name))]);
    }
}

/// The handles of a chain's rules, in their order, in the calling thread's network namespace.
pub fn handles(layer: Layer, table: &str, chain: &str) -> Result<Vec<u64>, Error> {
    let what = format!("NFT_MSG_GETRULE of {table} {chain}");
    let mut netlink = Netlink::of(NETLINK_NETFILTER)?;
    netlink.dump(&what, &listing(layer, table, chain), |message| {
        let mut attributes = message.attributes(HEADER_LEN);
        let (_, handle) = attributes.find(|(kind, _)| *kind == RULE_HANDLE)?;
        u64_at(handle)
    })
}

fn listing(layer: Layer, table: &str, chain: &str) -> Request {
    request(GETRULE, NLM_F_REQUEST | NLM_F_DUMP, layer)
        .attribute(RULE_TABLE, &text(table))
        .attribute(RULE_CHAIN, &text(chain))
}

pub(super) fn request(kind: u16, flags: u16, layer: Layer) -> Request {
    Request::new(kind, flags, &[layer.number(), 0, 0, 0])
}

/// What the first counter among a rule's expressions says.
fn counter(message: &Message<'_>) -> Option<u64> {
    let mut attributes = message.attributes(HEADER_LEN);
    let (_, list) = attributes.find(|(kind, _)| *kind == RULE_EXPRESSIONS)?;
    Attributes(list).find_map(|(_, expression)| {
        let member = |wanted| {
            let mut members = Attributes(expression);
            members.find(|(kind, _)| *kind == wanted).map(|(_, v)| v)
        };
        if !member(EXPRESSION_NAME)?.starts_with(b"counter") {
            return None;
        }
        let mut values = Attributes(member(EXPRESSION_DATA)?);
        let (_, packets) = values.find(|(kind, _)| *kind == COUNTER_PACKETS)?;
        u64_at(packets)
    })
}

/// Reads a `u64` in network order.
pub(super) fn u64_at(bytes: &[u8]) -> Option<u64> {
    Some(u64::from_be_bytes(bytes.get(..8)?.try_into().ok()?))
}

/// A string with its NUL.
pub(super) fn text(text: &str) -> Vec<u8> {
    let mut bytes = text.as_bytes().to_vec();
    bytes.push(0);
    bytes
}

pub(super) fn expression(name: &str, data: &[(u16, u32)], nested: Option<(u16, &[u8])>) -> Vec<u8> {
    let mut values: Vec<u8> = data
        .iter()
        .flat_map(|(kind, value)| attribute(*kind, &value.to_be_bytes()))
        .collect();
    if let Some((kind, value)) = nested {
        values.extend(attribute(kind | NESTED, &attribute(DATA_VALUE, value)));
    }
    let both = [
        attribute(EXPRESSION_NAME, &text(name)),
        attribute(EXPRESSION_DATA | NESTED, &values),
    ];
    attribute(LIST_ELEMENT | NESTED, &both.concat())
}

/// Loads what is known of a packet.
pub(super) fn load_meta(key: u32) -> Vec<u8> {
    expression("meta", &[(1, REGISTER), (2, key)], None)
}

/// Loads bytes of a packet.
pub(super) fn load(header: u32, offset: u32, length: u32) -> Vec<u8> {
    let data = [(1, REGISTER), (2, header), (3, offset), (4, length)];
    expression("payload", &data, None)
}

pub(super) fn compare(how: u32, value: &[u8]) -> Vec<u8> {
    expression("cmp", &[(1, REGISTER), (2, how)], Some((3, value)))
}

fn is_address(offset: u32, address: IpAddr, how: u32) -> Vec<u8> {
    let bytes = match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    };
    let length = if address.is_ipv4() { 4 } else { 16 };
    [load(NETWORK_HEADER, offset, length), compare(how, &bytes)].concat()
}

fn is_port(offset: u32, (first, last): (u16, u16)) -> Vec<u8> {
    let load = load(TRANSPORT_HEADER, offset, 2);
    if first == last {
        return [load, compare(EQUAL, &first.to_be_bytes())].concat();
    }
    let range = [
        load,
        compare(AT_LEAST, &first.to_be_bytes()),
        compare(AT_MOST, &last.to_be_bytes()),
    ];
    range.concat()
}

fn expressions(rule: &CountingRule) -> Vec<u8> {
    let mut all = Vec::new();
    let ethertype = match &rule.packets {
        Packets::Arp { .. } => ETHERTYPE_ARP,
        Packets::Flow { source, .. } if source.is_ipv4() => ETHERTYPE_IPV4,
        Packets::Flow { .. } => ETHERTYPE_IPV6,
    };
    all.extend(load_meta(META_PROTOCOL));
    all.extend(compare(EQUAL, &ethertype.to_be_bytes()));
    match &rule.packets {
        // RFC 826: the sender's protocol address at 14, the target's at 24.
        Packets::Arp { address, told } => {
            let address = (*address).into();
            all.extend(is_address(
                14,
                address,
                if *told { EQUAL } else { NOT_EQUAL },
            ));
            if !told {
                all.extend(is_address(24, address, EQUAL));
            }
        }
        Packets::Flow {
            protocol,
            source,
            source_ports,
            destination,
            destination_ports,
        } => {
            let (from, to) = if source.is_ipv4() { (12, 16) } else { (8, 24) };
            all.extend(load_meta(META_TRANSPORT));
            all.extend(compare(EQUAL, &[*protocol]));
            all.extend(is_address(from, *source, EQUAL));
            all.extend(is_address(to, *destination, EQUAL));
            all.extend(is_port(0, *source_ports));
            all.extend(is_port(2, *destination_ports));
        }
    }
    all.extend(expression("counter", &[], None));
    if rule.trace {
        all.extend(expression("immediate", &[(1, REGISTER)], Some((2, &[1]))));
        all.extend(expression("meta", &[(2, META_TRACE), (3, REGISTER)], None));
    }
    all
}

/// Opens a socket of netfilter that hears a group.
pub(super) fn listen(group: u32, buffer: usize) -> Result<Socket, Error> {
    use nix::sys::socket::{setsockopt, sockopt};
    let error = |call| move |source: io::Error| Error::Socket { call, source };
    let mut socket = Socket::new(NETLINK_NETFILTER).map_err(error("socket"))?;
    socket.set_non_blocking(true).map_err(error("fcntl"))?;
    // Without the right to pass the limit, the limit it is.
    if setsockopt(&super::borrow(&socket), sockopt::RcvBufForce, &buffer).is_err() {
        let _ = socket.set_rx_buf_sz(libc::c_int::try_from(buffer).unwrap_or(libc::c_int::MAX));
    }
    socket.bind_auto().map_err(error("bind"))?;
    let joined = socket.add_membership(group);
    joined.map_err(error("NETLINK_ADD_MEMBERSHIP"))?;
    Ok(socket)
}

/// Reads a big-endian `u32`.
pub(super) fn u32_be(bytes: &[u8]) -> Option<u32> {
    u32_at(bytes, 0).map(u32::from_be)
}

//! The `#[repr(C)]` forms that live in maps, shared by the programs, the daemon and the tests.
//!
//! Addresses are four 32-bit words in network order as they lie in memory; an IPv4 address is the
//! first word, the others 0. Ports are network-order words too. Change a layout here and
//! [`LAYOUT`] has to change with it: pinned maps of another layout are refused.

#[cfg(feature = "std")]
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use pointsman_wire::Mac;

use crate::atomic::{Word32, Word64};

/// Version of every layout in this file; part of the pin path.
pub const LAYOUT: u32 = 3;

/// An address: four words in network order; IPv4 uses the first.
pub type Address = [u32; 4];

/// "No server": an unused slot.
pub const NONE: u32 = u32::MAX;

/// What one direction of a flow is known by.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
#[cfg_attr(
    feature = "std",
    derive(
        Debug,
        Hash,
        PartialOrd,
        Ord,
        FromBytes,
        IntoBytes,
        KnownLayout,
        Immutable
    )
)]
#[repr(C)]
pub struct FlowKey {
    /// Who sends.
    pub source: Address,
    /// Who receives.
    pub destination: Address,
    /// Port of the sender, network order.
    pub source_port: u16,
    /// Port of the receiver, network order.
    pub destination_port: u16,
    /// IP protocol number.
    pub protocol: u8,
    /// 1 for IPv6, 0 for IPv4.
    pub ipv6: u8,
    /// Zero.
    pub pad: u16,
}

impl FlowKey {
    /// The same flow seen from the other end.
    #[inline(always)]
    pub fn reversed(&self) -> Self {
        Self {
            source: self.destination,
            destination: self.source,
            source_port: self.destination_port,
            destination_port: self.source_port,
            ..*self
        }
    }

    /// The compact form of an IPv4 flow.
    #[inline(always)]
    pub fn compact(&self) -> FlowKey4 {
        FlowKey4 {
            addresses: self.source[0] as u64 | ((self.destination[0] as u64) << 32),
            ports: self.source_port as u64
                | ((self.destination_port as u64) << 16)
                | ((self.protocol as u64) << 32),
        }
    }
}

/// A [`FlowKey`] of an IPv4 flow: what a million of them need is a third of the table.
///
/// Two words, each written by one store: the hash reads the key back at once, and a read across
/// several younger stores stalls the processor.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
#[cfg_attr(
    feature = "std",
    derive(Debug, Hash, FromBytes, IntoBytes, KnownLayout, Immutable)
)]
#[repr(C)]
pub struct FlowKey4 {
    /// From the lowest: source (32 bits), destination (32 bits), both as in memory.
    pub addresses: u64,
    /// From the lowest: source port (16 bits), destination port (16 bits), both as in memory,
    /// IP protocol number (8 bits), zero.
    pub ports: u64,
}

impl FlowKey4 {
    /// The general form.
    #[inline(always)]
    pub fn expand(&self) -> FlowKey {
        FlowKey {
            source: [self.addresses as u32, 0, 0, 0],
            destination: [(self.addresses >> 32) as u32, 0, 0, 0],
            source_port: self.ports as u16,
            destination_port: (self.ports >> 16) as u16,
            protocol: (self.ports >> 32) as u8,
            ipv6: 0,
            pad: 0,
        }
    }
}

/// A connection, found by the flow from client to virtual service. 40 bytes: with key and the
/// kernel's 64 bytes of overhead an IPv4 connection costs 120 bytes of map memory.
#[cfg_attr(
    feature = "std",
    derive(
        Debug,
        Clone,
        Default,
        PartialEq,
        Eq,
        FromBytes,
        IntoBytes,
        KnownLayout
    )
)]
#[repr(C)]
pub struct ConnectionRecord {
    /// When it ends, nanoseconds of the monotonic clock.
    pub expires: Word64,
    /// Low byte: protocol state; above: flags, see [`connection_flag`].
    pub word: Word32,
    /// Index of its real server.
    pub server: u32,
    /// Packets from the client, wrapping.
    pub packets: Word32,
    /// Timeout of its state, seconds.
    pub timeout: Word32,
    /// Port of the real server for this connection, network order.
    pub server_port: u16,
    /// Forwarding method at its creation, see [`method`].
    pub method: u8,
    /// How the key of the template it belongs to is made, see [`control`].
    pub control: u8,
    /// Firewall mark it was scheduled by, 0 for none.
    pub mark: u32,
    /// Number of the template it belongs to, or is; templates that follow one another under the same
    /// key have different ones.
    pub template: u32,
    /// In a template: connections that belong to it. In a connection of a template: the client mask
    /// with which its key was made, an IPv4 netmask in network order or an IPv6 prefix length.
    pub members: Word32,
}

/// Flags of [`ConnectionRecord::word`].
pub mod connection_flag {
    /// Not counted as active.
    pub const INACTIVE: u32 = 1 << 8;
    /// No packet of the real server passes here (direct routing, tunnel).
    pub const NO_OUTPUT: u32 = 1 << 9;
    /// Uncounted and about to leave the table.
    pub const DEAD: u32 = 1 << 10;
    /// A persistence template, not a connection.
    pub const TEMPLATE: u32 = 1 << 11;
    /// Its template knows that it is a real client's.
    pub const ASSURED: u32 = 1 << 12;
    /// Another director told of it (`IP_VS_CONN_F_SYNC`); programs leave this alone.
    pub const SYNC: u32 = 1 << 13;
}

/// What the virtual port in the key of a connection's template is.
pub mod control {
    /// There is no template.
    pub const NONE: u8 = 0;
    /// The connection's own.
    pub const PORT: u8 = 1;
    /// 0: a service for every port, or FTP.
    pub const ANY_PORT: u8 = 2;
    /// 0, and the firewall mark takes the place of the address.
    pub const MARK: u8 = 3;
}

/// How a NAT reply finds its connection: by the flow from real server to client.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
#[cfg_attr(
    feature = "std",
    derive(Debug, FromBytes, IntoBytes, KnownLayout, Immutable)
)]
#[repr(C)]
pub struct ReplyRecord {
    /// Virtual address.
    pub address: Address,
    /// Where frames to the client go: learned from its own, then looked up.
    pub hop: NextHop,
    /// [`Settings::epoch`] at which `hop` was looked up; 0 while it is only learned.
    pub epoch: u32,
    /// Virtual port, network order.
    pub port: u16,
    /// Zero.
    pub pad: u16,
}

/// Where a frame leaves: device, link-layer addresses, VLAN, MTU.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
#[cfg_attr(
    feature = "std",
    derive(Debug, FromBytes, IntoBytes, KnownLayout, Immutable)
)]
#[repr(C)]
pub struct NextHop {
    /// Index of the device; 0 for none.
    pub ifindex: u32,
    /// Largest IP packet, bytes.
    pub mtu: u32,
    /// Link-layer address of the next hop.
    pub destination: Mac,
    /// Link-layer address of the device.
    pub source: Mac,
    /// VLAN id of the tag to send with, 0 for none.
    pub vlan: u16,
    /// See [`hop_flag`].
    pub flags: u16,
}

/// Flags of [`NextHop::flags`].
pub mod hop_flag {
    /// Both link-layer addresses are known.
    pub const RESOLVED: u16 = 1;
    /// The address belongs to this host.
    pub const LOCAL: u16 = 2;
}

/// Forwarding methods as the kernel numbers them (`IP_VS_CONN_F_*`).
pub mod method {
    /// Network address translation.
    pub const MASQUERADE: u8 = 0;
    /// IP in IP.
    pub const TUNNEL: u8 = 2;
    /// Direct routing.
    pub const DIRECT: u8 = 3;
}

/// A real server as configured, with where its frames go. Written by the daemon only.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
#[cfg_attr(
    feature = "std",
    derive(Debug, FromBytes, IntoBytes, KnownLayout, Immutable)
)]
#[repr(C)]
pub struct ServerRecord {
    /// Next hop.
    pub hop: NextHop,
    /// Index of its virtual service.
    pub service: u32,
    /// Port, network order.
    pub port: u16,
    /// Forwarding method, see [`method`].
    pub method: u8,
    /// See [`server_flag`].
    pub flags: u8,
    /// Address.
    pub address: Address,
    /// Outer source address of its tunnel.
    pub tunnel_source: Address,
    /// Address the neighbour entry of the next hop is for: the gateway, or the server itself.
    pub gateway: Address,
    /// Weight.
    pub weight: i32,
    /// Upper threshold, 0 for none.
    pub upper: u32,
    /// Lower threshold, 0 for three quarters of the upper one.
    pub lower: u32,
    /// Latest weight that was not 0 (mh).
    pub last_weight: i32,
    /// The service it belongs to, kept for servers that outlive it.
    pub key: ServiceKey,
    /// Order of arrival; a service's newest server has the highest.
    pub sequence: u32,
}

/// Flags of [`ServerRecord::flags`].
pub mod server_flag {
    /// The record is in use.
    pub const PRESENT: u8 = 1;
    /// The server is configured; a removed one keeps its record while connections remain.
    pub const AVAILABLE: u8 = 2;
    /// Its address is IPv6.
    pub const IPV6: u8 = 4;
    /// Its next hop's address is IPv6.
    pub const GATEWAY_IPV6: u8 = 8;
}

/// What changes about a real server while packets pass. Written by the programs.
#[cfg_attr(
    feature = "std",
    derive(
        Debug,
        Clone,
        Default,
        PartialEq,
        Eq,
        FromBytes,
        IntoBytes,
        KnownLayout
    )
)]
#[repr(C)]
pub struct ServerCounts {
    /// Active connections.
    pub active: Word32,
    /// Inactive connections.
    pub inactive: Word32,
    /// Persistence templates.
    pub persistent: Word32,
    /// See [`counts_flag`].
    pub flags: Word32,
}

/// Flags of [`ServerCounts::flags`].
pub mod counts_flag {
    /// The upper threshold was reached; no new connections.
    pub const OVERLOAD: u32 = 1;
}

/// Traffic of a real server, one copy per processor.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
#[cfg_attr(
    feature = "std",
    derive(Debug, FromBytes, IntoBytes, KnownLayout, Immutable)
)]
#[repr(C)]
pub struct ServerStats {
    /// Connections scheduled.
    pub connections: u64,
    /// Packets from clients.
    pub in_packets: u64,
    /// Bytes from clients, from the IP header on.
    pub in_bytes: u64,
    /// Packets to clients.
    pub out_packets: u64,
    /// Bytes to clients, from the IP header on.
    pub out_bytes: u64,
}

/// What a virtual service is found by.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
#[cfg_attr(
    feature = "std",
    derive(
        Debug,
        Hash,
        PartialOrd,
        Ord,
        FromBytes,
        IntoBytes,
        KnownLayout,
        Immutable
    )
)]
#[repr(C)]
pub struct ServiceKey {
    /// Virtual address; first word the mark for a firewall-mark service.
    pub address: Address,
    /// Virtual port, network order.
    pub port: u16,
    /// IP protocol number; 0 for a firewall-mark service.
    pub protocol: u8,
    /// 1 for IPv6, 0 for IPv4.
    pub ipv6: u8,
}

/// A virtual service as configured. Written by the daemon only, as a whole.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
#[cfg_attr(
    feature = "std",
    derive(Debug, FromBytes, IntoBytes, KnownLayout, Immutable)
)]
#[repr(C)]
pub struct ServiceRecord {
    /// Its index, for [`SchedulerState`].
    pub id: u32,
    /// See [`service_flag`].
    pub flags: u32,
    /// See [`crate::schedule::Scheduler`].
    pub scheduler: u8,
    /// Zero.
    pub pad: u8,
    /// Number of the plan: which configuration [`SchedulerState`] belongs to.
    pub plan: u16,
    /// Real servers in the slots.
    pub count: u32,
    /// First line of its slots.
    pub slots: u32,
    /// First line of its lookup table; the number of its cache for `lblc` and `lblcr`, which no service
    /// before had.
    pub table: u32,
    /// wrr: highest level, `mw`.
    pub top: i32,
    /// wrr: step between levels, `di`.
    pub step: i32,
    /// Cursor and level with which the plan starts, packed as [`SchedulerState`].
    pub start: u64,
    /// Persistence timeout, seconds; 0 for none.
    pub persistence: u32,
    /// Length of the client prefix that shares a template.
    pub prefix: u32,
    /// IPv4 client netmask, network order.
    pub netmask: u32,
    /// Lines allotted from `slots` on.
    pub slot_lines: u32,
    /// Lines allotted from `table` on.
    pub table_lines: u32,
    /// Zero.
    pub pad2: u32,
}

/// Flags of [`ServiceRecord::flags`], as the kernel numbers them (`IP_VS_SVC_F_*`).
pub mod service_flag {
    /// Persistent.
    pub const PERSISTENT: u32 = 0x01;
    /// One-packet scheduling.
    pub const ONE_PACKET: u32 = 0x04;
    /// Scheduler flag 1: fallback for sh and mh.
    pub const SCHED1: u32 = 0x08;
    /// Scheduler flag 2: port for sh and mh.
    pub const SCHED2: u32 = 0x10;
    /// Scheduler flag 3.
    pub const SCHED3: u32 = 0x20;
}

/// A real server's place in its service, newest first.
#[derive(Clone, Copy, PartialEq, Eq)]
#[cfg_attr(
    feature = "std",
    derive(Debug, FromBytes, IntoBytes, KnownLayout, Immutable)
)]
#[repr(C)]
pub struct Slot {
    /// Index of the real server, [`NONE`] when unused.
    pub server: u32,
    /// Weight.
    pub weight: i32,
}

impl Slot {
    /// An unused slot.
    pub const UNUSED: Self = Self {
        server: NONE,
        weight: 0,
    };
}

/// Slots of one line.
pub const SLOTS_PER_LINE: usize = 8;

/// Eight slots: one cache line, one lookup.
pub type SlotLine = [Slot; SLOTS_PER_LINE];

/// Table entries of one line.
pub const ENTRIES_PER_LINE: usize = 32;

/// Thirty-two positions into the slots: one cache line of a scheduler's lookup table.
pub type TableLine = [u16; ENTRIES_PER_LINE];

/// A scheduler's memory between two connections: plan number (16 bits), position + 1 (16 bits,
/// 0 for the head of the list), wrr level (32 bits), from the top.
#[cfg_attr(
    feature = "std",
    derive(
        Debug,
        Clone,
        Default,
        PartialEq,
        Eq,
        FromBytes,
        IntoBytes,
        KnownLayout
    )
)]
#[repr(transparent)]
pub struct SchedulerState(pub Word64);

/// Members of a [`LocalityRecord`] at most; IPVS has no limit.
pub const LOCALITY_SERVERS: usize = 64;

/// What a cache of `lblc` and `lblcr` is looked up by.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
#[cfg_attr(
    feature = "std",
    derive(
        Debug,
        Hash,
        PartialOrd,
        Ord,
        FromBytes,
        IntoBytes,
        KnownLayout,
        Immutable
    )
)]
#[repr(C)]
pub struct LocalityKey {
    /// Destination address of packets.
    pub address: Address,
    /// Number of the service's cache, see [`ServiceRecord::table`].
    pub cache: u32,
}

/// The servers that an address was sent to.
#[cfg_attr(
    feature = "std",
    derive(Debug, Clone, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout)
)]
#[repr(C)]
pub struct LocalityRecord {
    /// When it was used last, nanoseconds of the monotonic clock.
    pub used: Word64,
    /// When a member joined or left, nanoseconds of the monotonic clock.
    pub modified: u64,
    /// Members; always one for `lblc`.
    pub count: u32,
    /// Zero.
    pub pad: u32,
    /// Indices of real servers, in the order in which they joined.
    pub servers: [u32; LOCALITY_SERVERS],
}

impl Default for LocalityRecord {
    fn default() -> Self {
        Self {
            used: Word64::new(0),
            modified: 0,
            count: 0,
            pad: 0,
            servers: [0; LOCALITY_SERVERS],
        }
    }
}

#[cfg(feature = "std")]
impl LocalityRecord {
    /// The members, in the order in which they joined.
    pub fn members(&self) -> &[u32] {
        &self.servers[..(self.count as usize).min(LOCALITY_SERVERS)]
    }
}

/// An entry of a cache.
#[cfg_attr(feature = "std", derive(Debug, Clone, Default))]
#[repr(C)]
pub struct LocalityEntry {
    /// Which.
    pub key: LocalityKey,
    /// Zero.
    pub pad: u32,
    /// What.
    pub record: LocalityRecord,
}

/// A device that the programs are attached to.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
#[cfg_attr(
    feature = "std",
    derive(Debug, FromBytes, IntoBytes, KnownLayout, Immutable)
)]
#[repr(C)]
pub struct LinkRecord {
    /// Its index; 0 for none.
    pub ifindex: u32,
    /// Its address: only frames to it are ours.
    pub mac: Mac,
    /// Zero.
    pub pad: u16,
}

/// Places for devices. A device's place is its index modulo this: an array lookup costs a tenth of
/// a hash lookup, and every packet pays it.
pub const LINKS: u32 = 1024;

/// States of TCP, as the kernel numbers them.
pub const TCP_STATES: usize = 11;

/// What holds for every service.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
#[cfg_attr(
    feature = "std",
    derive(Debug, FromBytes, IntoBytes, KnownLayout, Immutable)
)]
#[repr(C)]
pub struct Settings {
    /// Timeout of each TCP state, seconds; five unused places make it a power of two.
    pub tcp_timeouts: [u32; 16],
    /// Timeout of a UDP flow, seconds.
    pub udp_timeout: u32,
    /// Raised whenever routes or neighbours change: next hops looked up before are stale.
    pub epoch: u32,
    /// `net.ipv4.vs.conn_reuse_mode`.
    pub reuse_mode: u32,
    /// See [`settings_flag`].
    pub flags: u32,
    /// Largest TCP segment size that a forwarded SYN may announce, 0 for no limit.
    pub mss_clamp: u32,
    /// Which rules make firewall marks: their number (low 16 bits), the place of the first.
    pub mark_rules: u32,
    /// How long an unused entry of an `lblc` cache is kept, seconds.
    pub lblc_expiration: u32,
    /// As for `lblc`, with `lblcr`; also how long a set stays unchanged before a member leaves it.
    pub lblcr_expiration: u32,
}

/// Flags of [`Settings::flags`].
pub mod settings_flag {
    /// `net.ipv4.vs.pmtu_disc`: DF goes to the outer header, too-big errors to the client.
    pub const PMTU_DISC: u32 = 1;
    /// `net.ipv4.vs.sloppy_tcp`: any packet but RST starts a connection.
    pub const SLOPPY_TCP: u32 = 2;
    /// The connection table is full: hash schedulers forward without a connection.
    pub const TABLE_FULL: u32 = 4;
    /// Some service is for every port: an exact look-up that fails is not the last.
    pub const ANY_PORT: u32 = 8;
    /// `net.ipv4.vs.expire_nodest_conn`: connections of removed servers end at once.
    pub const EXPIRE_NODEST: u32 = 16;
    /// `net.ipv4.vs.expire_quiescent_template`: templates of servers with weight 0 don't count.
    pub const EXPIRE_QUIESCENT: u32 = 32;
    /// `net.ipv4.vs.drop_entry` is at work: sweeps end connections at random.
    pub const DROP_ENTRY: u32 = 64;
    /// Some service is known by a firewall mark: rules that make marks have to be looked at.
    pub const MARKS: u32 = 128;
    /// Some service is for port 21: it also takes its clients' data connections.
    pub const FTP: u32 = 256;
    /// There is an IPv4 service; without one packets of connections are the kernel's, too.
    pub const SERVES_IPV4: u32 = 512;
    /// There is an IPv6 service.
    pub const SERVES_IPV6: u32 = 1024;
    /// `net.ipv4.vs.sloppy_sctp`: any packet but an abort starts a connection.
    pub const SLOPPY_SCTP: u32 = 2048;
    /// The daemon has written all that it was to begin with; without it these tables are a start that
    /// was cut short. The programs don't care.
    pub const CONFIGURED: u32 = 1 << 31;
}

impl Settings {
    /// The kernel's defaults (`ip_vs_proto_tcp.c`, `ip_vs_proto_udp.c`, `ip_vs_ctl.c`).
    pub const DEFAULT: Self = Self {
        tcp_timeouts: [
            2, 900, 120, 60, 120, 120, 10, 60, 30, 120, 120, 0, 0, 0, 0, 0,
        ],
        udp_timeout: 300,
        epoch: 1,
        reuse_mode: 1,
        flags: settings_flag::PMTU_DISC,
        mss_clamp: 0,
        mark_rules: 0,
        lblc_expiration: 86_400,
        lblcr_expiration: 86_400,
    };
}

/// Places for a set of rules that make firewall marks.
pub const MARK_RULES: u32 = 1024;

/// Ranges of ports in one [`MarkRuleRecord`].
pub const MARK_PORTS: usize = 4;

/// Ports from `low` to `high`, host order; none when `low` is the higher one.
#[derive(Clone, Copy, PartialEq, Eq)]
#[cfg_attr(
    feature = "std",
    derive(Debug, FromBytes, IntoBytes, KnownLayout, Immutable)
)]
#[repr(C)]
pub struct PortSpan {
    /// The first.
    pub low: u16,
    /// The last.
    pub high: u16,
}

impl PortSpan {
    /// No port.
    pub const NONE: Self = Self { low: 1, high: 0 };
    /// Every port.
    pub const ALL: Self = Self {
        low: 0,
        high: u16::MAX,
    };
}

/// A rule that makes a firewall mark, or a part of one with many ports: two cache lines, of which
/// most packets need the first only. Written by the daemon only.
#[derive(Clone, Copy, PartialEq, Eq)]
#[cfg_attr(
    feature = "std",
    derive(Debug, FromBytes, IntoBytes, KnownLayout, Immutable)
)]
#[repr(C)]
pub struct MarkRuleRecord {
    /// Destination, bits that don't count 0.
    pub destination: Address,
    /// Bits of the destination that count.
    pub destination_mask: Address,
    /// Device it comes in by; 0 for any, [`NONE`] for one that does not exist.
    pub ifindex: u32,
    /// IP protocol number, 0 for any.
    pub protocol: u8,
    /// Families: 1 for IPv4, 2 for IPv6, 3 for both.
    pub families: u8,
    /// See [`mark_flag`].
    pub flags: u8,
    /// Zero.
    pub pad: u8,
    /// Destination ports.
    pub ports: [PortSpan; MARK_PORTS],
    /// Bits of the mark to flip; or how many records to pass over.
    pub value: u32,
    /// Bits of the mark to clear before; or how many rules to pass over.
    pub mask: u32,
    /// Source, bits that don't count 0.
    pub source: Address,
    /// Bits of the source that count.
    pub source_mask: Address,
    /// Source ports.
    pub source_ports: PortSpan,
    /// What the mark so far must be in the bits of `match_mask`.
    pub match_value: u32,
    /// Bits of the mark so far that count.
    pub match_mask: u32,
    /// Number of the rule it is of.
    pub rule: u32,
    /// Name of the device, filled up with zeroes; all zeroes for any.
    pub interface: [u8; 16],
}

/// Flags of [`MarkRuleRecord::flags`].
pub mod mark_flag {
    /// The next records are passed over; the mark stays.
    pub const SKIP: u8 = 1;
    /// There is more to compare than the first half holds.
    pub const MORE: u8 = 2;
}

/// A packet that the daemon has to deal with, in the event ring.
#[derive(Clone, Copy)]
#[cfg_attr(feature = "std", derive(FromBytes, IntoBytes, KnownLayout, Immutable))]
#[repr(C)]
pub struct EventRecord {
    /// Device it came in by.
    pub ifindex: u32,
    /// Largest packet that would have fitted, bytes; for `too-big` and `needs-fragmenting`.
    pub mtu: u32,
    /// Bytes of the frame.
    pub length: u32,
    /// Bytes of it in `data`.
    pub captured: u32,
    /// Index of the real server it was meant for; for `needs-fragmenting` and `no-next-hop`.
    pub server: u32,
    /// Port of that server for the packet's connection, network order.
    pub port: u16,
    /// [`crate::Reason`] as a number.
    pub reason: u8,
    /// Zero.
    pub pad: u8,
    /// The frame from its Ethernet header on.
    pub data: [u8; EVENT_BYTES],
}

/// Frame bytes of an [`EventRecord`]: enough to fragment a full Ethernet frame.
pub const EVENT_BYTES: usize = 2048;

const _: () = {
    assert!(size_of::<FlowKey>() == 40 && size_of::<FlowKey4>() == 16);
    assert!(size_of::<ConnectionRecord>() == 40);
    assert!(size_of::<ReplyRecord>() == 48);
    assert!(size_of::<NextHop>() == 24);
    assert!(size_of::<ServerRecord>() == 120);
    assert!(size_of::<ServiceRecord>() == 64);
    assert!(size_of::<MarkRuleRecord>() == 128);
    assert!(size_of::<LocalityKey>() == 20 && size_of::<LocalityRecord>() == 280);
    assert!(size_of::<SlotLine>() == 64 && size_of::<TableLine>() == 64);
};

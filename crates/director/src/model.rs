//! What an operator asks for: virtual services and real servers, and the changes to them.
//!
//! These are the words of `ipvsadm`; the records in [`crate::record`] are what they become.

mod mark_rule;

use std::fmt;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

pub use mark_rule::{
    Family, INTERFACE_NAME, MarkAction, MarkMatch, MarkRule, MarkRuleView, PortRange, Prefix,
    WordError,
};

/// A layer-4 protocol that a virtual service balances.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// Transmission Control Protocol, IP protocol 6.
    Tcp,
    /// User Datagram Protocol, IP protocol 17.
    Udp,
    /// Stream Control Transmission Protocol, IP protocol 132.
    Sctp,
}

impl Protocol {
    /// IP protocol number.
    pub const fn number(self) -> u8 {
        match self {
            Self::Tcp => 6,
            Self::Udp => 17,
            Self::Sctp => 132,
        }
    }

    /// The protocol with this IP protocol number, if a virtual service can have it.
    pub const fn from_number(number: u8) -> Option<Self> {
        match number {
            6 => Some(Self::Tcp),
            17 => Some(Self::Udp),
            132 => Some(Self::Sctp),
            _ => None,
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Tcp => "TCP",
            Self::Udp => "UDP",
            Self::Sctp => "SCTP",
        })
    }
}

/// What a virtual service is known by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", tag = "kind")]
pub enum ServiceId {
    /// Protocol, virtual address and port (host order; 0 = every port, persistent services only).
    Address {
        /// Protocol balanced.
        protocol: Protocol,
        /// Virtual address.
        address: IpAddr,
        /// Virtual port, 0 for all.
        port: u16,
    },
    /// Firewall mark and address family.
    Mark {
        /// The mark, not 0.
        mark: u32,
        /// True for an IPv6 service.
        ipv6: bool,
    },
}

impl ServiceId {
    /// True when clients of this service speak IPv6.
    pub const fn is_ipv6(&self) -> bool {
        match self {
            Self::Address { address, .. } => address.is_ipv6(),
            Self::Mark { ipv6, .. } => *ipv6,
        }
    }
}

impl fmt::Display for ServiceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address {
                protocol,
                address: IpAddr::V4(a),
                port,
            } => {
                write!(f, "{protocol} {a}:{port}")
            }
            Self::Address {
                protocol,
                address: IpAddr::V6(a),
                port,
            } => {
                write!(f, "{protocol} [{a}]:{port}")
            }
            Self::Mark { mark, ipv6: false } => write!(f, "FWM {mark}"),
            Self::Mark { mark, ipv6: true } => write!(f, "FWM {mark} IPv6"),
        }
    }
}

/// How long and how widely clients stick to a real server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Persistence {
    /// Seconds, 1..=2678400.
    pub timeout: u32,
    /// Length of the client prefix that shares a template: 32 or 128 for one address.
    pub prefix: u8,
    /// IPv4 netmask as written, host order; netmasks need not be prefixes. 0 for IPv6.
    pub netmask: u32,
}

/// The scheduler flags of `ipvsadm -b`, as the kernel numbers them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct SchedulerFlags {
    /// `flag-1`: fallback for sh and mh.
    pub flag1: bool,
    /// `flag-2`: port for sh and mh.
    pub flag2: bool,
    /// `flag-3`: stored, without effect.
    pub flag3: bool,
}

/// A virtual service as an operator writes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VirtualService {
    /// What it is known by.
    pub id: ServiceId,
    /// Scheduler name, `wlc` when not given.
    pub scheduler: String,
    /// Scheduler flags.
    #[serde(default)]
    pub flags: SchedulerFlags,
    /// Persistence, if asked for.
    #[serde(default)]
    pub persistence: Option<Persistence>,
    /// One-packet scheduling.
    #[serde(default)]
    pub one_packet: bool,
    /// Persistence engine name.
    #[serde(default)]
    pub engine: Option<String>,
}

/// How the director hands a packet to a real server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ForwardingMethod {
    /// Network address translation, `-m`.
    Masquerade,
    /// IP in IP, `-i`.
    Tunnel,
    /// Only the link-layer header changes, `-g`.
    Direct,
}

/// What a tunnel puts between the outer IP header and the client's packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", tag = "type")]
pub enum TunnelType {
    /// Nothing: protocol 4 or 41.
    #[default]
    Ipip,
    /// UDP and a GUE header.
    Gue {
        /// Destination port, host order.
        port: u16,
        /// Checksum treatment.
        checksum: TunnelChecksum,
    },
    /// A GRE header.
    Gre {
        /// Checksum treatment; remote checksums do not exist for GRE.
        checksum: TunnelChecksum,
    },
}

/// Outer checksum of a GUE or GRE tunnel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TunnelChecksum {
    /// No checksum.
    #[default]
    None,
    /// A checksum.
    Full,
    /// Remote checksum offload (GUE).
    Remote,
}

/// A real server as an operator writes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RealServer {
    /// Address.
    pub address: IpAddr,
    /// Port, host order. For direct routing and tunnels IPVS forces the service's port.
    pub port: u16,
    /// Forwarding method.
    pub method: ForwardingMethod,
    /// Weight; 0 takes no new connections.
    pub weight: i32,
    /// Upper connection threshold, 0 for none.
    #[serde(default)]
    pub upper: u32,
    /// Lower connection threshold, 0 for three quarters of the upper one.
    #[serde(default)]
    pub lower: u32,
    /// Tunnel type; only used with [`ForwardingMethod::Tunnel`].
    #[serde(default)]
    pub tunnel: TunnelType,
}

/// One thing to do to the configuration, as `ipvsadm` would ask the kernel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "change")]
pub enum Change {
    /// `-A`
    AddService {
        /// The service.
        service: VirtualService,
    },
    /// `-E`: replaces everything but the id and the real servers.
    EditService {
        /// The service.
        service: VirtualService,
    },
    /// `-D`
    DeleteService {
        /// Which service.
        id: ServiceId,
    },
    /// `-a`
    AddServer {
        /// Which service.
        id: ServiceId,
        /// The real server.
        server: RealServer,
    },
    /// `-e`: replaces everything but address and port.
    EditServer {
        /// Which service.
        id: ServiceId,
        /// The real server.
        server: RealServer,
    },
    /// `-d`
    DeleteServer {
        /// Which service.
        id: ServiceId,
        /// Address of the real server.
        address: IpAddr,
        /// Port of the real server, host order.
        port: u16,
    },
    /// `-C`
    Clear,
    /// `-Z`: zeroes counters of one service and its servers, or of all.
    Zero {
        /// Which service; all when absent.
        id: Option<ServiceId>,
    },
    /// `--set`: seconds; 0 keeps the current value.
    SetTimeouts {
        /// Established TCP.
        tcp: u32,
        /// TCP after FIN.
        tcp_fin: u32,
        /// UDP.
        udp: u32,
    },
    /// Replaces all rules that make firewall marks.
    SetMarkRules {
        /// The rules, in order.
        rules: Vec<MarkRule>,
    },
    /// Adds a rule that makes firewall marks.
    AddMarkRule {
        /// The rule.
        rule: MarkRule,
        /// Its place, from 1; behind all others when absent.
        #[serde(default)]
        number: Option<usize>,
    },
    /// Deletes a rule that makes firewall marks.
    DeleteMarkRule {
        /// Its place, from 1.
        number: usize,
    },
}

/// Why a [`Change`] was refused; the meanings are the kernel's (`net/netfilter/ipvs/ip_vs_ctl.c`).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "error", content = "detail")]
pub enum ControlError {
    /// EEXIST on a service.
    #[error("Service already exists")]
    ServiceExists,
    /// ESRCH on a service operation.
    #[error("No such service")]
    NoSuchService,
    /// ESRCH on a real-server operation.
    #[error("Service not defined")]
    ServiceNotDefined,
    /// EEXIST on a real server.
    #[error("Destination already exists")]
    DestinationExists,
    /// ENOENT on a real server.
    #[error("No such destination")]
    NoSuchDestination,
    /// ENOENT on add or edit of a service.
    #[error("Scheduler or persistence engine not found")]
    SchedulerNotFound,
    /// EINVAL.
    #[error("Invalid operation.  Possibly wrong module version, address not unicast, ...")]
    Invalid,
    /// ERANGE.
    #[error("Numerical result out of range")]
    Range,
    /// ENOMEM: a table of the data plane is full; the text names it.
    #[error("Memory allocation problem ({0})")]
    NoMemory(String),
    /// A rule that makes firewall marks is impossible, or not there; the text says what is wrong.
    #[error("{0}")]
    MarkRule(String),
    /// Pointsman does not do this yet; the text names it.
    #[error("not yet supported: {0}")]
    NotYet(String),
    /// The data plane refused; the text says what.
    #[error("data plane: {0}")]
    DataPlane(String),
}

/// Counters of a service or a real server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct StatsView {
    /// Connections scheduled.
    pub connections: u64,
    /// Packets from clients.
    pub in_packets: u64,
    /// Packets to clients, as far as they pass the director.
    pub out_packets: u64,
    /// Bytes from clients, from the IP header on.
    pub in_bytes: u64,
    /// Bytes to clients, from the IP header on.
    pub out_bytes: u64,
}

/// Rates of a service or a real server, per second.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct RateView {
    /// Connections.
    pub connections: u64,
    /// Packets from clients.
    pub in_packets: u64,
    /// Packets to clients.
    pub out_packets: u64,
    /// Bytes from clients.
    pub in_bytes: u64,
    /// Bytes to clients.
    pub out_bytes: u64,
}

/// A real server with what it is doing now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerView {
    /// As configured.
    pub server: RealServer,
    /// Active connections.
    pub active: u32,
    /// Inactive connections.
    pub inactive: u32,
    /// Persistence templates.
    pub persistent: u32,
    /// Counters.
    pub stats: StatsView,
    /// Rates.
    pub rate: RateView,
    /// Where frames to it go: `eth1 52:54:00:11:22:33`, or why they can't.
    #[serde(default)]
    pub next_hop: String,
}

/// A virtual service with its real servers, newest first as the kernel keeps them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceView {
    /// As configured.
    pub service: VirtualService,
    /// Counters.
    pub stats: StatsView,
    /// Rates.
    pub rate: RateView,
    /// Real servers, newest first.
    pub servers: Vec<ServerView>,
}

/// A connection, as `ipvsadm -Lc` shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConnectionView {
    /// IP protocol number; 0 for a firewall-mark template.
    pub protocol: u8,
    /// Seconds until it expires.
    pub expires: u32,
    /// State name as the kernel prints it.
    pub state: String,
    /// Client address.
    pub client: IpAddr,
    /// Client port, host order.
    pub client_port: u16,
    /// Virtual address.
    pub address: IpAddr,
    /// Virtual port, host order.
    pub port: u16,
    /// Real server address.
    pub server: IpAddr,
    /// Real server port, host order.
    pub server_port: u16,
}

/// Timeouts of `--set`, seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct TimeoutsView {
    /// Established TCP.
    pub tcp: u32,
    /// TCP after FIN.
    pub tcp_fin: u32,
    /// UDP.
    pub udp: u32,
}

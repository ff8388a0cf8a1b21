//! The services that generated packets are meant for.
//!
//! One virtual address for each forwarding method and family, one port for each scheduler, TCP and
//! UDP; `sh` and `mh` with and without their flags; then persistent ones, for one port or all, and
//! one-packet scheduling. Those with rr also balance SCTP. All services share
//! six real servers of each family; tunnels lead to both families. Next hops show what can happen:
//! another VLAN, a slim path, an unknown neighbour, this host itself.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use pointsman_wire::Mac;

use crate::{
    control::{Capacity, Director, HopRequest, Mirror},
    model::{
        Change, ControlError, ForwardingMethod, Persistence, Protocol, RealServer, SchedulerFlags,
        ServiceId, TunnelType, VirtualService,
    },
    record::{LinkRecord, NextHop, Settings, hop_flag},
};

/// Link-layer address of the director.
pub const DIRECTOR_MAC: Mac = Mac([2, 0, 0, 0, 1, 1]);
/// Link-layer address of the router that clients are behind.
pub const CLIENT_MAC: Mac = Mac([2, 0, 0, 0, 2, 1]);
/// First virtual address of IPv4: direct routing; then tunnel, then masquerade.
pub const SERVICES: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
/// Outer source address of tunnels over IPv4.
pub const TUNNEL_SOURCE: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
/// Outer source address of tunnels over IPv6.
pub const TUNNEL_SOURCE6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 1);
/// Real servers of each family.
pub const SERVERS: u64 = 6;
/// VLAN id with which real server 2 is reached.
pub const VLAN: u16 = 7;
/// MTU towards real server 3, bytes.
pub const SLIM_MTU: u32 = 1280;

/// Room enough for every service.
pub const CAPACITY: Capacity = Capacity {
    services: 512,
    servers: 2048,
    slot_lines: 2048,
    table_lines: 8192,
};

const METHODS: [ForwardingMethod; 3] = [
    ForwardingMethod::Direct,
    ForwardingMethod::Tunnel,
    ForwardingMethod::Masquerade,
];

/// Scheduler, and whether with its two flags.
const SCHEDULERS: [(&str, bool); 16] = [
    ("rr", false),
    ("wrr", false),
    ("lc", false),
    ("wlc", false),
    ("sh", false),
    ("sh", true),
    ("mh", false),
    ("mh", true),
    ("dh", false),
    ("sed", false),
    ("nq", false),
    ("fo", false),
    ("ovf", false),
    ("twos", false),
    ("lblc", false),
    ("lblcr", false),
];

/// What a service can be besides its scheduler.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Nothing.
    Plain,
    /// Persistent with this timeout (seconds), IPv4 netmask and IPv6 prefix length.
    Persistent(u32, u32, u8),
    /// Persistent, and for every port of an address of its own.
    EveryPort,
    /// One-packet scheduling, where it is UDP.
    OnePacket,
    /// Both.
    PersistentOnePacket,
}

/// A scheduler, and the kind; after one service for each of [`SCHEDULERS`].
const KINDS: [(usize, Kind); 6] = [
    (0, Kind::Persistent(30, u32::MAX, 128)),
    (3, Kind::Persistent(2, 0xffff_ff00, 64)),
    (4, Kind::Persistent(90, 0xff00_ffff, 127)),
    (1, Kind::EveryPort),
    (0, Kind::OnePacket),
    (0, Kind::PersistentOnePacket),
];

/// A service of the test configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Service {
    /// Clients speak IPv6.
    pub ipv6: bool,
    /// What it balances.
    pub protocol: Protocol,
    method: usize,
    scheduler: usize,
    kind: Kind,
    place: usize,
}

impl Service {
    /// Virtual address.
    pub fn address(&self) -> IpAddr {
        let number = self.method as u8 + if self.kind == Kind::EveryPort { 11 } else { 1 };
        if self.ipv6 {
            Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, number.into()).into()
        } else {
            let [a, b, c, _] = SERVICES.octets();
            Ipv4Addr::new(a, b, c, number).into()
        }
    }

    /// Virtual port, host order; one of all where it is for every port.
    pub const fn port(&self) -> u16 {
        80 + self.place as u16
    }

    /// Port of the real servers when masqueraded, host order.
    pub const fn server_port(&self) -> u16 {
        8000 + self.port()
    }

    /// True when the real servers' replies pass the director.
    pub fn is_masqueraded(&self) -> bool {
        METHODS[self.method] == ForwardingMethod::Masquerade
    }

    /// What it is known by.
    pub fn id(&self) -> ServiceId {
        ServiceId::Address {
            protocol: self.protocol,
            address: self.address(),
            port: if self.kind == Kind::EveryPort {
                0
            } else {
                self.port()
            },
        }
    }

    /// As an operator writes it.
    pub fn config(&self) -> VirtualService {
        let (scheduler, flags) = SCHEDULERS[self.scheduler];
        VirtualService {
            id: self.id(),
            scheduler: scheduler.to_owned(),
            flags: SchedulerFlags {
                flag1: flags,
                flag2: flags,
                flag3: false,
            },
            persistence: self.persistence(),
            one_packet: matches!(self.kind, Kind::OnePacket | Kind::PersistentOnePacket),
            engine: None,
        }
    }

    fn persistence(&self) -> Option<Persistence> {
        let (timeout, netmask, prefix) = match self.kind {
            Kind::Plain | Kind::OnePacket => return None,
            Kind::Persistent(timeout, netmask, prefix) => (timeout, netmask, prefix),
            Kind::EveryPort | Kind::PersistentOnePacket => (20, u32::MAX, 128),
        };
        Some(Persistence {
            timeout,
            prefix: if self.ipv6 { prefix } else { 32 },
            netmask: if self.ipv6 { 0 } else { netmask },
        })
    }

    /// Its real servers, in order of their addition.
    pub fn servers(&self) -> impl Iterator<Item = RealServer> + use<> {
        let Self { ipv6, .. } = *self;
        let method = METHODS[self.method];
        let port = if self.is_masqueraded() {
            self.server_port()
        } else {
            self.port()
        };
        // Weights and thresholds differ from service to service, and some take nothing.
        let turn = self.place + self.method;
        (0..SERVERS).step_by(2).chain([3]).map(move |number| {
            let other = method == ForwardingMethod::Tunnel && number % 3 == 0;
            let place = number as usize + turn;
            RealServer {
                address: server(ipv6 != other, (number + turn as u64) % SERVERS),
                port,
                method,
                weight: [3, 1, 2, 0, 5, 1][place % 6],
                upper: [0, 0, 40, 0, 3][place % 5],
                lower: 0,
                tunnel: TunnelType::Ipip,
            }
        })
    }
}

/// Every service.
pub fn services() -> impl Iterator<Item = Service> {
    let plain = (0..SCHEDULERS.len()).map(|scheduler| (scheduler, Kind::Plain));
    let kinds = plain.chain(KINDS).enumerate();
    kinds
        .flat_map(|(place, (scheduler, kind))| {
            (0..METHODS.len() * 6).map(move |number| Service {
                ipv6: number & 1 != 0,
                protocol: [Protocol::Tcp, Protocol::Udp, Protocol::Sctp][number / 2 % 3],
                method: number / 6,
                scheduler,
                kind,
                place,
            })
        })
        .filter(|service| service.protocol != Protocol::Sctp || service.scheduler == 0)
}

/// The changes that set the services up.
pub fn changes() -> Vec<Change> {
    services()
        .flat_map(|service| {
            let id = service.id();
            let add = Change::AddService {
                service: service.config(),
            };
            let servers = service.servers();
            let servers = servers.map(move |server| Change::AddServer { id, server });
            std::iter::once(add).chain(servers)
        })
        .collect()
}

/// Real server number `number` of a family.
pub fn server(ipv6: bool, number: u64) -> IpAddr {
    if ipv6 {
        Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 0x11 + number as u16).into()
    } else {
        Ipv4Addr::new(10, 0, 0, 11 + number as u8).into()
    }
}

/// Link-layer address of real server number `number`.
pub const fn server_mac(number: u64) -> Mac {
    Mac([2, 0, 0, 0, 3, number as u8])
}

/// The record of the device that frames come in by.
pub const fn link() -> LinkRecord {
    LinkRecord {
        ifindex: 1,
        mac: DIRECTOR_MAC,
        pad: 0,
    }
}

/// Where frames to a real server go, all by the device `ifindex`.
pub fn hop(request: &HopRequest, ifindex: u32) -> NextHop {
    let last = match request.address {
        IpAddr::V4(address) => u64::from(address.octets()[3]) - 11,
        IpAddr::V6(address) => u64::from(address.octets()[15]) - 0x11,
    };
    let hop = NextHop {
        ifindex,
        mtu: 1500,
        destination: server_mac(last),
        source: DIRECTOR_MAC,
        vlan: 0,
        flags: hop_flag::RESOLVED,
    };
    match last {
        2 => NextHop { vlan: VLAN, ..hop },
        3 => NextHop {
            mtu: SLIM_MTU,
            ..hop
        },
        4 => NextHop::default(),
        5 => NextHop {
            flags: hop_flag::LOCAL,
            ..NextHop::default()
        },
        _ => hop,
    }
}

/// A director with all services, its records written to `mirror`.
///
/// The mirror's owner adds [`link`] for the device by which frames come in.
///
/// # Errors
///
/// When a record can't be written, or the mirror has less room than [`CAPACITY`].
pub fn configure<M: Mirror>(mirror: &mut M, ifindex: u32) -> Result<Director, ControlError> {
    let mut director = Director::new(CAPACITY, Settings::DEFAULT);
    director.set_settings(Settings::DEFAULT, mirror)?;
    for change in changes().into_iter().chain(super::marks::changes()) {
        director.apply(&change, mirror)?;
    }
    let requests: Vec<HopRequest> = director.hops().collect();
    for request in requests {
        let source: IpAddr = if request.address.is_ipv6() {
            TUNNEL_SOURCE6.into()
        } else {
            TUNNEL_SOURCE.into()
        };
        let source = (request.method == ForwardingMethod::Tunnel).then_some(source);
        let hop = hop(&request, ifindex);
        director.set_hop(request.server, hop, request.address, source, mirror)?;
    }
    Ok(director)
}

//! A director on native tables with the topology of the reference: client 192.168.1.10, virtual
//! address 192.168.1.100, real servers 10.1.0.11 and on; fd00::10, fd00::100, fd01::11 and on.
#![allow(dead_code, reason = "every test file uses another part")]

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use pointsman_director::{
    Reason, Scratch, Verdict,
    control::{Capacity, Director, HopRequest, service_key},
    model::{
        Change, ControlError, ForwardingMethod, Protocol, RealServer, SchedulerFlags, ServiceId,
        TunnelType, VirtualService,
    },
    native::{NativeEnv, NativeFrame, NativeTables},
    process,
    record::{ConnectionRecord, LinkRecord, NextHop, ServiceRecord, Settings, hop_flag},
    tables::Tables,
};
use pointsman_wire::{Frame, Mac, build::TcpPart, build::UdpPart, tcp};

pub const CLIENT: Ipv4Addr = Ipv4Addr::new(192, 168, 1, 10);
pub const CLIENT6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 0x10);
pub const VIP: Ipv4Addr = Ipv4Addr::new(192, 168, 1, 100);
pub const VIP6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 0x100);
/// Outer source of tunnels: the director's address towards the real servers.
pub const SOURCE: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 1);
pub const SOURCE6: Ipv6Addr = Ipv6Addr::new(0xfd01, 0, 0, 0, 0, 0, 0, 1);
pub const DIRECTOR_MAC: Mac = Mac([2, 0, 0, 0, 1, 1]);
pub const CLIENT_MAC: Mac = Mac([2, 0, 0, 0, 2, 1]);
/// Device of the clients, by which frames come in.
pub const FRONT: u32 = 2;
/// Device of the real servers.
pub const BACK: u32 = 3;
pub const SECOND: u64 = 1_000_000_000;

pub const CAPACITY: Capacity = Capacity {
    services: 8,
    servers: 32,
    slot_lines: 32,
    // However tables of six services lie among each other, there is room for one more.
    table_lines: 2048,
};

/// Real server `number`, 1 for 10.1.0.11.
pub fn rs(number: u8) -> IpAddr {
    Ipv4Addr::new(10, 1, 0, 10 + number).into()
}

/// Real server `number`, 1 for fd01::11.
pub fn rs6(number: u8) -> IpAddr {
    Ipv6Addr::new(0xfd01, 0, 0, 0, 0, 0, 0, 0x10 + u16::from(number)).into()
}

/// The link-layer address of real server `number`.
pub const fn rs_mac(number: u8) -> Mac {
    Mac([2, 0, 0, 0, 3, number])
}

pub fn id(protocol: Protocol, address: impl Into<IpAddr>, port: u16) -> ServiceId {
    ServiceId::Address {
        protocol,
        address: address.into(),
        port,
    }
}

/// 192.168.1.100:80, TCP.
pub fn web() -> ServiceId {
    id(Protocol::Tcp, VIP, 80)
}

/// 192.168.1.100:53, UDP.
pub fn dns() -> ServiceId {
    id(Protocol::Udp, VIP, 53)
}

pub fn service(id: ServiceId, scheduler: &str) -> VirtualService {
    let (scheduler, flags) = match scheduler.split_once(' ') {
        Some((name, flags)) => (name, flags),
        None => (scheduler, ""),
    };
    VirtualService {
        id,
        scheduler: scheduler.to_owned(),
        flags: SchedulerFlags {
            flag1: flags.contains("fallback"),
            flag2: flags.contains("port"),
            flag3: false,
        },
        persistence: None,
        one_packet: false,
        engine: None,
    }
}

pub fn real(address: IpAddr, port: u16, method: ForwardingMethod, weight: i32) -> RealServer {
    RealServer {
        address,
        port,
        method,
        weight,
        upper: 0,
        lower: 0,
        tunnel: TunnelType::Ipip,
    }
}

/// Number of a real server of the topology.
pub fn number(address: IpAddr) -> u8 {
    match address {
        IpAddr::V4(address) => address.octets()[3] - 10,
        IpAddr::V6(address) => address.octets()[15] - 0x10,
    }
}

/// A resolved hop to real server `number`.
pub fn hop(number: u8) -> NextHop {
    NextHop {
        ifindex: BACK,
        mtu: 1500,
        destination: rs_mac(number),
        source: DIRECTOR_MAC,
        vlan: 0,
        flags: hop_flag::RESOLVED,
    }
}

/// A TCP segment from the client to 192.168.1.100:80.
pub fn segment(port: u16, flags: u8) -> Frame<TcpPart> {
    Frame::ipv4(CLIENT, VIP)
        .macs(CLIENT_MAC, DIRECTOR_MAC)
        .tcp(port, 80)
        .flags(flags)
}

/// A SYN from `client` to port 80 of the virtual address of its family.
pub fn syn_of(client: IpAddr, port: u16) -> Vec<u8> {
    let vip: IpAddr = if client.is_ipv4() {
        VIP.into()
    } else {
        VIP6.into()
    };
    Frame::ip(client, vip)
        .macs(CLIENT_MAC, DIRECTOR_MAC)
        .tcp(port, 80)
        .flags(tcp::SYN)
        .build()
}

/// A datagram from the client to 192.168.1.100:53.
pub fn datagram(port: u16) -> Frame<UdpPart> {
    Frame::ipv4(CLIENT, VIP)
        .macs(CLIENT_MAC, DIRECTOR_MAC)
        .udp(port, 53)
        .payload(b"question")
}

/// A TCP segment from real server `number`, port `port`, to the client's port.
pub fn answer(number: u8, port: u16, client_port: u16, flags: u8) -> Frame<TcpPart> {
    let IpAddr::V4(address) = rs(number) else {
        unreachable!("an IPv4 server")
    };
    Frame::ipv4(address, CLIENT)
        .macs(rs_mac(number), DIRECTOR_MAC)
        .tcp(port, client_port)
        .flags(flags)
}

pub fn web6() -> ServiceId {
    id(Protocol::Tcp, VIP6, 80)
}

pub fn dns6() -> ServiceId {
    id(Protocol::Udp, VIP6, 53)
}

pub fn v6() -> Frame {
    Frame::ipv6(CLIENT6, VIP6).macs(CLIENT_MAC, DIRECTOR_MAC)
}

/// A bench for frames of every kind of client, by one method.
pub fn every(method: ForwardingMethod) -> Bench {
    let masquerade = method == ForwardingMethod::Masquerade;
    let mut bench = Bench::new();
    for (service, port) in [(web(), 8080), (dns(), 5353), (web6(), 8080), (dns6(), 5353)] {
        let ServiceId::Address { port: own, .. } = service else {
            unreachable!("services by address")
        };
        let address = if service.is_ipv6() { rs6(1) } else { rs(1) };
        let port = if masquerade { port } else { own };
        bench.add(service, "rr");
        bench.server(service, real(address, port, method, 1));
    }
    bench
}

pub struct Bench {
    pub tables: NativeTables,
    pub env: NativeEnv,
    pub director: Director,
    pub scratch: Scratch,
}

impl Bench {
    pub fn new() -> Self {
        let mut tables = NativeTables::new(CAPACITY);
        let link = LinkRecord {
            mac: DIRECTOR_MAC,
            ..LinkRecord::default()
        };
        tables.links.insert(FRONT, link);
        tables.links.insert(BACK, link);
        let env = NativeEnv::default();
        env.now.set(1000 * SECOND);
        Self {
            tables,
            env,
            director: Director::new(CAPACITY, Settings::DEFAULT),
            scratch: Scratch::default(),
        }
    }

    /// One service at port 80 with real servers of these weights, r1 first, directly routed.
    pub fn balanced(scheduler: &str, weights: &[i32]) -> Self {
        let mut bench = Self::new();
        bench.add(web(), scheduler);
        for (number, weight) in (1..).zip(weights) {
            bench.server(
                web(),
                real(rs(number), 80, ForwardingMethod::Direct, *weight),
            );
        }
        bench
    }

    /// One service of `id` with real server r1 at `port`.
    pub fn single(id: ServiceId, address: IpAddr, port: u16, method: ForwardingMethod) -> Self {
        let mut bench = Self::new();
        bench.add(id, "rr");
        bench.server(id, real(address, port, method, 1));
        bench
    }

    pub fn apply(&mut self, change: &Change) -> Result<(), ControlError> {
        self.director.apply(change, &mut self.tables)?;
        self.set_hops();
        Ok(())
    }

    pub fn add(&mut self, id: ServiceId, scheduler: &str) {
        let service = service(id, scheduler);
        self.apply(&Change::AddService { service })
            .expect("the service is valid");
    }

    pub fn server(&mut self, id: ServiceId, server: RealServer) {
        self.apply(&Change::AddServer { id, server })
            .expect("the server is valid");
    }

    pub fn edit(&mut self, id: ServiceId, server: RealServer) {
        self.apply(&Change::EditServer { id, server })
            .expect("the edit is valid");
    }

    pub fn delete(&mut self, id: ServiceId, address: IpAddr, port: u16) {
        self.apply(&Change::DeleteServer { id, address, port })
            .expect("the server is there");
    }

    /// Tells where frames to every server go that has no hop yet.
    fn set_hops(&mut self) {
        let requests: Vec<HopRequest> = self.director.hops().collect();
        for request in requests {
            let known = Tables::server(&self.tables, request.server)
                .is_some_and(|server| server.hop.flags != 0);
            if !known {
                self.set_hop(request.address, hop(number(request.address)));
            }
        }
    }

    /// Tells where frames to the server with this address go.
    pub fn set_hop(&mut self, address: IpAddr, hop: NextHop) {
        let source: IpAddr = if address.is_ipv4() {
            SOURCE.into()
        } else {
            SOURCE6.into()
        };
        let requests: Vec<HopRequest> = self.director.hops().collect();
        for request in requests.iter().filter(|r| r.address == address) {
            self.director
                .set_hop(request.server, hop, address, Some(source), &mut self.tables)
                .expect("native tables take records");
        }
    }

    pub fn settings(&mut self, change: impl FnOnce(&mut Settings)) {
        let mut settings = *self.director.settings();
        change(&mut settings);
        self.director
            .set_settings(settings, &mut self.tables)
            .expect("native tables take settings");
    }

    /// Lets `seconds` pass.
    pub fn wait(&self, seconds: u64) {
        self.env.now.set(self.env.now.get() + seconds * SECOND);
    }

    /// Gives a frame that came in by the clients' device to the director.
    pub fn send(&mut self, bytes: &[u8]) -> (Verdict, Vec<u8>) {
        self.send_by(FRONT, bytes)
    }

    pub fn send_by(&mut self, ifindex: u32, bytes: &[u8]) -> (Verdict, Vec<u8>) {
        let mut frame = NativeFrame::new(bytes.to_vec(), ifindex);
        let verdict = process(&mut frame, &self.tables, &self.env, &mut self.scratch);
        (verdict, frame.bytes)
    }

    /// Sends and says why what happened happened.
    pub fn reason(&mut self, bytes: &[u8]) -> Reason {
        self.send(bytes).0.reason
    }

    /// The number of the server that a frame is sent to, by its link-layer address.
    pub fn pick(&mut self, bytes: &[u8]) -> Result<u8, Reason> {
        let (verdict, out) = self.send(bytes);
        match verdict.reason {
            Reason::Direct | Reason::Tunnel | Reason::Masquerade | Reason::Stateless => {
                assert_eq!(out[..5], rs_mac(0).0[..5], "to a real server");
                Ok(out[5])
            }
            reason => Err(reason),
        }
    }

    /// The servers that SYNs from ports `first`, `first` + 1, ... go to, `-` for no destination.
    pub fn picks(&mut self, first: u16, count: usize) -> String {
        (first..)
            .take(count)
            .map(|port| match self.pick(&syn_of(CLIENT.into(), port)) {
                Ok(number) => char::from(b'0' + number),
                Err(Reason::NoDestination) => '-',
                Err(reason) => panic!("{reason:?}"),
            })
            .collect()
    }

    /// Active and inactive connections of the servers with this address.
    pub fn counts(&self, address: IpAddr) -> (u32, u32) {
        let mut sum = (0, 0);
        for service in self.director.services() {
            for server in service.servers().filter(|s| s.config().address == address) {
                let counts = self.tables.counts(server.index()).expect("in range");
                sum.0 += counts.active.load();
                sum.1 += counts.inactive.load();
            }
        }
        sum
    }

    pub fn record(&self, id: &ServiceId) -> ServiceRecord {
        self.tables.services[&service_key(id)]
    }

    /// The only connection.
    pub fn connection(&self) -> ConnectionRecord {
        let connections = self.tables.connections.borrow();
        assert_eq!(connections.len(), 1, "one connection");
        let record = connections.values().next().expect("one connection");
        ConnectionRecord::clone(record)
    }

    pub fn connections(&self) -> usize {
        self.tables.connections.borrow().len()
    }

    /// Name of the state of the only connection.
    pub fn state(&self) -> &'static str {
        pointsman_director::tcp::NAMES[usize::from(self.connection().state())]
    }

    /// What the sweep does, for every connection.
    pub fn sweep(&self) {
        let all: Vec<_> = {
            let connections = self.tables.connections.borrow();
            connections.iter().map(|(k, c)| (*k, c.clone())).collect()
        };
        for (key, connection) in all {
            pointsman_director::expiry::expire(
                &self.tables,
                &self.env,
                self.tables.settings.flags,
                &key,
                &connection,
                self.env.now.get(),
            );
        }
    }
}

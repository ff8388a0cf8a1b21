//! Packets from a seed, for tests that compare two runs of the director.
//!
//! [`super::services::configure`] sets up the services that the packets are meant for; [`Generator`] sends to them
//! from few clients, so that connections are met again, and mixes in replies, ICMP errors,
//! fragments, tags, options, other people's traffic, spoilt frames and noise.
//!
//! Two runs of the same frames differ in what chance decides: the identification of an outer IPv4
//! header without DF ([`crate::tables::Env::random`]), and its header checksum with it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use pointsman_wire::{
    Frame, Mac,
    build::{SctpPart, Segment, arp_request},
    sctp, tcp,
};

use crate::model::Protocol;

use super::services::{
    CLIENT_MAC, DIRECTOR_MAC, SERVERS, SERVICES, Service, server, server_mac, services,
};

/// No frame is shorter: what `BPF_PROG_TEST_RUN` accepts of an XDP program's frame.
pub const SHORTEST: usize = 14;
/// No frame is longer, bytes.
pub const LONGEST: usize = 1536;
/// Clients of each family.
const CLIENTS: u64 = 12;
/// Source ports of each client.
const PORTS: u64 = 24;
/// Flows remembered, to be continued.
const FLOWS: usize = 120;

/// A source of chance that is the same on every machine (SplitMix64).
#[derive(Debug, Clone)]
pub struct Chance(u64);

impl Chance {
    /// Chance from `seed`.
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Any number.
    pub fn word(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `end`, which is not 0.
    pub fn below(&mut self, end: u64) -> u64 {
        self.word() % end
    }

    /// True `times` of a hundred times.
    pub fn percent(&mut self, times: u64) -> bool {
        self.below(100) < times
    }

    /// One of `items`, which are not empty.
    pub fn one<'a, T>(&mut self, items: &'a [T]) -> &'a T {
        &items[self.below(items.len() as u64) as usize]
    }

    /// `length` bytes.
    pub fn bytes(&mut self, length: usize) -> Vec<u8> {
        (0..length).map(|_| self.word() as u8).collect()
    }
}

/// A client's flow to a service.
#[derive(Debug, Clone, Copy)]
struct Flow {
    service: Service,
    client: IpAddr,
    port: u16,
}

/// Frames as they arrive at the director, without end.
#[derive(Debug, Clone)]
pub struct Generator {
    chance: Chance,
    services: Vec<Service>,
    flows: Vec<Flow>,
}

impl Generator {
    /// The frames of `seed`; the same seed gives the same frames.
    pub fn new(seed: u64) -> Self {
        Self {
            chance: Chance::new(seed),
            services: services().collect(),
            flows: Vec::new(),
        }
    }

    /// The next frame, [`SHORTEST`] to [`LONGEST`] bytes.
    pub fn frame(&mut self) -> Vec<u8> {
        let mut frame = match self.chance.below(100) {
            0..52 => self.client_frame(),
            52..68 => self.server_frame(),
            68..76 => self.client_error(),
            76..82 => self.server_error(),
            82..86 => self.fragment(),
            86..92 => self.of_others(),
            92..98 => self.spoilt(),
            _ => self.noise(),
        };
        frame.truncate(LONGEST);
        if frame.len() < SHORTEST {
            frame.resize(SHORTEST, 0);
        }
        frame
    }

    /// A flow that was met before, or a new one.
    fn flow(&mut self) -> Flow {
        if !self.flows.is_empty() && self.chance.percent(88) {
            return *self.chance.one(&self.flows);
        }
        let service = *self.chance.one(&self.services);
        let flow = Flow {
            service,
            client: client(service.ipv6, self.chance.below(CLIENTS)),
            port: match self.chance.below(100) {
                0 => 20,
                _ => 30_000 + self.chance.below(PORTS) as u16,
            },
        };
        if self.flows.len() < FLOWS {
            self.flows.push(flow);
        } else {
            let at = self.chance.below(FLOWS as u64) as usize;
            self.flows[at] = flow;
        }
        flow
    }

    fn client_frame(&mut self) -> Vec<u8> {
        let Flow {
            service,
            client,
            port,
        } = self.flow();
        let (ip, length) = (
            Frame::ip(client, service.address()).macs(CLIENT_MAC, DIRECTOR_MAC),
            self.payload_length(),
        );
        match service.protocol {
            Protocol::Tcp => {
                let flags = self.flags();
                let length = if flags & tcp::SYN != 0 { 0 } else { length };
                self.dressed(ip.tcp(port, service.port()).flags(flags).mss(1460), length)
            }
            Protocol::Sctp => self.chunks(ip.sctp(port, service.port(), 7)),
            Protocol::Udp => {
                let mut udp = ip.udp(port, service.port());
                if self.chance.percent(15) {
                    udp = udp.without_checksum();
                }
                self.dressed(udp, length)
            }
        }
    }

    /// With one chunk or two.
    fn chunks(&mut self, frame: Frame<SctpPart>) -> Vec<u8> {
        let kinds = [
            sctp::INIT,
            sctp::INIT_ACK,
            sctp::COOKIE_ECHO,
            sctp::COOKIE_ACK,
        ];
        let mut kind = *self.chance.one(&kinds);
        if self.chance.percent(50) {
            kind = self.chance.below(16) as u8;
        }
        let length = self.chance.below(24) as u8;
        let mut chunks = vec![kind, 0, 0, 4 + length];
        chunks.resize(4 + (length as usize).next_multiple_of(4), 0);
        if self.chance.percent(30) {
            chunks.extend([sctp::ABORT, 0, 0, 4]);
        }
        if self.chance.percent(2) {
            chunks.truncate(self.chance.below(5) as usize);
        }
        self.tagged(frame).payload(&chunks).build()
    }

    /// A reply, as a masqueraded flow has one; of other flows it is somebody's traffic.
    fn server_frame(&mut self) -> Vec<u8> {
        let flow = self.masqueraded();
        let (number, address) = self.server_of(&flow.service);
        let ip = Frame::ip(address, flow.client).macs(server_mac(number), DIRECTOR_MAC);
        let length = self.payload_length();
        let port = flow.service.server_port();
        match flow.service.protocol {
            Protocol::Tcp => {
                let flags = match self.flags() {
                    tcp::SYN => tcp::SYN | tcp::ACK,
                    other => other,
                };
                self.dressed(ip.tcp(port, flow.port).flags(flags), length)
            }
            Protocol::Udp => self.dressed(ip.udp(port, flow.port), length),
            Protocol::Sctp => self.chunks(ip.sctp(port, flow.port, 7)),
        }
    }

    /// An error about a packet from a virtual service to its client.
    fn client_error(&mut self) -> Vec<u8> {
        let flow = self.flow();
        let reply = self.quotable(
            Frame::ip(flow.service.address(), flow.client),
            flow.service.protocol,
            (flow.service.port(), flow.port),
        );
        let from = match self.chance.below(2) {
            0 => flow.client,
            _ => client(flow.service.ipv6, 200),
        };
        let to = match self.chance.below(20) {
            0 => server(flow.service.ipv6, 0),
            _ => flow.service.address(),
        };
        self.error(from, to, CLIENT_MAC, &reply)
    }

    /// An error about a packet from a client to a real server.
    fn server_error(&mut self) -> Vec<u8> {
        let flow = self.masqueraded();
        let (number, server) = self.server_of(&flow.service);
        let request = self.quotable(
            Frame::ip(flow.client, server),
            flow.service.protocol,
            (flow.port, flow.service.server_port()),
        );
        self.error(server, flow.client, server_mac(number), &request)
    }

    fn quotable(
        &mut self,
        ip: Frame,
        protocol: Protocol,
        (source, destination): (u16, u16),
    ) -> Vec<u8> {
        let payload = self.chance.bytes(24);
        let mut packet = match protocol {
            Protocol::Tcp => {
                let segment = ip.tcp(source, destination).flags(tcp::ACK);
                segment.payload(&payload).build_packet()
            }
            Protocol::Udp => ip.udp(source, destination).payload(&payload).build_packet(),
            Protocol::Sctp => {
                let packet = ip.sctp(source, destination, 7);
                packet.payload(&payload).build_packet()
            }
        };
        if self.chance.percent(30) {
            let keep = self.chance.below(packet.len() as u64) as usize;
            packet.truncate(keep);
        }
        packet
    }

    fn error(&mut self, from: IpAddr, to: IpAddr, mac: Mac, packet: &[u8]) -> Vec<u8> {
        let kinds: &[(u8, u8)] = if from.is_ipv4() {
            &[(3, 1), (3, 3), (3, 4), (4, 0), (11, 0), (12, 0), (5, 1)]
        } else {
            &[(1, 0), (1, 4), (2, 0), (3, 0), (4, 1), (135, 0), (100, 0)]
        };
        let &(kind, code) = self.chance.one(kinds);
        let frame = Frame::ip(from, to).macs(mac, DIRECTOR_MAC);
        let frame = frame.icmp_error(kind, code, 1300, packet);
        self.tagged(frame).build()
    }

    fn fragment(&mut self) -> Vec<u8> {
        let flow = self.flow();
        let payload = self.chance.bytes(600);
        let whole = Frame::ip(flow.client, flow.service.address())
            .macs(CLIENT_MAC, DIRECTOR_MAC)
            .udp(flow.port, flow.service.port())
            .payload(&payload);
        match self.chance.below(4) {
            // An IPv6 packet in one fragment is whole; with IPv4 that is no fragment at all.
            0 => whole.fragment(0, false).build(),
            1 => whole.fragment(0, true).build(),
            _ => self.chance.one(&whole.fragments(280)).clone(),
        }
    }

    /// What is not for a virtual service.
    fn of_others(&mut self) -> Vec<u8> {
        let flow = self.flow();
        let (from, to) = (flow.client, flow.service.address());
        let ip = Frame::ip(from, to).macs(CLIENT_MAC, DIRECTOR_MAC);
        let other = server(flow.service.ipv6, 40);
        match self.chance.below(9) {
            0 => ip.echo_request(1, 2).payload(&[1; 56]).build(),
            1 => ip.tcp(flow.port, 22).flags(tcp::SYN).build(),
            2 => ip.sctp(flow.port, flow.service.port(), 0).build(),
            3 => ip.protocol(47).payload(&[0; 40]).build(),
            4 => arp_request(CLIENT_MAC, Ipv4Addr::new(198, 51, 100, 2), SERVICES),
            5 => {
                let mac = *self.chance.one(&[Mac([2, 0, 0, 9, 9, 9]), Mac::BROADCAST]);
                let ip = ip.macs(CLIENT_MAC, mac);
                ip.udp(flow.port, flow.service.port()).build()
            }
            6 => Frame::ip(from, other)
                .macs(CLIENT_MAC, DIRECTOR_MAC)
                .udp(flow.port, 53)
                .build(),
            7 => {
                let mut frame = ip.udp(flow.port, flow.service.port()).build();
                frame[12..14].copy_from_slice(&[0x88, 0xcc]);
                frame
            }
            _ => Frame::ip(other, from)
                .macs(CLIENT_MAC, DIRECTOR_MAC)
                .tcp(80, flow.port)
                .build(),
        }
    }

    /// A good frame with bytes changed, cut off, or added.
    fn spoilt(&mut self) -> Vec<u8> {
        let mut frame = match self.chance.below(3) {
            0 => self.client_frame(),
            1 => self.client_error(),
            _ => self.server_frame(),
        };
        match self.chance.below(4) {
            0 => {
                let keep = self.chance.below(frame.len() as u64) as usize;
                frame.truncate(keep);
            }
            1 => {
                let more = self.chance.below(64) as usize;
                frame.extend(self.chance.bytes(more));
            }
            _ => {
                for _ in 0..=self.chance.below(3) {
                    // Headers, not payload.
                    let end = frame.len().min(100) as u64;
                    let at = self.chance.below(end) as usize;
                    frame[at] = self.chance.word() as u8;
                }
            }
        }
        frame
    }

    fn noise(&mut self) -> Vec<u8> {
        let length = self.chance.below(120) as usize;
        let mut frame = self.chance.bytes(length);
        if frame.len() >= SHORTEST && self.chance.percent(80) {
            frame[..6].copy_from_slice(&DIRECTOR_MAC.0);
            let ethertype = *self.chance.one(&[[8, 0], [0x86, 0xdd], [0x81, 0]]);
            frame[12..14].copy_from_slice(&ethertype);
        }
        frame
    }

    fn masqueraded(&mut self) -> Flow {
        let mut flow = self.flow();
        // Not for ever, should there be none.
        for _ in 0..8 {
            if flow.service.is_masqueraded() {
                break;
            }
            flow = self.flow();
        }
        flow
    }

    /// A real server of the clients' family, mostly of the service: number and address.
    fn server_of(&mut self, service: &Service) -> (u64, IpAddr) {
        let wanted = self.chance.below(SERVERS);
        let configured: Vec<IpAddr> = service.servers().map(|server| server.address).collect();
        let mut numbers = (0..SERVERS).cycle().skip(wanted as usize).take(6);
        let number = numbers
            .find(|number| configured.contains(&server(service.ipv6, *number)))
            .unwrap_or(wanted);
        (number, server(service.ipv6, number))
    }

    fn flags(&mut self) -> u8 {
        const ACK: u8 = tcp::ACK;
        match self.chance.below(20) {
            0..9 => tcp::SYN,
            9..13 => ACK,
            13 | 14 => ACK | tcp::PSH,
            15 | 16 => ACK | tcp::FIN,
            17 => tcp::RST,
            18 => ACK | tcp::RST,
            _ => self.chance.word() as u8,
        }
    }

    fn payload_length(&mut self) -> usize {
        match self.chance.below(20) {
            0..8 => 0,
            8..16 => self.chance.below(200) as usize,
            // Around the MTU of the slim hop, and of Ethernet less a tunnel header.
            16 | 17 => 1200 + self.chance.below(60) as usize,
            _ => 1380 + self.chance.below(60) as usize,
        }
    }

    /// With options, tags, hop limits and marks as they may occur.
    fn dressed<S: Segment>(&mut self, frame: Frame<S>, length: usize) -> Vec<u8> {
        let mut frame = self
            .tagged(frame)
            .payload(&self.chance.clone().bytes(length));
        if self.chance.percent(50) {
            frame = frame.dont_fragment();
        }
        if self.chance.percent(20) {
            frame = frame.tos(self.chance.word() as u8);
        }
        if self.chance.percent(6) {
            frame = frame.ttl(self.chance.below(3) as u8);
        }
        if self.chance.percent(10) {
            frame = frame.padded(60);
        }
        let bytes = frame.build();
        if !self.chance.percent(6) {
            return bytes;
        }
        // Which of the two fits the family shows in the bytes.
        if is_ipv6(&bytes) {
            let body = self.chance.bytes(6);
            let number = *self.chance.one(&[0, 43, 60]);
            frame = match self.chance.below(3) {
                0 => frame.hop_by_hop(),
                1 => frame.hop_by_hop().destination_options(),
                _ => frame.extension(number, &body),
            };
        } else {
            let options: [&[u8]; 4] = [&[1], &[7, 7, 4, 0, 0, 0, 0], &[1; 40], &[148, 4, 0, 0]];
            let chosen: &&[u8] = self.chance.one(&options);
            frame = frame.ip_options(chosen);
        }
        frame.build()
    }

    fn tagged<S: Segment>(&mut self, frame: Frame<S>) -> Frame<S> {
        match self.chance.below(25) {
            0 => frame.vlan(5),
            1 => frame.vlan(0),
            2 => frame.service_vlan(9).vlan(5),
            _ => frame,
        }
    }
}

impl Iterator for Generator {
    type Item = Vec<u8>;

    fn next(&mut self) -> Option<Vec<u8>> {
        Some(self.frame())
    }
}

/// Client number `number` of a family.
fn client(ipv6: bool, number: u64) -> IpAddr {
    if ipv6 {
        Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 1 + number as u16).into()
    } else {
        Ipv4Addr::new(198, 51, 100, 1 + number as u8).into()
    }
}

/// True when the frame's packet, behind at most two tags, is IPv6.
fn is_ipv6(frame: &[u8]) -> bool {
    let at = [14, 18, 22].into_iter().find(|at| {
        let ethertype = &frame[at - 2..*at];
        ethertype == [8, 0] || ethertype == [0x86, 0xdd]
    });
    at.is_some_and(|at| frame[at] >> 4 == 6)
}

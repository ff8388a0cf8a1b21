//! Packets by hand: every kind of packet to every kind of service, whole and cut at every byte.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use pointsman_director::{
    model::Protocol,
    native::services::{CLIENT_MAC, DIRECTOR_MAC, Service, services},
};
use pointsman_wire::{Frame, build::Segment, sctp, tcp};

const PORT: u16 = 40_001;

/// All of them; a connection's packets in order.
pub fn frames() -> Vec<Vec<u8>> {
    let mut frames = Vec::new();
    // One scheduler is enough: what they differ in is not the packet.
    for service in services().filter(|service| service.port() == 80) {
        let whole = of(&service);
        for frame in whole.iter().filter(|frame| frame.len() < 120) {
            frames.extend((14..frame.len()).map(|end| frame[..end].to_vec()));
        }
        frames.extend(whole);
    }
    frames
}

fn of(service: &Service) -> Vec<Vec<u8>> {
    let client: IpAddr = if service.ipv6 {
        Ipv6Addr::new(0xfd00, 0x64, 0, 0, 0, 0, 0, 0x99).into()
    } else {
        Ipv4Addr::new(10, 64, 0, 99).into()
    };
    let to = || Frame::ip(client, service.address());
    let mut frames = Vec::new();
    match service.protocol {
        Protocol::Tcp => {
            let flags = [
                tcp::SYN,
                tcp::ACK,
                tcp::ACK | tcp::PSH,
                tcp::FIN | tcp::ACK,
                tcp::RST,
                0,
            ];
            for flags in flags {
                frames.push(addressed(to().tcp(PORT, 80).flags(flags)));
            }
            frames.push(addressed(to().tcp(PORT, 80).flags(tcp::SYN).mss(1460)));
            frames.extend(kinds(|| to().tcp(PORT, 80).flags(tcp::ACK), service.ipv6));
            frames.push(addressed(to().tcp(20, 80).flags(tcp::SYN)));
        }
        Protocol::Udp => {
            frames.push(addressed(to().udp(PORT, 80)));
            frames.push(addressed(to().udp(PORT, 80).without_checksum()));
            frames.extend(kinds(|| to().udp(PORT, 80), service.ipv6));
        }
        Protocol::Sctp => {
            let sent = |chunks: &[u8]| addressed(to().sctp(PORT, 80, 7).payload(chunks));
            frames.push(sent(&[sctp::INIT, 0, 0, 4]));
            frames.push(sent(&[
                sctp::COOKIE_ECHO,
                0,
                0,
                5,
                1,
                0,
                0,
                0,
                sctp::ABORT,
                0,
                0,
                4,
            ]));
            frames.push(sent(&[sctp::INIT, 0, 0, 4]));
            let data = || to().sctp(PORT, 80, 7).payload(&[sctp::DATA, 0, 0, 4]);
            frames.extend(kinds(data, service.ipv6));
        }
    }
    frames.push(addressed(to().echo_request(1, 1)));
    // An error about what a real server sent from the virtual address to the client.
    let sent = Frame::ip(service.address(), client);
    let sent = match service.protocol {
        Protocol::Tcp => sent.tcp(80, PORT).flags(tcp::ACK).build_packet(),
        Protocol::Udp => sent.udp(80, PORT).build_packet(),
        Protocol::Sctp => sent.sctp(80, PORT, 7).build_packet(),
    };
    let (kind, code) = if service.ipv6 { (1, 4) } else { (3, 3) };
    frames.push(addressed(to().icmp_error(kind, code, 0, &sent)));
    frames
}

/// The same packet with everything around it that headers can have.
fn kinds<S: Segment>(packet: impl Fn() -> Frame<S>, ipv6: bool) -> Vec<Vec<u8>> {
    let mut frames = vec![
        addressed(packet().ttl(1)),
        addressed(packet().ttl(2).tos(3)),
        addressed(packet().vlan(7)),
        addressed(packet().service_vlan(8).vlan(9)),
        addressed(packet().payload(&[7; 1450])),
        addressed(packet().fragment(0, true)),
        addressed(packet().fragment(64, false)),
    ];
    if ipv6 {
        frames.push(addressed(packet().hop_by_hop()));
        frames.push(addressed(packet().hop_by_hop().destination_options()));
    } else {
        frames.push(addressed(packet().ip_options(&[1, 1, 1, 0])));
        frames.push(addressed(packet().dont_fragment().payload(&[7; 1450])));
    }
    frames
}

fn addressed<S: Segment>(frame: Frame<S>) -> Vec<u8> {
    frame.macs(CLIENT_MAC, DIRECTOR_MAC).build()
}

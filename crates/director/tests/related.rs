//! ICMP errors about connections go where the connection goes, translated with what they quote.

mod bench;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use bench::{
    BACK, Bench, CLIENT, CLIENT_MAC, CLIENT6, DIRECTOR_MAC, FRONT, VIP, VIP6, hop, id, real, rs,
    rs_mac, rs6, web,
};
use pointsman_director::{
    Reason,
    model::{ForwardingMethod, Protocol, ServiceId},
    record::NextHop,
};
use pointsman_wire::{
    Frame, Summary, icmp,
    tcp::{ACK, SYN},
    verify_checksums,
};

const DIRECT: ForwardingMethod = ForwardingMethod::Direct;
const TUNNEL: ForwardingMethod = ForwardingMethod::Tunnel;
const MASQUERADE: ForwardingMethod = ForwardingMethod::Masquerade;
/// The client's port.
const PORT: u16 = 40_000;
/// A router on the client's side.
const ROUTER: Ipv4Addr = Ipv4Addr::new(192, 168, 1, 254);
const ROUTER6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 0xfe);

/// The addresses of one family.
struct Family {
    service: ServiceId,
    client: IpAddr,
    vip: IpAddr,
    router: IpAddr,
    server: IpAddr,
    /// ICMP errors: type, code.
    errors: &'static [(u8, u8)],
    /// ICMP that is no error about a packet.
    others: &'static [(u8, u8)],
}

fn family(ipv6: bool, protocol: Protocol) -> Family {
    if ipv6 {
        Family {
            service: id(protocol, VIP6, 80),
            client: CLIENT6.into(),
            vip: VIP6.into(),
            router: ROUTER6.into(),
            server: rs6(1),
            errors: &[(1, 0), (1, 4), (2, 0), (3, 0), (4, 1), (127, 0)],
            others: &[(128, 0), (129, 0), (133, 0), (135, 0), (255, 0)],
        }
    } else {
        Family {
            service: id(protocol, VIP, 80),
            client: CLIENT.into(),
            vip: VIP.into(),
            router: ROUTER.into(),
            server: rs(1),
            errors: &[(3, 0), (3, 1), (3, 3), (3, 4), (4, 0), (11, 0), (11, 1)],
            others: &[(0, 0), (5, 1), (8, 0), (12, 0), (13, 0), (9, 0)],
        }
    }
}

/// A frame from one socket to the other.
fn frame(
    (from, from_port): (IpAddr, u16),
    (to, to_port): (IpAddr, u16),
    protocol: Protocol,
    flags: u8,
) -> Vec<u8> {
    let ip = Frame::ip(from, to).macs(CLIENT_MAC, DIRECTOR_MAC);
    match protocol {
        Protocol::Tcp => ip
            .tcp(from_port, to_port)
            .flags(flags)
            .payload(&[0x5a; 33])
            .build(),
        _ => ip.udp(from_port, to_port).payload(&[0x5a; 33]).build(),
    }
}

/// A bench with a connection of PORT to r1, whose port is `port`.
fn connected(family: &Family, protocol: Protocol, method: ForwardingMethod, port: u16) -> Bench {
    let mut bench = Bench::new();
    bench.add(family.service, "rr");
    bench.server(family.service, real(family.server, port, method, 1));
    bench.set_hop(family.server, hop(1));
    let first = frame((family.client, PORT), (family.vip, 80), protocol, SYN);
    let (verdict, _) = bench.send(&first);
    assert_eq!(verdict.action(), pointsman_director::Action::Forward);
    bench
}

/// Every family and protocol.
fn families() -> impl Iterator<Item = (Family, Protocol)> {
    [false, true].into_iter().flat_map(|ipv6| {
        [Protocol::Tcp, Protocol::Udp].map(|protocol| (family(ipv6, protocol), protocol))
    })
}

/// How much of the quoted packet an error holds: all, and the eight bytes behind its IP header.
fn quotes(packet: &[u8]) -> [&[u8]; 3] {
    let header = if packet[0] >> 4 == 6 { 40 } else { 20 };
    [packet, &packet[..header + 8], &packet[..header + 13]]
}

fn error(from: IpAddr, to: IpAddr, (kind, code): (u8, u8), quoted: &[u8]) -> Vec<u8> {
    Frame::ip(from, to)
        .macs(CLIENT_MAC, DIRECTOR_MAC)
        .icmp_error(kind, code, 1400, quoted)
        .build()
}

#[test]
fn errors_from_the_clients_side_reach_a_masqueraded_server() {
    for (family, protocol) in families() {
        for kind in family.errors {
            let reply = frame((family.vip, 80), (family.client, PORT), protocol, ACK);
            for quoted in quotes(&reply[14..]) {
                let mut bench = connected(&family, protocol, MASQUERADE, 8080);
                for from in [family.router, family.client] {
                    let frame = error(from, family.vip, *kind, quoted);
                    let (verdict, out) = bench.send(&frame);
                    assert_eq!((verdict.reason, verdict.ifindex), (Reason::RelatedIn, BACK));
                    assert_eq!(out[..6], rs_mac(1).0);
                    assert_eq!(verify_checksums(&out), Ok(()), "{kind:?}");
                    let (before, after) = (summary(&frame), summary(&out));
                    assert_eq!((after.source, after.destination), (from, family.server));
                    assert_eq!((after.ttl, after.icmp), (63, before.icmp));
                    let inner = quote(&out);
                    assert_eq!(
                        (inner.source, inner.destination),
                        (family.server, family.client)
                    );
                    assert_eq!(inner.ports, Some((8080, PORT)));
                    assert_eq!(inner.ttl, 64);
                    assert_eq!(out.len(), frame.len());
                }
            }
        }
    }
}

#[test]
fn errors_of_a_masqueraded_server_reach_the_client() {
    for (family, protocol) in families() {
        for kind in family.errors {
            let request = frame((family.client, PORT), (family.server, 8080), protocol, SYN);
            for quoted in quotes(&request[14..]) {
                let mut bench = connected(&family, protocol, MASQUERADE, 8080);
                let frame = error(family.server, family.client, *kind, quoted);
                let (verdict, out) = bench.send_by(BACK, &frame);
                assert_eq!(
                    (verdict.reason, verdict.ifindex),
                    (Reason::RelatedOut, FRONT)
                );
                assert_eq!(out[..6], CLIENT_MAC.0);
                assert_eq!(verify_checksums(&out), Ok(()), "{kind:?}");
                let after = summary(&out);
                assert_eq!(
                    (after.source, after.destination),
                    (family.vip, family.client)
                );
                assert_eq!((after.ttl, after.icmp), (63, summary(&frame).icmp));
                let inner = quote(&out);
                assert_eq!(
                    (inner.source, inner.destination),
                    (family.client, family.vip)
                );
                assert_eq!(inner.ports, Some((PORT, 80)));
            }
        }
    }
}

#[test]
fn errors_about_direct_connections_go_as_they_are() {
    for (family, protocol) in families() {
        let reply = frame((family.vip, 80), (family.client, PORT), protocol, ACK);
        for quoted in quotes(&reply[14..]) {
            let mut bench = connected(&family, protocol, DIRECT, 80);
            let frame = error(family.router, family.vip, family.errors[0], quoted);
            let (verdict, out) = bench.send(&frame);
            assert_eq!((verdict.reason, verdict.ifindex), (Reason::RelatedIn, BACK));
            assert_eq!(out[..6], rs_mac(1).0);
            assert_eq!(verify_checksums(&out), Ok(()));
            let changes = summary(&frame).changes(&summary(&out));
            let changes: Vec<_> = changes.iter().map(|change| change.what).collect();
            assert_eq!(changes, ["source MAC", "destination MAC", "TTL"]);
        }
    }
}

#[test]
fn errors_about_tunnelled_connections_are_encapsulated() {
    for (family, protocol) in families() {
        let reply = frame((family.vip, 80), (family.client, PORT), protocol, ACK);
        let mut bench = connected(&family, protocol, TUNNEL, 80);
        let frame = error(family.router, family.vip, family.errors[0], &reply[14..]);
        let (verdict, out) = bench.send(&frame);
        assert_eq!((verdict.reason, verdict.ifindex), (Reason::RelatedIn, BACK));
        assert_eq!(verify_checksums(&out), Ok(()));
        let outer = summary(&out);
        assert_eq!(outer.destination, family.server);
        let inner = outer.inner.expect("a packet in the tunnel");
        let changes = summary(&frame).changes(&inner);
        let changes: Vec<_> = changes.iter().map(ToString::to_string).collect();
        assert_eq!(changes, ["TTL 64 -> 63"]);
    }
}

#[test]
fn other_icmp_passes() {
    for (family, protocol) in families() {
        let mut bench = connected(&family, protocol, MASQUERADE, 8080);
        let reply = frame((family.vip, 80), (family.client, PORT), protocol, ACK);
        let request = frame((family.client, PORT), (family.server, 8080), protocol, ACK);
        let unknown = frame((family.vip, 80), (family.client, PORT + 1), protocol, ACK);
        let other_port = frame((family.vip, 81), (family.client, PORT), protocol, ACK);
        let echo = Frame::ip(family.vip, family.client)
            .echo_request(1, 2)
            .build();
        let header = if family.vip.is_ipv6() { 40 } else { 20 };
        let kind = family.errors[0];
        let mut passing: Vec<Vec<u8>> = family
            .others
            .iter()
            .map(|kind| error(family.router, family.vip, *kind, &reply[14..]))
            .collect();
        passing.extend([
            // About nobody's connection, about no connection, in the wrong direction.
            error(family.router, family.vip, kind, &unknown[14..]),
            error(family.router, family.vip, kind, &other_port[14..]),
            error(family.router, family.vip, kind, &echo[14..]),
            // Not to the virtual address, not to the client.
            error(family.router, family.router, kind, &reply[14..]),
            error(family.server, family.router, kind, &request[14..]),
            // Ports not quoted, nothing quoted.
            error(family.router, family.vip, kind, &reply[14..14 + header + 7]),
            error(family.router, family.vip, kind, &reply[14..14 + header]),
            error(family.router, family.vip, kind, &reply[14..20]),
            error(family.router, family.vip, kind, &[]),
        ]);
        for (at, frame) in passing.iter().enumerate() {
            let (verdict, out) = bench.send(frame);
            assert_eq!(verdict.reason, Reason::IcmpUnrelated, "{protocol:?} {at}");
            assert_eq!(out, *frame);
        }
    }
}

#[test]
fn errors_of_what_is_over_pass() {
    for (family, protocol) in families() {
        let mut bench = connected(&family, protocol, MASQUERADE, 8080);
        bench.wait(301);
        let reply = frame((family.vip, 80), (family.client, PORT), protocol, ACK);
        let request = frame((family.client, PORT), (family.server, 8080), protocol, ACK);
        let kind = family.errors[0];
        for frame in [
            error(family.router, family.vip, kind, &reply[14..]),
            error(family.server, family.client, kind, &request[14..]),
        ] {
            assert_eq!(bench.reason(&frame), Reason::IcmpUnrelated);
        }
    }
}

#[test]
fn an_error_does_not_keep_a_connection_alive() {
    let family = family(false, Protocol::Tcp);
    let mut bench = connected(&family, Protocol::Tcp, MASQUERADE, 8080);
    let before = bench.connection();
    bench.wait(30);
    let reply = frame((family.vip, 80), (family.client, PORT), Protocol::Tcp, ACK);
    let error = error(family.router, family.vip, (3, 4), &reply[14..]);
    assert_eq!(bench.reason(&error), Reason::RelatedIn);
    let after = bench.connection();
    assert_eq!(after.expires, before.expires);
    assert_eq!(after.word, before.word);
}

#[test]
fn obstacles_stop_an_error_too() {
    let family = family(false, Protocol::Tcp);
    let reply = frame((family.vip, 80), (family.client, PORT), Protocol::Tcp, ACK);
    let dying = Frame::ip(family.router, family.vip)
        .macs(CLIENT_MAC, DIRECTOR_MAC)
        .ttl(1)
        .icmp_error(icmp::V4_UNREACHABLE, 1, 0, &reply[14..])
        .build();
    let alive = error(family.router, family.vip, (3, 1), &reply[14..]);
    for (method, port) in [(MASQUERADE, 8080), (DIRECT, 80), (TUNNEL, 80)] {
        let mut bench = connected(&family, Protocol::Tcp, method, port);
        assert_eq!(bench.reason(&dying), Reason::TtlExceeded, "{method:?}");
        bench.set_hop(family.server, NextHop::default());
        assert_eq!(bench.reason(&alive), Reason::NoNextHop, "{method:?}");
        bench.delete(web(), family.server, port);
        assert_eq!(bench.reason(&alive), Reason::ServerGone, "{method:?}");
    }
}

#[test]
fn tagged_errors_leave_by_the_tag_of_the_hop() {
    let family = family(false, Protocol::Udp);
    let reply = frame((family.vip, 80), (family.client, PORT), Protocol::Udp, 0);
    let mut bench = connected(&family, Protocol::Udp, MASQUERADE, 8080);
    bench.set_hop(family.server, NextHop { vlan: 7, ..hop(1) });
    let error = Frame::ip(family.router, family.vip)
        .macs(CLIENT_MAC, DIRECTOR_MAC)
        .vlan(5)
        .icmp_error(icmp::V4_UNREACHABLE, 1, 0, &reply[14..])
        .build();
    let (verdict, out) = bench.send(&error);
    assert_eq!(verdict.reason, Reason::RelatedIn);
    assert_eq!(summary(&out).link.expect("a link layer").vlans, [7]);
    assert_eq!(verify_checksums(&out), Ok(()));
}

fn summary(frame: &[u8]) -> Summary {
    Summary::parse(frame).expect("an IP packet")
}

/// The packet that an ICMP error without extension headers quotes.
fn quote(frame: &[u8]) -> Summary {
    let header = if frame[14] >> 4 == 6 { 40 } else { 20 };
    Summary::parse_packet(&frame[14 + header + 8..]).expect("a quote")
}

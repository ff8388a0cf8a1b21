//! The kernel's filter keeps what is about the service, however it is wrapped, and nothing else.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use pointsman_path::capture_filter::{Wanted, keeps};
use pointsman_wire::{Frame, Mac, build, icmp};

const CLIENT: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 145);
const OTHER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 99);
const VIP: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 208);
const DIRECTOR: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 200);
const SERVER: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 202);
const VIP6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x208);
const CLIENT6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 1);
const MAC: Mac = Mac([2, 0, 0, 0, 0, 1]);

fn syn(
    source: impl Into<IpAddr>,
    destination: impl Into<IpAddr>,
    ports: (u16, u16),
) -> Frame<build::TcpPart> {
    Frame::ip(source, destination)
        .macs(MAC, MAC)
        .tcp(ports.0, ports.1)
}

fn wanted() -> Wanted {
    Wanted {
        ends: vec![
            (VIP.into(), Some(80)),
            (VIP6.into(), Some(80)),
            (SERVER.into(), Some(8080)),
        ],
        clients: Vec::new(),
    }
}

#[test]
fn what_is_about_the_service_is_kept() {
    let program = wanted().program(false);
    assert!(
        !program.is_empty() && program.len() < 4096,
        "{}",
        program.len()
    );
    let inner = syn(CLIENT, VIP, (4000, 80)).build_packet();
    let outer = || Frame::ipv4(DIRECTOR, OTHER).macs(MAC, MAC);
    let inner6 = syn(CLIENT6, VIP6, (4000, 80)).build_packet();
    let frames = [
        ("request", syn(CLIENT, VIP, (4000, 80)).build()),
        ("answer", syn(VIP, CLIENT, (80, 4000)).build()),
        (
            "options",
            syn(CLIENT, VIP, (4000, 80))
                .ip_options(&[1, 1, 1, 1])
                .build(),
        ),
        ("one tag", syn(CLIENT, VIP, (4000, 80)).vlan(178).build()),
        (
            "two tags",
            syn(CLIENT, VIP, (4000, 80))
                .service_vlan(2)
                .vlan(178)
                .build(),
        ),
        ("translated", syn(CLIENT, SERVER, (4000, 8080)).build()),
        ("IPv6", syn(CLIENT6, VIP6, (4000, 80)).build()),
        ("IPIP", outer().ip_in_ip(&inner).build()),
        (
            "IPIP, two tags",
            outer().ip_in_ip(&inner).service_vlan(2).vlan(178).build(),
        ),
        ("GRE", outer().gre(&inner, false).build()),
        ("GRE with checksum", outer().gre(&inner, true).build()),
        ("GUE", outer().udp(5000, 6080).gue(&inner).build()),
        ("IPv6 in IPv4", outer().ip_in_ip(&inner6).build()),
        (
            "ping",
            Frame::ipv4(CLIENT, VIP)
                .macs(MAC, MAC)
                .echo_request(1, 1)
                .build(),
        ),
        (
            "error",
            Frame::ipv4(OTHER, CLIENT)
                .macs(MAC, MAC)
                .icmp_error(icmp::V4_UNREACHABLE, 3, 0, &inner)
                .build(),
        ),
        (
            "error, IPv6",
            Frame::ipv6(CLIENT6, CLIENT6)
                .macs(MAC, MAC)
                .icmp_error(icmp::V6_TOO_BIG, 0, 1280, &inner6)
                .build(),
        ),
        ("who has the VIP", build::arp_request(MAC, CLIENT, VIP)),
        ("the VIP is at", build::arp_reply(MAC, VIP, MAC, CLIENT)),
        (
            "VIP announced, IPv6",
            build::neighbor_announcement(MAC, VIP6, false),
        ),
        (
            "later fragment",
            syn(CLIENT, VIP, (4000, 80)).fragment(1480, true).build(),
        ),
    ];
    for (name, frame) in frames {
        assert!(keeps(&program, &frame), "{name} is not kept");
    }
}

#[test]
fn what_is_about_others_is_not_kept() {
    let program = wanted().program(false);
    let inner = syn(CLIENT, OTHER, (4000, 80)).build_packet();
    let frames = [
        ("another port", syn(CLIENT, VIP, (4000, 81)).build()),
        (
            "the port at the wrong end",
            syn(CLIENT, VIP, (80, 4000)).build(),
        ),
        ("another address", syn(CLIENT, OTHER, (4000, 80)).build()),
        (
            "another address, IPv6",
            syn(CLIENT6, CLIENT6, (4000, 80)).build(),
        ),
        (
            "another in IPIP",
            Frame::ipv4(DIRECTOR, OTHER)
                .macs(MAC, MAC)
                .ip_in_ip(&inner)
                .build(),
        ),
        ("another ARP", build::arp_request(MAC, CLIENT, OTHER)),
        (
            "neither IP nor ARP",
            [&[0; 12][..], &[0x88, 0xcc], &[0; 60]].concat(),
        ),
        (
            "cut short",
            syn(CLIENT, VIP, (4000, 80)).build()[..30].to_vec(),
        ),
        ("three deep", {
            let own = syn(CLIENT, VIP, (4000, 80)).build_packet();
            let wrap = |packet: &[u8]| Frame::ipv4(DIRECTOR, OTHER).ip_in_ip(packet).build_packet();
            Frame::ipv4(DIRECTOR, OTHER)
                .macs(MAC, MAC)
                .ip_in_ip(&wrap(&wrap(&own)))
                .build()
        }),
    ];
    for (name, frame) in frames {
        assert!(!keeps(&program, &frame), "{name} is kept");
    }
}

#[test]
fn a_client_narrows_it_and_bare_packets_have_no_link_layer() {
    let wanted = Wanted {
        clients: vec![CLIENT.into()],
        ..wanted()
    };
    let program = wanted.program(false);
    assert!(keeps(&program, &syn(CLIENT, VIP, (4000, 80)).build()));
    assert!(keeps(&program, &syn(VIP, CLIENT, (80, 4000)).build()));
    assert!(!keeps(&program, &syn(OTHER, VIP, (4000, 80)).build()));
    let inner = syn(CLIENT, VIP, (4000, 80)).build_packet();
    let wrapped = Frame::ipv4(DIRECTOR, SERVER)
        .macs(MAC, MAC)
        .ip_in_ip(&inner);
    assert!(keeps(&program, &wrapped.build()));
    let bare = wanted.program(true);
    assert!(keeps(&bare, &inner));
    assert!(keeps(&bare, &wrapped.build_packet()));
    assert!(!keeps(&bare, &syn(OTHER, VIP, (4000, 80)).build_packet()));
    assert_eq!(Wanted::default().program(false), []);
}

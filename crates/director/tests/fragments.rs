//! Packets that are too big and may be cut: the pieces and what they make together.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use pointsman_director::{
    Reason,
    control::address_words,
    native::fragments::forward_in_fragments,
    record::{NextHop, ServerRecord, Settings, hop_flag, method, server_flag},
};
use pointsman_wire::{Frame, Ipv4, Mac, Summary, checksum, verify_checksums};
use zerocopy::FromBytes;

const SERVER_MAC: Mac = Mac([2, 0, 0, 0, 0, 3]);
const DIRECTOR_MAC: Mac = Mac([2, 0, 0, 0, 0, 2]);

fn server(method: u8, address: IpAddr, mtu: u32) -> ServerRecord {
    ServerRecord {
        hop: NextHop {
            ifindex: 3,
            mtu,
            destination: SERVER_MAC,
            source: DIRECTOR_MAC,
            vlan: 0,
            flags: hop_flag::RESOLVED,
        },
        method,
        flags: server_flag::PRESENT
            | server_flag::AVAILABLE
            | if address.is_ipv6() {
                server_flag::IPV6
            } else {
                0
            },
        address: address_words(address),
        tunnel_source: address_words(match address {
            IpAddr::V4(_) => Ipv4Addr::new(10, 2, 0, 1).into(),
            IpAddr::V6(_) => Ipv6Addr::new(0xfd00, 2, 0, 0, 0, 0, 0, 1).into(),
        }),
        ..ServerRecord::default()
    }
}

fn datagram(payload: &[u8]) -> Vec<u8> {
    Frame::ipv4(Ipv4Addr::new(10, 64, 0, 1), Ipv4Addr::new(10, 99, 0, 1))
        .id(0x1234)
        .ttl(9)
        .udp(5353, 53)
        .payload(payload)
        .build()
}

fn payload() -> Vec<u8> {
    (0..1472u32).map(|i| (i * 7) as u8).collect()
}

/// The IPv4 payload that `pieces` make together; checks headers on the way.
fn joined(pieces: &[Vec<u8>], mtu: usize) -> Vec<u8> {
    let mut whole = Vec::new();
    for (number, piece) in pieces.iter().enumerate() {
        assert!(piece.len() - 14 <= mtu, "piece {number} is too big");
        assert_eq!(&piece[..6], &SERVER_MAC.0);
        let (ip, _) = Ipv4::ref_from_prefix(&piece[14..]).unwrap();
        assert_eq!(pointsman_wire::checksum::of(&piece[14..34]), 0);
        let offset = usize::from(ip.fragment.get() & Ipv4::OFFSET) * 8;
        assert_eq!(offset, whole.len());
        let more = ip.fragment.get() & Ipv4::MORE_FRAGMENTS != 0;
        assert_eq!(more, number + 1 < pieces.len());
        whole.extend(&piece[34..14 + usize::from(ip.total_length.get())]);
    }
    whole
}

#[test]
fn a_tunnel_cuts_the_outer_packet() {
    let frame = datagram(&payload());
    let server = server(method::TUNNEL, Ipv4Addr::new(10, 2, 0, 11).into(), 1500);
    let pieces = forward_in_fragments(&frame, &server, 0, &Settings::DEFAULT, 77).unwrap();
    assert_eq!(pieces.len(), 2);
    let inner = joined(&pieces, 1500);
    let mut whole = frame[..14].to_vec();
    whole.extend(&inner);
    let summary = Summary::parse(&whole).unwrap();
    assert_eq!(summary.ttl, 8);
    verify_checksums(&whole).unwrap();
    assert_eq!(&inner[28..], payload());
    let (outer, _) = Ipv4::ref_from_prefix(&pieces[0][14..]).unwrap();
    assert_eq!((outer.id.raw(), outer.protocol), (77, 4));
}

#[test]
fn an_ipv6_tunnel_gets_fragment_headers() {
    let frame = datagram(&payload());
    let address = Ipv6Addr::new(0xfd00, 2, 0, 0, 0, 0, 0, 0x11);
    let server = server(method::TUNNEL, address.into(), 1500);
    let pieces = forward_in_fragments(&frame, &server, 0, &Settings::DEFAULT, 77).unwrap();
    assert_eq!(pieces.len(), 2);
    let inner: Vec<u8> = pieces.iter().flat_map(|p| p[14 + 48..].to_vec()).collect();
    assert_eq!(&inner[28..], payload());
    assert!(pieces.iter().all(|p| p[20] == 44 && p[14 + 40] == 4));
    assert_eq!(&pieces[0][14 + 42..14 + 44], [0, 1]);
    assert_eq!(pieces[1][14 + 43] & 1, 0);
}

#[test]
fn without_a_tunnel_the_client_s_packet_is_cut_and_keeps_its_id() {
    let frame = datagram(&payload());
    for method in [method::DIRECT, method::MASQUERADE] {
        let server = server(method, Ipv4Addr::new(10, 2, 0, 11).into(), 576);
        let port = 5300u16.to_be();
        let pieces = forward_in_fragments(&frame, &server, port, &Settings::DEFAULT, 1).unwrap();
        assert_eq!(pieces.len(), 3);
        let joined = joined(&pieces, 576);
        assert_eq!(&joined[8..], payload());
        let (ip, _) = Ipv4::ref_from_prefix(&pieces[2][14..]).unwrap();
        assert_eq!(ip.id.get(), 0x1234);
        let port = u16::from_be_bytes([joined[2], joined[3]]);
        assert_eq!(port, if method == method::DIRECT { 53 } else { 5300 });
    }
}

#[test]
fn a_checksum_left_to_the_device_is_computed() {
    let whole = datagram(&payload());
    let mut pending = whole.clone();
    let length = (8 + payload().len()) as u32;
    let pseudo = checksum::pseudo_header(&whole[26..30], &whole[30..34], 17, length);
    pending[40..42].copy_from_slice(&checksum::fold(pseudo).to_ne_bytes());
    assert_ne!(pending, whole);
    let server = server(method::TUNNEL, Ipv4Addr::new(10, 2, 0, 11).into(), 1500);
    let cut = |frame| forward_in_fragments(frame, &server, 0, &Settings::DEFAULT, 77).unwrap();
    assert_eq!(cut(&pending), cut(&whole));
    // A wrong one stays wrong.
    let mut wrong = whole.clone();
    wrong[40] ^= 0x55;
    assert_ne!(cut(&wrong), cut(&whole));
}

#[test]
fn options_for_the_first_piece_stay_there() {
    // Record route (not copied), then strict source route's kind with the copied bit.
    let options = [7, 3, 4, 0x83, 3, 4, 0, 0];
    let frame = Frame::ipv4(Ipv4Addr::new(10, 64, 0, 1), Ipv4Addr::new(10, 99, 0, 1))
        .ip_options(&options)
        .udp(1, 53)
        .payload(&payload())
        .build();
    let server = server(method::DIRECT, Ipv4Addr::new(10, 2, 0, 11).into(), 1000);
    let pieces = forward_in_fragments(&frame, &server, 0, &Settings::DEFAULT, 1).unwrap();
    assert_eq!(&pieces[0][34..42], options);
    assert_eq!(&pieces[1][34..42], [1, 1, 1, 0x83, 3, 4, 0, 0]);
    assert!(
        pieces
            .iter()
            .all(|p| pointsman_wire::checksum::of(&p[14..42]) == 0)
    );
}

#[test]
fn what_cannot_be_forwarded_says_why() {
    let frame = datagram(&payload());
    let mut unresolved = server(method::DIRECT, Ipv4Addr::new(10, 2, 0, 11).into(), 1000);
    unresolved.hop.flags = 0;
    let settings = Settings::DEFAULT;
    let refused = |server: &ServerRecord| forward_in_fragments(&frame, server, 0, &settings, 1);
    assert_eq!(refused(&unresolved), Err(Reason::NoNextHop));
    let narrow = server(method::DIRECT, Ipv4Addr::new(10, 2, 0, 11).into(), 20);
    assert_eq!(refused(&narrow), Err(Reason::TooBig));
    let cut = forward_in_fragments(&frame[..40], &narrow, 0, &settings, 1);
    assert_eq!(cut, Err(Reason::Malformed));
}

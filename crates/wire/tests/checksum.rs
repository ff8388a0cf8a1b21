//! The checksum, its incremental update, and what verification says of spoilt frames.

use std::net::Ipv6Addr;

use pointsman_wire::checksum::{self, Difference};
use pointsman_wire::{
    ChecksumError, Checksummed, Frame, ipv6_words, tcp, verify_checksums, verify_packet_checksums,
};
use proptest::prelude::*;

/// RFC 1071 section 3.
#[test]
fn rfc_1071_example() {
    let bytes = [0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7];
    assert_eq!(checksum::of(&bytes).to_ne_bytes(), [0x22, 0x0d]);
    // The same with its last byte missing, which counts as zero.
    assert_eq!(
        checksum::of(&bytes[..7]),
        checksum::of(&[0, 1, 0xf2, 3, 0xf4, 0xf5, 0xf6, 0])
    );
}

/// RFC 1624 section 4, the example that earlier formulas got wrong.
#[test]
fn rfc_1624_example() {
    let updated = Difference::NONE
        .word(0x5555u16.to_be(), 0x3285u16.to_be())
        .apply(0xdd2fu16.to_be());
    assert_eq!(u16::from_be(updated), 0x0000);
}

fn raw_words(address: Ipv6Addr) -> [u32; 4] {
    ipv6_words(address).map(|word| word.raw())
}

proptest! {
    #[test]
    fn update_equals_recomputation(
        mut bytes in prop::collection::vec(any::<u8>(), 8..200),
        at in any::<prop::sample::Index>(),
        new in any::<[u8; 2]>(),
    ) {
        // A sum of nothing but zeros has no twin; no header is that.
        bytes[0] |= 1;
        let before = checksum::of(&bytes);
        let at = 2 + (at.index(bytes.len() - 3) & !1);
        let old = [bytes[at], bytes[at + 1]];
        bytes[at..at + 2].copy_from_slice(&new);
        let updated = Difference::NONE
            .word(u16::from_ne_bytes(old), u16::from_ne_bytes(new))
            .apply(before);
        prop_assert_eq!(updated, checksum::of(&bytes));
    }

    #[test]
    fn address_and_port_translation_keeps_frames_right(
        client in any::<u128>(),
        vip in any::<u128>(),
        real in any::<u128>(),
        ports in any::<(u16, u16, u16)>(),
        payload in prop::collection::vec(any::<u8>(), 0..100),
    ) {
        let [client, vip, real] = [client, vip, real].map(Ipv6Addr::from_bits);
        let to = |address, port| {
            let frame = Frame::ipv6(client, address).tcp(ports.0, port).payload(&payload);
            frame.build_packet()
        };
        let (mut packet, expected) = (to(vip, ports.1), to(real, ports.2));
        let field = 40 + 16;
        let old = u16::from_ne_bytes([packet[field], packet[field + 1]]);
        let new = Difference::NONE
            .address(&raw_words(vip), &raw_words(real))
            .word(ports.1.to_be(), ports.2.to_be())
            .apply(old);
        packet[24..40].copy_from_slice(&real.octets());
        packet[42..44].copy_from_slice(&ports.2.to_be_bytes());
        packet[field..field + 2].copy_from_slice(&new.to_ne_bytes());
        prop_assert_eq!(verify_packet_checksums(&packet), Ok(()));
        prop_assert_eq!(packet, expected);
    }

    #[test]
    fn whatever_is_built_verifies(
        v6 in any::<bool>(),
        kind in 0..9usize,
        tags in 0..3usize,
        ports in any::<(u16, u16)>(),
        words in any::<(u32, u32)>(),
        payload in prop::collection::vec(any::<u8>(), 0..300),
        padded in any::<bool>(),
    ) {
        let mut frame = if v6 {
            Frame::ipv6(u128::from(words.0).to_be_bytes(), u128::from(words.1).to_be_bytes())
        } else {
            Frame::ipv4(words.0.to_be_bytes(), words.1.to_be_bytes())
        };
        for tag in 0..tags {
            frame = frame.vlan(tag as u16);
        }
        if padded {
            frame = frame.padded(60);
        }
        let inner = frame.clone().udp(ports.1, ports.0).payload(&payload).build_packet();
        let (source, destination) = ports;
        let built = match kind {
            0 => frame.tcp(source, destination).sequence(words.0).timestamps(1, 2).payload(&payload).build(),
            1 => frame.udp(source, destination).payload(&payload).build(),
            2 => frame.sctp(source, destination, words.1).payload(&payload).build(),
            3 => frame.echo_request(source, destination).payload(&payload).build(),
            4 => frame.icmp_error(3, 1, 0, &inner).build(),
            5 => frame.ip_in_ip(&inner).build(),
            6 => frame.gre(&inner, padded).build(),
            7 => frame.udp(source, 6080).gue(&inner).build(),
            _ => frame.protocol(200).payload(&payload).build(),
        };
        prop_assert_eq!(verify_checksums(&built), Ok(()));
    }

    #[test]
    fn one_flipped_bit_is_found(
        kind in 0..4usize,
        payload in prop::collection::vec(any::<u8>(), 1..100),
        at in any::<prop::sample::Index>(),
        bit in 0..8u8,
    ) {
        let frame = Frame::ipv4([10, 0, 0, 1], [10, 0, 0, 2]);
        let (mut built, what) = match kind {
            0 => (frame.tcp(1, 2).payload(&payload).build(), Checksummed::Tcp),
            1 => (frame.udp(1, 2).payload(&payload).build(), Checksummed::Udp),
            2 => (frame.sctp(1, 2, 3).payload(&payload).build(), Checksummed::Sctp),
            _ => (frame.echo_reply(1, 2).payload(&payload).build(), Checksummed::Icmp),
        };
        let at = built.len() - 1 - at.index(payload.len());
        built[at] ^= 1 << bit;
        match verify_checksums(&built) {
            Err(ChecksumError::Wrong { what: found, .. }) => prop_assert_eq!(found, what),
            other => prop_assert!(false, "{:?}", other),
        }
    }
}

fn syn() -> Frame<pointsman_wire::build::TcpPart> {
    Frame::ipv4([192, 168, 7, 2], [192, 168, 7, 33])
        .tcp(40000, 80)
        .flags(tcp::SYN)
}

#[test]
fn the_wrong_checksum_is_named_and_placed() {
    let mut frame = syn().build();
    let right = u16::from_be_bytes([frame[24], frame[25]]);
    frame[24] ^= 0xff;
    let found = u32::from(right ^ 0xff00);
    let expected = u32::from(right);
    let error = ChecksumError::Wrong {
        what: Checksummed::Ipv4Header,
        at: 24,
        found,
        expected,
    };
    assert_eq!(
        error.to_string(),
        format!("IPv4 header checksum at byte 24 is {found:#06x}, its bytes give {expected:#06x}")
    );
    assert_eq!(verify_checksums(&frame), Err(error));

    let mut frame = syn().vlan(5).build();
    let right = u32::from(u16::from_be_bytes([frame[54], frame[55]]));
    frame[54..56].copy_from_slice(&[0x12, 0x34]);
    let error = ChecksumError::Wrong {
        what: Checksummed::Tcp,
        at: 54,
        found: 0x1234,
        expected: right,
    };
    assert_eq!(verify_checksums(&frame), Err(error));
}

#[test]
fn inner_checksums_of_tunnels_are_checked() {
    let mut inner = syn().build_packet();
    inner[37] ^= 1;
    let outer = || Frame::ipv4([10, 0, 0, 1], [10, 0, 0, 2]);
    let frames = [
        (outer().ip_in_ip(&inner).build(), 14 + 20),
        (outer().gre(&inner, true).build(), 14 + 20 + 8),
        (outer().udp(1, 6080).gue(&inner).build(), 14 + 20 + 8 + 4),
    ];
    for (frame, start) in frames {
        match verify_checksums(&frame) {
            Err(ChecksumError::Wrong {
                what: Checksummed::Tcp,
                at,
                ..
            }) => {
                assert_eq!(at, start + 20 + 16);
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn the_header_an_error_quotes_is_checked() {
    let mut quote = syn().build_packet();
    quote[8] -= 1;
    let frame = Frame::ipv4([10, 0, 0, 1], [10, 0, 0, 2])
        .icmp_error(3, 1, 0, &quote)
        .build();
    let result = verify_checksums(&frame);
    assert!(
        matches!(
            result,
            Err(ChecksumError::Wrong {
                what: Checksummed::QuotedIpv4Header,
                ..
            })
        ),
        "{result:?}"
    );
}

#[test]
fn a_checksum_left_to_offload_is_told_from_a_wrong_one() {
    let mut packet = syn().build_packet();
    let sum = checksum::pseudo_header(&packet[12..16], &packet[16..20], 6, 20);
    packet[36..38].copy_from_slice(&checksum::fold(sum).to_ne_bytes());
    let result = verify_packet_checksums(&packet);
    assert!(
        matches!(
            result,
            Err(ChecksumError::Offloaded {
                what: Checksummed::Tcp,
                at: 36,
                ..
            })
        ),
        "{result:?}"
    );
}

#[test]
fn udp_without_checksum() {
    let v4 = Frame::ipv4([10, 0, 0, 1], [10, 0, 0, 2])
        .udp(1, 2)
        .without_checksum();
    assert_eq!(verify_checksums(&v4.build()), Ok(()));
    let v6 = || Frame::ipv6(Ipv6Addr::LOCALHOST, Ipv6Addr::LOCALHOST);
    let plain = v6().udp(1, 2).without_checksum().build();
    assert_eq!(
        verify_checksums(&plain),
        Err(ChecksumError::Missing { at: 14 + 40 + 6 })
    );
    // RFC 6935 lets tunnels do it.
    let inner = syn().build_packet();
    let tunnel = v6().udp(1, 6080).without_checksum().gue(&inner).build();
    assert_eq!(verify_checksums(&tunnel), Ok(()));
}

/// A checksum that computes to 0 is sent as 0xffff, since 0 means none.
#[test]
fn udp_checksum_is_never_zero_by_accident() {
    let built = |word: u16| {
        let frame = Frame::ipv4([10, 0, 0, 1], [10, 0, 0, 2]).udp(1, 2);
        frame.payload(&word.to_be_bytes()).build_packet()
    };
    let zero = built(0);
    let checksum = u16::from_be_bytes([zero[26], zero[27]]);
    let packet = built(checksum);
    assert_eq!(packet[26..28], [0xff, 0xff]);
    assert_eq!(verify_packet_checksums(&packet), Ok(()));
}

#[test]
fn cut_frames_are_unreadable_not_wrong() {
    let frame = syn().payload(b"some payload").build();
    for length in [0, 13, 14, 33, 34, 53, 54, 65] {
        let result = verify_checksums(&frame[..length]);
        assert!(
            matches!(result, Err(ChecksumError::Unreadable { .. })),
            "{length}: {result:?}"
        );
    }
}

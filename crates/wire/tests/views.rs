//! Literal bytes of each protocol, read by the views and written by the builder.

use std::net::{Ipv4Addr, Ipv6Addr};

use pointsman_wire::build::{self, arp_reply, arp_request};
use pointsman_wire::{
    Arp, Ethernet, Frame, Gre, GreChecksum, Gue, Icmp, Ipv4, Ipv6, Ipv6Extension, Ipv6Fragment,
    Mac, Sctp, SctpChunk, Tcp, Udp, VlanTag, icmp, ipv6_address, ipv6_words, protocol, sctp, tcp,
    verify_checksums, verify_packet_checksums,
};

/// Bytes of hexadecimal text with any spacing.
fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u32> = text
        .chars()
        .filter_map(|digit| digit.to_digit(16))
        .collect();
    digits
        .chunks(2)
        .map(|pair| (pair[0] << 4 | pair[1]) as u8)
        .collect()
}

fn view<T: pointsman_wire::Wire>(bytes: &[u8]) -> (&T, &[u8]) {
    match T::ref_from_prefix(bytes) {
        Ok(view) => view,
        Err(_) => panic!("{} bytes are too few", bytes.len()),
    }
}

/// A SYN in VLAN 178 with priority 5.
const SYN: &str = "
    020000000002 020000000001 8100 a0b2 0800
    4500002c 12344000 40069924 c0a80702 c0a80721
    9c400050 00000001 00000000 6002faf0 71300000 020405b4";

fn syn() -> Frame<build::TcpPart> {
    Frame::ipv4([192, 168, 7, 2], [192, 168, 7, 33])
        .id(0x1234)
        .dont_fragment()
        .tcp(40000, 80)
        .flags(tcp::SYN)
        .sequence(1)
        .mss(1460)
}

#[test]
fn tcp_in_a_vlan() {
    let bytes = hex(SYN);
    let (ethernet, rest) = view::<Ethernet>(&bytes);
    assert_eq!(ethernet.destination, build::DESTINATION_MAC);
    assert_eq!(ethernet.source, build::SOURCE_MAC);
    assert_eq!(ethernet.ethertype.get(), 0x8100);
    let (tag, rest) = view::<VlanTag>(rest);
    assert_eq!(
        (tag.id(), tag.priority(), tag.ethertype.get()),
        (178, 5, 0x0800)
    );
    let (ip, rest) = view::<Ipv4>(rest);
    assert_eq!(
        (ip.version(), ip.header_length(), ip.total_length.get()),
        (4, 20, 44)
    );
    assert_eq!(
        (ip.id.get(), ip.ttl, ip.protocol),
        (0x1234, 64, protocol::TCP)
    );
    assert!(ip.dont_fragment() && !ip.is_fragment());
    assert_eq!(ip.checksum.get(), 0x9924);
    assert_eq!(ip.source_address(), Ipv4Addr::new(192, 168, 7, 2));
    assert_eq!(ip.destination_address(), Ipv4Addr::new(192, 168, 7, 33));
    let (header, options) = view::<Tcp>(rest);
    assert_eq!((header.source.get(), header.destination.get()), (40000, 80));
    assert_eq!(
        (header.sequence.get(), header.acknowledgement.get()),
        (1, 0)
    );
    assert_eq!((header.header_length(), header.flags), (24, tcp::SYN));
    assert_eq!(
        (header.window.get(), header.checksum.get()),
        (64240, 0x7130)
    );
    assert_eq!(options, [2, 4, 5, 0xb4]);

    assert_eq!(verify_checksums(&bytes), Ok(()));
    assert_eq!(syn().tag(0x8100, 0xa0b2).build(), bytes);
}

#[test]
fn udp_behind_ipv6_extension_headers() {
    let bytes = hex("
        020000000002 020000000001 86dd
        62e00000 001d0040 20010db8000000000000000000000001 20010db8000000000000000000000002
        3c00010400000000 1100010400000000
        14e90035 000d4b6f 68656c6c6f");
    let (ip, rest) = view::<Ipv6>(&bytes[14..]);
    assert_eq!(
        (ip.version(), ip.traffic_class(), ip.payload_length.get()),
        (6, 0x2e, 29)
    );
    assert_eq!((ip.next_header, ip.hop_limit), (0, 64));
    let (source, destination) = (
        Ipv6Addr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, 1]),
        Ipv6Addr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, 2]),
    );
    assert_eq!(
        (ip.source_address(), ip.destination_address()),
        (source, destination)
    );
    assert_eq!(ipv6_address(&ipv6_words(source)), source);
    let (extension, _) = view::<Ipv6Extension>(rest);
    assert_eq!((extension.next_header, extension.length), (60, 0));
    let (header, payload) = view::<Udp>(&rest[16..]);
    assert_eq!((header.source.get(), header.destination.get()), (5353, 53));
    assert_eq!((header.length.get(), header.checksum.get()), (13, 0x4b6f));
    assert_eq!(payload, b"hello");

    let frame = Frame::ipv6(source, destination)
        .tos(0x2e)
        .hop_by_hop()
        .destination_options();
    let frame = frame.udp(5353, 53).payload(b"hello");
    assert_eq!(frame.build(), bytes);
    assert_eq!(verify_checksums(&bytes), Ok(()));
}

#[test]
fn icmpv6_echo() {
    let bytes = hex("
        020000000002 020000000001 86dd
        60000000 000a3a40 fe800000000000000000000000000001 fe800000000000000000000000000002
        80002144 00070009 6162");
    let (header, body) = view::<Icmp>(&bytes[54..]);
    assert_eq!((header.kind, header.code), (icmp::V6_ECHO_REQUEST, 0));
    assert_eq!(
        (header.checksum.get(), header.rest.get()),
        (0x2144, 0x0007_0009)
    );
    assert_eq!(body, b"ab");

    let source = Ipv6Addr::from([0xfe80, 0, 0, 0, 0, 0, 0, 1]);
    let destination = Ipv6Addr::from([0xfe80, 0, 0, 0, 0, 0, 0, 2]);
    let frame = Frame::ipv6(source, destination)
        .echo_request(7, 9)
        .payload(b"ab");
    assert_eq!(frame.build(), bytes);
    assert_eq!(verify_checksums(&bytes), Ok(()));
}

#[test]
fn icmp_fragmentation_needed_quotes() {
    let bytes = hex("
        020000000002 020000000001 0800
        45c00048 00070000 4001ea7a c0a80721 c0a80702
        030486c6 000005c8
        4500002c 12344000 3f069a24 c0a80702 c0a80721
        9c400050 00000001 00000000 6002faf0 71300000 020405b4");
    let (header, quote) = view::<Icmp>(&bytes[34..]);
    assert_eq!((header.kind, header.code, header.rest.get()), (3, 4, 1480));
    assert_eq!(view::<Ipv4>(quote).0.ttl, 63);

    let quote = syn().ttl(63).build_packet();
    let error = Frame::ipv4([192, 168, 7, 33], [192, 168, 7, 2])
        .tos(0xc0)
        .id(7)
        .icmp_error(
            icmp::V4_UNREACHABLE,
            icmp::V4_CODE_FRAGMENTATION_NEEDED,
            1480,
            &quote,
        );
    assert_eq!(error.build(), bytes);
    assert_eq!(verify_checksums(&bytes), Ok(()));
}

#[test]
fn sctp_init() {
    let bytes = hex("
        020000000002 020000000001 0800
        45000034 00010000 40846643 0a000001 0a000002
        9c40960c 00000000 23bd1255
        01000014 deadbeef 0000ffff 000a000a 00000001");
    let (header, rest) = view::<Sctp>(&bytes[34..]);
    assert_eq!(
        (header.source.get(), header.destination.get()),
        (40000, 38412)
    );
    assert_eq!(
        (header.tag.get(), header.checksum),
        (0, [0x23, 0xbd, 0x12, 0x55])
    );
    let (chunk, _) = view::<SctpChunk>(rest);
    assert_eq!((chunk.kind, chunk.length.get()), (sctp::INIT, 20));

    let frame = Frame::ipv4([10, 0, 0, 1], [10, 0, 0, 2])
        .sctp(40000, 38412, 0)
        .payload(rest);
    assert_eq!(frame.build(), bytes);
    assert_eq!(verify_checksums(&bytes), Ok(()));
}

/// RFC 3720 appendix B.4, which has the CRC's bytes in the order of the wire.
#[test]
fn crc32c_of_rfc_3720() {
    assert_eq!(
        sctp::crc32c(&[&[0; 32]]).to_le_bytes(),
        [0xaa, 0x36, 0x91, 0x8a]
    );
    assert_eq!(
        sctp::crc32c(&[&[0xff; 16], &[0xff; 16]]).to_le_bytes(),
        [0x43, 0xab, 0xa8, 0x62]
    );
    let counting: Vec<u8> = (0..32).collect();
    assert_eq!(
        sctp::crc32c(&[&counting]).to_le_bytes(),
        [0x4e, 0x79, 0xdd, 0x46]
    );
}

#[test]
fn arp_request_and_reply() {
    let (asking, asked) = (Mac([2, 0, 0, 0, 0, 1]), Mac([2, 0, 0, 0, 0, 0x21]));
    let (client, vip) = (
        Ipv4Addr::new(192, 168, 7, 2),
        Ipv4Addr::new(192, 168, 7, 33),
    );
    let request = hex("
        ffffffffffff 020000000001 0806
        0001 0800 06 04 0001 020000000001 c0a80702 000000000000 c0a80721");
    let (message, _) = view::<Arp>(&request[14..]);
    assert!(message.is_ethernet_ipv4());
    assert_eq!(message.operation.get(), 1);
    assert_eq!(
        (message.sender_mac, message.target_mac),
        (asking, Mac::default())
    );
    assert_eq!(Ipv4Addr::from(message.sender), client);
    assert_eq!(Ipv4Addr::from(message.target), vip);
    assert_eq!(arp_request(asking, client, vip), request);

    let reply = hex("
        020000000001 020000000021 0806
        0001 0800 06 04 0002 020000000021 c0a80721 020000000001 c0a80702");
    assert_eq!(view::<Arp>(&reply[14..]).0.operation.get(), 2);
    assert_eq!(arp_reply(asked, vip, asking, client), reply);
    assert!(!view::<Arp>(&hex(&"00".repeat(28))).0.is_ethernet_ipv4());
}

/// What IPVS tunnels in the samples below; taken from a kernel's output.
fn tunnelled(tos: u8) -> Vec<u8> {
    let frame = Frame::ipv4([192, 168, 1, 10], [192, 168, 1, 100])
        .id(0x1234)
        .dont_fragment();
    frame
        .tos(tos)
        .ttl(9)
        .tcp(40020, 80)
        .flags(tcp::SYN)
        .sequence(100)
        .build_packet()
}

fn outer(tos: u8) -> Frame {
    Frame::ipv4([10, 1, 0, 1], [10, 1, 0, 11])
        .id(0)
        .dont_fragment()
        .tos(tos)
        .ttl(9)
}

#[test]
fn ip_in_ip_as_the_kernel_sends_it() {
    let packet = outer(0x2e).ip_in_ip(&tunnelled(0x2e)).build_packet();
    let expected = hex("
        452e003c 00004000 09045d83 0a010001 0a01000b
        452e0028 12344000 0906dbaf c0a8010a c0a80164 9c540050");
    assert_eq!(packet[..expected.len()], expected);
    assert_eq!(verify_packet_checksums(&packet), Ok(()));
}

#[test]
fn gre_as_the_kernel_sends_it() {
    let packet = outer(8).gre(&tunnelled(8), false).build_packet();
    assert_eq!(packet[20..28], hex("00000800 45080028"));
    let (header, _) = view::<Gre>(&packet[20..]);
    assert_eq!((header.header_length(), header.protocol.get()), (4, 0x0800));

    // The checksum does not depend on the inner TCP header: all of it sums to zero.
    let packet = outer(8).gre(&tunnelled(8), true).build_packet();
    assert_eq!(packet[..4], hex("45080044"));
    assert_eq!(packet[20..32], hex("80000800 fbd80000 45080028"));
    let (header, rest) = view::<Gre>(&packet[20..]);
    assert_eq!(
        (header.flags.get(), header.header_length()),
        (Gre::CHECKSUM, 8)
    );
    assert_eq!(view::<GreChecksum>(rest).0.checksum.get(), 0xfbd8);
    assert_eq!(verify_packet_checksums(&packet), Ok(()));
}

#[test]
fn gue_as_the_kernel_sends_it() {
    let packet = outer(8)
        .udp(0xc219, 6080)
        .without_checksum()
        .gue(&tunnelled(8))
        .build_packet();
    assert_eq!(packet[..10], hex("45080048 00004000 0911"));
    assert_eq!(packet[20..36], hex("c21917c0 00340000 00040000 45080028"));
    let (header, _) = view::<Gue>(&packet[28..]);
    assert_eq!(
        (
            header.variant(),
            header.is_control(),
            header.header_length()
        ),
        (0, false, 4)
    );
    assert_eq!(header.protocol, protocol::IPV4);

    let packet = outer(8).udp(0xde49, 6080).gue(&tunnelled(8)).build_packet();
    assert_eq!(packet[20..36], hex("de4917c0 00347944 00040000 45080028"));
    assert_eq!(verify_packet_checksums(&packet), Ok(()));
}

#[test]
fn fragments_of_both_versions() {
    let payload: Vec<u8> = (0..=255).cycle().take(2000).collect();
    let frame = Frame::ipv4([10, 0, 0, 1], [10, 0, 0, 2])
        .id(7)
        .udp(1, 2)
        .payload(&payload);
    let pieces = frame.fragments(1500);
    assert_eq!(pieces.len(), 2);
    let words: Vec<u16> = pieces
        .iter()
        .map(|piece| view::<Ipv4>(&piece[14..]).0.fragment.get())
        .collect();
    assert_eq!(words, [0x2000, 1480 / 8]);
    let joined = [&pieces[0][34..], &pieces[1][34..]].concat();
    assert_eq!(joined, frame.build()[34..]);

    let (source, destination) = (Ipv6Addr::LOCALHOST, Ipv6Addr::UNSPECIFIED);
    let frame = Frame::ipv6(source, destination)
        .hop_by_hop()
        .id(0xabcd_ef01)
        .udp(1, 2);
    let pieces = frame.payload(&payload).fragments(1280);
    assert_eq!(pieces.len(), 2);
    let (header, _) = view::<Ipv6Fragment>(&pieces[1][14 + 40 + 8..]);
    assert_eq!(
        (header.next_header, header.id.get()),
        (protocol::UDP, 0xabcd_ef01)
    );
    // 1280 less 56 bytes of headers, in whole units.
    assert_eq!(header.offset.get(), 1224);
    for piece in &pieces {
        assert!(piece.len() <= 14 + 1280);
        assert_eq!(verify_checksums(piece), Ok(()));
    }
}

#[test]
fn routing_header_names_the_final_destination() {
    let [client, care_of, home] =
        [1, 2, 3].map(|last| Ipv6Addr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, last]));
    let on_the_way = Frame::ipv6(client, care_of)
        .routing(1, home)
        .udp(1, 2)
        .build();
    let arrived = Frame::ipv6(client, home)
        .routing(0, care_of)
        .udp(1, 2)
        .build();
    let plain = Frame::ipv6(client, home).udp(1, 2).build();
    assert_eq!(verify_checksums(&on_the_way), Ok(()));
    assert_eq!(verify_checksums(&arrived), Ok(()));
    let checksum = |frame: &[u8]| frame[frame.len() - 2..].to_vec();
    assert_eq!(checksum(&on_the_way), checksum(&plain));
    assert_eq!(checksum(&arrived), checksum(&plain));
}

#[test]
fn options_and_padding_are_counted() {
    let record_route = [7, 7, 4, 0, 0, 0, 0];
    let frame = Frame::ipv4([10, 0, 0, 1], [10, 0, 0, 2])
        .ip_options(&record_route)
        .padded(60);
    let frame = frame.tcp(1, 2).flags(tcp::ACK).build();
    let (ip, _) = view::<Ipv4>(&frame[14..]);
    assert_eq!(
        (ip.header_length(), ip.total_length.get(), frame.len()),
        (28, 48, 62)
    );
    assert_eq!(frame[14 + 20..14 + 28], [7, 7, 4, 0, 0, 0, 0, 0]);
    let short = Frame::ipv4([10, 0, 0, 1], [10, 0, 0, 2])
        .udp(1, 2)
        .padded(60)
        .build();
    assert_eq!(short.len(), 60);
    assert_eq!(
        verify_checksums(&frame).and(verify_checksums(&short)),
        Ok(())
    );
}

#[test]
fn mac_as_text() {
    let mac: Mac = "02:00:5e:10:00:ff".parse().expect("six bytes");
    assert_eq!(mac, Mac([2, 0, 0x5e, 0x10, 0, 0xff]));
    assert_eq!(mac.to_string(), "02:00:5e:10:00:ff");
    assert_eq!(format!("{mac:?}"), "02:00:5e:10:00:ff");
    assert_eq!(format!("[{mac:>20}]"), "[   02:00:5e:10:00:ff]");
    assert_eq!("2-0-5E-10-0-FF".parse(), Ok(mac));
    for wrong in [
        "",
        "02:00:5e:10:00",
        "02:00:5e:10:00:ff:01",
        "02:00:5e:10:00:fg",
        "+2:0:0:0:0:1",
        "002:0:0:0:0:1",
    ] {
        let error = wrong.parse::<Mac>().expect_err(wrong);
        assert_eq!(error.text, wrong);
    }
}

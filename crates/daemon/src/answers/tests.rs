//! Answers are checked on whole frames, byte positions included.

use std::net::IpAddr;

use pointsman_director::Reason;
use pointsman_wire::{Frame, Line, Mac, icmp, tcp, verify_checksums};

use super::{Question, Silence, answer};

const CLIENT: [u8; 4] = [192, 168, 7, 2];
const VIP: [u8; 4] = [192, 168, 7, 33];
const CLIENT6: &str = "fd00::2";
const VIP6: &str = "fd00::33";

fn ask(frame: &[u8], reason: Reason, mtu: u32) -> Result<Vec<u8>, Silence> {
    let question = Question {
        frame,
        reason,
        mtu,
        id: 77,
    };
    answer(&question, |destination| destination)
}

fn syn() -> Vec<u8> {
    Frame::ipv4(CLIENT, VIP)
        .tcp(40000, 80)
        .flags(tcp::SYN)
        .build()
}

fn v6() -> Frame {
    let (client, vip): (IpAddr, IpAddr) = (CLIENT6.parse().unwrap(), VIP6.parse().unwrap());
    Frame::ip(client, vip)
}

#[test]
fn no_destination_is_port_unreachable_from_the_virtual_address() {
    let frame = syn();
    let answer = ask(&frame, Reason::NoDestination, 0).unwrap();
    verify_checksums(&answer).unwrap();
    assert_eq!(answer[..6], frame[6..12], "to the sender");
    assert_eq!(answer[6..12], frame[..6], "from the device it came to");
    assert_eq!(answer[15], 0xc0, "precedence");
    assert_eq!(answer[22], 64, "time to live");
    assert_eq!(answer[26..30], VIP);
    assert_eq!(answer[30..34], CLIENT);
    assert_eq!(answer[34..36], [3, 3]);
    assert_eq!(answer[42..], frame[14..], "quotes the packet");
}

#[test]
fn no_destination_over_ipv6_is_port_unreachable() {
    let frame = v6().udp(40000, 53).payload(&[1; 30]).build();
    let answer = ask(&frame, Reason::NoDestination, 0).unwrap();
    verify_checksums(&answer).unwrap();
    assert_eq!(answer[54..56], [1, 4]);
    assert_eq!(answer[62..], frame[14..]);
    assert!(Line(&answer).to_string().contains("fd00::33 > fd00::2"));
}

#[test]
fn too_big_tells_the_mtu() {
    let frame = Frame::ipv4(CLIENT, VIP)
        .dont_fragment()
        .tcp(40000, 80)
        .flags(tcp::ACK)
        .payload(&[7; 1460])
        .build();
    let answer = ask(&frame, Reason::TooBig, 1480).unwrap();
    verify_checksums(&answer).unwrap();
    assert_eq!(answer[34..36], [3, 4]);
    assert_eq!(answer[38..42], [0, 0, 5, 200]);
    assert_eq!(answer.len(), 14 + 576);
    assert_eq!(answer[42..], frame[14..14 + 548]);

    let frame = v6().tcp(40000, 80).payload(&[7; 1440]).build();
    let answer = ask(&frame, Reason::TooBig, 1460).unwrap();
    verify_checksums(&answer).unwrap();
    assert_eq!(answer[54..56], [2, 0]);
    assert_eq!(answer[58..62], 1460_u32.to_be_bytes());
    assert_eq!(answer.len(), 14 + 1280);
    let answer = ask(&frame, Reason::TooBig, 1260).unwrap();
    assert_eq!(answer[58..62], 1280_u32.to_be_bytes(), "IPv6's least");
}

#[test]
fn a_spent_hop_limit_is_time_exceeded() {
    let frame = Frame::ipv4(CLIENT, VIP).ttl(1).tcp(40000, 80).build();
    assert_eq!(
        ask(&frame, Reason::TtlExceeded, 0).unwrap()[34..36],
        [11, 0]
    );
    let frame = v6().ttl(1).tcp(40000, 80).build();
    assert_eq!(ask(&frame, Reason::TtlExceeded, 0).unwrap()[54..56], [3, 0]);
}

#[test]
fn the_answer_has_the_tags_of_the_question_and_no_padding() {
    let frame = Frame::ipv4(CLIENT, VIP)
        .vlan(7)
        .padded(64)
        .udp(1, 2)
        .build();
    let answer = ask(&frame, Reason::NoDestination, 0).unwrap();
    assert_eq!(answer[12..18], [0x81, 0, 0, 7, 8, 0]);
    assert_eq!(answer[46..], frame[18..18 + 28]);
}

#[test]
fn the_source_is_what_the_host_says() {
    let own: IpAddr = "10.0.0.1".parse().unwrap();
    let question = Question {
        frame: &syn(),
        reason: Reason::TooBig,
        mtu: 1400,
        id: 0,
    };
    let answer = answer(&question, |destination| {
        assert_eq!(destination, IpAddr::from(VIP));
        own
    });
    assert_eq!(answer.unwrap()[26..30], [10, 0, 0, 1]);
}

#[test]
fn errors_are_never_answered_queries_are() {
    let quoted = &syn()[14..];
    let silent = |frame: Vec<u8>| ask(&frame, Reason::TtlExceeded, 0).unwrap_err();
    for kind in [
        icmp::V4_UNREACHABLE,
        icmp::V4_TIME_EXCEEDED,
        icmp::V4_REDIRECT,
        icmp::V4_PARAMETER_PROBLEM,
    ] {
        let frame = Frame::ipv4(CLIENT, VIP).icmp_error(kind, 0, 0, quoted);
        assert_eq!(silent(frame.build()), Silence::IcmpError, "{kind}");
    }
    for kind in [icmp::V6_UNREACHABLE, icmp::V6_TOO_BIG, 137] {
        let frame = v6().icmp_error(kind, 0, 0, quoted).build();
        assert_eq!(silent(frame), Silence::IcmpError, "{kind}");
        let frame = v6().hop_by_hop().icmp_error(kind, 0, 0, quoted).build();
        assert_eq!(silent(frame), Silence::IcmpError, "{kind} behind options");
    }
    let echo = Frame::ipv4(CLIENT, VIP).echo_request(1, 1).build();
    assert!(ask(&echo, Reason::TtlExceeded, 0).is_ok());
    assert!(ask(&v6().echo_request(1, 1).build(), Reason::TtlExceeded, 0).is_ok());
}

#[test]
fn groups_and_impossible_sources_are_never_answered() {
    let silent = |frame: Vec<u8>| ask(&frame, Reason::NoDestination, 0).unwrap_err();
    let broadcast = Frame::ipv4(CLIENT, VIP).macs(Mac([2; 6]), Mac::BROADCAST);
    assert_eq!(silent(broadcast.udp(1, 2).build()), Silence::Group);
    let group = Frame::ipv4(CLIENT, [224, 0, 0, 1]).udp(1, 2).build();
    assert_eq!(silent(group), Silence::Group);
    for source in [
        [0, 0, 0, 0],
        [127, 0, 0, 1],
        [224, 0, 0, 1],
        [240, 0, 0, 1],
        [255, 255, 255, 255],
    ] {
        let frame = Frame::ipv4(source, VIP).udp(1, 2).build();
        assert_eq!(silent(frame), Silence::Source, "{source:?}");
    }
    for source in ["::", "::1", "ff02::1"] {
        let (source, vip): (IpAddr, IpAddr) = (source.parse().unwrap(), VIP6.parse().unwrap());
        let frame = Frame::ip(source, vip).udp(1, 2).build();
        assert_eq!(silent(frame), Silence::Source, "{source}");
    }
}

#[test]
fn later_fragments_are_never_answered_first_ones_are() {
    let whole = Frame::ipv4(CLIENT, VIP).udp(1, 2).payload(&[1; 3000]);
    let fragments = whole.fragments(1500);
    assert!(ask(&fragments[0], Reason::TtlExceeded, 0).is_ok());
    for fragment in &fragments[1..] {
        assert_eq!(
            ask(fragment, Reason::TtlExceeded, 0),
            Err(Silence::Fragment)
        );
    }
    let fragments = v6().udp(1, 2).payload(&[1; 3000]).fragments(1500);
    assert!(ask(&fragments[0], Reason::TtlExceeded, 0).is_ok());
    assert_eq!(
        ask(&fragments[1], Reason::TtlExceeded, 0),
        Err(Silence::Fragment)
    );
}

#[test]
fn only_three_reasons_are_answered() {
    for reason in Reason::ALL {
        let answered = matches!(
            reason,
            Reason::NoDestination | Reason::TtlExceeded | Reason::TooBig
        );
        assert_eq!(ask(&syn(), *reason, 1400).is_ok(), answered, "{reason:?}");
    }
}

#[test]
fn cut_frames_are_no_reason_to_panic() {
    let frames = [
        syn(),
        v6().destination_options().tcp(1, 2).build(),
        v6().hop_by_hop()
            .routing(1, "fd00::9".parse().unwrap())
            .echo_request(1, 2)
            .build(),
    ];
    for frame in &frames {
        for length in 0..frame.len() {
            let answer = ask(&frame[..length], Reason::NoDestination, 0);
            // What is cut within the payload can still be quoted.
            if length < 34 {
                assert_eq!(answer, Err(Silence::Malformed), "{length}");
            }
        }
    }
}

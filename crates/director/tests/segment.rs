//! The segment size a SYN announces, lowered on its way.

use std::net::Ipv4Addr;

use pointsman_director::{
    headers::{self, Headers},
    native::{NativeEnv, NativeFrame},
    segment,
};
use pointsman_wire::{Frame, Summary, tcp, verify_checksums};

fn syn(options: &[u8], flags: u8) -> Vec<u8> {
    Frame::ipv4(Ipv4Addr::new(10, 64, 0, 1), Ipv4Addr::new(10, 99, 0, 1))
        .tcp(40000, 80)
        .flags(flags)
        .tcp_options(options)
        .build()
}

fn clamped(bytes: &[u8], limit: u32) -> Vec<u8> {
    let mut frame = NativeFrame::new(bytes.to_vec(), 1);
    let mut h = Headers::default();
    headers::parse(&frame, &mut h).expect("a whole packet");
    segment::clamp(&mut frame, &NativeEnv::default(), &h, limit);
    frame.bytes
}

fn announced(bytes: &[u8]) -> Option<u16> {
    Summary::parse(bytes)?.tcp?.mss
}

const MSS_1460: [u8; 4] = [2, 4, 0x05, 0xb4];

#[test]
fn a_larger_size_is_lowered_and_the_checksum_follows() {
    let frame = syn(&MSS_1460, tcp::SYN);
    let lowered = clamped(&frame, 1400);
    assert_eq!(announced(&lowered), Some(1400));
    verify_checksums(&lowered).unwrap();
}

#[test]
fn the_option_is_found_behind_others_at_odd_offsets_too() {
    // No operation, window scale, then the size at an odd offset; then the same even.
    for before in [&[1u8, 3, 3, 7, 1][..], &[1, 1, 3, 3, 7, 1]] {
        let mut options = before.to_vec();
        options.extend(MSS_1460);
        while options.len() % 4 != 0 {
            options.push(0);
        }
        let lowered = clamped(&syn(&options, tcp::SYN | tcp::ACK), 536);
        assert_eq!(announced(&lowered), Some(536), "{before:?}");
        verify_checksums(&lowered).unwrap();
    }
}

#[test]
fn everything_else_is_left_alone() {
    let frame = syn(&MSS_1460, tcp::SYN);
    assert_eq!(clamped(&frame, 0), frame, "no limit");
    assert_eq!(clamped(&frame, 1460), frame, "within the limit");
    let data = syn(&MSS_1460, tcp::ACK);
    assert_eq!(clamped(&data, 536), data, "not a SYN");
    let bare = syn(&[], tcp::SYN);
    assert_eq!(clamped(&bare, 536), bare, "no option");
}

#[test]
fn broken_options_end_the_search() {
    for options in [
        &[2u8, 3, 5, 0][..],
        &[8, 0, 0, 0],
        &[8, 1, 2, 4],
        &[8, 200, 2, 4],
        &[0, 2, 4, 5],
        &[1, 1, 1, 2],
    ] {
        let frame = syn(options, tcp::SYN);
        assert_eq!(clamped(&frame, 100), frame, "{options:?}");
    }
}

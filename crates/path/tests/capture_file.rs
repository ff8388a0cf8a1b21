//! Capture files of any program are read, whole or not, and what was written reads back.

use pointsman_path::capture_file::{self, CaptureError, Reader, read};
use pointsman_path::ladder::{Hints, Ladder};
use pointsman_path::observation::{Observation, Point, Recording, Source, Way, Xdp};
use pointsman_wire::{Frame, Mac, tcp};
use proptest::prelude::*;

const TIME_NS: u64 = 1_714_979_289_123_456_789;

fn syn() -> Vec<u8> {
    Frame::ipv4([192, 0, 2, 1], [198, 51, 100, 1])
        .macs(Mac([2, 0, 0, 0, 0, 1]), Mac([2, 0, 0, 0, 0, 2]))
        .tcp(40_000, 80)
        .flags(tcp::SYN)
        .build()
}

/// A pcap file of one frame; `big` chooses the byte order, `nanoseconds` the unit.
fn pcap(big: bool, nanoseconds: bool, link_type: u32, frame: &[u8]) -> Vec<u8> {
    let word = |value: u32| {
        if big {
            value.to_be_bytes()
        } else {
            value.to_le_bytes()
        }
    };
    let magic = if nanoseconds {
        0xa1b2_3c4d
    } else {
        0xa1b2_c3d4
    };
    let rest = if nanoseconds { 123_456_789 } else { 123_456 };
    let mut file = Vec::new();
    for value in [
        magic,
        0x0004_0002,
        0,
        0,
        65535,
        link_type,
        1_714_979_289,
        rest,
    ] {
        file.extend(word(value));
    }
    file.extend(word(frame.len() as u32));
    file.extend(word(frame.len() as u32 + 4));
    file.extend(frame);
    file
}

#[test]
fn pcap_of_both_byte_orders_and_units_is_read() {
    for big in [false, true] {
        for nanoseconds in [false, true] {
            let (recording, error) = read(&pcap(big, nanoseconds, 1, &syn()), "h1");
            assert_eq!(error, None);
            assert_eq!(recording.points[0].to_string(), "h1/interface0");
            let [seen] = &recording.observations[..] else {
                panic!("{} frames", recording.observations.len());
            };
            let time = if nanoseconds {
                TIME_NS
            } else {
                TIME_NS / 1000 * 1000
            };
            assert_eq!((seen.at_ns, seen.length), (time, syn().len() + 4));
            assert_eq!((seen.way, &seen.bytes), (Way::Unknown, &syn()));
        }
    }
}

#[test]
fn frames_without_link_layer_and_cooked_ones_are_read() {
    let (recording, error) = read(&pcap(false, false, 101, &syn()[14..]), "h1");
    assert_eq!(error, None);
    assert!(recording.points[0].bare);
    assert_eq!(
        Ladder::new(&recording, &Hints::default())
            .conversations
            .len(),
        1
    );
    // Packet type, ARPHRD, length and bytes of the source, protocol.
    let cooked = [
        &[0, 4, 0, 1, 0, 6, 2, 0, 0, 0, 0, 1, 0, 0, 8, 0][..],
        &syn()[14..],
    ]
    .concat();
    let (recording, error) = read(&pcap(false, false, 113, &cooked), "h1");
    assert_eq!(error, None);
    let seen = &recording.observations[0];
    assert_eq!((seen.way, &seen.bytes[6..]), (Way::Out, &syn()[6..]));
    // Protocol, reserved, device, ARPHRD, packet type, length and bytes of the source.
    let head = [8, 0, 0, 0, 0, 0, 0, 7, 0, 1, 3, 6, 2, 0, 0, 0, 0, 1, 0, 0];
    let cooked = [&head[..], &syn()[14..]].concat();
    let (recording, error) = read(&pcap(false, false, 276, &cooked), "h1");
    assert_eq!(error, None);
    assert_eq!(recording.points[0].to_string(), "h1/if7");
    let seen = &recording.observations[0];
    assert_eq!((seen.way, &seen.bytes[6..]), (Way::OtherHost, &syn()[6..]));
    let (_, error) = read(&pcap(false, false, 105, &syn()), "h1");
    assert_eq!(error, Some(CaptureError::LinkType(105)));
}

#[test]
fn what_is_no_capture_says_what_would_be_one() {
    let (recording, error) = read(b"#!/bin/sh\necho", "h1");
    assert_eq!(recording, Recording::default());
    let text = error.unwrap().to_string();
    assert!(
        text.contains("not a capture file") && text.contains("tcpdump -w"),
        "{text}"
    );
    let (_, error) = read(b"", "h1");
    let text = error.unwrap().to_string();
    assert!(text.contains("it is empty"), "{text}");
}

/// A recording with everything that a file keeps.
fn recording() -> Recording {
    let points = vec![
        Point {
            netns: Some("pm1-client".to_owned()),
            mac: Some(Mac([2, 0, 0, 0, 0, 1])),
            addresses: vec![[192, 0, 2, 1].into(), "2001:db8::1".parse().unwrap()],
            peer: Some(("pm1-switch".to_owned(), "client0".to_owned())),
            host: "h1".to_owned(),
            ..Point::new("pm1-client", "eth0")
        },
        Point {
            host: "h1".to_owned(),
            bare: true,
            ..Point::new("h1", "tun0")
        },
        Point {
            host: "h2".to_owned(),
            bridge: Some("br0".to_owned()),
            xdp: Some(Xdp {
                id: 12,
                native: true,
            }),
            promiscuous: true,
            lost: 7,
            ..Point::new("h2", "vnet0")
        },
        Point {
            host: "h2".to_owned(),
            source: Source::Director,
            ..Point::new("h2", "vnet0")
        },
    ];
    let seen = |point: usize, way: Way, bytes: Vec<u8>, at: u64| Observation {
        point,
        way,
        at_ns: TIME_NS + at,
        length: bytes.len() + 5,
        bytes,
        checksum_pending: point == 0,
        gso: point == 2,
        note: (point == 3).then(|| "director: direct".to_owned()),
    };
    let observations = vec![
        seen(0, Way::Out, syn(), 0),
        seen(1, Way::In, syn()[14..].to_vec(), 1),
        seen(2, Way::OtherHost, syn(), 2),
        seen(3, Way::In, syn(), 3),
    ];
    Recording {
        points,
        observations,
    }
}

fn written(recording: &Recording) -> Vec<u8> {
    let mut file = Vec::new();
    let ladder = Ladder::new(recording, &Hints::default());
    capture_file::write(&mut file, "test", recording, Some(&ladder)).unwrap();
    file
}

#[test]
fn what_was_written_reads_back_with_all_that_is_known_of_points() {
    let recording = recording();
    let (back, error) = read(&written(&recording), "file");
    assert_eq!(error, None);
    assert_eq!(back.points, recording.points);
    assert_eq!(back.observations, recording.observations);
}

#[test]
fn a_file_that_ends_early_gives_what_there_is_and_says_so() {
    let whole = written(&recording());
    let mut most = 0;
    for length in 0..whole.len() {
        let (part, error) = read(&whole[..length], "file");
        // At the end of a block nobody can tell that more should come.
        if let Some(error) = error {
            assert!(
                matches!(error, CaptureError::Truncated { at, .. } if at == length as u64),
                "{length}: {error}"
            );
        }
        assert!(part.observations.len() >= most, "{length}");
        most = part.observations.len();
    }
    assert_eq!(most, 4);
}

#[test]
fn damage_is_told_with_its_place() {
    let whole = written(&recording());
    // The length of the first block behind the section header, then the number of an interface.
    let header = u32::from_le_bytes(whole[4..8].try_into().unwrap()) as usize;
    let mut damaged = whole.clone();
    damaged[header + 4] = 13;
    let (_, error) = read(&damaged, "file");
    let text = error.unwrap().to_string();
    assert!(
        text.contains(&format!("damaged at byte {header}")),
        "{text}"
    );
    assert!(text.contains("a block of 13 bytes"), "{text}");
}

proptest! {
    #[test]
    fn no_bytes_make_the_reader_panic(
        bytes in prop::collection::vec(any::<u8>(), 0..200),
        magic in prop::sample::select(vec![
            vec![], vec![0xd4, 0xc3, 0xb2, 0xa1], vec![0x0a, 0x0d, 0x0d, 0x0a],
        ]),
    ) {
        let _ = read(&[magic, bytes].concat(), "x");
    }

    #[test]
    fn a_byte_changed_does_not_make_the_reader_panic(at in any::<prop::sample::Index>(), value in any::<u8>()) {
        let mut file = written(&recording());
        let at = at.index(file.len());
        file[at] = value;
        let (recording, _) = read(&file, "x");
        prop_assert!(recording.observations.len() <= 4);
    }

    #[test]
    fn a_stream_may_be_cut_anywhere(cuts in prop::collection::vec(1_usize..300, 1..20)) {
        let file = written(&recording());
        let (whole, _) = read(&file, "x");
        let mut reader = Reader::new();
        let mut into = capture_file::RecordingReader::new("x");
        let mut rest = &file[..];
        for cut in cuts.iter().cycle() {
            let (now, later) = rest.split_at((*cut).min(rest.len()));
            reader.push(now);
            while let Some(item) = reader.next().unwrap() {
                into.take(item);
            }
            rest = later;
            if rest.is_empty() {
                break;
            }
        }
        reader.finish().unwrap();
        prop_assert_eq!(into.into_recording(), whole);
    }
}

//! What the director says of its frames, beside what captures saw of them.

use std::net::Ipv4Addr;

use pointsman_path::capture_file;
use pointsman_path::ladder::{Hints, Ladder, Style};
use pointsman_path::observation::{Observation, Point, Recording, Source, Way};
use pointsman_wire::{Frame, Mac, tcp};

const CLIENT: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 145);
const VIP: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 208);
const CLIENT_MAC: Mac = Mac([2, 0, 0, 0, 1, 0]);
const DIRECTOR_MAC: Mac = Mac([2, 0, 0, 0, 2, 0]);
const SERVER_MAC: Mac = Mac([2, 0, 0, 0, 0x11, 0]);

const PORT: usize = 0;
const CAPTURE: usize = 1;
const RECORDS: usize = 2;

/// A switch's port, the director's device as a capture and as the director sees it.
fn points() -> Vec<Point> {
    let own = Point {
        host: "h".to_owned(),
        mac: Some(DIRECTOR_MAC),
        addresses: vec![VIP.into()],
        peer: Some(("switch".to_owned(), "director0".to_owned())),
        ..Point::new("director", "eth0")
    };
    vec![
        Point {
            host: "h".to_owned(),
            bridge: Some("br0".to_owned()),
            peer: Some(("director".to_owned(), "eth0".to_owned())),
            ..Point::new("switch", "director0")
        },
        own.clone(),
        Point {
            source: Source::Director,
            ..own
        },
    ]
}

fn syn(from: Mac, to: Mac, sequence: u32) -> Vec<u8> {
    Frame::ipv4(CLIENT, VIP)
        .macs(from, to)
        .tcp(40_000, 80)
        .flags(tcp::SYN)
        .sequence(sequence)
        .build()
}

fn seen(point: usize, way: Way, at_us: u64, bytes: Vec<u8>, note: Option<&str>) -> Observation {
    Observation {
        point,
        way,
        at_ns: 1_700_000_000_000_000_000 + at_us * 1000,
        length: bytes.len(),
        bytes,
        checksum_pending: false,
        gso: false,
        note: note.map(str::to_owned),
    }
}

fn recording(observations: Vec<Observation>) -> Recording {
    let mut recording = Recording {
        points: points(),
        observations,
    };
    recording.join_records();
    recording
}

fn came(sequence: u32) -> Vec<u8> {
    syn(CLIENT_MAC, DIRECTOR_MAC, sequence)
}

fn went(sequence: u32) -> Vec<u8> {
    syn(DIRECTOR_MAC, SERVER_MAC, sequence)
}

fn ladder(recording: &Recording) -> Ladder {
    let hints = Hints {
        virtual_addresses: vec![VIP.into()],
        ..Hints::default()
    };
    Ladder::new(recording, &hints)
}

#[test]
fn what_only_the_director_saw_stays_with_its_own_hops() {
    let recording = recording(vec![
        seen(PORT, Way::Out, 0, came(1), None),
        seen(RECORDS, Way::In, 5, came(1), Some("director: direct")),
        seen(RECORDS, Way::Out, 6, went(1), Some("director: direct")),
        seen(PORT, Way::In, 9, went(1), None),
    ]);
    assert_eq!(recording.observations.len(), 4);
    let ladder = ladder(&recording);
    let packet = &ladder.conversations[0].packets[0];
    let hops: Vec<usize> = packet.hops.iter().map(|hop| hop.point).collect();
    assert_eq!(hops, [PORT, RECORDS, RECORDS, PORT]);
    assert_eq!(packet.gaps, []);
    let changed: Vec<&str> = packet.hops[2].changed.iter().map(|one| one.what).collect();
    assert_eq!(changed, ["source MAC", "destination MAC"]);
    let text = ladder.table(&ladder.conversations[0], Style::default());
    for line in ["XDP in ", "XDP out "] {
        let line = text
            .lines()
            .find(|found| found.contains(line))
            .expect("a row");
        assert!(line.ends_with("director: direct"), "{text}");
    }
}

#[test]
fn what_a_capture_saw_too_is_seen_once_with_the_verdict() {
    let recording = recording(vec![
        seen(CAPTURE, Way::In, 4, came(1), None),
        seen(RECORDS, Way::In, 5, came(1), Some("director: direct")),
        // The sender tries again, with another frame: another record belongs to it.
        seen(CAPTURE, Way::In, 900, came(2), None),
        seen(
            RECORDS,
            Way::In,
            901,
            came(2),
            Some("director: dropped, server-gone"),
        ),
        seen(RECORDS, Way::Out, 6, went(1), Some("director: direct")),
        seen(CAPTURE, Way::Out, 7, went(1), None),
        // No capture saw this.
        seen(
            RECORDS,
            Way::In,
            5_000_000,
            came(1),
            Some("director: direct"),
        ),
    ]);
    let told: Vec<(usize, Way, Option<&str>)> = recording
        .observations
        .iter()
        .map(|one| (one.point, one.way, one.note.as_deref()))
        .collect();
    assert_eq!(
        told,
        [
            (CAPTURE, Way::In, Some("director: direct")),
            (CAPTURE, Way::In, Some("director: dropped, server-gone")),
            (CAPTURE, Way::Out, Some("director: direct")),
            (RECORDS, Way::In, Some("director: direct")),
        ]
    );
}

#[test]
fn a_dropped_packet_ends_there_for_its_reason_and_is_missed_nowhere() {
    let recording = recording(vec![
        seen(PORT, Way::Out, 0, came(1), None),
        seen(
            RECORDS,
            Way::In,
            5,
            came(1),
            Some("director: dropped, no-destination"),
        ),
    ]);
    let ladder = ladder(&recording);
    let conversation = &ladder.conversations[0];
    let packet = &conversation.packets[0];
    assert_eq!(packet.dropped(), Some("no-destination"));
    assert!(!packet.delivered && packet.gaps.is_empty(), "{packet:?}");
    let text = ladder.table(conversation, Style::default());
    let end = "  dropped at director/eth0 (director): no-destination  X\n";
    assert!(text.ends_with(end), "{text}");
    let text = ladder.text(conversation, Style::default());
    assert!(text.ends_with("dropped here: no-destination\n"), "{text}");
    // A file keeps it.
    let mut file = Vec::new();
    capture_file::write(&mut file, "test", &recording, Some(&ladder)).expect("written");
    let (back, error) = capture_file::read(&file, "file");
    assert_eq!((&back.observations, error), (&recording.observations, None));
    let comment = b"verdict: dropped; director: dropped, no-destination";
    assert!(file.windows(comment.len()).any(|part| part == comment));
    // What the director passes on to its host, the host has.
    let mut passed = recording.clone();
    passed.observations[1].note = Some("director: passed, local-server".to_owned());
    assert!(self::ladder(&passed).conversations[0].packets[0].delivered);
}

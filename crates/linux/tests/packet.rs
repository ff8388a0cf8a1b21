//! Capturing and sending of frames on a veth pair.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use pointsman_linux::packet::{Capture, Direction, Error, Frame, Options};

#[path = "support/pair.rs"]
mod pair;
use pair::{LEFT_MAC, Pair, RIGHT_MAC, is_root};

const PATIENCE: Duration = Duration::from_secs(10);
/// "Local Experimental EtherType 1": nothing else on the link uses it.
const EXPERIMENTAL: [u8; 2] = [0x88, 0xb5];

fn frame(destination: [u8; 6], payload: &[u8]) -> Vec<u8> {
    [&destination[..], &LEFT_MAC, &EXPERIMENTAL, payload].concat()
}

/// Waits for a frame that fits; the link also carries IPv6's own chatter.
fn wait_for(capture: &mut Capture, fits: impl Fn(&Frame) -> bool) -> Frame {
    let end = Instant::now() + PATIENCE;
    loop {
        let left = end.saturating_duration_since(Instant::now());
        let frame = capture
            .next(left)
            .expect("capture")
            .expect("the frame within the deadline");
        if fits(&frame) {
            return frame;
        }
    }
}

fn open(namespace: &pointsman_linux::netns::NetNs, options: &Options) -> Capture {
    let _inside = namespace.enter().expect("enter");
    Capture::open_with("veth0", options).expect("open a capture")
}

/// Sends until the other side is ready: a veth just up drops frames for a moment.
fn wait_until_connected(pair: &Pair) {
    let mut right = open(&pair.right, &Options::default());
    let left = open(&pair.left, &Options::default());
    let end = Instant::now() + PATIENCE;
    while Instant::now() < end {
        left.send(&frame(RIGHT_MAC, b"connected?")).expect("send");
        if let Some(seen) = right.next(Duration::from_millis(20)).expect("capture")
            && seen.bytes.ends_with(b"connected?")
        {
            return;
        }
    }
    panic!("no frame crosses the pair");
}

#[test]
fn a_sent_frame_is_seen_going_out_and_coming_in() {
    if !is_root() {
        return;
    }
    let pair = Pair::new();
    wait_until_connected(&pair);
    let sender = open(&pair.left, &Options::default());
    let mut left = open(&pair.left, &Options::default());
    let mut right = open(&pair.right, &Options::default());
    let before = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .expect("clock")
        .as_nanos() as u64;
    for (destination, arrival) in [
        (RIGHT_MAC, Direction::In),
        ([0xff; 6], Direction::In),
        ([2, 0, 0, 0, 0, 0x77], Direction::OtherHost),
    ] {
        let sent = frame(destination, &[0x5a; 100]);
        sender.send(&sent).expect("send");
        for (capture, direction) in [(&mut left, Direction::Out), (&mut right, arrival)] {
            let seen = wait_for(capture, |frame| frame.bytes == sent);
            assert_eq!(seen.direction, direction);
            assert_eq!(seen.length, sent.len());
            assert!(!seen.checksum_pending && !seen.gso);
            let age = seen
                .timestamp_ns
                .checked_sub(before)
                .expect("stamped after the start");
            assert!(age < PATIENCE.as_nanos() as u64);
        }
    }
}

#[test]
fn a_vlan_tag_is_in_its_place_on_both_sides() {
    if !is_root() {
        return;
    }
    let pair = Pair::new();
    wait_until_connected(&pair);
    let sender = open(&pair.left, &Options::default());
    let mut left = open(&pair.left, &Options::default());
    let mut right = open(&pair.right, &Options::default());
    for tag in [[0x81, 0x00, 0x20, 0x07], [0x88, 0xa8, 0x0f, 0xfe]] {
        let sent = [&RIGHT_MAC[..], &LEFT_MAC, &tag, &EXPERIMENTAL, &[9; 60]].concat();
        sender.send(&sent).expect("send");
        for capture in [&mut left, &mut right] {
            let seen = wait_for(capture, |frame| frame.bytes.ends_with(&[9; 60]));
            assert_eq!(seen.bytes, sent);
            assert_eq!(seen.length, sent.len());
        }
    }
    // With a snaplen, the tag counts.
    let mut short = open(
        &pair.right,
        &Options {
            snaplen: Some(20),
            ..Options::default()
        },
    );
    let sent = [
        &RIGHT_MAC[..],
        &LEFT_MAC,
        &[0x81, 0, 0, 7],
        &EXPERIMENTAL,
        &[8; 60],
    ]
    .concat();
    sender.send(&sent).expect("send");
    let seen = wait_for(&mut short, |frame| frame.bytes[..18] == sent[..18]);
    assert_eq!(
        (seen.bytes.as_slice(), seen.length),
        (&sent[..20], sent.len())
    );
}

#[test]
fn a_snaplen_cuts_but_the_length_stays() {
    if !is_root() {
        return;
    }
    let pair = Pair::new();
    wait_until_connected(&pair);
    let sender = open(&pair.left, &Options::default());
    let mut right = open(
        &pair.right,
        &Options {
            snaplen: Some(16),
            ..Options::default()
        },
    );
    let sent = frame(RIGHT_MAC, &[0x33; 500]);
    sender.send(&sent).expect("send");
    let seen = wait_for(&mut right, |frame| frame.bytes[12..14] == EXPERIMENTAL);
    assert_eq!(
        (seen.bytes.as_slice(), seen.length),
        (&sent[..16], sent.len())
    );
}

#[test]
fn local_tcp_shows_large_frames_with_pending_checksums() {
    if !is_root() {
        return;
    }
    const BYTES: usize = 4 << 20;
    let pair = Pair::new();
    wait_until_connected(&pair);
    let mut capture = open(
        &pair.left,
        &Options {
            buffer_bytes: 64 << 20,
            ..Options::default()
        },
    );
    let listener = pair
        .right
        .run_in(|| TcpListener::bind("10.9.0.2:7000"))
        .expect("run")
        .expect("listen");
    let reader = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("accept");
        let mut all = Vec::new();
        stream.read_to_end(&mut all).expect("read");
        all.len()
    });
    let mut stream = pair
        .left
        .run_in(|| TcpStream::connect("10.9.0.2:7000"))
        .expect("run")
        .expect("connect");
    stream.write_all(&vec![7; BYTES]).expect("write");
    drop(stream);
    assert_eq!(reader.join().expect("reader"), BYTES);

    let large = wait_for(&mut capture, |frame| {
        frame.direction == Direction::Out && frame.bytes.len() > 20_000
    });
    assert_eq!(large.bytes.len(), large.length, "not cut");
    assert!(
        large.checksum_pending,
        "veth leaves checksums to the device"
    );
    assert!(large.gso);
    // The IPv4 total length says the same.
    let total = usize::from(u16::from_be_bytes([large.bytes[16], large.bytes[17]]));
    assert_eq!(total + 14, large.length);
}

#[test]
fn a_filter_holds_from_the_first_frame() {
    if !is_root() {
        return;
    }
    let pair = Pair::new();
    wait_until_connected(&pair);
    let statement = |code: u32, k| libc::sock_filter {
        code: code as u16,
        jt: 0,
        jf: 0,
        k,
    };
    // Passes 30 bytes of frames of the experimental EtherType whose first payload byte is 1.
    let filter = vec![
        statement(libc::BPF_LD | libc::BPF_H | libc::BPF_ABS, 12),
        libc::sock_filter {
            code: (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16,
            jt: 0,
            jf: 3,
            k: 0x88b5,
        },
        statement(libc::BPF_LD | libc::BPF_B | libc::BPF_ABS, 14),
        libc::sock_filter {
            code: (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16,
            jt: 0,
            jf: 1,
            k: 1,
        },
        statement(libc::BPF_RET | libc::BPF_K, 30),
        statement(libc::BPF_RET | libc::BPF_K, 0),
    ];
    let mut right = open(
        &pair.right,
        &Options {
            filter,
            ..Options::default()
        },
    );
    let sender = open(&pair.left, &Options::default());
    for number in [0, 1, 2, 1] {
        sender.send(&frame(RIGHT_MAC, &[number; 46])).expect("send");
    }
    for _ in 0..2 {
        let seen = right.next(PATIENCE).expect("capture").expect("a frame");
        assert_eq!(seen.bytes, frame(RIGHT_MAC, &[1; 16]), "cut by the filter");
        assert_eq!(seen.length, 60);
    }
    assert_eq!(right.next(Duration::ZERO).expect("capture"), None);

    let bad = Options {
        filter: vec![statement(0xffff, 0)],
        ..Options::default()
    };
    let _inside = pair.right.enter().expect("enter");
    let error = Capture::open_with("veth0", &bad).expect_err("a bad program");
    assert_eq!(error.errno(), Some(libc::EINVAL));
    assert!(error.to_string().contains("SO_ATTACH_FILTER"), "{error}");
}

#[test]
fn frames_lost_for_lack_of_room_are_counted() {
    if !is_root() {
        return;
    }
    let pair = Pair::new();
    wait_until_connected(&pair);
    let sender = open(&pair.left, &Options::default());
    let mut right = open(
        &pair.right,
        &Options {
            buffer_bytes: 4096,
            ..Options::default()
        },
    );
    for _ in 0..200 {
        sender.send(&frame(RIGHT_MAC, &[1; 1000])).expect("send");
    }
    // The receiving side runs on its own; what it counted last ends the wait.
    let end = Instant::now() + PATIENCE;
    let total = loop {
        let counted = right.statistics().expect("statistics");
        if counted.received >= 200 || Instant::now() > end {
            break counted;
        }
    };
    assert!(total.received >= 200 && total.dropped > 0, "{total:?}");
    let mut kept = 0;
    while right.next(Duration::ZERO).expect("capture").is_some() {
        kept += 1;
    }
    assert!(
        kept > 0 && kept <= total.received - total.dropped + 5,
        "{kept} of {total:?}"
    );
    assert!(
        right.statistics().expect("statistics").dropped >= total.dropped,
        "totals never fall"
    );
}

#[test]
fn missing_and_downed_interfaces_are_told_apart() {
    if !is_root() {
        return;
    }
    let pair = Pair::new();
    let _inside = pair.left.enter().expect("enter");
    for missing in ["nothing", "", "nul\0"] {
        assert!(matches!(
            Capture::open(missing),
            Err(Error::NoSuchInterface { .. })
        ));
    }
    for missing in [0, 9999, u32::MAX] {
        let error = Capture::open(missing).expect_err("missing");
        assert!(matches!(error, Error::NoSuchInterface { .. }), "{error}");
    }
    let mut capture = Capture::open(pair.left_index()).expect("open by number");
    pair::ip(&pair.left, "link set veth0 down");
    let down = loop {
        match capture.next(PATIENCE) {
            Ok(Some(_)) => {}
            other => break other,
        }
    };
    assert!(matches!(down, Err(Error::Down { .. })), "{down:?}");
    assert!(matches!(
        capture.send(&frame(RIGHT_MAC, b"x")),
        Err(Error::Down { .. })
    ));
    pair::ip(&pair.left, "link set veth0 up");
    // The kernel's own first IPv6 frames show that the capture goes on.
    wait_for(&mut capture, |frame| frame.direction == Direction::Out);
}

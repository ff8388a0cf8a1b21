//! Frames as tcpdump reads them: addresses, ports and flags have to agree with our lines.

use std::net::Ipv6Addr;
use std::path::PathBuf;
use std::process::Command;

use pointsman_wire::build::{SOURCE_MAC, arp_request};
use pointsman_wire::control::{BfdState, Diagnostic};
use pointsman_wire::{Control, Frame, Line, bfd, tcp};

/// A capture file of Ethernet frames, all at time zero.
fn pcap(frames: &[Vec<u8>]) -> Vec<u8> {
    let mut file = Vec::new();
    for word in [0xa1b2_c3d4u32, 2 << 16 | 4, 0, 0, 65535, 1] {
        file.extend(word.to_be_bytes());
    }
    for frame in frames {
        let length = frame.len() as u32;
        for word in [0, 0, length, length] {
            file.extend(word.to_be_bytes());
        }
        file.extend(frame);
    }
    file
}

/// A file that goes with its test.
struct Scratch(PathBuf);

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// What tcpdump prints for each frame; none without tcpdump. `tag` tells tests apart.
fn tcpdump(tag: &str, frames: &[Vec<u8>]) -> Option<Vec<String>> {
    if Command::new("tcpdump").arg("--version").output().is_err() {
        eprintln!("skipped: tcpdump is not installed");
        return None;
    }
    let name = format!("pointsman-wire-{}-{tag}.pcap", std::process::id());
    let file = Scratch(std::env::temp_dir().join(name));
    std::fs::write(&file.0, pcap(frames)).expect("the temporary directory is writable");
    let output = Command::new("tcpdump")
        .args(["-n", "-t", "-e", "-S", "-vv", "-r"])
        .arg(&file.0)
        .output()
        .expect("tcpdump ran a moment ago");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    // With -v a packet's further lines are indented, by spaces or a tab.
    Some(
        text.replace("\n    ", " ")
            .replace("\n\t", " ")
            .lines()
            .map(str::to_owned)
            .collect(),
    )
}

/// Frames, each with the pieces of text that both lines must have.
fn samples() -> Vec<(Vec<u8>, Vec<&'static str>)> {
    let v4 = || Frame::ipv4([192, 168, 7, 2], [192, 168, 7, 33]);
    let [a, b] = [1, 2].map(|last| Ipv6Addr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, last]));
    let v6 = || Frame::ipv6(a, b);
    let syn = v4()
        .dont_fragment()
        .tcp(40000, 80)
        .flags(tcp::SYN)
        .sequence(1)
        .mss(1460);
    let (inner, flow) = (syn.build_packet(), "192.168.7.2.40000 > 192.168.7.33.80: ");
    let header = "seq 1, win 64240, options [mss 1460], length 0";
    let data = v4()
        .tcp(80, 40000)
        .flags(tcp::PSH | tcp::ACK)
        .sequence(5)
        .acknowledgement(9);
    let data = data.payload(b"hello").vlan(178).ttl(63).id(4321);
    let finish = v6()
        .hop_by_hop()
        .destination_options()
        .tcp(1, 2)
        .flags(tcp::FIN | tcp::ACK);
    let outer = || Frame::ipv4([10, 0, 0, 1], [10, 0, 0, 2]);
    let ends = "10.0.0.1 > 10.0.0.2: ";
    let ends_v6 = "2001:db8::1 > 2001:db8::2: ";
    let udp_v6 = v6().udp(5000, 5001).payload(b"hello");
    let pieces = v4()
        .id(7)
        .udp(5000, 5001)
        .payload(&[0; 2000])
        .fragments(1500);
    let request = arp_request(
        SOURCE_MAC,
        [192, 168, 7, 2].into(),
        [192, 168, 7, 33].into(),
    );
    vec![
        (
            syn.build(),
            vec![
                "02:00:00:00:00:01 > 02:00:00:00:00:02, ",
                flow,
                "Flags [S]",
                header,
            ],
        ),
        (
            data.build(),
            vec![
                " vlan 178, ",
                "ttl 63, id 4321",
                "192.168.7.2.80 > 192.168.7.33.40000: Flags [P.]",
                "seq 5:10, ack 9, win 64240, length 5",
            ],
        ),
        (
            finish.build(),
            vec![
                "2001:db8::1",
                "2001:db8::2",
                "Flags [F.]",
                "win 64240, length 0",
            ],
        ),
        (
            v4().udp(5000, 5001).payload(b"hello").padded(60).build(),
            vec!["192.168.7.2.5000 > 192.168.7.33.5001: ", "UDP, length 5"],
        ),
        (
            udp_v6.build(),
            vec!["2001:db8::1.5000 > 2001:db8::2.5001: ", "UDP, length 5"],
        ),
        (
            v4().echo_request(7, 9).payload(&[0; 56]).build(),
            vec!["192.168.7.2 > 192.168.7.33: ICMP echo request, id 7, seq 9, length 64"],
        ),
        (
            v6().echo_reply(7, 9).build(),
            vec![ends_v6, "echo reply, id 7, seq 9"],
        ),
        (
            v4().icmp_error(3, 4, 1480, &inner).build(),
            vec!["(mtu 1480)", flow, "Flags [S]"],
        ),
        (
            v6().icmp_error(2, 0, 1280, &udp_v6.build_packet()).build(),
            vec![ends_v6, "packet too big", "mtu 1280"],
        ),
        (
            outer().ip_in_ip(&inner).build(),
            vec![ends, flow, "Flags [S]", header],
        ),
        (
            outer().gre(&inner, true).build(),
            vec![ends, "GRE", flow, "Flags [S]", header],
        ),
        (
            v6().ip_in_ip(&inner).build(),
            vec![ends_v6, flow, "Flags [S]", header],
        ),
        (
            pieces[0].clone(),
            vec!["192.168.7.2.5000 > 192.168.7.33.5001: ", "id 7", "offset 0"],
        ),
        (
            pieces[1].clone(),
            vec!["192.168.7.2 > 192.168.7.33: ", "id 7", "offset 1480"],
        ),
        (
            request,
            vec![
                "02:00:00:00:00:01 > ff:ff:ff:ff:ff:ff",
                "who-has 192.168.7.33 tell 192.168.7.2",
            ],
        ),
    ]
}

#[test]
fn tcpdump_reads_the_same() {
    let samples = samples();
    let frames: Vec<Vec<u8>> = samples.iter().map(|(frame, _)| frame.clone()).collect();
    let Some(lines) = tcpdump("lines", &frames) else {
        return;
    };
    assert_eq!(lines.len(), frames.len(), "{lines:#?}");
    for (theirs, (frame, pieces)) in lines.iter().zip(&samples) {
        let ours = format!("{:#}", Line(frame));
        for piece in pieces {
            assert!(theirs.contains(piece), "tcpdump has no `{piece}`: {theirs}");
            assert!(ours.contains(piece), "the line has no `{piece}`: {ours}");
        }
        for complaint in ["incorrect", "bad", "wrong"] {
            assert!(!theirs.contains(complaint), "tcpdump complains: {theirs}");
        }
    }
}

#[test]
fn tcpdump_reads_the_same_of_bfd() {
    let control = |number: u8| Control {
        state: BfdState::ALL[usize::from(number % 4)],
        diagnostic: Diagnostic::new(number % 9),
        poll: number % 3 == 1,
        is_final: number % 3 == 2,
        independent: number.is_multiple_of(2),
        demand: number.is_multiple_of(5),
        multiplier: number + 1,
        my_discriminator: 0x1234_5600 | u32::from(number),
        your_discriminator: 0xfedc_ba98,
        desired_min_tx: 10_000 * u32::from(number),
        required_min_rx: 3_000,
        required_min_echo_rx: 2_000,
    };
    let controls: Vec<Control> = (0..30).map(control).collect();
    let frame = |control: &Control| {
        let udp = Frame::ipv4([10, 0, 0, 1], [10, 0, 0, 2]).udp(50_000, bfd::PORT);
        udp.payload(&control.bytes()).build()
    };
    let frames: Vec<Vec<u8>> = controls.iter().map(frame).collect();
    let Some(lines) = tcpdump("bfd", &frames) else {
        return;
    };
    for (theirs, control) in lines.iter().zip(&controls) {
        let words = |text: &str| {
            let words = text.split_whitespace();
            words.collect::<Vec<_>>().join(" ").replace(',', "")
        };
        let (theirs, ours) = (words(theirs), words(&control.to_string()));
        let ours = ours.trim_start_matches("BFDv1 ");
        assert!(theirs.ends_with(ours), "`{ours}`; tcpdump: {theirs}");
    }
}

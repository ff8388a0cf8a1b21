//! Readers on texts that nobody meant: no panic, an error with a place, and bounded time.

use std::time::{Duration, Instant};

use pointsman_filter::judge::{Verdict, judge};
use pointsman_filter::model::Ruleset;
use pointsman_filter::nwfilter::{Library, read_bindings};
use pointsman_filter::route::{Direction, Host, Port};
use pointsman_filter::{ebtables, iptables, nft};
use proptest::prelude::*;

const PORT: Port<'static> = Port {
    name: "nwfg0",
    bridge: Some("br0"),
    peer: None,
};

/// TCP from 192.0.2.1:1024 to 192.0.2.2:80.
const FRAME: &[u8] = &[
    2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 8, 0, 0x45, 0, 0, 40, 0, 0, 0, 0, 64, 6, 0, 0, 192, 0, 2,
    1, 192, 0, 2, 2, 4, 0, 0, 80, 0, 0, 0, 0, 0, 0, 0, 0, 0x50, 2, 0, 0, 0, 0, 0, 0,
];

const FILTER: &str = "<filter name='x' chain='ipv4-x' priority='-3'>\n\
    <rule action='accept' direction='inout' priority='7'>\n\
    <tcp srcipaddr='$IP[@1]' dstportstart='0x50' flags='SYN,ACK/SYN' state='NEW'/></rule>\n\
    <filterref filter='y'><parameter name='IP' value='10.0.0.1'/></filterref></filter>";

fn golden(name: &str) -> String {
    let path = format!("{}/tests/golden/{name}", env!("CARGO_MANIFEST_DIR"));
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Reads a text every way, and judges a frame by what was read.
fn read_all(text: &str) {
    let mut read: Vec<Ruleset> = Vec::new();
    read.extend(ebtables::read_save("f", text));
    read.extend(ebtables::read_list("f", text));
    read.extend(iptables::read_save(iptables::Version::V4, "f", text));
    read.extend(iptables::read_save(iptables::Version::V6, "f", text));
    read.extend(nft::read("f", text));
    let host = Host {
        call_iptables: true,
        ..Host::default()
    };
    for rules in &read {
        for direction in [Direction::Out, Direction::In, Direction::ToHost] {
            judge(FRAME, PORT, direction, rules, &host).unwrap();
        }
    }
    let _ = Library::new().add("f", text);
    let _ = read_bindings("f", text);
}

fn sources() -> Vec<String> {
    vec![
        golden("clean-traffic/ebtables-save.txt"),
        golden("clean-traffic/ebtables-nat-L.txt"),
        golden("l4-mix/iptables-save.txt"),
        golden("clean-traffic/libvirt12-nftables/nft-ruleset.json"),
        golden("clean-traffic/binding.xml"),
        FILTER.to_owned(),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn texts_with_pieces_moved_lost_or_doubled_do_no_harm(
        which in 0usize..6,
        edits in prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>(),
            0usize..40, 0u8..4), 1..6),
        odd in "[-!<>{}'\"$@\\[\\]/:*0-9a-zäß \n]{0,6}",
    ) {
        let mut text: Vec<char> = sources()[which].chars().collect();
        for (at, from, length, kind) in edits {
            if text.is_empty() {
                break;
            }
            let at = at.index(text.len());
            let from = from.index(text.len());
            let end = (from + length).min(text.len());
            match kind {
                0 => { text.drain(from..end); }
                1 => { let piece: Vec<char> = text[from..end].to_vec(); text.splice(at..at, piece); }
                2 => { text.splice(at..at, odd.chars()); }
                _ => text.truncate(at.max(1)),
            }
        }
        read_all(&text.into_iter().collect::<String>());
    }
}

#[test]
fn ten_thousand_rules_are_read_and_judged_in_time() {
    let start = Instant::now();
    let mut text = "*nat\n:PREROUTING ACCEPT\n".to_owned();
    for chain in 0..100 {
        text += &format!(":c{chain} RETURN\n");
    }
    for chain in 0..100 {
        text += &format!("-A PREROUTING -j c{chain}\n");
        for host in 0..100 {
            text += &format!("-A c{chain} -p IPv4 --ip-src 10.{chain}.{host}.1 -j DROP\n");
        }
    }
    let rules = ebtables::read("f", &text).unwrap();
    let judgement = judge(FRAME, PORT, Direction::Out, &rules, &Host::default()).unwrap();
    assert_eq!(judgement.verdict, Verdict::Pass);
    assert!(
        start.elapsed() < Duration::from_secs(10),
        "{:?}",
        start.elapsed()
    );
}

/// The deadline is for busy machines; what is quadratic would take hours.
#[test]
fn ten_megabytes_end_in_time() {
    let start = Instant::now();
    for text in [
        "x ".repeat(5 << 20),
        format!(
            "Bridge chain: x, policy: DROP {}",
            "-j DROP ".repeat(1 << 20)
        ),
        "\n".repeat(10 << 20),
        format!(
            "*nat\n:c ACCEPT\n-A c --log-prefix \"{}\" -j DROP\n",
            "y".repeat(10 << 20)
        ),
        format!("{{\"nftables\": [{}1]}}", "1, ".repeat(3 << 20)),
        format!("<filter name='x'>{}</filter>", "<rule/>".repeat(1 << 20)),
        // Each with a place to remember, all on one line.
        format!(
            "<filter name='x'>{}</filter>",
            "<rule action='drop' direction='in'><ipx/></rule>".repeat(200_000)
        ),
        "<a>".repeat(3 << 20),
        "[".repeat(10 << 20),
    ] {
        read_all(&text);
    }
    assert!(
        start.elapsed() < Duration::from_secs(240),
        "{:?}",
        start.elapsed()
    );
}

#[test]
fn rules_that_multiply_end_in_time() {
    // Each chain calls the next one twice: 2^40 ways.
    let mut text = "*nat\n:PREROUTING ACCEPT\n".to_owned();
    for chain in 0..40 {
        text += &format!(":c{chain} RETURN\n");
    }
    text += "-A PREROUTING -j c0\n";
    for chain in 0..39 {
        let next = chain + 1;
        text += &format!("-A c{chain} -j c{next}\n-A c{chain} -j c{next}\n");
    }
    let rules = ebtables::read("f", &text).unwrap();
    let start = Instant::now();
    let judgement = judge(FRAME, PORT, Direction::Out, &rules, &Host::default()).unwrap();
    assert_eq!(judgement.verdict, Verdict::Unknown);
    // Doubtful rules are followed both ways only so often.
    let mut text = "*filter\n:FORWARD ACCEPT\n:a -\n".to_owned();
    for _ in 0..500 {
        text += "-A FORWARD -m set --match-set x src -j a\n";
    }
    text += "-A a -m set --match-set y src -j RETURN\n";
    let rules = iptables::read_save(iptables::Version::V4, "f", &text).unwrap();
    let host = Host {
        call_iptables: true,
        ..Host::default()
    };
    let judgement = judge(FRAME, PORT, Direction::Out, &rules, &host).unwrap();
    assert_ne!(judgement.verdict, Verdict::Drop);
    assert!(
        start.elapsed() < Duration::from_secs(30),
        "{:?}",
        start.elapsed()
    );
}

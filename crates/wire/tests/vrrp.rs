//! Frames that keepalived 2.2.7 and FRR 8.4.4 sent (`vrrp/*.hex`): read and written again.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;

use pointsman_wire::advert::{AdvertError, Authentication, ChecksumStyle, Form, checksum_style};
use pointsman_wire::build::{Addresses, arp_announcement, neighbor_announcement};
use pointsman_wire::vrrp::virtual_mac;
use pointsman_wire::{Advert, Arp, Frame, Icmp, Line, Mac, Summary, Vrrp, icmp, protocol};
use zerocopy::{FromBytes, IntoBytes};

/// A captured frame and what its file says of it.
struct Golden {
    name: String,
    facts: BTreeMap<String, String>,
    frame: Vec<u8>,
}

impl Golden {
    fn fact(&self, key: &str) -> &str {
        let name = &self.name;
        self.facts
            .get(key)
            .unwrap_or_else(|| panic!("{name} says no {key}"))
    }

    fn is(&self, kind: &str) -> bool {
        self.fact("kind") == kind
    }
}

fn goldens() -> Vec<Golden> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vrrp");
    let mut goldens: Vec<Golden> = std::fs::read_dir(folder)
        .expect("the folder of captured frames")
        .map(|entry| read(&entry.expect("an entry").path()))
        .collect();
    goldens.sort_by(|a, b| a.name.cmp(&b.name));
    goldens
}

fn read(path: &Path) -> Golden {
    let text = std::fs::read_to_string(path).expect("a captured frame");
    let mut facts = BTreeMap::new();
    let mut frame = Vec::new();
    for line in text.lines() {
        if let Some(comment) = line.strip_prefix("# ") {
            if let Some((key, value)) = comment.split_once(": ") {
                facts.insert(key.to_owned(), value.to_owned());
            }
            continue;
        }
        let bytes = line.split_whitespace();
        frame.extend(bytes.map(|byte| u8::from_str_radix(byte, 16).expect("hexadecimal")));
    }
    Golden {
        name: path.display().to_string(),
        facts,
        frame,
    }
}

fn macs(frame: &[u8]) -> (Mac, Mac) {
    let mac = |at: usize| Mac(frame[at..at + 6].try_into().expect("six bytes"));
    (mac(6), mac(0))
}

fn between(source: IpAddr, destination: IpAddr) -> Addresses {
    match (source, destination) {
        (IpAddr::V4(a), IpAddr::V4(b)) => Addresses::V4(a, b),
        (IpAddr::V6(a), IpAddr::V6(b)) => Addresses::V6(a, b),
        _ => panic!("{source} and {destination} in one"),
    }
}

/// The VRRP message of a frame without options and extension headers.
fn message(golden: &Golden, summary: &Summary) -> Vec<u8> {
    let start = 14 + if summary.version == 4 { 20 } else { 40 };
    golden.frame[start..start + summary.payload_length].to_vec()
}

#[test]
fn every_captured_frame_is_there() {
    let goldens = goldens();
    let count = |kind| goldens.iter().filter(|golden| golden.is(kind)).count();
    assert_eq!(
        (goldens.len(), count("advert"), count("garp"), count("una")),
        (60, 42, 10, 8)
    );
}

#[test]
fn adverts_are_read_as_their_files_say_and_written_byte_for_byte() {
    for golden in goldens().iter().filter(|golden| golden.is("advert")) {
        let summary = Summary::parse(&golden.frame).expect("an IP packet");
        assert_eq!(summary.protocol, protocol::VRRP);
        let message = message(golden, &summary);
        let advert = Advert::parse(&message, summary.version == 6).expect("an advertisement");
        assert_eq!(advert.form.version().to_string(), golden.fact("ver"));
        assert_eq!(advert.vrid.to_string(), golden.fact("vrid"));
        assert_eq!(advert.priority.to_string(), golden.fact("prio"));
        let listed: Vec<_> = advert.addresses.iter().map(|a| format!("'{a}'")).collect();
        assert_eq!(format!("[{}]", listed.join(", ")), golden.fact("addrs"));
        match advert.form {
            Form::V2 {
                authentication,
                seconds,
            } => {
                assert_eq!(seconds.to_string(), golden.fact("adver_s"));
                assert_eq!(authentication.kind().to_string(), golden.fact("auth"));
                if golden.name.contains("auth") {
                    assert_eq!(authentication, Authentication::Password(*b"s3cret99"));
                }
            }
            Form::V3 { centiseconds } => {
                assert_eq!(centiseconds.to_string(), golden.fact("max_adver_cs"));
            }
        }
        let addresses = between(summary.source, summary.destination);
        let style = checksum_style(&message, &addresses).expect("a right checksum");
        let pseudo = golden.fact("cksum_pseudo_ok") == "True";
        assert_eq!(style == ChecksumStyle::PseudoHeader, pseudo);

        let (source, destination) = macs(&golden.frame);
        let mut frame = Frame::ip(summary.source, summary.destination)
            .macs(source, destination)
            .id(summary.id.unwrap_or_default());
        if summary.version == 6 {
            let word = golden.frame[14..].first_chunk().expect("four bytes");
            frame = frame.flow_label(u32::from_be_bytes(*word));
        }
        if summary.dont_fragment {
            frame = frame.dont_fragment();
        }
        let mut frame = frame.vrrp(&advert, style);
        if golden.name.contains("v3-ucast-ip6") {
            // keepalived leaves the kernel's hop limit there.
            frame = frame.ttl(64);
        }
        assert_eq!(frame.build(), golden.frame, "{}", golden.name);
    }
}

#[test]
fn announcements_are_written_byte_for_byte() {
    for golden in goldens() {
        let (source, _) = macs(&golden.frame);
        let written = match golden.fact("kind") {
            "garp" => {
                let (message, _) = Arp::ref_from_prefix(&golden.frame[14..]).expect("ARP");
                assert!(message.is_ethernet_ipv4());
                arp_announcement(message.sender_mac, message.target.into())
            }
            "una" => {
                let (header, body) = Icmp::ref_from_prefix(&golden.frame[54..]).expect("ICMPv6");
                assert_eq!(header.kind, icmp::V6_NEIGHBOR_ADVERTISEMENT);
                let target: Ipv6Addr = golden.fact("target").parse().expect("an address");
                assert_eq!(body[..16], target.octets());
                neighbor_announcement(source, target, false)
            }
            _ => continue,
        };
        assert_eq!(written, golden.frame, "{}", golden.name);
        assert!(pointsman_wire::verify_checksums(&written).is_ok());
    }
}

#[test]
fn a_changed_bit_never_passes_as_the_same_advert() {
    for golden in goldens().iter().filter(|golden| golden.is("advert")) {
        let summary = Summary::parse(&golden.frame).expect("an IP packet");
        let addresses = between(summary.source, summary.destination);
        let right = message(golden, &summary);
        for bit in 0..right.len() * 8 {
            let mut wrong = right.clone();
            wrong[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(checksum_style(&wrong, &addresses), None, "bit {bit}");
        }
    }
}

#[test]
fn both_styles_are_told_apart_with_version_3_over_ipv4_alone() {
    let v4 = Addresses::V4(Ipv4Addr::new(10, 99, 0, 1), Ipv4Addr::new(224, 0, 0, 18));
    let vip = IpAddr::from([10, 99, 0, 100]);
    let mut advert = Advert {
        form: Form::V3 { centiseconds: 100 },
        vrid: 51,
        priority: 150,
        addresses: vec![vip],
    };
    for style in [ChecksumStyle::PseudoHeader, ChecksumStyle::Message] {
        assert_eq!(
            checksum_style(&advert.message(&v4, style), &v4),
            Some(style)
        );
    }
    advert.form = Form::V2 {
        authentication: Authentication::None,
        seconds: 1,
    };
    let [first, second] = [ChecksumStyle::PseudoHeader, ChecksumStyle::Message]
        .map(|style| advert.message(&v4, style));
    assert_eq!(first, second);
}

#[test]
fn what_is_no_advert_is_told_why() {
    let header = |version_kind, count| {
        let mut bytes = vec![version_kind, 51, 100, count, 0, 1, 0, 0];
        bytes.extend([0; 12]);
        bytes
    };
    let length = |found, expected, count| AdvertError::Length {
        found,
        expected,
        count,
    };
    for (bytes, error) in [
        (vec![0x31; 7], AdvertError::Cut { found: 7 }),
        (header(0x41, 1), AdvertError::Version(4)),
        (header(0x32, 1), AdvertError::Kind(2)),
        (header(0x31, 1), length(20, 12, 1)),
        (header(0x21, 2), length(20, 24, 2)),
        (header(0x31, 255), length(20, 1028, 255)),
    ] {
        assert_eq!(Advert::parse(&bytes, false), Err(error));
    }
    assert!(Advert::parse(&header(0x21, 1), false).is_ok());
    assert!(Advert::parse(&header(0x31, 3), false).is_ok());
    assert_eq!(
        Advert::parse(&header(0x31, 3), true),
        Err(length(20, 56, 3))
    );
}

#[test]
fn the_header_lies_where_the_rfcs_say() {
    let bytes = [0x31, 51, 150, 1, 0xf0, 0x64, 0xab, 0xcd];
    let header = Vrrp::read_from_bytes(&bytes).expect("eight bytes");
    assert_eq!((header.version(), header.kind()), (3, 1));
    assert_eq!((header.vrid, header.priority, header.count), (51, 150, 1));
    assert_eq!((header.centiseconds(), header.seconds()), (0x064, 100));
    assert_eq!(header.authentication(), 0xf0);
    assert_eq!(header.checksum.get(), 0xabcd);
    assert_eq!(header.as_bytes(), bytes);
    assert_eq!(virtual_mac(51, false).to_string(), "00:00:5e:00:01:33");
    assert_eq!(virtual_mac(51, true).to_string(), "00:00:5e:00:02:33");
}

#[test]
fn lines_read_as_tcpdumps_do_and_keep_the_password() {
    let line = |name: &str| {
        let all = goldens();
        let golden = all.iter().find(|golden| golden.name.ends_with(name));
        Line(&golden.expect("a captured frame").frame).to_string()
    };
    assert_eq!(
        line("v3-mcast-ip4-3vips.advert-prio150.hex"),
        "02:00:00:00:00:01 > 01:00:5e:00:00:12, IPv4 10.99.0.1 > 224.0.0.18: VRRPv3, \
         Advertisement, vrid 51, prio 150, intvl 50cs, length 20, \
         addrs(3): 10.99.0.100,10.99.0.101,10.99.0.102"
    );
    assert_eq!(
        line("/v2-mcast-ip4-auth.advert-prio100.hex"),
        "02:00:00:00:00:02 > 01:00:5e:00:00:12, IPv4 10.99.0.2 > 224.0.0.18: VRRPv2, \
         Advertisement, vrid 51, prio 100, authtype simple, intvl 1s, length 20, \
         addrs: 10.99.0.100"
    );
    let whole = goldens().remove(0).frame;
    assert!(Line(&whole[..36]).to_string().ends_with("VRRP [|vrrp]"));
    assert!(Line(&whole[..44]).to_string().ends_with("VRRP [|vrrp]"));
}

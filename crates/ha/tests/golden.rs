//! What virtual routers send is what keepalived 2.2.7 sent (`crates/wire/tests/vrrp`), byte for byte.

#[path = "stage/stage.rs"]
mod stage;

use std::net::IpAddr;
use std::time::Duration;

use pointsman_ha::vrrp::{Event, Interface, Output, Peers, RouterConfig, State, Version};
use pointsman_wire::{Mac, Summary};

use stage::Stage;

/// A capture: its name, version, interval in centiseconds, and what is special.
struct Capture {
    name: &'static str,
    version: Version,
    centiseconds: u64,
    vips: &'static [&'static str],
    change: fn(&mut RouterConfig),
}

const V4: &[&str] = &["10.99.0.100"];
const V6: &[&str] = &["fe80::99:100", "fd99::100"];

fn unicast(config: &mut RouterConfig, peer: &str, hop_limit: u8) {
    let address: IpAddr = peer.parse().expect("an address");
    config.peers = Peers::Unicast {
        peers: vec![address.into()],
        hop_limit,
        only_peers: true,
    };
}

const CAPTURES: &[Capture] = &[
    Capture {
        name: "v2-mcast-ip4",
        version: Version::V2,
        centiseconds: 100,
        vips: V4,
        change: |_| {},
    },
    Capture {
        name: "v2-mcast-ip4-auth",
        version: Version::V2,
        centiseconds: 100,
        vips: V4,
        change: |config| config.password = Some(*b"s3cret99"),
    },
    Capture {
        name: "v2-mcast-ip6",
        version: Version::V2,
        centiseconds: 100,
        vips: V6,
        change: |_| {},
    },
    Capture {
        name: "v2-ucast-ip4",
        version: Version::V2,
        centiseconds: 100,
        vips: V4,
        change: |config| unicast(config, "10.99.0.2", 255),
    },
    Capture {
        name: "v3-mcast-ip4",
        version: Version::V3,
        centiseconds: 100,
        vips: V4,
        change: |_| {},
    },
    Capture {
        name: "v3-mcast-ip4-10cs",
        version: Version::V3,
        centiseconds: 10,
        vips: V4,
        change: |_| {},
    },
    Capture {
        name: "v3-mcast-ip4-1cs",
        version: Version::V3,
        centiseconds: 1,
        vips: V4,
        change: |_| {},
    },
    Capture {
        name: "v3-mcast-ip4-3vips",
        version: Version::V3,
        centiseconds: 50,
        vips: &["10.99.0.100", "10.99.0.101", "10.99.0.102"],
        change: |_| {},
    },
    Capture {
        name: "v3-mcast-ip4-vmac",
        version: Version::V3,
        centiseconds: 10,
        vips: V4,
        change: |_| {},
    },
    Capture {
        name: "v3-mcast-ip6",
        version: Version::V3,
        centiseconds: 10,
        vips: V6,
        change: |_| {},
    },
    Capture {
        name: "v3-mcast-ip6-vmac",
        version: Version::V3,
        centiseconds: 10,
        vips: V6,
        change: |_| {},
    },
    Capture {
        name: "v3-ucast-ip4-10cs",
        version: Version::V3,
        centiseconds: 10,
        vips: V4,
        change: |config| unicast(config, "10.99.0.2", 255),
    },
    Capture {
        name: "v3-ucast-ip6",
        version: Version::V3,
        centiseconds: 10,
        vips: V6,
        change: |config| unicast(config, "fd99::2", 64),
    },
];

#[test]
fn adverts_and_announcements_are_keepaliveds() {
    for capture in CAPTURES {
        let name = capture.name;
        let vips: Vec<IpAddr> = capture
            .vips
            .iter()
            .map(|vip| vip.parse().expect("an address"))
            .collect();
        let mut config = RouterConfig::new(name, "eth0", 51, &vips);
        config.version = capture.version;
        config.priority = 150;
        config.interval = Duration::from_millis(capture.centiseconds * 10);
        (capture.change)(&mut config);
        let captured = frame(name, "advert-prio150").expect("an advertisement");
        let summary = Summary::parse(&captured).expect("an IP packet");
        let mut stage = Stage::without_interface(config);
        let interface = Interface {
            source: summary.source,
            // Who announces differs between the captures.
            mac: announcer(name).expect("an announcement"),
            router: false,
        };
        stage.router.handle_interface(Some(interface), stage.now);
        stage.run_until(stage.now + Duration::from_secs(4));
        assert_eq!(stage.router.state(), State::Master, "{name}");

        let (sent, hop_limit) = first_sent(&stage);
        assert_eq!(sent, message(&captured), "{name}");
        assert_eq!(hop_limit, summary.ttl, "{name}");
        let announced: Vec<&Vec<u8>> = stage
            .outputs
            .iter()
            .filter_map(|output| match output {
                Output::Frame(frame) => Some(frame),
                _ => None,
            })
            .collect();
        assert_eq!(announced.len(), 5 * vips.len(), "{name}");
        let kinds: &[&str] = if summary.version == 4 {
            &["garp"]
        } else {
            &["una-ll", "una-gua"]
        };
        for (at, kind) in kinds.iter().enumerate() {
            let captured = frame(name, kind).expect("an announcement");
            assert_eq!(*announced[at], captured, "{name} {kind}");
        }
        stage.outputs.clear();
        stage.router.stop(Event::Stop);
        stage.drain();
        let (sent, _) = first_sent(&stage);
        let captured = frame(name, "stop-prio0").expect("an advertisement");
        assert_eq!(sent, message(&captured), "{name}");
    }
}

fn first_sent(stage: &Stage) -> (Vec<u8>, u8) {
    let mut sent = stage.outputs.iter().filter_map(|output| match output {
        Output::Send(datagram) => Some((datagram.message.clone(), datagram.hop_limit)),
        _ => None,
    });
    sent.next().expect("an advertisement")
}

fn message(frame: &[u8]) -> Vec<u8> {
    let summary = Summary::parse(frame).expect("an IP packet");
    let start = 14 + if summary.version == 4 { 20 } else { 40 };
    frame[start..start + summary.payload_length].to_vec()
}

fn announcer(name: &str) -> Option<Mac> {
    let frame = frame(name, "garp").or_else(|| frame(name, "una-ll"))?;
    frame[6..12].try_into().ok().map(Mac)
}

fn frame(name: &str, kind: &str) -> Option<Vec<u8>> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../wire/tests/vrrp");
    let text = std::fs::read_to_string(format!("{folder}/{name}.{kind}.hex")).ok()?;
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let bytes = lines.flat_map(str::split_whitespace);
    let bytes = bytes.map(|byte| u8::from_str_radix(byte, 16).expect("hexadecimal"));
    Some(bytes.collect())
}

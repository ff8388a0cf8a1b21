//! What a virtual router does with each kind of advertisement, as measured with keepalived 2.2.7
//! where it says so; frames captured from keepalived and FRR are among them.

#[path = "stage/stage.rs"]
mod stage;

use std::net::IpAddr;
use std::time::Duration;

use pointsman_ha::vrrp::{
    AddressCheck, Datagram, OldChecksum, Peer, Peers, Rejection, RouterConfig, State, Version,
    VirtualRouter,
};
use pointsman_wire::advert::{Advert, Authentication, ChecksumStyle, Form};
use pointsman_wire::build::Addresses;
use pointsman_wire::{Summary, vrrp};

use stage::{GROUP, Stage, VIP, second};

const PEER: [u8; 4] = [10, 99, 0, 3];
const PASSWORD: [u8; 8] = *b"s3cret99";

/// A router with priority 150 that is master, as in the measurements.
fn master(version: Version) -> Stage {
    let mut config = RouterConfig::new("I1", "eth0", 51, &[VIP]);
    config.version = version;
    config.priority = 150;
    master_of(config)
}

fn master_of(config: RouterConfig) -> Stage {
    let mut stage = Stage::new(config);
    stage.run_until(stage.now + second(5));
    assert_eq!(stage.router.state(), State::Master);
    stage
}

fn v3(priority: u8) -> Advert {
    Advert {
        form: Form::V3 { centiseconds: 100 },
        vrid: 51,
        priority,
        addresses: vec![VIP],
    }
}

fn v2(priority: u8) -> Advert {
    let form = Form::V2 {
        authentication: Authentication::None,
        seconds: 1,
    };
    Advert {
        form,
        ..v3(priority)
    }
}

fn datagram(advert: &Advert) -> Datagram {
    styled(advert, ChecksumStyle::PseudoHeader)
}

fn styled(advert: &Advert, style: ChecksumStyle) -> Datagram {
    Datagram {
        source: PEER.into(),
        destination: GROUP,
        hop_limit: 255,
        message: advert.message(&Addresses::V4(PEER.into(), vrrp::GROUP_V4.into()), style),
    }
}

fn reject(stage: &mut Stage, datagram: &Datagram) -> Rejection {
    let before = stage.router.state();
    let deadline = stage.router.poll_timeout();
    let rejection = stage
        .router
        .handle_packet(datagram, stage.now)
        .expect_err("a rejection");
    assert_eq!(stage.router.state(), before);
    assert_eq!(stage.router.poll_timeout(), deadline, "it moved a timer");
    assert_eq!(stage.router.stats().rejected[rejection.name()], 1);
    rejection
}

#[test]
fn higher_priority_makes_a_master_yield() {
    for (version, advert) in [(Version::V2, v2(200)), (Version::V3, v3(200))] {
        let mut stage = master(version);
        stage.take(&datagram(&advert));
        assert_eq!(stage.router.state(), State::Backup);
        assert!(stage.held.is_empty());
        assert_eq!(stage.router.master(), Some(PEER.into()));
    }
}

#[test]
fn version_3_over_ipv4_may_have_either_checksum() {
    for style in [ChecksumStyle::PseudoHeader, ChecksumStyle::Message] {
        let mut stage = master(Version::V3);
        stage.take(&styled(&v3(200), style));
        assert_eq!(stage.router.state(), State::Backup);
        assert_eq!(stage.router.peer_style(), Some(style));
    }
}

#[test]
fn a_wrong_checksum_is_rejected() {
    let mut wrong = datagram(&v3(200));
    wrong.message[6] ^= 1;
    assert_eq!(
        reject(&mut master(Version::V3), &wrong),
        Rejection::Checksum
    );
    // keepalived: "Invalid VRRPv2 checksum", with a pseudo header.
    let mut wrong = datagram(&v2(200));
    let right = u16::from_be_bytes([wrong.message[6], wrong.message[7]]);
    wrong.message[6..8].copy_from_slice(&right.wrapping_add(1).to_be_bytes());
    assert_eq!(
        reject(&mut master(Version::V2), &wrong),
        Rejection::Checksum
    );
    // To another destination than it was made for.
    let mut config = RouterConfig::new("I1", "eth0", 51, &[VIP]);
    config.version = Version::V3;
    let mut stage = master_of(config);
    let mut moved = datagram(&v3(200));
    moved.destination = IpAddr::from([224, 0, 0, 19]);
    assert_eq!(reject(&mut stage, &moved), Rejection::Checksum);
}

#[test]
fn the_other_version_is_rejected() {
    assert_eq!(
        reject(&mut master(Version::V3), &datagram(&v2(200))),
        Rejection::Version { found: 2, own: 3 }
    );
    assert_eq!(
        reject(&mut master(Version::V2), &datagram(&v3(200))),
        Rejection::Version { found: 3, own: 2 }
    );
}

#[test]
fn what_was_routed_is_rejected() {
    let mut routed = datagram(&v3(200));
    routed.hop_limit = 254;
    let rejection = reject(&mut master(Version::V3), &routed);
    assert_eq!(rejection.to_string(), "hop limit 254 instead of 255..=255");
}

#[test]
fn other_addresses_are_rejected_or_counted() {
    let other = IpAddr::from([10, 99, 0, 55]);
    let wrong = Advert {
        addresses: vec![other],
        ..v3(200)
    };
    let more = Advert {
        addresses: vec![VIP, other],
        ..v3(200)
    };
    assert_eq!(
        reject(&mut master(Version::V3), &datagram(&wrong)),
        Rejection::Addresses { missing: VIP }
    );
    assert_eq!(
        reject(&mut master(Version::V3), &datagram(&more)),
        Rejection::AddressCount { found: 2, own: 1 }
    );
    // keepalived 2.3.3 takes it.
    let mut config = RouterConfig::new("I1", "eth0", 51, &[VIP]);
    config.version = Version::V3;
    config.address_check = AddressCheck::Count;
    let mut stage = master_of(config.clone());
    stage.take(&datagram(&wrong));
    assert_eq!(stage.router.state(), State::Backup);
    assert_eq!(stage.router.stats().rejected["addresses"], 1);
    // skip_check_adv_addr: only from the master that is known already.
    config.address_check = AddressCheck::TrustMaster;
    let mut stage = master_of(config);
    reject(&mut stage, &datagram(&wrong));
    stage.take(&datagram(&v3(200)));
    let before = stage.router.poll_timeout();
    stage.now += second(1);
    stage.take(&datagram(&wrong));
    assert!(stage.router.poll_timeout() > before);
}

#[test]
fn the_order_of_addresses_does_not_matter() {
    let vips: Vec<IpAddr> = (100..103).map(|last| [10, 99, 0, last].into()).collect();
    let mut config = RouterConfig::new("I1", "eth0", 51, &vips);
    config.version = Version::V3;
    let mut stage = master_of(config);
    let mut advert = v3(200);
    advert.addresses = vips.into_iter().rev().collect();
    stage.take(&datagram(&advert));
    assert_eq!(stage.router.state(), State::Backup);
}

#[test]
fn intervals() {
    // Version 2: "advertisement interval mismatch", so that two masters are seen in the counters.
    let form = Form::V2 {
        authentication: Authentication::None,
        seconds: 3,
    };
    let other = Advert { form, ..v2(200) };
    assert_eq!(
        reject(&mut master(Version::V2), &datagram(&other)),
        Rejection::Interval { found: 3, own: 1 }
    );
    // Version 3: adopted; and 0, with which keepalived flaps, is not.
    let every = |centiseconds| Advert {
        form: Form::V3 { centiseconds },
        ..v3(200)
    };
    assert_eq!(
        reject(&mut master(Version::V3), &datagram(&every(0))),
        Rejection::NoInterval
    );
    let mut stage = master(Version::V3);
    stage.take(&datagram(&every(1000)));
    assert_eq!(stage.router.interval(), second(10));
    // Three intervals and the skew of priority 150.
    let down = second(30) + second(10) * 106 / 256;
    assert_eq!(stage.router.poll_timeout(), Some(stage.now + down));
    // "then prio 0 from that master": the skew alone, and the own interval again.
    stage.take(&datagram(&Advert {
        priority: 0,
        ..every(1000)
    }));
    let skew = second(10) * 106 / 256;
    assert_eq!(stage.router.poll_timeout(), Some(stage.now + skew));
    stage.run_until(stage.now + skew);
    assert_eq!(stage.router.state(), State::Master);
    assert_eq!(stage.router.interval(), second(1));
}

#[test]
fn reserved_bits_are_ignored() {
    // keepalived believes it too.
    let mut reserved = datagram(&v3(200));
    reserved.message[4] |= 0xf0;
    let sum = u16::from_be_bytes([reserved.message[6], reserved.message[7]]);
    // One's complement: what is added to a word is taken from the checksum.
    let (less, borrow) = sum.overflowing_sub(0xf000);
    let sum = less.wrapping_sub(u16::from(borrow));
    reserved.message[6..8].copy_from_slice(&sum.to_be_bytes());
    let mut stage = master(Version::V3);
    stage.take(&reserved);
    assert_eq!(stage.router.state(), State::Backup);
}

#[test]
fn passwords() {
    let with = |authentication| Advert {
        form: Form::V2 {
            authentication,
            seconds: 1,
        },
        ..v2(200)
    };
    let right = datagram(&with(Authentication::Password(PASSWORD)));
    assert_eq!(
        reject(&mut master(Version::V2), &right),
        Rejection::AuthenticationType { found: 1, own: 0 }
    );
    let mut config = RouterConfig::new("I1", "eth0", 51, &[VIP]);
    config.password = Some(PASSWORD);
    let mut stage = master_of(config);
    for (advert, rejection) in [
        (v2(200), Rejection::AuthenticationType { found: 0, own: 1 }),
        (
            with(Authentication::Other(vrrp::AUTH_HEADER)),
            Rejection::AuthenticationType { found: 2, own: 1 },
        ),
        (
            with(Authentication::Password(*b"s3cret98")),
            Rejection::Password,
        ),
    ] {
        let result = stage.router.handle_packet(&datagram(&advert), stage.now);
        assert_eq!(result, Err(rejection));
    }
    assert_eq!(stage.router.stats().rejected["authentication-type"], 2);
    stage.take(&right);
    assert_eq!(stage.router.state(), State::Backup);
}

#[test]
fn unicast_and_multicast_do_not_mix() {
    let own = IpAddr::from(stage::SOURCE);
    let peers = |only_peers| {
        let mut config = RouterConfig::new("I1", "eth0", 51, &[VIP]);
        config.version = Version::V3;
        config.peers = Peers::Unicast {
            peers: vec![Peer {
                address: PEER.into(),
                hop_limits: 254..=255,
            }],
            hop_limit: 255,
            only_peers,
        };
        config
    };
    let direct = |source: [u8; 4], hop_limit| Datagram {
        source: source.into(),
        destination: own,
        hop_limit,
        message: v3(200).message(
            &Addresses::V4(source.into(), stage::SOURCE.into()),
            ChecksumStyle::PseudoHeader,
        ),
    };
    assert_eq!(
        reject(&mut master(Version::V3), &direct(PEER, 255)),
        Rejection::Destination { found: own }
    );
    let mut stage = master_of(peers(true));
    assert_eq!(
        reject(&mut stage, &datagram(&v3(200))),
        Rejection::Destination { found: GROUP }
    );
    let stranger = [10, 99, 0, 9];
    let peer = Rejection::Peer {
        source_address: stranger.into(),
    };
    assert_eq!(reject(&mut stage, &direct(stranger, 255)), peer);
    let rejection = reject(&mut stage, &direct(PEER, 64));
    assert_eq!(rejection.name(), "hop-limit");
    stage.take(&direct(PEER, 254));
    assert_eq!(stage.router.state(), State::Backup);
    // Without the check anybody is believed, from any distance.
    let mut stage = master_of(peers(false));
    stage.take(&direct(stranger, 3));
    assert_eq!(stage.router.state(), State::Backup);
}

#[test]
fn our_own_address_is_a_loop() {
    let mut echo = datagram(&v3(200));
    echo.source = stage::SOURCE.into();
    assert!(matches!(
        reject(&mut master(Version::V3), &echo),
        Rejection::OwnAddress { .. }
    ));
}

#[test]
fn any_bytes_are_taken_without_harm() {
    let mut stage = master(Version::V3);
    let right = datagram(&v3(140));
    let mut seed: u32 = 1;
    for round in 0..20_000 {
        let mut bytes = right.message.clone();
        for _ in 0..round % 4 {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let at = (seed >> 8) as usize % bytes.len();
            bytes[at] = (seed >> 24) as u8;
        }
        bytes.truncate(bytes.len() - (round % 7).min(bytes.len()));
        let datagram = Datagram {
            message: bytes,
            ..right.clone()
        };
        let result = stage.router.handle_packet(&datagram, stage.now);
        // A wrong byte means a wrong checksum; what is unchanged is of lower priority.
        assert_eq!(result.is_ok(), datagram.message == right.message);
        assert_eq!(stage.router.state(), State::Master);
        stage.drain();
    }
}

#[test]
fn captured_adverts_are_accepted() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../wire/tests/vrrp");
    let mut accepted = 0;
    for entry in std::fs::read_dir(folder).expect("the captured frames") {
        let path = entry.expect("an entry").path();
        let name = path
            .file_name()
            .expect("a name")
            .to_string_lossy()
            .into_owned();
        if !name.contains("advert") {
            continue;
        }
        let frame = read(&std::fs::read_to_string(&path).expect("a captured frame"));
        let summary = Summary::parse(&frame).expect("an IP packet");
        let start = 14 + if summary.version == 4 { 20 } else { 40 };
        let received = Datagram {
            source: summary.source,
            destination: summary.destination,
            hop_limit: summary.ttl,
            message: frame[start..start + summary.payload_length].to_vec(),
        };
        let advert = Advert::parse(&received.message, summary.version == 6).expect("an advert");
        let mut config = RouterConfig::new(&name, "eth0", advert.vrid, &advert.addresses);
        config.priority = 90;
        match advert.form {
            Form::V2 { authentication, .. } => {
                config.version = Version::V2;
                if let Authentication::Password(password) = authentication {
                    config.password = Some(password);
                }
            }
            Form::V3 { .. } => config.version = Version::V3,
        }
        if !summary.destination.is_multicast() {
            config.peers = Peers::Unicast {
                peers: vec![summary.source.into()],
                hop_limit: 255,
                only_peers: true,
            };
        }
        config.check().expect("a possible router");
        let mut router = VirtualRouter::new(config);
        let own = match summary.source {
            IpAddr::V4(_) => IpAddr::from([10, 99, 0, 77]),
            IpAddr::V6(_) => "fe80::77".parse().expect("an address"),
        };
        let now = Duration::from_secs(7);
        router.handle_interface(Some(stage::interface(own)), now);
        router.handle_packet(&received, now).expect(&name);
        assert_eq!(router.master(), Some(summary.source), "{name}");
        accepted += 1;
    }
    assert_eq!(accepted, 28);
}

fn read(text: &str) -> Vec<u8> {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let bytes = lines.flat_map(str::split_whitespace);
    bytes
        .map(|byte| u8::from_str_radix(byte, 16).expect("hexadecimal"))
        .collect()
}

#[test]
fn checksums_of_old_keepalived_count_among_peers_and_are_answered_alike() {
    let peers = Peers::Unicast {
        peers: vec![Peer::from(IpAddr::from(PEER))],
        hop_limit: 255,
        only_peers: false,
    };
    let own = [10, 99, 0, 2];
    let about = |destination: [u8; 4]| Datagram {
        destination: own.into(),
        message: v3(100).message(
            &Addresses::V4(PEER.into(), destination.into()),
            ChecksumStyle::PseudoHeader,
        ),
        ..datagram(&v3(100))
    };
    for (mode, old_counts) in [
        (OldChecksum::Detect, true),
        (OldChecksum::Always, true),
        (OldChecksum::Never, false),
    ] {
        let mut config = RouterConfig::new("I1", "eth0", 51, &[VIP]);
        config.version = Version::V3;
        config.priority = 150;
        config.peers = peers.clone();
        config.old_checksum = mode;
        let mut stage = master_of(config);
        let now = stage.now;
        assert_eq!(stage.router.handle_packet(&about(own), now), Ok(()));
        let old = stage.router.handle_packet(&about(vrrp::GROUP_V4), now);
        assert_eq!(old.is_ok(), old_counts, "{mode:?}: {old:?}");
        // Neither one nor the other.
        let wrong = stage.router.handle_packet(&about([10, 99, 0, 77]), now);
        assert_eq!(wrong, Err(Rejection::Checksum), "{mode:?}");
    }
}

//! Smaller habits of keepalived, beside it: announcements elsewhere, old checksums, groups that are left,
//! peers that are missing.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use pointsman_daemon::vrrp::Holding;
use pointsman_ha::vrrp::{OldChecksum, Peers, Version};
use pointsman_linux::packet::Capture;
use tokio::sync::mpsc::unbounded_channel;

use super::keepalived::Keepalived;
use super::segment::{PATIENCE, Segment, ip, wait};
use super::{Manner, PLAIN, V4, begin};

const QUICK: Manner = Manner {
    version: Version::V3,
    centiseconds: 10,
    ..PLAIN
};
const ELSEWHERE: [&str; 2] = ["10.79.0.100", "10.79.0.101"];

/// The first so many announcements that host 1 hears on a cable, with their senders' link-layer addresses.
fn announcements(capture: &mut Capture, count: usize) -> Vec<(String, Vec<u8>)> {
    let deadline = Instant::now() + PATIENCE;
    let mut heard = Vec::new();
    while heard.len() < count {
        assert!(Instant::now() < deadline, "only {heard:?}");
        let frame = capture.next(Duration::from_millis(100)).expect("a capture");
        let Some(frame) = frame.map(|frame| frame.bytes) else {
            continue;
        };
        // ARP whose sender asks for himself.
        if frame.len() >= 42 && frame[12..14] == [8, 6] && frame[28..32] == frame[38..42] {
            let sender = <[u8; 4]>::try_from(&frame[28..32]).expect("four bytes");
            heard.push((IpAddr::from(sender).to_string(), frame[6..12].to_vec()));
        }
    }
    heard
}

/// What is announced by a second cable at the beginning, and again and again; true for ours.
fn announced_elsewhere(ours: bool) -> Vec<String> {
    let Some(segment) = Segment::new(2) else {
        return Vec::new();
    };
    let (host, other) = (&segment.hosts[0], &segment.hosts[1]);
    let name = other.name().expect("a name");
    ip(
        host,
        &format!("link add eth1 type veth peer name eth1 netns {name}"),
    );
    ip(host, "address add 10.79.0.1/24 dev eth1");
    ip(host, "link set eth1 up");
    ip(other, "link set eth1 up");
    let mac = ip(host, "-o link show dev eth1");
    let mut words = mac.split_whitespace();
    words.find(|word| *word == "link/ether");
    let mac = words.next().expect("an address").to_owned();
    let open = |interface: &'static str| {
        let capture = other.run_in(move || Capture::open(interface));
        capture.expect("enter").expect("a capture")
    };
    let (mut here, mut there) = (open("eth0"), open("eth1"));
    let mut config = QUICK.ours(150, 0, 1);
    let theirs = format!(
        "vrrp_instance VI_1 {{\n interface eth0\n version 3\n virtual_router_id 51\n priority 150\n \
         advert_int 0.1\n garp_master_repeat 1\n garp_master_delay 0\n garp_extra_if all 1\n \
         virtual_ipaddress {{\n {V4}\n }}\n virtual_ipaddress_excluded {{\n {} dev eth1\n {} dev eth1\n }}\n}}\n",
        ELSEWHERE[0], ELSEWHERE[1]
    );
    let instance = &mut config.instances[0];
    instance.router.announce.repeat = 1;
    instance.router.announce.delay = Duration::ZERO;
    instance.elsewhere = Duration::from_secs(1);
    for address in ELSEWHERE {
        let address: IpAddr = address.parse().expect("an address");
        instance.router.excluded.push(address);
        let mut holding = Holding::host(address);
        holding.device = Some("eth1".to_owned());
        instance.holdings.push(holding);
    }
    let _ours = ours.then(|| begin(&segment, 0, &config));
    let _theirs = (!ours).then(|| Keepalived::start(host, &theirs));
    let there = announcements(&mut there, 4);
    for (_, sender) in &there {
        let sender: Vec<String> = sender.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(sender.join(":"), mac, "the sender of what leaves by eth1");
    }
    let here = announcements(&mut here, 1);
    let all = here.into_iter().chain(there);
    all.map(|(address, _)| address).collect()
}

#[test]
fn addresses_of_other_interfaces_are_announced_there_again_and_again() {
    let mut both = [true, false].into_iter().map(announced_elsewhere);
    let (ours, theirs) = (both.next().expect("ours"), both.next().expect("theirs"));
    assert_eq!(ours, theirs);
}

/// Reasons for which ours rejected what came.
fn rejected(vrrp: &pointsman_daemon::vrrp::Vrrp) -> BTreeMap<String, u64> {
    vrrp.status()[0].rejected.clone()
}

#[test]
fn old_checksums_are_understood_and_answered() {
    let Some(segment) = Segment::new(2) else {
        return;
    };
    let unicast = Manner {
        unicast: true,
        ..QUICK
    };
    let with = |priority: u8, mode: OldChecksum| {
        let mut config = unicast.ours(priority, 0, 1);
        config.instances[0].router.old_checksum = mode;
        config
    };
    let theirs = |priority: u8, mode: &str| {
        let text = unicast.theirs(priority, 1, 0);
        Keepalived::start(
            &segment.hosts[1],
            &text.replace("version", &format!("{mode}\n version")),
        )
    };
    // Their checksums are old, and ours are once they have been heard.
    let mut old = theirs(200, "old_unicast_checksum");
    wait("keepalived to be master", || segment.has(1, V4));
    let (ours, _) = begin(&segment, 0, &with(100, OldChecksum::Detect));
    wait("ours to know its master", || {
        ours.status()[0].master.is_some()
    });
    assert_eq!(rejected(&ours), BTreeMap::new());
    old.stop();
    segment.wait_for_owner(0, &[0, 1], V4);
    // Who never takes old ones hears of nobody.
    let strict = theirs(50, "old_unicast_checksum never");
    wait("keepalived to reject old checksums", || {
        strict.log().contains("Invalid VRRPv3 checksum")
    });
    drop(strict);
    // It takes them for its peer's way, without being told.
    let auto = theirs(50, "");
    wait("keepalived to take them", || {
        auto.log()
            .contains("Setting unicast VRRPv3 checksum to old version")
    });
    assert!(!segment.has(1, V4));
    drop(auto);
    ours.stop();
    // And without old ones, they are rejected here.
    let old = theirs(200, "old_unicast_checksum");
    wait("keepalived to be master", || segment.has(1, V4));
    let (ours, _) = begin(&segment, 0, &with(100, OldChecksum::Never));
    wait("ours to reject old checksums", || {
        rejected(&ours).contains_key("checksum")
    });
    drop(old);
}

#[test]
fn a_group_is_left_that_nobody_listens_to() {
    let Some(segment) = Segment::new(1) else {
        return;
    };
    for v6 in [false, true] {
        let manner = Manner { v6, ..QUICK };
        let groups = if v6 {
            ["ff02::12", "ff02::77"]
        } else {
            ["224.0.0.18", "224.0.0.77"]
        };
        let joined = |group: &str| {
            let listed = ip(&segment.hosts[0], "maddress show dev eth0");
            listed.split_whitespace().any(|word| word == group)
        };
        let mut config = manner.ours(150, 0, 1);
        let (ours, _) = begin(&segment, 0, &config);
        wait("it to listen", || joined(groups[0]));
        config.instances[0].router.peers = Peers::Multicast(groups[1].parse().expect("a group"));
        let (tell, _told) = unbounded_channel();
        ours.set_config(&config, tell).expect("it can be");
        assert!(joined(groups[1]) && !joined(groups[0]));
    }
}

#[test]
fn without_its_peers_a_unicast_router_is_in_fault() {
    let Some(segment) = Segment::new(1) else {
        return;
    };
    let mut config = QUICK.ours(150, 0, 1);
    let peers = |peers| Peers::Unicast {
        peers,
        hop_limit: 255,
        only_peers: false,
    };
    config.instances[0].router.peers = peers(Vec::new());
    let (ours, _) = begin(&segment, 0, &config);
    wait("it to be in fault", || ours.status()[0].state == "FAULT");
    assert!(!segment.has(0, V4));
    let other: IpAddr = "10.77.0.2".parse().expect("an address");
    config.instances[0].router.peers = peers(vec![other.into()]);
    let (tell, _told) = unbounded_channel();
    ours.set_config(&config, tell).expect("it can be");
    wait("it to be master", || ours.status()[0].state == "MASTER");
    assert!(segment.has(0, V4));
}

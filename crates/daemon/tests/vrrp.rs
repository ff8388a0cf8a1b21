//! Virtual routers on real interfaces, among themselves and with Debian's keepalived.

#[path = "support/frr.rs"]
mod frr;
#[path = "vrrp/habits.rs"]
mod habits;
#[path = "vrrp/host_items.rs"]
mod host_items;
#[path = "vrrp/keepalived.rs"]
mod keepalived;
#[path = "vrrp/refusal.rs"]
mod refusal;
#[path = "vrrp/segment.rs"]
mod segment;
#[path = "vrrp/vrrpd.rs"]
mod vrrpd;

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use pointsman_daemon::vrrp::{
    Board, Instance, VERIFY_TRACKER, Verification, Vmac, Vrrp, VrrpConfig,
};
use pointsman_ha::vrrp::{Notice, Peer, Peers, RouterConfig, Tracker, VerifyConfig, Version};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use keepalived::Keepalived;
use segment::{Segment, ip, wait};
use vrrpd::Frr;

const V4: &str = "10.77.0.100";
const V6: &str = "fd77::100";

/// How two hosts agree.
#[derive(Debug, Clone, Copy)]
struct Manner {
    version: Version,
    v6: bool,
    unicast: bool,
    password: Option<&'static str>,
    centiseconds: u64,
    vmac: bool,
}

const PLAIN: Manner = Manner {
    version: Version::V2,
    v6: false,
    unicast: false,
    password: None,
    centiseconds: 100,
    vmac: false,
};

impl Manner {
    fn address(self) -> &'static str {
        if self.v6 { V6 } else { V4 }
    }

    fn host(self, host: usize) -> String {
        let number = host + 1;
        if self.v6 {
            format!("fd77::{number}")
        } else {
            format!("10.77.0.{number}")
        }
    }

    /// The virtual router as ours; `peer` is the other host.
    fn ours(self, priority: u8, host: usize, peer: usize) -> VrrpConfig {
        let vip: IpAddr = self.address().parse().expect("an address");
        let link_local: IpAddr = "fe80::77:100".parse().expect("an address");
        let addresses = if self.v6 {
            vec![link_local, vip]
        } else {
            vec![vip]
        };
        let mut router = RouterConfig::new("VI_1", "eth0", 51, &addresses);
        router.version = self.version;
        router.priority = priority;
        router.interval = Duration::from_millis(self.centiseconds * 10);
        if self.unicast {
            router.peers = Peers::Unicast {
                peers: vec![Peer::from(
                    self.host(peer).parse::<IpAddr>().expect("an address"),
                )],
                hop_limit: 255,
                only_peers: false,
            };
        }
        router.password = self.password.map(|word| {
            let mut bytes = [0; 8];
            bytes[..word.len()].copy_from_slice(word.as_bytes());
            bytes
        });
        let source = self
            .unicast
            .then(|| self.host(host).parse().expect("an address"));
        let instance = Instance {
            router,
            holdings: Vec::new(),
            items: Vec::new(),
            promote_secondaries: false,
            source,
            track_interface: true,
            vmac: self.vmac.then(|| Vmac {
                name: "vrrp.51".to_owned(),
                mac: pointsman_wire::vrrp::virtual_mac(51, self.v6),
                advertise_below: false,
            }),
            refuses: false,
            elsewhere: Duration::ZERO,
            verification: None,
        };
        VrrpConfig {
            instances: vec![instance],
            ..VrrpConfig::default()
        }
    }

    /// The same for keepalived.
    fn theirs(self, priority: u8, host: usize, peer: usize) -> String {
        let vips = if self.v6 {
            format!("fe80::77:100\n {V6}/128")
        } else {
            V4.to_owned()
        };
        let mut more = String::new();
        if let Some(word) = self.password {
            more += &format!("authentication {{\n auth_type PASS\n auth_pass {word}\n }}\n");
        }
        if self.unicast {
            let (source, peer) = (self.host(host), self.host(peer));
            more += &format!("unicast_src_ip {source}\nunicast_peer {{\n {peer}\n }}\n");
        }
        if self.vmac {
            more += "use_vmac\n";
        }
        let version = self.version.number();
        let interval = self.centiseconds as f64 / 100.0;
        format!(
            "vrrp_instance VI_1 {{\n interface eth0\n version {version}\n virtual_router_id 51\n \
             priority {priority}\n advert_int {interval}\n {more} \
             virtual_ipaddress {{\n {vips}\n }}\n}}\n"
        )
    }
}

/// Begins ours on a host of the segment.
fn begin(segment: &Segment, host: usize, config: &VrrpConfig) -> (Vrrp, UnboundedReceiver<Notice>) {
    let (sender, receiver) = unbounded_channel();
    let _inside = segment.hosts[host].enter().expect("enter");
    (
        Vrrp::start(config, &BTreeSet::new(), sender, Board::default()).expect("begin"),
        receiver,
    )
}

fn notices(receiver: &mut UnboundedReceiver<Notice>) -> Vec<String> {
    std::iter::from_fn(|| receiver.try_recv().ok())
        .map(|notice| notice.to_string())
        .collect()
}

#[test]
fn the_address_is_where_the_highest_priority_is() {
    let Some(segment) = Segment::new(3) else {
        return;
    };
    let quick = Manner {
        version: Version::V3,
        centiseconds: 10,
        ..PLAIN
    };
    // Left by a daemon that was killed.
    ip(&segment.hosts[1], &format!("address add {V4}/32 dev eth0"));
    let (high, mut said) = begin(&segment, 0, &quick.ours(200, 0, 1));
    let (low, _) = begin(&segment, 1, &quick.ours(100, 1, 0));
    assert!(!segment.has(1, V4), "what was left is taken away");
    segment.wait_for_owner(0, &[0, 1], V4);
    wait("the backup to know its master", || {
        low.status()[0].master == Some("10.77.0.1".parse().expect("an address"))
    });
    // Others learn where the address is, without having asked.
    ip(&segment.hosts[2], "neighbour flush all");
    segment.cable(0, "down");
    wait("the second to be master", || {
        low.status()[0].state == "MASTER"
    });
    assert!(segment.has(1, V4));
    wait("the first to notice its cable", || {
        high.status()[0].state == "FAULT"
    });
    assert!(!segment.has(0, V4));
    segment.cable(0, "up");
    segment.wait_for_owner(0, &[0, 1], V4);
    // Somebody takes the address away.
    ip(
        &segment.hosts[0],
        &format!("address delete {V4}/32 dev eth0"),
    );
    wait("the address to come back", || segment.has(0, V4));
    // A new configuration, without an election; from then on another is told.
    let (tell, mut told) = unbounded_channel();
    let mut more = quick.ours(190, 0, 1);
    let second: IpAddr = "10.77.0.101".parse().expect("an address");
    more.instances[0].router.excluded.push(second);
    high.set_config(&more, tell.clone()).expect("it can be");
    assert!(segment.has(0, V4) && segment.has(0, "10.77.0.101"));
    let mut wrong = more.clone();
    wrong.instances[0].router.vrid = 0;
    high.set_config(&wrong, tell.clone())
        .expect_err("no such id");
    high.set_config(&quick.ours(200, 0, 1), tell)
        .expect("it can be");
    assert!(segment.has(0, V4) && !segment.has(0, "10.77.0.101"));
    // Another daemon takes over, and nobody else notices.
    let masters = high.leave().masters;
    assert!(segment.has(0, V4));
    let (sender, mut resumed) = unbounded_channel();
    let high = {
        let _inside = segment.hosts[0].enter().expect("enter");
        Vrrp::start(&quick.ours(200, 0, 1), &masters, sender, Board::default()).expect("begin")
    };
    assert_eq!(high.status()[0].state, "MASTER");
    assert_eq!(notices(&mut resumed), ["INSTANCE \"VI_1\" MASTER 200"]);
    let elected = low.status()[0].became_master;
    assert_eq!(elected, 1, "only while the cable was out");
    let began = Instant::now();
    high.stop();
    segment.wait_for_owner(1, &[0, 1], V4);
    assert!(
        began.elapsed() < Duration::from_millis(500),
        "{:?}",
        began.elapsed()
    );
    assert_eq!(low.status()[0].zero_received, 1);
    assert_eq!(
        notices(&mut said),
        [
            "INSTANCE \"VI_1\" BACKUP 200",
            "INSTANCE \"VI_1\" MASTER 200",
            "INSTANCE \"VI_1\" FAULT 200",
            "INSTANCE \"VI_1\" BACKUP 200",
            "INSTANCE \"VI_1\" MASTER 200",
        ]
    );
    assert_eq!(notices(&mut resumed), ["INSTANCE \"VI_1\" STOP 200"]);
    assert!(notices(&mut told).is_empty());
    low.stop();
    assert!(!segment.has(1, V4), "given back at the end");
}

/// Ours takes over from keepalived and keepalived from ours, and neither finds fault with the other.
fn interoperates(manner: Manner) {
    let Some(segment) = Segment::new(2) else {
        return;
    };
    let vip = manner.address();
    // Theirs has more right.
    let mut theirs = Keepalived::start(&segment.hosts[1], &manner.theirs(150, 1, 0));
    let (ours, _) = begin(&segment, 0, &manner.ours(100, 0, 1));
    segment.wait_for_owner(1, &[0, 1], vip);
    wait("ours to hear it", || ours.status()[0].received > 2);
    theirs.stop();
    segment.wait_for_owner(0, &[0, 1], vip);
    let status = &ours.status()[0];
    assert_eq!(status.zero_received, 1, "it said that it stops");
    assert!(
        status.rejected.is_empty(),
        "{manner:?}: {:?}",
        status.rejected
    );
    theirs.assert_content();
    ours.stop();
    assert!(!segment.has(0, vip));
    // Ours has more right, and comes later.
    let mut theirs = Keepalived::start(&segment.hosts[1], &manner.theirs(100, 1, 0));
    segment.wait_for_owner(1, &[0, 1], vip);
    let (ours, _) = begin(&segment, 0, &manner.ours(150, 0, 1));
    segment.wait_for_owner(0, &[0, 1], vip);
    wait("ours to advertise", || ours.status()[0].sent > 3);
    ours.stop();
    segment.wait_for_owner(1, &[0, 1], vip);
    theirs.stop();
    theirs.assert_content();
    assert!(!segment.has(1, vip));
}

#[test]
fn all_manners_interoperate_with_keepalived() {
    let quick = Manner {
        version: Version::V3,
        centiseconds: 10,
        ..PLAIN
    };
    let password = Some("secret12");
    let manners = [
        PLAIN,
        Manner { password, ..PLAIN },
        Manner {
            unicast: true,
            ..PLAIN
        },
        Manner {
            centiseconds: 100,
            ..quick
        },
        quick,
        Manner {
            unicast: true,
            ..quick
        },
        Manner { v6: true, ..quick },
        Manner {
            v6: true,
            unicast: true,
            ..quick
        },
        Manner {
            vmac: true,
            ..quick
        },
        Manner {
            v6: true,
            vmac: true,
            ..quick
        },
    ];
    // Each has a segment of its own, and mostly waits.
    std::thread::scope(|scope| {
        for manner in manners {
            scope.spawn(move || interoperates(manner));
        }
    });
}

/// Ours is backup of FRR and its master.
fn interoperates_with_frr(manner: Manner) {
    let Some(segment) = Segment::new(2) else {
        return;
    };
    let vip = manner.address();
    let addresses = if manner.v6 {
        vec!["fe80::77:100", V6]
    } else {
        vec![V4]
    };
    let begin_frr = |priority: u8| {
        let family = if manner.v6 { "ipv6" } else { "ip" };
        let mut lines = vec![
            format!("version {}", manner.version.number()),
            format!("priority {priority}"),
            format!("advertisement-interval {}", manner.centiseconds * 10),
        ];
        lines.extend(addresses.iter().map(|one| format!("{family} {one}")));
        Frr::start(&segment.hosts[1], &lines, &addresses, manner.v6)
    };
    // Theirs has more right.
    let mut theirs = begin_frr(200);
    let (ours, _) = begin(&segment, 0, &manner.ours(100, 0, 1));
    wait("ours to hear it", || ours.status()[0].received > 5);
    let status = &ours.status()[0];
    assert_eq!(status.state, "BACKUP", "{manner:?}: {}", theirs.log());
    assert!(status.rejected.is_empty(), "{:?}", status.rejected);
    theirs.stop();
    segment.wait_for_owner(0, &[0], vip);
    assert_eq!(ours.status()[0].zero_received, 1, "it said that it stops");
    ours.stop();
    ip(
        &segment.hosts[1],
        &format!(
            "link delete {}",
            if manner.v6 { "vrrp6-51" } else { "vrrp4-51" }
        ),
    );
    // Ours has more right, and comes later.
    let theirs = begin_frr(50);
    let (ours, _) = begin(&segment, 0, &manner.ours(150, 0, 1));
    wait("ours to be master", || ours.status()[0].state == "MASTER");
    let heard = ours.status()[0].received;
    let sent = ours.status()[0].sent;
    wait("ours to advertise", || ours.status()[0].sent > sent + 6);
    let status = &ours.status()[0];
    assert!(
        status.state == "MASTER" && status.received <= heard + 1,
        "theirs does not advertise any more: {status:?}\n{}",
        theirs.log()
    );
    assert!(status.rejected.is_empty(), "{:?}", status.rejected);
    ours.stop();
    assert!(!segment.has(0, vip));
}

#[test]
fn all_versions_interoperate_with_frr() {
    if !Frr::is_there() {
        return;
    }
    let quick = Manner {
        version: Version::V3,
        centiseconds: 10,
        ..PLAIN
    };
    let manners = [PLAIN, quick, Manner { v6: true, ..quick }];
    std::thread::scope(|scope| {
        for manner in manners {
            scope.spawn(move || interoperates_with_frr(manner));
        }
    });
}

/// The neighbour that a host has for an address: its link-layer address, once it has asked.
fn who_has(segment: &Segment, host: usize, address: &str) -> String {
    let mut ping = segment.hosts[host].command("ping");
    let _ = ping
        .args(["-c", "1", "-W", "1", "-n", address])
        .stdout(std::process::Stdio::null())
        .status();
    let listed = ip(
        &segment.hosts[host],
        &format!("neighbour show {address} dev eth0"),
    );
    let mut words = listed.split_whitespace();
    words.find(|word| *word == "lladdr");
    words.next().unwrap_or_default().to_owned()
}

#[test]
fn a_virtual_link_layer_address_moves_with_the_master_and_leaves_nothing() {
    for v6 in [false, true] {
        let Some(segment) = Segment::new(3) else {
            return;
        };
        let manner = Manner {
            version: Version::V3,
            centiseconds: 10,
            vmac: true,
            v6,
            ..PLAIN
        };
        let vip = manner.address();
        let before = |host: usize| {
            let settings = "net.ipv4.conf.eth0.arp_ignore net.ipv4.conf.eth0.arp_filter";
            segment::run(&segment.hosts[host], "sysctl", settings)
        };
        let settings = before(0);
        // Left by a daemon that was killed.
        let left = if v6 { "2" } else { "1" };
        ip(
            &segment.hosts[1],
            &format!("link add vrrp.51 link eth0 address 00:00:5e:00:0{left}:33 type macvlan"),
        );
        let (high, _) = begin(&segment, 0, &manner.ours(150, 0, 1));
        let (low, _) = begin(&segment, 1, &manner.ours(100, 1, 0));
        segment.wait_for_owner(0, &[0, 1], vip);
        wait("the backup to know its master", || {
            low.status()[0].master.is_some()
        });
        let virtual_mac = format!("00:00:5e:00:0{left}:33");
        wait("the client to find the virtual address", || {
            who_has(&segment, 2, vip) == virtual_mac
        });
        let port = |number: usize| {
            let listed = segment::run(&segment.bridge, "bridge", "fdb show br br0");
            let mut lines = listed.lines().filter(|line| line.starts_with(&virtual_mac));
            lines.any(|line| line.contains(&format!("dev port{number} ")))
        };
        assert!(port(1), "the bridge has learned it where the master is");
        // The backup says nothing in its name.
        let down = ip(&segment.hosts[1], "-o link show dev vrrp.51");
        assert!(down.contains("state DOWN"), "{down}");
        high.stop();
        segment.wait_for_owner(1, &[0, 1], vip);
        wait("the bridge to learn where the address went", || port(2));
        assert_eq!(who_has(&segment, 2, vip), virtual_mac, "as before");
        assert_eq!(settings, before(0), "put back");
        assert!(!ip(&segment.hosts[0], "-o link").contains("vrrp.51"));
        low.stop();
        assert!(!ip(&segment.hosts[1], "-o link").contains("vrrp.51"));
    }
}

/// Has the port of the first host drop what comes in the name of the virtual address.
const FILTERS: [[&str; 2]; 2] = [
    [
        "ebtables",
        "-A FORWARD -i port1 -p ARP --arp-ip-src 10.77.0.100 -j DROP",
    ],
    [
        "ebtables",
        "-A FORWARD -i port1 -p IPv6 --ip6-source fd77::100 -j DROP",
    ],
];

#[test]
fn a_master_that_nobody_believes_says_so_and_steps_down() {
    std::thread::scope(|scope| {
        for v6 in [false, true] {
            scope.spawn(move || a_master_is_not_believed(v6));
        }
    });
}

fn a_master_is_not_believed(v6: bool) {
    let Some(segment) = Segment::new(3) else {
        return;
    };
    let manner = Manner {
        version: Version::V3,
        centiseconds: 10,
        v6,
        ..PLAIN
    };
    let vip = manner.address();
    let verified = |step_down: Option<u64>, priority, host, peer| {
        let mut config = manner.ours(priority, host, peer);
        let instance = &mut config.instances[0];
        instance.verification = Some(Verification {
            config: VerifyConfig {
                every: Duration::from_secs(1),
                step_down: step_down.map(Duration::from_secs),
            },
            ask: vec![manner.host(2).parse().expect("an address")],
        });
        if step_down.is_some() {
            let tracker = Tracker::new(&format!("{VERIFY_TRACKER}VI_1"));
            instance.router.trackers.push(tracker);
        }
        config
    };
    let (high, _) = begin(&segment, 0, &verified(None, 150, 0, 1));
    let (low, _) = begin(&segment, 1, &verified(Some(600), 100, 1, 0));
    segment.wait_for_owner(0, &[0, 1], vip);
    wait("the master to be believed", || {
        high.status()[0].believed == Some(true)
    });
    assert_eq!(low.status()[0].believed, None, "a backup asks nobody");
    // Who answers nothing at all proves nothing.
    let [program, rule] = FILTERS[usize::from(v6)];
    segment::run(&segment.bridge, program, rule);
    wait("the master to find out", || {
        high.status()[0].believed == Some(false)
    });
    assert!(segment.has(0, vip), "it was not told to step down");
    let (tell, _told) = unbounded_channel();
    high.set_config(&verified(Some(600), 150, 0, 1), tell)
        .expect("it can be");
    segment.wait_for_owner(1, &[0, 1], vip);
    assert_eq!(high.status()[0].state, "FAULT");
    wait("the second to be believed", || {
        low.status()[0].believed == Some(true)
    });
}

#[test]
fn a_master_stays_master_without_a_cable_where_that_is_wanted() {
    let Some(segment) = Segment::new(1) else {
        return;
    };
    let quick = Manner {
        version: Version::V3,
        centiseconds: 10,
        ..PLAIN
    };
    let tracked = quick.ours(200, 0, 1);
    let mut untracked = tracked.clone();
    untracked.instances[0].track_interface = false;
    let (router, mut said) = begin(&segment, 0, &untracked);
    segment.wait_for_owner(0, &[0], V4);
    segment.cable(0, "down");
    wait("the cable to be out", || {
        ip(&segment.hosts[0], "-o link show dev eth0").contains("NO-CARRIER")
    });
    let sent = router.status()[0].sent;
    wait("it to go on", || router.status()[0].sent > sent + 5);
    assert!(segment.has(0, V4));
    // Told to look at it, it does at once.
    let (tell, mut told) = unbounded_channel();
    router.set_config(&tracked, tell).expect("it can be");
    wait("it to notice", || router.status()[0].state == "FAULT");
    assert!(!segment.has(0, V4));
    assert_eq!(notices(&mut told), ["INSTANCE \"VI_1\" FAULT 200"]);
    assert_eq!(notices(&mut said).len(), 2, "backup and master");
    router.stop();
}

#[test]
fn masters_that_do_not_agree_know_of_each_other() {
    let Some(segment) = Segment::new(2) else {
        return;
    };
    let quick = Manner {
        version: Version::V3,
        centiseconds: 10,
        ..PLAIN
    };
    let (high, _) = begin(&segment, 0, &quick.ours(200, 0, 1));
    let mut other = quick.ours(100, 1, 0);
    let second: IpAddr = "10.77.0.101".parse().expect("an address");
    other.instances[0].router.addresses.push(second);
    let (low, _) = begin(&segment, 1, &other);
    let address = |host: &str| Some(host.parse::<IpAddr>().expect("an address"));
    wait("both to know of the other", || {
        high.status()[0].rival == address("10.77.0.2")
            && low.status()[0].rival == address("10.77.0.1")
    });
    // With the same addresses they agree.
    let (tell, _told) = unbounded_channel();
    low.set_config(&quick.ours(100, 1, 0), tell)
        .expect("it can be");
    segment.wait_for_owner(0, &[0, 1], V4);
    wait("the first to be alone", || high.status()[0].rival.is_none());
    assert_eq!(low.status()[0].rival, None);
}

//! BFD sessions on real interfaces, with Debian's keepalived and with FRR.

#[path = "bfd/bfdd.rs"]
mod bfdd;
#[path = "support/frr.rs"]
mod frr;
#[path = "vrrp/keepalived.rs"]
#[allow(dead_code)]
mod keepalived;
#[path = "vrrp/segment.rs"]
#[allow(dead_code)]
mod segment;

use std::collections::BTreeMap;
use std::net::{IpAddr, UdpSocket};
use std::sync::PoisonError;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use pointsman_daemon::bfd::{Bfd, BfdBoard, LeftSessions, LevelSender, Levels, SessionStatus};
use pointsman_ha::bfd::SessionConfig;
use pointsman_wire::control::BfdState;
use pointsman_wire::{Control, bfd};
use tokio::sync::watch;

use bfdd::Frr;
use keepalived::Keepalived;
use segment::{Segment, wait};

/// The sessions of a host of the segment, and what they tell.
struct Ours {
    bfd: Bfd,
    levels: Levels,
    tell: LevelSender,
    board: BfdBoard,
}

impl Ours {
    fn start(segment: &Segment, host: usize, configs: &[SessionConfig]) -> Self {
        Self::resume(segment, host, configs, &LeftSessions::new())
    }

    fn resume(
        segment: &Segment,
        host: usize,
        configs: &[SessionConfig],
        left: &LeftSessions,
    ) -> Self {
        let (tell, levels) = watch::channel(BTreeMap::new());
        let board = BfdBoard::default();
        let _inside = segment.hosts[host].enter().expect("enter");
        let bfd = Bfd::start(configs, (left, 0.0), tell.clone(), board.clone()).expect("begin");
        Self {
            bfd,
            levels,
            tell,
            board,
        }
    }

    fn is_up(&self, name: &str) -> bool {
        self.levels.borrow().get(name) == Some(&true)
    }

    fn status(&self, name: &str) -> SessionStatus {
        let board = self.board.lock().unwrap_or_else(PoisonError::into_inner);
        let mut sessions = board.sessions.iter();
        let found = sessions.find(|session| session.name == name).cloned();
        found.expect("the session")
    }

    fn wait(&self, names: &[&str], up: bool) -> Duration {
        let begun = Instant::now();
        wait(&format!("{names:?} to be up: {up}"), || {
            names.iter().all(|name| self.is_up(name) == up)
        });
        begun.elapsed()
    }
}

/// A host's address of a family.
fn address(host: usize, is_ipv6: bool) -> IpAddr {
    let text = match is_ipv6 {
        false => format!("10.77.0.{}", host + 1),
        true => format!("fd77::{}", host + 1),
    };
    text.parse().expect("an address")
}

/// Slow enough for a busy machine: 200 ms, 5 may be lost.
fn config(name: &str, host: usize, peer: usize, is_ipv6: bool) -> SessionConfig {
    SessionConfig {
        source: Some(address(host, is_ipv6)),
        min_rx: Duration::from_millis(200),
        min_tx: Duration::from_millis(200),
        multiplier: 5,
        ..SessionConfig::new(name, address(peer, is_ipv6))
    }
}

/// The same for keepalived, with a virtual router that tracks both.
fn theirs(host: usize, peer: usize, more: &str) -> String {
    let session = |name: &str, is_ipv6: bool| {
        format!(
            "bfd_instance {name} {{\n neighbor_ip {}\n source_ip {}\n min_rx 200\n min_tx 200\n \
             multiplier 5\n {more}\n}}\n",
            address(peer, is_ipv6),
            address(host, is_ipv6)
        )
    };
    format!(
        "{}{}vrrp_instance V {{\n interface eth0\n virtual_router_id 9\n priority 100\n \
         virtual_ipaddress {{\n 10.77.0.200\n }}\n track_bfd {{\n four weight 10\n six weight 20\n }}\n}}\n",
        session("four", false),
        session("six", true)
    )
}

/// How often keepalived says a session became so.
fn told(peer: &Keepalived, name: &str, state: &str) -> usize {
    let line = format!("Tracked BFD instance {name} is {state}");
    peer.log().matches(&line).count()
}

const BOTH: [&str; 2] = ["four", "six"];

fn both() -> [SessionConfig; 2] {
    [config("four", 0, 1, false), config("six", 0, 1, true)]
}

#[test]
fn sessions_with_keepalived_follow_the_cable_and_the_process() {
    let Some(segment) = Segment::new(2) else {
        return;
    };
    let ours = Ours::start(&segment, 0, &both());
    assert!(BOTH.iter().all(|name| !ours.is_up(name)));
    let peer = Keepalived::start(&segment.hosts[1], &theirs(1, 0, ""));
    ours.wait(&BOTH, true);
    let their = |state: &str, times: usize| {
        wait(&format!("keepalived to say {state}"), || {
            BOTH.iter().all(|name| told(&peer, name, state) == times)
        });
    };
    their("UP", 1);
    wait("the pace that was agreed upon", || {
        BOTH.iter().all(|name| {
            let status = ours.status(name);
            status.interval_us == 200_000 && status.detection_us == 1_000_000
        })
    });
    // Nobody's cable is told that it is out: its link stays up.
    segment.cable(0, "nomaster");
    let took = ours.wait(&BOTH, false);
    their("DOWN", 1);
    println!("down after {took:?} of a second without a cable");
    assert!(took < Duration::from_secs(8), "{took:?}");
    let diagnostic = ours.status("four").diagnostic;
    assert_eq!(diagnostic, "Control Detection Time Expired");
    segment.cable(0, "master br0");
    ours.wait(&BOTH, true);
    their("UP", 2);
    // The other end hangs; only its silence tells.
    let process = peer.bfd_process().expect("its process");
    kill(process, Signal::SIGSTOP).expect("stop it");
    ours.wait(&BOTH, false);
    kill(process, Signal::SIGCONT).expect("let it go on");
    ours.wait(&BOTH, true);
    their("UP", 3);
    // Another pace, without a fall.
    let mut slower = both();
    slower[0].min_tx = Duration::from_millis(400);
    slower[1].min_rx = Duration::from_millis(100);
    let downs = || BOTH.map(|name| ours.status(name).downs);
    let before = downs();
    ours.bfd.prepare(&slower).expect("it can be");
    ours.bfd.set_config(&slower);
    wait("the new pace", || {
        ours.status("four").interval_us == 400_000
    });
    assert_eq!(downs(), before);
    // One goes; the other stays as it is.
    ours.bfd.set_config(&slower[1..]);
    assert!(ours.is_up("six") && !ours.is_up("four"));
    wait("keepalived to miss the one that went", || {
        told(&peer, "four", "DOWN") == 3
    });
    assert_eq!(
        (downs_of(&ours, "six"), told(&peer, "six", "DOWN")),
        (before[1], 2)
    );
    drop(ours);
    wait("keepalived to miss the other", || {
        told(&peer, "six", "DOWN") == 3
    });
}

fn downs_of(ours: &Ours, name: &str) -> u64 {
    ours.status(name).downs
}

#[test]
fn a_restart_is_shorter_than_the_patience_of_keepalived() {
    let Some(segment) = Segment::new(2) else {
        return;
    };
    // Far beyond what a restart takes here, whatever else runs.
    let patient = both().map(|one| SessionConfig {
        multiplier: 20,
        passive: false,
        ..one
    });
    let ours = Ours::start(&segment, 0, &patient);
    let peer = Keepalived::start(&segment.hosts[1], &theirs(1, 0, ""));
    ours.wait(&BOTH, true);
    wait("keepalived to say so", || {
        BOTH.iter().all(|name| told(&peer, name, "UP") == 1)
    });
    let sent = ours.status("four").sent;
    let left = ours.bfd.leave();
    assert_eq!(left.len(), 2);
    let next = Ours::resume(&segment, 0, &patient, &left);
    assert!(BOTH.iter().all(|name| next.is_up(name)), "at once");
    wait("packets both ways", || {
        let status = next.status("six");
        status.received > 5 && status.sent > 5
    });
    assert!(
        sent > 0
            && BOTH
                .iter()
                .all(|name| next.is_up(name) && told(&peer, name, "DOWN") == 0)
    );
    // One that the other end has given up meanwhile begins anew, before anybody is told.
    let left = next.bfd.leave();
    wait("keepalived to miss them", || {
        BOTH.iter().all(|name| told(&peer, name, "DOWN") == 1)
    });
    let late = Ours::resume(&segment, 0, &patient, &left);
    wait("both to be up again", || {
        BOTH.iter().all(|name| late.status(name).state == "Up")
    });
    assert!(BOTH.iter().all(|name| late.is_up(name)));
    drop(peer);
    let _ = late.tell.subscribe();
}

#[test]
fn packets_from_too_far_away_do_not_count() {
    let Some(segment) = Segment::new(2) else {
        return;
    };
    // keepalived says 254, and 63 of IPv6: a hop more than is allowed.
    let ours = Ours::start(&segment, 0, &both());
    let far = theirs(1, 0, "max_hops 2").replacen("min_rx", "ttl 254\n min_rx", 1);
    let far = far.replacen(
        " max_hops 2\n}\nvrrp",
        " max_hops 2\n hoplimit 63\n}\nvrrp",
        1,
    );
    let _peer = Keepalived::start(&segment.hosts[1], &far);
    wait("packets that do not count", || {
        BOTH.iter().all(|name| {
            ours.status(name)
                .rejected
                .get("hop-limit")
                .is_some_and(|n| *n > 1)
        })
    });
    assert!(BOTH.iter().all(|name| ours.status(name).state == "Down"));
    let near = both().map(|one| SessionConfig { max_hops: 1, ..one });
    ours.bfd.set_config(&near);
    ours.wait(&BOTH, true);
}

#[test]
fn sessions_of_our_own_meet_each_other_and_one_may_be_passive() {
    let Some(segment) = Segment::new(2) else {
        return;
    };
    let active = Ours::start(&segment, 0, &both());
    let passive =
        [config("four", 1, 0, false), config("six", 1, 0, true)].map(|one| SessionConfig {
            passive: true,
            ..one
        });
    let other = Ours::start(&segment, 1, &passive);
    active.wait(&BOTH, true);
    other.wait(&BOTH, true);
    segment.cable(1, "nomaster");
    active.wait(&BOTH, false);
    other.wait(&BOTH, false);
    segment.cable(1, "master br0");
    active.wait(&BOTH, true);
    other.wait(&BOTH, true);
    // Its port is taken as long as it is there, and then free.
    let taken = {
        let _inside = segment.hosts[0].enter().expect("enter");
        let (tell, _levels) = watch::channel(BTreeMap::new());
        Bfd::start(
            &both(),
            (&LeftSessions::new(), 0.0),
            tell,
            BfdBoard::default(),
        )
    };
    let error = format!("{:#}", taken.expect_err("the port is taken"));
    assert!(
        error.contains("listening for BFD on UDP port 3784 of IPv4"),
        "{error}"
    );
    drop(active);
    // What can't be opened is told, and the session that there is goes on.
    let active = Ours::start(&segment, 0, &both()[..1]);
    active.wait(&["four"], true);
    let taken = segment.hosts[0]
        .run_in(|| UdpSocket::bind("[fd77::1]:3784"))
        .expect("enter");
    let error = active.bfd.prepare(&both()).expect_err("the port is taken");
    let error = format!("{error:#}");
    assert!(error.contains("3784 of IPv6"), "{error}");
    assert!(active.is_up("four"));
    drop((taken.expect("a socket"), active));
    Ours::start(&segment, 0, &both()).wait(&BOTH, true);
}

#[test]
fn a_neighbor_that_is_down_on_purpose_leaves_what_depends_on_it() {
    let Some(segment) = Segment::new(2) else {
        return;
    };
    let bind = |port| {
        let bound = segment.hosts[1].run_in(|| UdpSocket::bind(("10.77.0.2", port)));
        bound.expect("enter").expect("bind")
    };
    let (ear, mouth) = (bind(bfd::PORT), bind(50_000));
    ear.set_read_timeout(Some(segment::PATIENCE)).expect("set");
    mouth.set_ttl(255).expect("set");
    let ours = Ours::start(&segment, 0, &both()[..1]);
    let mut packet = [0; 64];
    let length = ear.recv(&mut packet).expect("a packet");
    let heard = Control::parse(&packet[..length]).expect("a control packet");
    let say = |state: BfdState| {
        let said = Control {
            state,
            my_discriminator: 77,
            your_discriminator: heard.my_discriminator,
            multiplier: 100,
            ..heard
        };
        mouth
            .send_to(&said.bytes(), ("10.77.0.1", bfd::PORT))
            .expect("send");
    };
    let goes = |said: BfdState, wanted: &str| {
        say(said);
        wait(wanted, || ours.status("four").state == wanted);
    };
    goes(BfdState::Down, "Init");
    goes(BfdState::Up, "Up");
    assert!(ours.is_up("four"));
    goes(BfdState::AdminDown, "Down");
    assert!(ours.is_up("four"), "somebody wants it so");
    goes(BfdState::Down, "Init");
    goes(BfdState::Up, "Up");
    goes(BfdState::Down, "Down");
    assert!(!ours.is_up("four"));
}

#[test]
fn sessions_with_frr_follow_the_cable() {
    let Some(segment) = Segment::new(2) else {
        return;
    };
    if !Frr::is_there() {
        return;
    }
    // FRR takes what comes with 255 alone, as RFC 5881 has it.
    let configs = both().map(|one| SessionConfig {
        hop_limit: 255,
        ..one
    });
    let ours = Ours::start(&segment, 0, &configs);
    let mut peer = Frr::start(
        &segment.hosts[1],
        &[false, true].map(|v6| (address(0, v6), address(1, v6))),
    );
    ours.wait(&BOTH, true);
    wait("the pace that was agreed upon", || {
        BOTH.iter()
            .all(|name| ours.status(name).detection_us == 600_000)
    });
    segment.cable(0, "nomaster");
    ours.wait(&BOTH, false);
    segment.cable(0, "master br0");
    ours.wait(&BOTH, true);
    // It says goodbye: somebody wants it so, and the way is there. Whoever depends on it goes on.
    peer.stop();
    wait("its goodbye, or its silence", || {
        BOTH.iter().all(|name| ours.status(name).state == "Down")
    });
}

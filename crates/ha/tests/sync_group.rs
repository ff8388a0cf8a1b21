//! Virtual routers that are master together or not at all, and who on a host gets what.

#[path = "stage/stage.rs"]
mod stage;

use std::net::IpAddr;
use std::time::Duration;

use pointsman_ha::vrrp::{
    Datagram, Reading, RouterConfig, State, SyncGroup, Tracker, Version, VirtualRouter, VrrpRouter,
};
use pointsman_wire::advert::{Advert, ChecksumStyle, Form};
use pointsman_wire::build::Addresses;
use pointsman_wire::vrrp;

use State::{Backup, Fault, Master};
use stage::{GROUP, interface, second, word};

/// What another router says on segment `at`.
fn advert(at: u8, priority: u8) -> Datagram {
    let advert = Advert {
        form: Form::V3 { centiseconds: 100 },
        vrid: 51,
        priority,
        addresses: vec![[10, 99, at, 100].into()],
    };
    let source = [10, 99, at, 3];
    let between = Addresses::V4(source.into(), vrrp::GROUP_V4.into());
    Datagram {
        source: source.into(),
        destination: GROUP,
        hop_limit: 255,
        message: advert.message(&between, ChecksumStyle::PseudoHeader),
    }
}

/// A host with two virtual routers in one sync group, on `eth0` and `eth1`.
struct Pair {
    host: VrrpRouter,
    now: Duration,
}

impl Pair {
    fn new(tracking_weight: bool) -> Self {
        let member = |at: u8| {
            let name = format!("VI_{at}");
            let vip = IpAddr::from([10, 99, at, 100]);
            let mut config = RouterConfig::new(&name, &format!("eth{at}"), 51, &[vip]);
            config.version = Version::V3;
            config.priority = 150 - at;
            config.announce.repeat = 1;
            config.announce.lower_repeat = 1;
            config.trackers = vec![Tracker::new("malus").weight(-60)];
            VirtualRouter::new(config)
        };
        let group = SyncGroup::new("VG", &[0, 1], tracking_weight);
        let mut pair = Self {
            host: VrrpRouter::new(vec![member(0), member(1)], vec![group]),
            now: second(1),
        };
        pair.set_up(0, true);
        pair.set_up(1, true);
        pair
    }

    fn set_up(&mut self, at: u8, up: bool) {
        let interface = up.then(|| interface([10, 99, at, 1].into()));
        let name = format!("eth{at}");
        self.host
            .handle_interface(&name, false, interface, self.now);
    }

    fn hear(&mut self, at: u8, priority: u8) {
        let advert = Advert {
            form: Form::V3 { centiseconds: 100 },
            vrid: 51,
            priority,
            addresses: vec![[10, 99, at, 100].into()],
        };
        let source = [10, 99, at, 3];
        let between = Addresses::V4(source.into(), vrrp::GROUP_V4.into());
        let datagram = Datagram {
            source: source.into(),
            destination: GROUP,
            hop_limit: 255,
            message: advert.message(&between, ChecksumStyle::PseudoHeader),
        };
        let result = self
            .host
            .handle_packet(&format!("eth{at}"), &datagram, self.now);
        result.expect("it counts");
    }

    fn run(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(at) = self.host.poll_timeout().filter(|at| *at <= end) {
            self.now = self.now.max(at);
            self.host.handle_timeout(self.now);
        }
        self.now = end;
    }

    fn states(&self) -> (State, State, State) {
        let routers = self.host.routers();
        (
            routers[0].state(),
            routers[1].state(),
            self.host.groups()[0].state(),
        )
    }

    fn words(&mut self) -> String {
        let mut words = Vec::new();
        while let Some((at, output)) = self.host.poll_output() {
            words.push(format!("{at} {}", word(&output)));
        }
        words.join(", ")
    }
}

#[test]
fn a_group_is_master_when_all_members_would_be() {
    let mut pair = Pair::new(false);
    assert_eq!(pair.states(), (Backup, Backup, Backup));
    for _ in 0..10 {
        pair.run(second(1));
        pair.hear(1, 200);
    }
    // The other member has heard nothing for long, but this one has.
    assert_eq!(pair.states(), (Backup, Backup, Backup));
    pair.words();
    pair.run(second(4));
    assert_eq!(pair.states(), (Master, Master, Master));
    let words = pair.words();
    assert!(words.ends_with("1 GROUP \"VG\" MASTER 0"), "{words}");
    assert_eq!(words.matches("MASTER 0").count(), 1);
}

#[test]
fn a_group_yields_together() {
    let mut pair = Pair::new(false);
    pair.run(second(5));
    pair.words();
    pair.hear(1, 200);
    assert_eq!(pair.states(), (Backup, Backup, Backup));
    assert_eq!(
        pair.words(),
        "0 remove, 0 INSTANCE \"VI_0\" BACKUP 150, \
         1 remove, 1 INSTANCE \"VI_1\" BACKUP 149, 1 GROUP \"VG\" BACKUP 0"
    );
}

#[test]
fn a_fault_of_one_is_a_fault_of_all() {
    let mut pair = Pair::new(false);
    pair.run(second(5));
    pair.words();
    pair.set_up(0, false);
    assert_eq!(pair.states(), (Fault, Fault, Fault));
    // The member that still can says that it stops.
    assert_eq!(
        pair.words(),
        "0 remove, 0 INSTANCE \"VI_0\" FAULT 150, 1 send 0, \
         1 remove, 1 INSTANCE \"VI_1\" FAULT 149, 1 GROUP \"VG\" FAULT 0"
    );
    pair.set_up(0, true);
    assert_eq!(pair.states(), (Backup, Backup, Backup));
    pair.run(second(4));
    assert_eq!(pair.states(), (Master, Master, Master));
}

#[test]
fn a_lower_priority_on_one_segment_is_answered_by_announcements_on_all() {
    let mut pair = Pair::new(false);
    pair.run(second(5));
    pair.words();
    pair.hear(0, 10);
    assert_eq!(
        pair.words(),
        "0 send 150, 0 arp .100, 0 INSTANCE \"VI_0\" MASTER_RX_LOWER_PRI 150, 1 arp .100"
    );
}

#[test]
fn weights_count_in_a_group_only_if_told() {
    for (tracking_weight, priority) in [(false, 150), (true, 90)] {
        let mut pair = Pair::new(tracking_weight);
        pair.host.handle_reading("malus", Reading::Down, pair.now);
        assert_eq!(pair.host.routers()[0].priority(), priority);
    }
}

#[test]
fn what_is_for_nobody_is_no_error() {
    let mut pair = Pair::new(false);
    let mut other = advert(0, 200);
    other.message[1] = 52;
    for (interface, message) in [
        ("eth0", other.message.clone()),
        ("eth9", vec![]),
        ("eth0", vec![]),
    ] {
        let datagram = Datagram {
            message,
            ..other.clone()
        };
        let result = pair.host.handle_packet(interface, &datagram, pair.now);
        assert_eq!(result, Ok(()));
    }
    assert_eq!(pair.host.routers()[0].stats().received, 0);
}

#[test]
fn a_new_configuration_leaves_masters_masters() {
    let mut pair = Pair::new(false);
    pair.run(second(5));
    pair.words();
    let configs = |pair: &Pair| -> Vec<RouterConfig> {
        let routers = pair.host.routers().iter();
        routers.map(|router| router.config().clone()).collect()
    };
    // Turned around, with another priority and a newcomer.
    let mut turned = configs(&pair);
    turned.reverse();
    turned[0].priority = 99;
    let mut newcomer = turned[1].clone();
    newcomer.name = "VI_2".to_owned();
    newcomer.vrid = 52;
    turned.push(newcomer);
    pair.host.retire(&turned, pair.now);
    assert_eq!(pair.words(), "");
    let group = SyncGroup::new("VG", &[0, 1], false);
    pair.host.set_config(turned, vec![group], pair.now);
    assert_eq!(pair.states(), (Master, Master, Master));
    assert_eq!(pair.host.routers()[2].state(), State::Initialize);
    // The new priority is told at once; the other member goes on, and nobody is told of a change of state.
    assert_eq!(pair.words(), "0 send 99");
    // The group still holds together.
    pair.hear(1, 200);
    assert_eq!(pair.states(), (Backup, Backup, Backup));
    pair.words();
    // What is gone says so; what leaves its group goes on alone.
    pair.run(second(5));
    pair.words();
    let mut alone = configs(&pair);
    alone.truncate(1);
    pair.host.retire(&alone, pair.now);
    assert_eq!(
        pair.words(),
        "1 send 0, 1 remove, 1 INSTANCE \"VI_0\" DELETED 150, 2 INSTANCE \"VI_2\" DELETED 150"
    );
    pair.host.set_config(alone, Vec::new(), pair.now);
    // It has not given up its address for a moment.
    assert_eq!(pair.words(), "");
    assert_eq!(pair.host.routers()[0].state(), Master);
}

#[test]
fn a_new_configuration_changes_nothing_about_a_fault() {
    let mut pair = Pair::new(false);
    pair.set_up(0, false);
    assert_eq!(pair.states(), (Fault, Fault, Fault));
    pair.words();
    let routers = pair.host.routers().iter();
    let configs: Vec<_> = routers.map(|router| router.config().clone()).collect();
    pair.host.retire(&configs, pair.now);
    let group = SyncGroup::new("VG", &[0, 1], false);
    pair.host.set_config(configs.clone(), vec![group], pair.now);
    assert_eq!(pair.states(), (Fault, Fault, Fault));
    assert_eq!(pair.words(), "");
    // Out of the group, the member that can takes part.
    pair.host.set_config(configs, Vec::new(), pair.now);
    assert_eq!(pair.host.routers()[0].state(), Fault);
    assert_eq!(pair.host.routers()[1].state(), Backup);
    let states: Vec<String> = pair.host.states().iter().map(ToString::to_string).collect();
    assert_eq!(
        states,
        [
            "INSTANCE \"VI_0\" FAULT 150",
            "INSTANCE \"VI_1\" BACKUP 149"
        ]
    );
}

#[test]
fn a_newcomer_knows_what_trackers_found_before() {
    let mut pair = Pair::new(false);
    pair.host.handle_reading("malus", Reading::Down, pair.now);
    let mut configs: Vec<RouterConfig> = {
        let routers = pair.host.routers().iter();
        routers.map(|router| router.config().clone()).collect()
    };
    let mut newcomer = configs[0].clone();
    newcomer.name = "VI_2".to_owned();
    newcomer.vrid = 52;
    newcomer.trackers = vec![Tracker::new("malus")];
    configs.push(newcomer);
    // One that is there begins to track it, too.
    configs[1].trackers[0].weight = 0;
    pair.host.set_config(configs.clone(), Vec::new(), pair.now);
    pair.set_up(0, true);
    assert_eq!(pair.host.routers()[0].priority(), 90);
    assert_eq!(pair.host.routers()[1].state(), Fault);
    assert_eq!(pair.host.routers()[2].state(), Fault, "not waiting");
    pair.host.handle_reading("malus", Reading::Up, pair.now);
    assert_eq!(pair.host.routers()[2].state(), Backup);
    // What nobody tracked for a while is waited for.
    let (mut without, with) = (configs.clone(), configs);
    for config in &mut without {
        config.trackers.clear();
    }
    pair.host.set_config(without, Vec::new(), pair.now);
    let mut again = with;
    again[2].vrid = 53;
    pair.host.set_config(again, Vec::new(), pair.now);
    pair.set_up(0, true);
    assert_eq!(pair.host.routers()[2].state(), State::Initialize);
}

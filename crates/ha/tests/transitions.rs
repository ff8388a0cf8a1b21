//! From each state, by each event, to which state, with which outputs and which timer.

#[path = "stage/stage.rs"]
mod stage;

use std::net::IpAddr;
use std::time::Duration;

use pointsman_ha::vrrp::{
    AnnounceConfig, Datagram, Event, Output, Peers, Reading, RouterConfig, State, Tracker, Version,
};
use pointsman_wire::advert::{Advert, ChecksumStyle, Form};
use pointsman_wire::build::Addresses;
use pointsman_wire::vrrp;

use stage::{GROUP, Stage, VIP, second, words};

const HIGHER: [u8; 4] = [10, 99, 0, 3];
const LOWER: [u8; 4] = [10, 99, 0, 0];
/// Skew of priority 150 at 1 s.
const SKEW: Duration = Duration::from_nanos(1_000_000_000 * 106 / 256);

fn config() -> RouterConfig {
    let mut config = RouterConfig::new("VI_1", "eth0", 51, &[VIP]);
    config.version = Version::V3;
    config.priority = 150;
    config.announce = AnnounceConfig {
        repeat: 2,
        lower_repeat: 1,
        ..AnnounceConfig::default()
    };
    config.trackers = vec![
        Tracker::new("hard"),
        Tracker::new("bonus").weight(20),
        Tracker::new("malus").weight(-60),
    ];
    config
}

fn advert(priority: u8, source: [u8; 4]) -> Datagram {
    let advert = Advert {
        form: Form::V3 { centiseconds: 100 },
        vrid: 51,
        priority,
        addresses: vec![VIP],
    };
    let between = Addresses::V4(source.into(), vrrp::GROUP_V4.into());
    Datagram {
        source: source.into(),
        destination: GROUP,
        hop_limit: 255,
        message: advert.message(&between, ChecksumStyle::PseudoHeader),
    }
}

/// A router in this state, nothing left to do.
fn in_state(state: State, config: RouterConfig) -> Stage {
    let mut stage = Stage::without_interface(config);
    if state != State::Initialize {
        for tracker in ["hard", "malus"] {
            let now = stage.now;
            stage.router.handle_reading(tracker, Reading::Up, now);
        }
        stage.up();
    }
    match state {
        State::Initialize | State::Backup => {}
        State::Fault => stage.down(),
        State::Master => {
            stage.run_until(stage.now + second(4));
            // Between two advertisements, the second burst not yet due.
            stage.run_until(stage.now + second(10));
        }
    }
    assert_eq!(stage.router.state(), state);
    stage.outputs.clear();
    stage
}

/// Events of the table.
#[derive(Debug, Clone, Copy)]
enum Happening {
    Up,
    Down,
    Read(&'static str, Reading),
    Hear(u8, [u8; 4]),
    /// The timer, on time.
    Timer,
    /// The timer, as late as this.
    Late(Duration),
    Stop,
}

use Happening::{Down, Hear, Late, Read, Stop, Timer, Up};
use State::{Backup, Fault, Initialize, Master};

fn happen(stage: &mut Stage, happening: Happening) {
    match happening {
        Up => stage.up(),
        Down => stage.down(),
        Read(name, reading) => stage.router.handle_reading(name, reading, stage.now),
        Hear(priority, source) => stage.take(&advert(priority, source)),
        Timer => {
            stage.now = stage.router.poll_timeout().expect("a timer");
            stage.router.handle_timeout(stage.now);
        }
        Late(by) => {
            stage.now = stage.router.poll_timeout().expect("a timer") + by;
            stage.router.handle_timeout(stage.now);
        }
        Stop => stage.router.stop(Event::Stop),
    }
    stage.drain();
}

#[test]
fn transition_table() {
    const DOWN: Duration = Duration::from_millis(3000);
    let second = second(1);
    let master_down = DOWN + SKEW;
    // What a timer set by the event waits for; none leaves it as it was.
    let table: &[(State, Happening, State, &str, Option<Duration>)] = &[
        (Initialize, Up, Initialize, "", None),
        (Initialize, Down, Initialize, "", None),
        (Initialize, Hear(200, HIGHER), Initialize, "", None),
        (
            Initialize,
            Stop,
            Initialize,
            "INSTANCE \"VI_1\" STOP 150",
            None,
        ),
        (
            Fault,
            Up,
            Backup,
            "INSTANCE \"VI_1\" BACKUP 150",
            Some(master_down),
        ),
        (Fault, Down, Fault, "", None),
        (Fault, Hear(200, HIGHER), Fault, "", None),
        (Fault, Stop, Initialize, "INSTANCE \"VI_1\" STOP 150", None),
        (
            Backup,
            Timer,
            Master,
            "send 150, add, arp .100, arp .100, INSTANCE \"VI_1\" MASTER 150",
            Some(second),
        ),
        // Somewhat late: a busy host. Later than an interval: a pause, the silence may be our own.
        (
            Backup,
            Late(second),
            Master,
            "send 150, add, arp .100, arp .100, INSTANCE \"VI_1\" MASTER 150",
            Some(second),
        ),
        (Backup, Late(second * 2), Backup, "", Some(second + SKEW)),
        (Backup, Hear(200, HIGHER), Backup, "", Some(master_down)),
        (Backup, Hear(150, LOWER), Backup, "", Some(master_down)),
        (Backup, Hear(149, HIGHER), Backup, "", None),
        (Backup, Hear(0, HIGHER), Backup, "", Some(SKEW)),
        (Backup, Down, Fault, "INSTANCE \"VI_1\" FAULT 150", None),
        (
            Backup,
            Read("hard", Reading::Down),
            Fault,
            "INSTANCE \"VI_1\" FAULT 150",
            None,
        ),
        (Backup, Read("bonus", Reading::Up), Backup, "", None),
        (Backup, Stop, Initialize, "INSTANCE \"VI_1\" STOP 150", None),
        (Master, Timer, Master, "send 150", Some(second)),
        // After a pause it listens first.
        (
            Master,
            Late(second * 2),
            Master,
            "",
            Some(Duration::from_millis(20)),
        ),
        (
            Master,
            Hear(200, LOWER),
            Backup,
            "remove, INSTANCE \"VI_1\" BACKUP 150",
            Some(master_down),
        ),
        (
            Master,
            Hear(150, HIGHER),
            Backup,
            "remove, INSTANCE \"VI_1\" BACKUP 150",
            Some(master_down),
        ),
        (
            Master,
            Hear(150, LOWER),
            Master,
            "send 150, arp .100, INSTANCE \"VI_1\" MASTER_RX_LOWER_PRI 150",
            Some(second),
        ),
        (
            Master,
            Hear(149, HIGHER),
            Master,
            "send 150, arp .100, INSTANCE \"VI_1\" MASTER_RX_LOWER_PRI 150",
            Some(second),
        ),
        (Master, Hear(0, HIGHER), Master, "send 150", Some(second)),
        (
            Master,
            Read("hard", Reading::Down),
            Fault,
            "send 0, remove, INSTANCE \"VI_1\" FAULT 150",
            None,
        ),
        // Without an interface there is no way to say it.
        (
            Master,
            Down,
            Fault,
            "remove, INSTANCE \"VI_1\" FAULT 150",
            None,
        ),
        (Master, Read("malus", Reading::Down), Master, "", None),
        (
            Master,
            Stop,
            Initialize,
            "send 0, remove, INSTANCE \"VI_1\" STOP 150",
            None,
        ),
    ];
    for (from, happening, to, outputs, timer) in table {
        let row = format!("{from:?}, {happening:?}");
        let mut stage = in_state(*from, config());
        stage.now += Duration::from_millis(1);
        let before = stage.router.poll_timeout();
        happen(&mut stage, *happening);
        assert_eq!(stage.router.state(), *to, "{row}");
        assert_eq!(words(&mut stage), *outputs, "{row}");
        assert_eq!(stage.held.contains(&VIP), *to == Master, "{row}");
        match (timer, to) {
            (Some(timer), _) => {
                assert_eq!(
                    stage.router.poll_timeout(),
                    Some(stage.now + *timer),
                    "{row}"
                );
            }
            (None, Backup | Master) => assert_eq!(stage.router.poll_timeout(), before, "{row}"),
            (None, _) => assert_eq!(stage.router.poll_timeout(), None, "{row}"),
        }
    }
}

#[test]
fn it_waits_for_its_interface_and_for_unweighted_trackers() {
    let mut stage = Stage::without_interface(config());
    stage.up();
    assert_eq!(stage.router.state(), Initialize);
    happen(&mut stage, Read("hard", Reading::Up));
    assert_eq!(stage.router.state(), Backup);
    assert_eq!(words(&mut stage), "INSTANCE \"VI_1\" BACKUP 150");
    let mut stage = Stage::without_interface(config());
    happen(&mut stage, Read("hard", Reading::Down));
    assert_eq!(stage.router.state(), Initialize);
    stage.up();
    assert_eq!(words(&mut stage), "INSTANCE \"VI_1\" FAULT 150");
    happen(&mut stage, Read("hard", Reading::Up));
    assert_eq!(words(&mut stage), "INSTANCE \"VI_1\" BACKUP 150");
}

#[test]
fn the_owner_is_master_at_once() {
    let mut owner = config();
    owner.priority = 255;
    owner.trackers.clear();
    let mut stage = Stage::new(owner);
    assert_eq!(stage.router.state(), Master);
    assert!(words(&mut stage).starts_with("send 255, add"));
    stage.down();
    stage.up();
    assert_eq!(stage.router.state(), Master);
}

#[test]
fn a_stopped_router_stays_stopped() {
    let mut stage = in_state(Master, config());
    happen(&mut stage, Stop);
    stage.outputs.clear();
    for happening in [Up, Down, Up, Read("hard", Reading::Up), Hear(0, HIGHER)] {
        happen(&mut stage, happening);
    }
    assert_eq!(stage.router.state(), Initialize);
    assert_eq!(words(&mut stage), "");
    assert_eq!(stage.router.poll_timeout(), None);
}

#[test]
fn timers_of_version_2_skew_by_seconds() {
    for (priority, expected) in [
        (100, 3_609_375_000),
        (254, 3_007_812_500),
        (1, 3_996_093_750),
    ] {
        let mut config = RouterConfig::new("VI_1", "eth0", 51, &[VIP]);
        config.priority = priority;
        let stage = Stage::new(config);
        let down = stage.router.poll_timeout().expect("a timer") - stage.now;
        assert_eq!(down, Duration::from_nanos(expected));
    }
    let mut config = RouterConfig::new("VI_1", "eth0", 51, &[VIP]);
    config.interval = second(10);
    config.down_adverts = 5;
    let stage = Stage::new(config);
    let down = stage.router.poll_timeout().expect("a timer") - stage.now;
    assert_eq!(down, Duration::from_nanos(50_609_375_000));
}

#[test]
fn without_preemption_any_master_is_let_be() {
    let mut config = config();
    config.preempt = false;
    let mut stage = in_state(Backup, config);
    for _ in 0..20 {
        stage.run_until(stage.now + second(1));
        stage.take(&advert(10, HIGHER));
    }
    assert_eq!(stage.router.state(), Backup);
    assert_eq!(stage.router.master(), Some(HIGHER.into()));
    // Nor does it yield to what is let be.
    stage.run_until(stage.now + second(4));
    assert_eq!(stage.router.state(), Master);
    stage.take(&advert(10, HIGHER));
    assert_eq!(stage.router.state(), Master);
}

#[test]
fn a_lower_master_is_let_be_for_the_delay() {
    let mut config = config();
    config.preempt_delay = second(10);
    let mut stage = in_state(Backup, config);
    let begin = stage.now;
    let taken = loop {
        stage.run_until(stage.now + Duration::from_millis(500));
        if stage.router.state() == Master {
            break stage.now - begin;
        }
        assert!(stage.now < begin + second(60), "it never takes over");
        stage.take(&advert(100, HIGHER));
    };
    // From the first one heard, and then the silence that its deadline wants.
    assert!(taken > second(10) && taken < second(15), "{taken:?}");
    // One with more right in between starts it again.
    let mut config = self::config();
    config.preempt_delay = second(10);
    let mut stage = in_state(Backup, config);
    for round in 0..60 {
        stage.run_until(stage.now + second(1));
        stage.take(&advert(if round % 8 == 7 { 200 } else { 100 }, HIGHER));
        assert_eq!(stage.router.state(), Backup, "round {round}");
    }
}

#[test]
fn a_paused_master_speaks_again_only_if_nobody_else_may() {
    // Meanwhile a router of lower priority took over, and switches learned its port.
    let mut stage = in_state(Master, config());
    happen(&mut stage, Late(second(2)));
    assert_eq!(words(&mut stage), "");
    assert_eq!(stage.router.stats().pauses, 1);
    happen(&mut stage, Hear(100, HIGHER));
    assert_eq!(
        words(&mut stage),
        "send 150, arp .100, INSTANCE \"VI_1\" MASTER_RX_LOWER_PRI 150"
    );
    // One of higher priority did.
    let mut stage = in_state(Master, config());
    happen(&mut stage, Late(second(60)));
    happen(&mut stage, Hear(200, HIGHER));
    assert_eq!(words(&mut stage), "remove, INSTANCE \"VI_1\" BACKUP 150");
    // Nobody is there: it says where the address is, whatever the fabric learned.
    let mut stage = in_state(Master, config());
    happen(&mut stage, Late(second(2)));
    happen(&mut stage, Timer);
    assert_eq!(words(&mut stage), "send 150, arp .100, arp .100");
    // What else is due waits, too.
    let mut refreshing = config();
    refreshing.announce.refresh = second(1);
    let mut stage = in_state(Master, refreshing);
    happen(&mut stage, Late(second(20)));
    assert_eq!(words(&mut stage), "");
    happen(&mut stage, Hear(200, HIGHER));
    assert_eq!(words(&mut stage), "remove, INSTANCE \"VI_1\" BACKUP 150");
    // Paused again while it listens.
    let mut stage = in_state(Master, config());
    happen(&mut stage, Late(second(2)));
    happen(&mut stage, Late(second(2)));
    assert_eq!(words(&mut stage), "");
}

#[test]
fn a_paused_backup_waits_to_hear_the_master() {
    let mut stage = in_state(Backup, config());
    happen(&mut stage, Late(second(3600)));
    assert_eq!(
        (stage.router.state(), words(&mut stage).as_str()),
        (Backup, "")
    );
    stage.run_until(stage.now + second(1));
    stage.take(&advert(200, HIGHER));
    stage.run_until(stage.now + second(3));
    assert_eq!(stage.router.state(), Backup);
    // If there is none, it takes over one interval and its skew later.
    let mut stage = in_state(Backup, config());
    happen(&mut stage, Late(second(3600)));
    stage.run_until(stage.now + second(1) + SKEW);
    assert_eq!(stage.router.state(), Master);
}

#[test]
fn changes_of_priority_are_notices_if_wanted() {
    let mut config = config();
    config.notify_priority = true;
    let mut stage = in_state(Backup, config.clone());
    happen(&mut stage, Read("bonus", Reading::Up));
    assert_eq!(words(&mut stage), "INSTANCE \"VI_1\" BACKUP_PRIORITY 170");
    happen(&mut stage, Read("bonus", Reading::Up));
    assert_eq!(words(&mut stage), "");
    let mut stage = in_state(Master, config);
    happen(&mut stage, Read("malus", Reading::Down));
    assert_eq!(words(&mut stage), "INSTANCE \"VI_1\" MASTER_PRIORITY 90");
    happen(&mut stage, Timer);
    assert_eq!(words(&mut stage), "send 90");
}

#[test]
fn a_master_says_where_the_addresses_are() {
    let mut config = config();
    let second_vip = IpAddr::from([10, 99, 0, 101]);
    config.excluded = vec![second_vip];
    config.announce.refresh = second(30);
    let mut stage = in_state(Backup, config);
    happen(&mut stage, Timer);
    assert_eq!(
        words(&mut stage),
        "send 150, add, add, arp .100, arp .101, arp .100, arp .101, INSTANCE \"VI_1\" MASTER 150"
    );
    let begin = stage.now;
    let mut bursts = Vec::new();
    while stage.now < begin + second(70) {
        happen(&mut stage, Timer);
        let words = words(&mut stage);
        if words.contains("arp") {
            let at = (stage.now - begin).as_secs();
            bursts.push((at, words.matches("arp").count()));
        }
    }
    assert_eq!(bursts, [(5, 4), (30, 2), (60, 2)]);
}

#[test]
fn announcements_keep_their_spacing_and_end_with_mastership() {
    let mut config = config();
    config.announce.repeat = 3;
    config.announce.spacing = Duration::from_millis(100);
    let mut stage = in_state(Backup, config.clone());
    happen(&mut stage, Timer);
    let begin = stage.now;
    stage.outputs.clear();
    let mut at = Vec::new();
    while stage.now < begin + second(6) {
        happen(&mut stage, Timer);
        if words(&mut stage).contains("arp") {
            at.push((stage.now - begin).as_millis());
        }
    }
    assert_eq!(at, [100, 200, 5000, 5100, 5200]);
    let mut stage = in_state(Backup, config);
    happen(&mut stage, Timer);
    stage.take(&advert(200, HIGHER));
    stage.outputs.clear();
    while stage.router.state() == Backup {
        happen(&mut stage, Timer);
    }
    let first = words(&mut stage);
    assert_eq!(
        first,
        "send 150, add, arp .100, INSTANCE \"VI_1\" MASTER 150"
    );
}

#[test]
fn a_flood_of_lower_priority_is_answered_twice_an_interval() {
    let mut stage = in_state(Master, config());
    let begin = stage.now;
    while stage.now < begin + second(10) {
        stage.now += Duration::from_millis(1);
        stage.take(&advert(10, HIGHER));
    }
    let words = words(&mut stage);
    assert_eq!(words.matches("send").count(), 20);
    assert_eq!(words.matches("MASTER_RX_LOWER_PRI").count(), 20);
    assert_eq!(words.matches("arp").count(), 20);
}

#[test]
fn answers_can_be_configured() {
    let mut config = config();
    config.answer_lower = false;
    config.announce.lower_repeat = 0;
    config.answer_higher = true;
    let mut stage = in_state(Master, config);
    happen(&mut stage, Hear(10, HIGHER));
    assert_eq!(
        words(&mut stage),
        "INSTANCE \"VI_1\" MASTER_RX_LOWER_PRI 150"
    );
    happen(&mut stage, Hear(200, HIGHER));
    assert_eq!(
        words(&mut stage),
        "send 150, remove, INSTANCE \"VI_1\" BACKUP 150"
    );
}

#[test]
fn unicast_speaks_to_each_peer_and_announces_itself_after_a_fault() {
    let peers = [HIGHER, [10, 99, 0, 4]];
    let mut config = config();
    config.peers = Peers::Unicast {
        peers: peers.map(|peer| IpAddr::from(peer).into()).to_vec(),
        hop_limit: 64,
        only_peers: false,
    };
    let mut stage = in_state(Backup, config);
    happen(&mut stage, Timer);
    let sent: Vec<_> = stage
        .outputs
        .iter()
        .filter_map(|output| match output {
            Output::Send(datagram) => Some((datagram.destination, datagram.hop_limit)),
            _ => None,
        })
        .collect();
    assert_eq!(sent, peers.map(|peer| (IpAddr::from(peer), 64)));
    assert_eq!(stage.router.stats().sent, 2);
    stage.down();
    stage.outputs.clear();
    stage.up();
    assert_eq!(words(&mut stage), "INSTANCE \"VI_1\" BACKUP 150, arp .1");
}

#[test]
fn another_configuration_keeps_mastership() {
    let mut stage = in_state(Master, config());
    let third = IpAddr::from([10, 99, 0, 102]);
    let mut other = config();
    other.addresses = vec![VIP, third];
    other.priority = 120;
    stage.router.set_config(other.clone(), stage.now);
    stage.drain();
    assert_eq!(words(&mut stage), "add, send 120, arp .102, arp .102");
    assert_eq!(stage.router.state(), Master);
    other.addresses = vec![third];
    stage.router.set_config(other.clone(), stage.now);
    stage.drain();
    assert_eq!(words(&mut stage), "remove, send 120");
    assert_eq!(stage.held.iter().copied().collect::<Vec<_>>(), [third]);
    // The same again changes nothing, and what a tracker found is kept.
    other.trackers.swap(0, 1);
    happen(&mut stage, Read("malus", Reading::Down));
    stage.router.set_config(other, stage.now);
    stage.drain();
    assert_eq!(words(&mut stage), "send 60");
    assert_eq!(stage.router.stats().became_master, 1);
    // It does not wait for a new tracker, but falls when it is down.
    let mut other = stage.router.config().clone();
    other.trackers.push(Tracker::new("new"));
    stage.router.set_config(other, stage.now);
    assert_eq!(stage.router.state(), Master);
    stage.down();
    assert_eq!(stage.router.state(), Fault);
    // To come back it does.
    stage.up();
    assert_eq!(stage.router.state(), Fault);
    happen(&mut stage, Read("new", Reading::Up));
    assert_eq!(stage.router.state(), Backup);
}

#[test]
fn what_happened_is_counted() {
    let mut stage = in_state(Master, config());
    happen(&mut stage, Hear(0, HIGHER));
    happen(&mut stage, Hear(200, HIGHER));
    happen(&mut stage, Hear(200, HIGHER));
    stage.run_until(stage.now + second(4));
    happen(&mut stage, Stop);
    let stats = stage.router.stats();
    assert_eq!((stats.became_master, stats.released_master), (2, 2));
    assert_eq!(
        (stats.received, stats.zero_received, stats.zero_sent),
        (3, 1, 1)
    );
    assert!(stats.rejected.is_empty());
}

#[test]
fn notices_are_keepaliveds() {
    let mut stage = in_state(Backup, config());
    happen(&mut stage, Timer);
    let Some(Output::Notify(notice)) = stage.outputs.last() else {
        panic!("no notice");
    };
    assert_eq!(notice.to_string(), "INSTANCE \"VI_1\" MASTER 150");
    assert_eq!(notice.arguments(), ["INSTANCE", "VI_1", "MASTER", "150"]);
}

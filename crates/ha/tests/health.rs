//! Checks, real servers, quorum and sorry server, as keepalived has them.

use std::collections::BTreeMap;
use std::time::Duration;

use pointsman_ha::health::{
    Checker, CheckerConfig, HealthOutput, RiseFall, ServerConfig, ServiceConfig, ServiceHealth,
    Stood, Target,
};

const CHECKER: CheckerConfig = CheckerConfig {
    delay_loop: Duration::from_secs(10),
    retry: 2,
    delay_before_retry: Duration::from_secs(3),
    warmup: Duration::from_secs(8),
    alpha: false,
};

/// Makes the checks due until the outcomes are used up: when each began, what it changed.
fn checks(checker: &mut Checker, outcomes: &[bool]) -> Vec<(u64, Option<bool>)> {
    let mut seen = Vec::new();
    for outcome in outcomes {
        let now = checker.poll_timeout().expect("a check is due");
        assert!(!checker.handle_timeout(now - Duration::from_nanos(1)));
        assert!(checker.handle_timeout(now));
        assert_eq!(checker.poll_timeout(), None, "one at a time");
        assert!(!checker.handle_timeout(now), "one at a time");
        seen.push((now.as_secs(), checker.handle_outcome(*outcome, now)));
    }
    seen
}

#[test]
fn checks_are_retried_while_up_and_not_while_down() {
    let mut checker = Checker::new(CHECKER, 0, Duration::ZERO);
    assert!(checker.is_up());
    let outcomes = [
        true, false, false, true, false, false, false, false, true, true,
    ];
    assert_eq!(
        checks(&mut checker, &outcomes),
        [
            (1, None),
            (11, None),
            (14, None),
            (17, None),
            (27, None),
            (30, None),
            (33, Some(false)),
            (43, None),
            (53, Some(true)),
            (63, None),
        ]
    );
}

#[test]
fn the_first_check_has_no_retries() {
    let mut checker = Checker::new(CHECKER, 0, Duration::ZERO);
    assert_eq!(
        checks(&mut checker, &[false, true, false, false, false]),
        [
            (1, Some(false)),
            (11, Some(true)),
            (21, None),
            (24, None),
            (27, Some(false))
        ]
    );
}

#[test]
fn alpha_is_down_until_it_succeeds() {
    let alpha = CheckerConfig {
        alpha: true,
        ..CHECKER
    };
    let mut checker = Checker::new(alpha, 0, Duration::ZERO);
    assert!(!checker.is_up());
    assert_eq!(
        checks(&mut checker, &[false, true]),
        [(1, None), (11, Some(true))]
    );
}

#[test]
fn first_checks_are_spread_over_the_warmup() {
    for (chance, milliseconds) in [(0, 1000), (1 << 31, 5000), (u32::MAX, 8999)] {
        let checker = Checker::new(CHECKER, chance, Duration::ZERO);
        let first = checker.poll_timeout().expect("a check is due");
        assert_eq!(first.as_millis(), milliseconds);
    }
}

#[test]
fn scripts_rise_and_fall_by_outcomes_in_a_row() {
    let mut script = RiseFall::new(2, 3, false);
    assert_eq!(script.is_up(), None);
    let (yes, no) = (Some(true), Some(false));
    // The first counts at once.
    for (outcome, change) in [
        (true, yes),
        (false, None),
        (false, None),
        (true, None),
        (false, None),
        (false, None),
        (false, no),
        (true, None),
        (false, None),
        (true, None),
        (true, yes),
    ] {
        assert_eq!(script.handle_outcome(outcome), change);
    }
    let mut script = RiseFall::new(2, 3, true);
    assert_eq!(script.is_up(), no);
    assert_eq!(script.handle_outcome(true), yes);
    let mut script = RiseFall::new(2, 3, false);
    assert_eq!(script.handle_outcome(false), no);
    assert_eq!(script.handle_outcome(true), None);
}

fn server(at: usize) -> ServerConfig {
    ServerConfig {
        name: format!("[10.0.0.{at}]:tcp:80"),
        weight: 1,
        inhibit: false,
        checkers: vec![true],
    }
}

fn service(count: usize) -> ServiceConfig {
    ServiceConfig {
        name: "[192.168.201.15]:tcp:80".to_owned(),
        quorum: 1,
        hysteresis: 0,
        omega: false,
        sorry_server: false,
        sorry_inhibit: false,
        servers: (0..count).map(server).collect(),
    }
}

/// What it wants since the last look, each as a few words.
fn words(health: &mut ServiceHealth) -> Vec<String> {
    let name = |target| match target {
        Target::Server(at) => at.to_string(),
        Target::Sorry => "sorry".to_owned(),
    };
    std::iter::from_fn(|| health.poll_output())
        .map(|output| match output {
            HealthOutput::Add(target, weight) => format!("add {} {weight}", name(target)),
            HealthOutput::Weigh(target, weight) => format!("weigh {} {weight}", name(target)),
            HealthOutput::Remove(target) => format!("remove {}", name(target)),
            HealthOutput::Notify(notice) => notice.to_string(),
        })
        .collect()
}

const UP: &str = "VS [192.168.201.15]:tcp:80 UP";
const DOWN: &str = "VS [192.168.201.15]:tcp:80 DOWN";

#[test]
fn a_real_server_is_there_while_no_checker_is_failed() {
    let mut config = service(2);
    config.servers[0].checkers = vec![true, true];
    let mut health = ServiceHealth::new(config);
    assert_eq!(words(&mut health), ["add 0 1", "add 1 1", UP]);
    health.handle_checker(0, 1, false);
    assert_eq!(
        words(&mut health),
        [
            "remove 0",
            "RS [10.0.0.0]:tcp:80 [192.168.201.15]:tcp:80 DOWN"
        ]
    );
    health.handle_checker(0, 0, false);
    health.handle_checker(0, 1, true);
    assert_eq!(words(&mut health), [""; 0]);
    assert!(!health.is_up(0));
    health.handle_checker(0, 0, true);
    assert_eq!(
        words(&mut health),
        ["add 0 1", "RS [10.0.0.0]:tcp:80 [192.168.201.15]:tcp:80 UP"]
    );
    // Nothing of that name.
    health.handle_checker(9, 0, false);
    health.handle_checker(0, 9, false);
    assert_eq!(words(&mut health), [""; 0]);
}

#[test]
fn alpha_waits_and_inhibit_stays() {
    let mut config = service(2);
    config.servers[0].checkers = vec![false];
    config.servers[1].checkers = vec![false];
    config.servers[1].inhibit = true;
    let mut health = ServiceHealth::new(config);
    assert_eq!(words(&mut health), ["add 1 0"]);
    assert!(!health.has_quorum());
    health.handle_checker(1, 0, true);
    let up = "RS [10.0.0.1]:tcp:80 [192.168.201.15]:tcp:80 UP";
    assert_eq!(words(&mut health), ["weigh 1 1", up, UP]);
    health.handle_checker(1, 0, false);
    let down = "RS [10.0.0.1]:tcp:80 [192.168.201.15]:tcp:80 DOWN";
    assert_eq!(words(&mut health), ["weigh 1 0", down, DOWN]);
}

#[test]
fn quorum_of_seven_with_hysteresis_of_two() {
    // keepalived's sample: up at 9, down below 5.
    let mut config = service(10);
    config.quorum = 7;
    config.hysteresis = 2;
    for server in &mut config.servers {
        server.checkers = vec![false];
    }
    let mut health = ServiceHealth::new(config);
    let mut gained = None;
    for at in 0..10 {
        health.handle_checker(at, 0, true);
        if gained.is_none() && health.has_quorum() {
            gained = Some(health.live_weight());
        }
    }
    let mut lost = None;
    for at in 0..10 {
        health.handle_checker(at, 0, false);
        if lost.is_none() && !health.has_quorum() {
            lost = Some(health.live_weight());
        }
    }
    assert_eq!((gained, lost), (Some(9), Some(4)));
    let notices = words(&mut health);
    assert_eq!(notices.iter().filter(|word| *word == UP).count(), 1);
    assert_eq!(notices.iter().filter(|word| *word == DOWN).count(), 1);
}

#[test]
fn quorum_and_hysteresis_that_cannot_be_are_lowered() {
    let mut config = service(3);
    config.quorum = 50;
    config.hysteresis = 0;
    let health = ServiceHealth::new(config.clone());
    assert!(health.has_quorum(), "3 is all there is");
    config.quorum = 2;
    config.hysteresis = 9;
    // Counts as 1: gained at 3, lost below 1.
    let mut health = ServiceHealth::new(config);
    assert!(health.has_quorum());
    health.handle_checker(0, 0, false);
    health.handle_checker(1, 0, false);
    assert!(health.has_quorum());
    health.handle_checker(2, 0, false);
    assert!(!health.has_quorum());
}

#[test]
fn the_sorry_server_comes_before_the_others_go() {
    let mut config = service(3);
    config.quorum = 2;
    config.sorry_server = true;
    let mut health = ServiceHealth::new(config.clone());
    health.handle_checker(0, 0, false);
    words(&mut health);
    health.handle_checker(1, 0, false);
    let down = |at| format!("RS [10.0.0.{at}]:tcp:80 [192.168.201.15]:tcp:80 DOWN");
    assert_eq!(
        words(&mut health),
        ["remove 1", &down(1), "add sorry 1", "remove 2", DOWN]
    );
    // Meanwhile real servers come and go unseen.
    health.handle_checker(2, 0, false);
    health.handle_weight(2, 5);
    assert_eq!(words(&mut health), [down(2)]);
    health.handle_checker(2, 0, true);
    let back = words(&mut health);
    assert_eq!(back[1..], ["add 2 6", "remove sorry", UP]);
    // With inhibit, nobody goes altogether.
    config.sorry_inhibit = true;
    for server in &mut config.servers {
        server.inhibit = true;
        server.checkers = vec![false];
    }
    let mut health = ServiceHealth::new(config);
    assert_eq!(
        words(&mut health),
        ["add sorry 1", "add 0 0", "add 1 0", "add 2 0"]
    );
    health.handle_checker(0, 0, true);
    health.handle_checker(1, 0, true);
    let up = words(&mut health);
    assert_eq!(up[2..], ["weigh 0 1", "weigh 1 1", "weigh sorry 0", UP]);
}

#[test]
fn weights_move_with_checks_and_count_for_the_quorum() {
    let mut config = service(2);
    config.quorum = 2;
    let mut health = ServiceHealth::new(config);
    words(&mut health);
    health.handle_weight(0, 9);
    assert_eq!(words(&mut health), ["weigh 0 10"]);
    health.handle_weight(0, -5);
    assert_eq!(words(&mut health), ["weigh 0 0", DOWN]);
    health.handle_weight(0, i64::MAX);
    assert_eq!(words(&mut health), ["weigh 0 2147483647", UP]);
    health.handle_checker(0, 0, false);
    words(&mut health);
    // Not while it is down, but when it is back.
    health.handle_weight(0, 3);
    assert_eq!(words(&mut health), [""; 0]);
    health.handle_checker(0, 0, true);
    assert_eq!(words(&mut health)[0], "add 0 4");
}

#[test]
fn omega_says_at_the_end_what_is_down() {
    let mut config = service(2);
    let mut health = ServiceHealth::new(config.clone());
    words(&mut health);
    health.stop();
    assert_eq!(words(&mut health), [""; 0]);
    config.omega = true;
    let mut health = ServiceHealth::new(config);
    health.handle_checker(0, 0, false);
    words(&mut health);
    health.stop();
    let down = "RS [10.0.0.1]:tcp:80 [192.168.201.15]:tcp:80 DOWN";
    assert_eq!(words(&mut health), [down, DOWN]);
}

#[test]
fn what_is_placed_is_what_is_wanted_after_any_history() {
    for seed in 0..2000_u64 {
        let mut chance = seed;
        let mut next = |end: u64| {
            chance = chance
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            (chance >> 33) % end
        };
        let count = 1 + next(5) as usize;
        let mut config = service(count);
        config.quorum = 1 + next(6) as u32;
        config.hysteresis = next(4) as u32;
        config.sorry_server = next(2) == 0;
        config.sorry_inhibit = next(2) == 0;
        for server in &mut config.servers {
            server.inhibit = next(3) == 0;
            server.weight = next(3) as u32;
            server.checkers = (0..next(3)).map(|_| next(2) == 0).collect();
        }
        let mut up: Vec<Vec<bool>> = config.servers.iter().map(|s| s.checkers.clone()).collect();
        let mut health = ServiceHealth::new(config.clone());
        let mut placed = BTreeMap::new();
        for _ in 0..60 {
            while let Some(output) = health.poll_output() {
                match output {
                    HealthOutput::Add(target, weight) => {
                        assert_eq!(placed.insert(target, weight), None, "seed {seed}");
                    }
                    HealthOutput::Weigh(target, weight) => {
                        assert!(placed.insert(target, weight).is_some(), "seed {seed}");
                    }
                    HealthOutput::Remove(target) => {
                        assert!(placed.remove(&target).is_some(), "seed {seed}");
                    }
                    HealthOutput::Notify(_) => {}
                }
            }
            for (at, server) in config.servers.iter().enumerate() {
                let serves = up[at].iter().all(|up| *up) && !health.is_sorry();
                let wanted = if serves {
                    Some(server.weight)
                } else {
                    server.inhibit.then_some(0)
                };
                let found = placed.get(&Target::Server(at)).copied();
                assert_eq!(found, wanted, "seed {seed}, real server {at}");
            }
            let sorry = placed.get(&Target::Sorry).is_some_and(|weight| *weight > 0);
            assert_eq!(sorry, health.is_sorry(), "seed {seed}");
            assert!(!(sorry && health.has_quorum()), "seed {seed}");
            if config.sorry_server && health.live_weight() == 0 {
                assert!(sorry, "seed {seed}: nobody serves");
            }
            let at = next(count as u64) as usize;
            if !up[at].is_empty() {
                let checker = next(up[at].len() as u64) as usize;
                up[at][checker] = next(2) == 0;
                health.handle_checker(at, checker, up[at][checker]);
            }
        }
    }
}

#[test]
fn who_is_not_to_serve_is_not_there_for_a_moment_after_a_restart_either() {
    let mut config = service(3);
    config.quorum = 2;
    config.sorry_server = true;
    config.hysteresis = 1;
    let resume = |up: [bool; 3], enough, sorry, inhibit| {
        let mut config = config.clone();
        config.sorry_inhibit = inhibit;
        for (server, up) in config.servers.iter_mut().zip(up) {
            server.checkers = vec![up];
        }
        ServiceHealth::resume(config, &[], Stood { enough, sorry })
    };
    // Fewer than enough: the sorry server alone, from the first moment.
    let mut health = resume([true, false, false], false, true, false);
    assert_eq!(words(&mut health), ["add sorry 1"]);
    // Between loss and gain it goes on serving, and its return is not told.
    let mut health = resume([true, true, false], false, true, false);
    assert_eq!(words(&mut health), ["add sorry 1"]);
    assert!(health.is_sorry() && !health.has_quorum());
    let mut health = resume([true, true, false], false, true, true);
    assert_eq!(words(&mut health), ["add sorry 1"]);
    // There the live ones go on serving, if they served.
    let mut health = resume([true, true, false], true, false, false);
    assert_eq!(words(&mut health), ["add 0 1", "add 1 1"]);
    assert!(health.has_quorum() && !health.is_sorry());
    // Nor at the first start, with too little weight from there on.
    config.hysteresis = 0;
    for server in &mut config.servers[1..] {
        server.checkers = vec![false];
    }
    let mut health = ServiceHealth::new(config);
    assert_eq!(words(&mut health), ["add sorry 1"]);
}

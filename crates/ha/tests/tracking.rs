//! What a reading does to priority and state.

#[path = "stage/stage.rs"]
mod stage;

use pointsman_ha::vrrp::{Reading, RouterConfig, State, Tracker};

use stage::{Stage, VIP};

#[test]
fn trackers_move_the_priority() {
    let reversed = |weight| Tracker {
        reverse: true,
        ..Tracker::new("t").weight(weight)
    };
    let weighted = |weight| Tracker::new("t").weight(weight);
    let (up, down) = (Reading::Up, Reading::Down);
    for (base, tracker, reading, priority) in [
        (150, weighted(20), up, 170),
        (150, weighted(20), down, 150),
        (150, weighted(-60), up, 150),
        (150, weighted(-60), down, 90),
        (150, reversed(20), up, 130),
        (150, reversed(20), down, 150),
        (150, reversed(-60), up, 150),
        (150, reversed(-60), down, 210),
        (150, weighted(200), up, 254),
        (50, weighted(-60), down, 1),
        (255, weighted(-60), down, 255),
        (150, weighted(2), Reading::Number(30), 210),
        (150, weighted(-2), Reading::Number(30), 90),
        (150, weighted(1), Reading::Number(-253), 1),
    ] {
        let mut config = RouterConfig::new("VI_1", "eth0", 51, &[VIP]);
        config.priority = base;
        config.trackers = vec![tracker];
        let row = format!("{base} {:?} {reading:?}", config.trackers);
        let mut stage = Stage::new(config);
        stage.router.handle_reading("t", reading, stage.now);
        assert_eq!(stage.router.priority(), priority, "{row}");
        assert_ne!(stage.router.state(), State::Fault, "{row}");
    }
    let unweighted = Tracker::new("t");
    for (tracker, reading, fault) in [
        (unweighted.clone(), up, false),
        (unweighted.clone(), down, true),
        (unweighted.clone(), Reading::Number(0), false),
        (unweighted, Reading::Number(1), true),
        (reversed(0), up, true),
        (reversed(0), down, false),
        (weighted(1), Reading::Number(-253), false),
        (weighted(1), Reading::Number(-254), true),
        (weighted(i32::MIN), Reading::Number(i32::MAX), true),
    ] {
        let mut config = RouterConfig::new("VI_1", "eth0", 51, &[VIP]);
        config.trackers = vec![tracker];
        let row = format!("{:?} {reading:?}", config.trackers);
        let mut stage = Stage::new(config);
        stage.router.handle_reading("t", reading, stage.now);
        assert_eq!(stage.router.state() == State::Fault, fault, "{row}");
    }
}

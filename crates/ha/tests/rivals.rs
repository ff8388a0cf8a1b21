//! A master that knows that another router goes on as master too.

#[path = "stage/stage.rs"]
mod stage;

use std::time::Duration;

use pointsman_ha::vrrp::{Datagram, RouterConfig, State, Version};
use pointsman_wire::advert::{Advert, Authentication, ChecksumStyle, Form};
use pointsman_wire::build::Addresses;
use pointsman_wire::vrrp;

use stage::{GROUP, Stage, VIP, second};

const OTHER: [u8; 4] = [10, 99, 0, 3];

fn master() -> Stage {
    let mut config = RouterConfig::new("VI_1", "eth0", 51, &[VIP]);
    config.version = Version::V3;
    config.priority = 150;
    let mut stage = Stage::new(config);
    stage.run_until(stage.now + second(5));
    assert_eq!(stage.router.state(), State::Master);
    stage
}

fn advert(form: Form, priority: u8) -> Datagram {
    let advert = Advert {
        form,
        vrid: 51,
        priority,
        addresses: vec![VIP],
    };
    let between = Addresses::V4(OTHER.into(), vrrp::GROUP_V4.into());
    Datagram {
        source: OTHER.into(),
        destination: GROUP,
        hop_limit: 255,
        message: advert.message(&between, ChecksumStyle::PseudoHeader),
    }
}

const LOWER: Form = Form::V3 { centiseconds: 100 };
const EARLIER: Form = Form::V2 {
    authentication: Authentication::None,
    seconds: 1,
};

/// Has it hear an advertisement each second: the rival that it knows at the end.
fn hear(stage: &mut Stage, form: Form, seconds: u32) -> Option<std::net::IpAddr> {
    for _ in 0..seconds {
        stage.run_until(stage.now + Duration::from_secs(1));
        // Whether it counts or not.
        let _ = stage.router.handle_packet(&advert(form, 100), stage.now);
        stage.drain();
    }
    stage.router.rival()
}

#[test]
fn who_goes_on_is_a_rival_and_who_yields_is_none() {
    for form in [LOWER, EARLIER] {
        let mut stage = master();
        // One that hears us yields at once, and then there is none.
        assert_eq!(hear(&mut stage, form, 2), None);
        stage.run_until(stage.now + second(10));
        assert_eq!(hear(&mut stage, form, 2), None);
        assert_eq!(hear(&mut stage, form, 3), Some(OTHER.into()));
        // It has gone.
        stage.run_until(stage.now + second(10));
        assert_eq!(stage.router.rival(), None);
        assert_eq!(hear(&mut stage, form, 5), Some(OTHER.into()));
        stage.down();
        assert_eq!(stage.router.rival(), None);
    }
}

#[test]
fn a_backup_has_a_master_and_no_rival() {
    let mut stage = master();
    for _ in 0..6 {
        stage.run_until(stage.now + second(1));
        stage.take(&advert(LOWER, 200));
    }
    assert_eq!(stage.router.state(), State::Backup);
    assert_eq!(stage.router.rival(), None);
    // What it heard as backup is no rival of the master that it becomes.
    assert_eq!(hear(&mut stage, EARLIER, 2), None);
}

#[test]
fn echoes_of_its_own_are_no_rival() {
    let mut stage = master();
    for _ in 0..6 {
        stage.run_until(stage.now + second(1));
        let mut own = advert(LOWER, 150);
        own.source = stage::SOURCE.into();
        assert!(stage.router.handle_packet(&own, stage.now).is_err());
    }
    assert_eq!(stage.router.rival(), None);
}

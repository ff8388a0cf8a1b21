//! BFD sessions, event by event: RFC 5880's state machine and timers as tables.

use std::net::IpAddr;
use std::time::Duration;

use pointsman_ha::bfd::{Session, SessionConfig, SessionOutput, SessionRejection, Sessions};
use pointsman_wire::control::{BfdState, Control, Diagnostic};

use BfdState::{AdminDown, Down, Init, Up};

const OURS: u32 = 0x1111;
const THEIRS: u32 = 0x2222;
const MID: u32 = 1 << 31;

fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

fn neighbor() -> IpAddr {
    "10.0.0.2".parse().expect("an address")
}

/// 50 ms either way, 3 may be lost.
fn config() -> SessionConfig {
    SessionConfig {
        min_rx: ms(50),
        min_tx: ms(50),
        multiplier: 3,
        ..SessionConfig::new("B", neighbor())
    }
}

/// What the other end says in a state.
fn said(state: BfdState) -> Control {
    Control {
        state,
        diagnostic: Diagnostic::NONE,
        poll: false,
        is_final: false,
        independent: false,
        demand: false,
        multiplier: 3,
        my_discriminator: THEIRS,
        your_discriminator: OURS,
        desired_min_tx: if state == Up { 50_000 } else { 1_000_000 },
        required_min_rx: 50_000,
        required_min_echo_rx: 0,
    }
}

fn outputs(session: &mut Session) -> Vec<SessionOutput> {
    std::iter::from_fn(|| session.poll_output()).collect()
}

fn packets(session: &mut Session) -> Vec<Control> {
    let outputs = outputs(session).into_iter();
    let packets = outputs.filter_map(|output| match output {
        SessionOutput::Send(packet) => Some(packet),
        _ => None,
    });
    packets.collect()
}

/// A session in a state, at 10 s.
fn session_in(state: BfdState) -> Session {
    let now = ms(10_000);
    let mut session = Session::new(config(), OURS, now);
    match state {
        AdminDown => session.set_admin_down(true, now),
        Down => {}
        Init => session.handle_packet(&said(Down), now, MID),
        Up => {
            session.handle_packet(&said(Init), now, MID);
            session.handle_packet(
                &Control {
                    is_final: true,
                    ..said(Up)
                },
                now,
                MID,
            );
        }
    }
    assert_eq!(session.state(), state);
    outputs(&mut session);
    session
}

#[test]
fn every_state_goes_where_each_packet_leads() {
    // RFC 5880, section 6.8.6: where the state in the row goes by a packet in the state of the column.
    let table = [
        (AdminDown, [AdminDown, AdminDown, AdminDown, AdminDown]),
        (Down, [Down, Init, Up, Down]),
        (Init, [Down, Init, Up, Up]),
        (Up, [Down, Down, Up, Up]),
    ];
    for (from, row) in table {
        for (packet, wanted) in BfdState::ALL.into_iter().zip(row) {
            let mut session = session_in(from);
            session.handle_packet(&said(packet), ms(10_001), MID);
            let what = format!("{from} by {packet}");
            assert_eq!(session.state(), wanted, "{what}");
            let outputs = outputs(&mut session);
            let notices: Vec<_> = outputs
                .iter()
                .filter(|output| !matches!(output, SessionOutput::Send(_)))
                .collect();
            match (from, wanted) {
                (Up, Down) => assert_eq!(
                    notices,
                    [&SessionOutput::Down {
                        diagnostic: Diagnostic::NEIGHBOR_DOWN,
                        remote: Diagnostic::NONE,
                        administrative: packet == AdminDown,
                    }],
                    "{what}"
                ),
                (Down | Init, Up) => assert_eq!(notices, [&SessionOutput::Up], "{what}"),
                _ => assert!(notices.is_empty(), "{what}: {notices:?}"),
            }
            let told: Vec<_> = outputs
                .iter()
                .filter_map(|output| match output {
                    SessionOutput::Send(packet) => Some(packet.state),
                    _ => None,
                })
                .collect();
            let news: &[BfdState] = if wanted == from { &[] } else { &[wanted] };
            assert_eq!(told, news, "{what}: what is new is said at once");
            let diagnostic = match (from, wanted) {
                (AdminDown, _) => Diagnostic::ADMIN_DOWN,
                (Init | Up, Down) => Diagnostic::NEIGHBOR_DOWN,
                _ => Diagnostic::NONE,
            };
            assert_eq!(session.diagnostic(), diagnostic, "{what}");
        }
    }
}

#[test]
fn silence_ends_what_was_heard_in_every_state() {
    for (from, wanted) in [
        (AdminDown, AdminDown),
        (Down, Down),
        (Init, Down),
        (Up, Down),
    ] {
        let mut session = session_in(from);
        let now = ms(10_000) + Duration::from_secs(4);
        // Not late: it was asked whenever it wanted to be.
        while let Some(due) = session.poll_timeout().filter(|due| *due < now) {
            session.handle_timeout(due, MID);
        }
        assert_eq!(session.state(), wanted, "{from}");
        let said = outputs(&mut session);
        let fell = said.iter().any(|output| {
            matches!(output, SessionOutput::Down { diagnostic, administrative: false, .. }
                if *diagnostic == Diagnostic::EXPIRED)
        });
        assert_eq!(fell, from == Up, "{from}: {said:?}");
        assert!(session.heard().is_none(), "{from}");
        let last = said.iter().rev().find_map(|output| match output {
            SessionOutput::Send(packet) => Some(packet),
            _ => None,
        });
        let last = last.expect("it goes on to speak");
        assert_eq!((last.state, last.your_discriminator), (wanted, 0), "{from}");
        assert_eq!(last.desired_min_tx, 1_000_000, "{from}: slowly");
    }
}

#[test]
fn the_administrator_takes_every_state_down_and_lets_it_come_again() {
    for from in BfdState::ALL {
        let mut session = session_in(from);
        session.set_admin_down(true, ms(10_001));
        assert_eq!(session.state(), AdminDown);
        let fell = outputs(&mut session).iter().any(|output| {
            matches!(
                output,
                SessionOutput::Down {
                    administrative: true,
                    ..
                }
            )
        });
        assert_eq!(fell, from == Up, "{from}");
        session.handle_timeout(ms(10_001), MID);
        if from != AdminDown {
            let [packet] = packets(&mut session)[..] else {
                panic!("{from}: it says so once");
            };
            assert_eq!(
                (packet.state, packet.diagnostic),
                (AdminDown, Diagnostic::ADMIN_DOWN)
            );
        }
        session.handle_packet(&said(Down), ms(10_002), MID);
        assert_eq!(session.state(), AdminDown, "packets change nothing");
        assert_eq!(session.stats().rejected.get("admin-down"), Some(&1));
        session.set_admin_down(false, ms(10_003));
        assert_eq!(session.state(), Down);
        session.handle_packet(&said(Down), ms(10_004), MID);
        assert_eq!(session.state(), Init);
    }
}

#[test]
fn an_up_session_falls_when_its_detection_time_is_over_and_not_before() {
    let mut session = session_in(Up);
    assert_eq!(session.detection_time(), ms(150));
    let mut now = ms(10_000);
    for _ in 0..20 {
        now += ms(149);
        session.handle_timeout(now, MID);
        assert!(session.is_up(), "{now:?}");
        session.handle_packet(&said(Up), now, MID);
    }
    now += ms(150);
    session.handle_timeout(now, MID);
    assert_eq!(session.state(), Down);
    assert_eq!(session.stats().downs, 1);
}

#[test]
fn what_is_sent_is_jittered_by_what_chance_says() {
    for (multiplier, chance, wanted) in [
        (3, 0, 50_000),
        (3, MID, 43_750),
        (3, u32::MAX, 37_501),
        (1, 0, 45_000),
        (1, u32::MAX, 37_501),
    ] {
        let mut session = session_in(Up);
        let other = SessionConfig {
            multiplier,
            ..config()
        };
        session.set_config(other, ms(10_000), MID);
        while let Some(due) = session.poll_timeout().filter(|due| *due < ms(10_100)) {
            session.handle_timeout(due, MID);
        }
        let due = session.poll_timeout().expect("it speaks");
        session.handle_packet(&said(Up), due, chance);
        session.handle_timeout(due, chance);
        let next = session.poll_timeout().expect("it speaks") - due;
        assert_eq!(next, Duration::from_micros(wanted), "{multiplier} {chance}");
    }
}

#[test]
fn a_poll_is_answered_at_once_and_ends_with_the_answer() {
    let mut session = session_in(Up);
    session.handle_packet(
        &Control {
            poll: true,
            ..said(Up)
        },
        ms(10_001),
        MID,
    );
    let [answer] = packets(&mut session)[..] else {
        panic!("one answer");
    };
    assert!(answer.is_final && !answer.poll);
    // A slower pace is asked for, and kept back until the other end has heard.
    let slower = SessionConfig {
        min_tx: ms(200),
        min_rx: ms(20),
        ..config()
    };
    session.set_config(slower, ms(10_002), MID);
    assert_eq!(session.interval(), ms(50));
    session.handle_timeout(ms(10_002), MID);
    let [asked] = packets(&mut session)[..] else {
        panic!("it asks at once");
    };
    assert!(asked.poll && asked.state == Up);
    assert_eq!(
        (asked.desired_min_tx, asked.required_min_rx),
        (200_000, 20_000)
    );
    let quick = Control {
        desired_min_tx: 20_000,
        ..said(Up)
    };
    session.handle_packet(&quick, ms(10_003), MID);
    assert_eq!(
        session.detection_time(),
        ms(150),
        "what it asked for was not heard yet"
    );
    session.handle_packet(
        &Control {
            is_final: true,
            ..quick
        },
        ms(10_004),
        MID,
    );
    assert_eq!(
        (session.interval(), session.detection_time()),
        (ms(200), ms(60))
    );
    // What is quicker counts at once.
    session.set_config(config(), ms(10_005), MID);
    assert_eq!(session.interval(), ms(50));
    assert!(session.is_up());
}

#[test]
fn who_polls_is_not_expected_to_be_quick_yet() {
    let mut session = session_in(Init);
    session.handle_packet(
        &Control {
            poll: true,
            ..said(Up)
        },
        ms(10_100),
        MID,
    );
    assert!(session.is_up());
    assert_eq!(session.detection_time(), ms(3_000));
    session.handle_packet(&said(Up), ms(10_200), MID);
    assert_eq!(session.detection_time(), ms(150));
    // Slower is believed at once.
    let slower = Control {
        desired_min_tx: 400_000,
        poll: true,
        ..said(Up)
    };
    session.handle_packet(&slower, ms(10_300), MID);
    assert_eq!(session.detection_time(), ms(1_200));
}

#[test]
fn the_slower_of_both_ends_says_how_often() {
    let mut session = session_in(Up);
    session.handle_packet(
        &Control {
            required_min_rx: 300_000,
            ..said(Up)
        },
        ms(10_001),
        MID,
    );
    assert_eq!(session.interval(), ms(300));
    // Nothing periodic is wanted at all; polls are answered all the same.
    session.handle_packet(
        &Control {
            required_min_rx: 0,
            ..said(Up)
        },
        ms(10_002),
        MID,
    );
    outputs(&mut session);
    session.handle_timeout(ms(10_100), MID);
    assert_eq!(packets(&mut session), []);
    let asks = Control {
        required_min_rx: 0,
        poll: true,
        ..said(Up)
    };
    session.handle_packet(&asks, ms(10_101), MID);
    assert_eq!(packets(&mut session).len(), 1);
    // Who demands silence gets it while both are up.
    session.handle_packet(
        &Control {
            demand: true,
            ..said(Up)
        },
        ms(10_102),
        MID,
    );
    assert!(
        session
            .poll_timeout()
            .is_some_and(|due| due == ms(10_102 + 150))
    );
    session.handle_packet(&said(Up), ms(10_103), MID);
    assert!(session.poll_timeout().is_some_and(|due| due <= ms(10_153)));
}

#[test]
fn a_passive_session_waits_to_be_spoken_to() {
    let passive = SessionConfig {
        passive: true,
        ..config()
    };
    let mut session = Session::new(passive, OURS, ms(0));
    assert_eq!(session.poll_timeout(), None);
    session.handle_timeout(ms(5_000), MID);
    assert_eq!(packets(&mut session), []);
    session.handle_packet(
        &Control {
            your_discriminator: 0,
            ..said(Down)
        },
        ms(5_001),
        MID,
    );
    let [packet] = packets(&mut session)[..] else {
        panic!("it answers");
    };
    assert_eq!((packet.state, packet.your_discriminator), (Init, THEIRS));
    while let Some(due) = session.poll_timeout() {
        session.handle_timeout(due, MID);
    }
    assert_eq!(session.state(), Down, "it is silent again");
}

#[test]
fn after_a_pause_of_its_own_it_listens_before_it_gives_up() {
    let mut session = session_in(Up);
    session.handle_timeout(ms(12_000), MID);
    assert!(session.is_up() && session.stats().pauses == 1);
    let mut heard = session_in(Up);
    heard.handle_timeout(ms(12_000), MID);
    heard.handle_packet(&said(Up), ms(12_010), MID);
    heard.handle_timeout(ms(12_100), MID);
    assert!(heard.is_up());
    // Nothing came: it is paused once, not for ever.
    session.handle_timeout(ms(14_000), MID);
    assert_eq!(session.state(), Down);
}

#[test]
fn a_session_goes_on_in_another_process() {
    let mut session = session_in(Up);
    session.handle_packet(&said(Up), ms(10_001), MID);
    let spoken = session.spoken().expect("it is up");
    let now = ms(700);
    let mut next = Session::resume(config(), &spoken, now);
    assert!(next.is_up());
    assert_eq!(
        (next.discriminator(), next.detection_time()),
        (OURS, ms(150))
    );
    next.handle_timeout(now, MID);
    let [packet] = packets(&mut next)[..] else {
        panic!("it speaks at once");
    };
    assert_eq!((packet.state, packet.your_discriminator), (Up, THEIRS));
    assert!(packet.poll, "its configuration may be another");
    next.handle_packet(
        &Control {
            is_final: true,
            ..said(Up)
        },
        ms(720),
        MID,
    );
    next.handle_timeout(ms(720 + 150), MID);
    assert_eq!(next.state(), Down, "silence counts again");
    assert_eq!(session_in(Init).spoken(), None);
}

#[test]
fn a_packet_finds_its_session_by_number_or_by_address() {
    let other: IpAddr = "10.0.0.9".parse().expect("an address");
    let mut sessions = Sessions::default();
    let now = ms(0);
    sessions.add(config(), None, now, OURS);
    let hops = SessionConfig {
        max_hops: 2,
        ..SessionConfig::new("C", other)
    };
    sessions.add(hops, None, now, OURS);
    let numbers: Vec<u32> = sessions.iter().map(|s| s.discriminator()).collect();
    assert_eq!(numbers, [OURS, OURS + 1], "each has its own");
    let mut give = |packet: Control, source: IpAddr, hop_limit: u8| {
        sessions.handle_packet(&packet.bytes(), source, hop_limit, now, MID)
    };
    let begin = Control {
        your_discriminator: 0,
        ..said(Down)
    };
    assert_eq!(give(begin, neighbor(), 255), Ok(()));
    assert_eq!(
        give(said(Init), other, 255),
        Ok(()),
        "by number, whoever says so"
    );
    let by = |discriminator| SessionRejection::Unknown {
        source_address: "10.0.0.7".parse().expect("an address"),
        discriminator,
    };
    assert_eq!(
        give(begin, "10.0.0.7".parse().expect("an address"), 255),
        Err(by(0))
    );
    let wrong = Control {
        your_discriminator: 99,
        ..said(Up)
    };
    assert_eq!(
        give(wrong, "10.0.0.7".parse().expect("an address"), 255),
        Err(by(99))
    );
    // Whoever is further away can't have sent it (RFC 5082).
    let far = |session: &str, found, least| SessionRejection::HopLimit {
        session: session.into(),
        found,
        least,
    };
    assert_eq!(give(begin, neighbor(), 254), Err(far("B", 254, 255)));
    assert_eq!(give(begin, other, 252), Err(far("C", 252, 253)));
    assert_eq!(give(begin, other, 253), Ok(()));
    let states: Vec<BfdState> = sessions.iter().map(|s| s.state()).collect();
    assert_eq!(states, [Up, Init]);
    let malformed = sessions.handle_packet(&[1], other, 255, now, MID);
    assert_eq!(malformed.expect_err("it is nothing").name(), "cut");
    let rejected: Vec<_> = sessions
        .rejected()
        .iter()
        .map(|(why, n)| (*why, *n))
        .collect();
    assert_eq!(rejected, [("cut", 1), ("unknown-session", 2)]);
    let first = sessions.iter().next().expect("a session");
    assert_eq!(first.stats().rejected.get("hop-limit"), Some(&1));
    assert_eq!(
        SessionConfig {
            max_hops: 255,
            ..config()
        }
        .least_hop_limit(),
        0
    );
}

#[test]
fn another_configuration_keeps_the_sessions_of_the_same_ends() {
    let mut sessions = Sessions::default();
    let now = ms(0);
    sessions.add(config(), None, now, OURS);
    sessions
        .handle_packet(&said(Init).bytes(), neighbor(), 255, now, MID)
        .expect("it counts");
    let slower = SessionConfig {
        min_tx: ms(100),
        ..config()
    };
    let more = SessionConfig::new("D", "fd00::2".parse().expect("an address"));
    sessions.set_configs(&[more.clone(), slower], now, MID);
    let states: Vec<_> = sessions
        .iter()
        .map(|s| (s.config().name.as_str(), s.state()))
        .collect();
    assert_eq!(states, [("D", Down), ("B", Up)]);
    // Another source is another session.
    let moved = SessionConfig {
        source: Some("10.0.0.1".parse().expect("an address")),
        ..config()
    };
    sessions.set_configs(&[moved], now, MID);
    let states: Vec<_> = sessions.iter().map(|s| s.state()).collect();
    assert_eq!(states, [Down]);
}

//! What the director's programs receive and send is recorded as it was, with the verdict.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use pointsman_datapath::records::{Options, Record, Records};
use pointsman_datapath::trial::{LOOPBACK, Program, Trial};
use pointsman_director::native::generate::Generator;
use pointsman_director::native::services::{
    CAPACITY, CLIENT_MAC, DIRECTOR_MAC, SERVERS, SERVICES, configure, server,
};
use pointsman_director::{Action, Reason};
use pointsman_wire::{Frame, Summary, tcp};

const CLIENT: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 7);
const NOBODY: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 250);
const PACKETS: usize = 3000;

fn is_root() -> bool {
    // SAFETY: the call only asks.
    unsafe { libc::geteuid() == 0 }
}

/// Programs with services, and no route.
fn trial() -> Option<Trial> {
    if !is_root() {
        eprintln!("skipped: needs root");
        return None;
    }
    let options = pointsman_datapath::Options {
        connections: 4096,
        capacity: CAPACITY,
        ..pointsman_datapath::Options::default()
    };
    let trial = Trial::new(&options).expect("the programs load");
    configure(&mut trial.mirror(), LOOPBACK).expect("services");
    trial.set_link(LOOPBACK, DIRECTOR_MAC).expect("a link");
    trial.set_world(1 << 40, 7).expect("a time");
    Some(trial)
}

fn watch(trial: &Trial, options: &Options) -> Records {
    let numbers = trial.numbers().expect("the programs have numbers");
    let mut begun = Records::watch(&numbers, options).expect("it records");
    assert_eq!(begun.len(), 1, "both programs share their maps");
    begun.remove(0).1
}

fn all(records: &mut Records) -> Vec<Record> {
    std::iter::from_fn(|| records.next_record()).collect()
}

fn syn(to: IpAddr) -> Vec<u8> {
    let from: IpAddr = match to {
        IpAddr::V4(_) => CLIENT.into(),
        IpAddr::V6(_) => "2001:db8:1::7".parse().expect("an address"),
    };
    Frame::ip(from, to)
        .macs(CLIENT_MAC, DIRECTOR_MAC)
        .tcp(9, 80)
        .flags(tcp::SYN)
        .build()
}

#[test]
fn every_frame_is_told_as_it_came_and_as_it_goes() {
    let Some(trial) = trial() else { return };
    let mut records = watch(&trial, &Options::default());
    let mut out = Vec::new();
    let mut counted: BTreeMap<Reason, u64> = BTreeMap::new();
    let mut actions: HashMap<(Program, Action), usize> = HashMap::new();
    // The kernel refuses to make an sk_buff of less than an IP header.
    let frames = Generator::new(41).filter(|frame| frame.len() >= 60);
    for (number, frame) in frames.take(PACKETS).enumerate() {
        let program = if number % 2 == 0 {
            Program::Xdp
        } else {
            Program::Tcx
        };
        let before = SystemTime::now();
        trial.run(program, &frame, &mut out, 1).expect("it runs");
        let seen = all(&mut records);
        let Some((received, rest)) = seen.split_first() else {
            panic!("{program:?} was not seen with {frame:02x?}");
        };
        assert_eq!(received.bytes, frame, "{program:?}");
        assert_eq!((received.sent, received.length), (false, frame.len()));
        let (ifindex, tcx) = (received.ifindex, received.tcx);
        assert_eq!((ifindex, tcx), (LOOPBACK, program == Program::Tcx));
        let (reason, action) = (received.reason, received.action());
        *counted.entry(reason).or_default() += 1;
        *actions.entry((program, action)).or_default() += 1;
        let at = UNIX_EPOCH + Duration::from_nanos(received.at_ns);
        let late = at.duration_since(before).expect("not before it was sent");
        assert!(late.as_secs() < 60, "{late:?}");
        match rest {
            // tc has the kernel find some next hops.
            [] => assert!(
                action != Action::Forward || program == Program::Tcx,
                "{reason:?} was not seen to be sent on"
            ),
            [sent] => {
                assert!(sent.sent && sent.at_ns >= received.at_ns, "{sent:?}");
                assert_eq!((sent.reason, action), (reason, Action::Forward));
                // A tag that tc sets is not in the frame that a test run gives back.
                if program == Program::Xdp {
                    assert_eq!(sent.bytes, out);
                }
            }
            more => panic!("{more:?}"),
        }
    }
    for reason in Reason::ALL {
        let told = counted.get(reason).copied().unwrap_or(0);
        assert_eq!(
            trial.verdicts(*reason).expect("counters"),
            told,
            "{reason:?}"
        );
    }
    for program in [Program::Xdp, Program::Tcx] {
        for action in [Action::Pass, Action::Forward, Action::Drop] {
            let times = actions.get(&(program, action)).copied().unwrap_or(0);
            assert!(times > 10, "{program:?} {action:?}: {times} of {actions:?}");
        }
    }
    assert_eq!(records.lost(LOOPBACK), 0);
}

#[test]
fn one_recording_at_a_time_and_none_after_its_end() {
    let Some(trial) = trial() else { return };
    let mut out = Vec::new();
    let mut run = || {
        let frame = syn(SERVICES.into());
        trial
            .run(Program::Xdp, &frame, &mut out, 1)
            .expect("it runs");
    };
    let mut records = watch(&trial, &Options::default());
    run();
    let numbers = trial.numbers().expect("the programs have numbers");
    let refused = Records::watch(&numbers, &Options::default()).map(drop);
    let refused = refused.expect_err("it is recorded").to_string();
    assert!(
        refused.contains("another capture records there"),
        "{refused}"
    );
    assert!(!all(&mut records).is_empty());
    drop(records);
    run();
    let mut records = watch(&trial, &Options::default());
    assert_eq!(records.next_record(), None);
    run();
    assert!(!all(&mut records).is_empty());
    // Its process ends without a word: so does what it asked for, soon.
    std::mem::forget(records);
    let deadline = Instant::now() + Duration::from_secs(30);
    let mut records = loop {
        run();
        match Records::watch(&numbers, &Options::default()) {
            Ok(mut begun) => break begun.remove(0).1,
            Err(error) => assert!(Instant::now() < deadline, "{error}"),
        }
        std::thread::sleep(Duration::from_millis(50));
    };
    assert_eq!(records.next_record(), None);
}

#[test]
fn only_wanted_addresses_are_told_and_only_so_much_of_each_frame() {
    let Some(trial) = trial() else { return };
    let wanted: IpAddr = "2001:db8:2::9".parse().expect("an address");
    let other: IpAddr = "2001:db8:2::8".parse().expect("an address");
    let options = Options {
        addresses: vec![SERVICES.into(), wanted],
        snaplen: 64,
    };
    let mut records = watch(&trial, &options);
    let mut out = Vec::new();
    let tagged = |service| {
        let frame = Frame::ipv4(CLIENT, SERVICES).macs(CLIENT_MAC, DIRECTOR_MAC);
        if service {
            frame.service_vlan(9).vlan(7).tcp(9, 80).build()
        } else {
            frame.vlan(7).tcp(9, 80).build()
        }
    };
    for (frame, is_wanted) in [
        (syn(SERVICES.into()), true),
        (syn(wanted), true),
        (tagged(false), true),
        (tagged(true), true),
        (syn(other), false),
        (syn(NOBODY.into()), false),
    ] {
        trial
            .run(Program::Xdp, &frame, &mut out, 1)
            .expect("it runs");
        let seen = all(&mut records);
        assert_eq!(!seen.is_empty(), is_wanted, "{frame:02x?}");
        if let Some(first) = seen.first() {
            assert_eq!(first.bytes, frame[..frame.len().min(64)]);
            assert_eq!(first.length, frame.len());
        }
    }
}

#[test]
fn frames_are_wanted_for_how_they_come_or_go() {
    let Some(trial) = trial() else { return };
    // Frames to virtual services go to these; some with their address.
    let servers: Vec<IpAddr> = (0..SERVERS).map(|number| server(false, number)).collect();
    let options = Options {
        addresses: servers.clone(),
        ..Options::default()
    };
    let mut records = watch(&trial, &options);
    let has = |frame: &[u8]| {
        Summary::parse(frame).is_some_and(|summary| {
            servers.contains(&summary.source) || servers.contains(&summary.destination)
        })
    };
    let outer = |frame: &[u8]| Summary::parse(frame).map(|summary| summary.protocol);
    let (mut before, mut tunnelled, mut only_after, mut never) = (0, 0, 0, 0);
    let mut out = Vec::new();
    let frames = Generator::new(43).filter(|frame| frame.len() >= 60);
    for frame in frames.take(PACKETS) {
        let run = trial.run(Program::Xdp, &frame, &mut out, 1);
        // XDP_TX and XDP_REDIRECT.
        let is_sent = matches!(run.expect("it runs").result, 3 | 4);
        let seen = all(&mut records);
        if has(&frame) {
            before += 1;
            assert!(!seen.is_empty(), "{frame:02x?}");
        } else if is_sent && outer(&out) != outer(&frame) {
            // A tunnel's frames come with their service's address, which is what people name.
            tunnelled += 1;
        } else if is_sent && has(&out) {
            only_after += 1;
            assert_eq!(seen.len(), 2, "{frame:02x?}");
            let kept = seen[0].bytes.len();
            assert!(kept >= 60 && seen[0].bytes == frame[..kept]);
        } else if Summary::parse(&frame).is_some() {
            never += 1;
            assert_eq!(seen, [], "{frame:02x?}");
        }
    }
    let counts = (before, tunnelled, only_after, never);
    assert!(before > 50 && only_after > 5 && never > 50, "{counts:?}");
}

#[test]
fn records_that_nobody_reads_are_counted_as_lost() {
    let Some(trial) = trial() else { return };
    let mut records = watch(&trial, &Options::default());
    let mut out = Vec::new();
    let frame = Frame::ipv4(CLIENT, NOBODY)
        .macs(CLIENT_MAC, DIRECTOR_MAC)
        .tcp(9, 80)
        .payload(&[7; 1400])
        .build();
    let run = trial.run(Program::Xdp, &frame, &mut out, 2000);
    run.expect("it runs");
    let lost = records.lost(LOOPBACK);
    let seen = all(&mut records).len() as u64;
    assert!(seen > 100 && lost > 100, "{seen} seen, {lost} lost");
    assert_eq!(seen + lost, 2000);
    drop(records);
    assert_eq!(watch(&trial, &Options::default()).lost(LOOPBACK), 0);
}

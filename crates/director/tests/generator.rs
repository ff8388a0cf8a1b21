//! What generated packets meet: the director on native tables takes any number of them.

use std::collections::{BTreeMap, BTreeSet};

use pointsman_director::{
    Action, Reason, Scratch,
    native::{
        NativeEnv, NativeFrame, NativeTables,
        generate::{Generator, LONGEST, SHORTEST},
        marks::MARK_SERVICES,
        services::{CAPACITY, configure, link, services},
    },
    process,
};

const IFINDEX: u32 = 3;

fn tables() -> NativeTables {
    let mut tables = NativeTables::new(CAPACITY);
    configure(&mut tables, IFINDEX).expect("the configuration is valid");
    tables.links.insert(IFINDEX, link());
    tables
}

/// Runs `count` frames of `seed`; returns how often each verdict came.
fn run(seed: u64, count: usize) -> BTreeMap<Reason, usize> {
    let tables = tables();
    let env = NativeEnv::default();
    env.now.set(1_000_000_000);
    let mut scratch = Scratch::default();
    let mut reasons = BTreeMap::new();
    for bytes in Generator::new(seed).take(count) {
        assert!((SHORTEST..=LONGEST).contains(&bytes.len()));
        env.now.set(env.now.get() + 3_000_000);
        let mut frame = NativeFrame::new(bytes.clone(), IFINDEX);
        let verdict = process(&mut frame, &tables, &env, &mut scratch);
        if verdict.action() == Action::Pass {
            assert_eq!(frame.bytes, bytes, "{verdict:?} changed the frame");
        }
        *reasons.entry(verdict.reason).or_default() += 1;
    }
    reasons
}

#[test]
fn a_seed_gives_the_same_frames() {
    let frames = |seed| Generator::new(seed).take(500).collect::<Vec<_>>();
    assert_eq!(frames(7), frames(7));
    assert_ne!(frames(7), frames(8));
}

#[test]
fn every_service_is_configured() {
    let tables = tables();
    assert_eq!(services().count(), 288);
    assert_eq!(tables.services.len(), 288 + MARK_SERVICES);
    let of_marks = tables.services.iter().filter(|(key, _)| key.protocol == 0);
    assert_eq!(of_marks.count(), MARK_SERVICES);
    assert!(tables.services.values().all(|service| service.count >= 3));
}

#[test]
fn frames_meet_services_of_marks() {
    let tables = tables();
    let env = NativeEnv::default();
    env.now.set(1_000_000_000);
    let mut scratch = Scratch::default();
    for bytes in Generator::new(1).take(5_000) {
        let mut frame = NativeFrame::new(bytes, IFINDEX);
        process(&mut frame, &tables, &env, &mut scratch);
    }
    let connections = tables.connections.borrow();
    let met: BTreeSet<u32> = connections.values().map(|found| found.mark).collect();
    assert_eq!(met, BTreeSet::from([0, 1, 2, 3]));
}

#[test]
fn frames_meet_every_verdict_they_can() {
    let met = run(1, 60_000);
    let unmet: Vec<Reason> = Reason::ALL
        .iter()
        .copied()
        .filter(|reason| !met.contains_key(reason))
        .collect();
    // These need a full table, no headroom, another hook, removed servers or several processors.
    let expected = [
        Reason::ServerGone,
        Reason::TableFull,
        Reason::NoHeadroom,
        Reason::Stateless,
        Reason::VlanTags,
        Reason::Contended,
    ];
    let unexpected: Vec<_> = unmet.iter().filter(|r| !expected.contains(r)).collect();
    assert!(unexpected.is_empty(), "never met: {unexpected:?}");
    let forwarded: usize = met
        .iter()
        .filter(|(reason, _)| reason.action() == Action::Forward)
        .map(|(_, count)| count)
        .sum();
    assert!(forwarded > 15_000, "only {forwarded} of 60000 forwarded");
}

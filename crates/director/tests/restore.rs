//! Records outlive the daemon: what is read back is what was, and goes on as it would have.

mod bench;
#[path = "bench/history.rs"]
mod history;

use bench::{Bench, CAPACITY, CLIENT, CLIENT_MAC, CLIENT6, DIRECTOR_MAC, VIP, VIP6, rs, web};
use history::{change, listing, tables};
use pointsman_director::{
    Reason,
    control::{Director, Mirror, Records, ServerAccount},
    model::Change,
    record::{NONE, SlotLine, server_flag},
    tables::Tables,
};
use pointsman_wire::{Frame, tcp::SYN};
use proptest::prelude::*;

/// First packets to every service.
fn frames(first: u16) -> impl Iterator<Item = Vec<u8>> {
    (first..first + 6).flat_map(|port| {
        let v4 = || Frame::ipv4(CLIENT, VIP).macs(CLIENT_MAC, DIRECTOR_MAC);
        let v6 = || Frame::ipv6(CLIENT6, VIP6).macs(CLIENT_MAC, DIRECTOR_MAC);
        [
            v4().tcp(port, 80).flags(SYN).build(),
            v4().udp(port, 53).build(),
            v6().tcp(port, 80).flags(SYN).build(),
            v6().udp(port, 53).build(),
        ]
    })
}

/// The director's configuration from the records alone.
fn restore(bench: &mut Bench) {
    let records = bench.tables.records();
    let restored = Director::restore(CAPACITY, &records, &mut bench.tables);
    bench.director = restored.expect("records of a director");
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(300) })]

    #[test]
    fn restored_is_as_it_was(
        before in prop::collection::vec(change(), 1..60),
        after in prop::collection::vec(change(), 1..20),
        collect in any::<bool>(),
    ) {
        let mut original = Bench::new();
        let mut restored = Bench::new();
        for change in &before {
            let results = [&mut original, &mut restored].map(|bench| bench.apply(change));
            prop_assert_eq!(&results[0], &results[1]);
        }
        let run = |bench: &mut Bench, first| -> Vec<_> {
            frames(first).map(|frame| bench.send(&frame)).collect()
        };
        prop_assert!(run(&mut original, 1000) == run(&mut restored, 1000));
        if collect {
            for bench in [&mut original, &mut restored] {
                for _ in 0..2 {
                    bench.director.collect_removed(&mut bench.tables).expect("works");
                }
            }
        }
        restore(&mut restored);
        prop_assert_eq!(listing(&original.director), listing(&restored.director));
        prop_assert_eq!(tables(&original.tables), tables(&restored.tables));
        prop_assert!(run(&mut original, 2000) == run(&mut restored, 2000));
        // And it takes further changes as the original does. Places may differ: what was given
        // back last rests in the one and is free in the other.
        for change in &after {
            prop_assert_eq!(original.apply(change), restored.apply(change));
            let configured = |bench: &Bench| {
                let services = bench.director.services();
                services.map(|service| {
                    let servers = service.servers().map(|s| s.config().clone());
                    (service.config().clone(), servers.collect::<Vec<_>>())
                }).collect::<Vec<_>>()
            };
            prop_assert_eq!(configured(&original), configured(&restored));
        }
        prop_assert!(run(&mut original, 3000) == run(&mut restored, 3000));
    }
}

#[test]
fn an_addition_cut_short_is_a_removed_server() {
    let mut bench = Bench::balanced("rr", &[1, 1]);
    let mut records = bench.tables.records();
    // r3's record was written, its slot was not.
    let mut orphan = records.servers[0].1;
    orphan.address = pointsman_director::control::address_words(rs(3));
    orphan.sequence = 9;
    records.servers.push((7, orphan));
    let director = Director::restore(CAPACITY, &records, &mut bench.tables).expect("possible");
    assert_eq!(director.removed().collect::<Vec<_>>(), [(web(), 7)]);
    let record = Tables::server(&bench.tables, 7).expect("in range");
    assert_eq!(record.flags & server_flag::AVAILABLE, 0);
    bench.director = director;
    for _ in 0..2 {
        bench
            .director
            .collect_removed(&mut bench.tables)
            .expect("works");
    }
    assert_eq!(bench.director.removed().count(), 0);
    assert_eq!(
        Tables::server(&bench.tables, 7).map(|record| record.flags),
        Some(0)
    );
}

/// The line of the service that has servers.
fn slots(records: &mut Records) -> &mut SlotLine {
    let mut services = records.services.iter();
    let (_, record) = services.find(|(_, s)| s.count > 0).expect("servers");
    &mut records.slots[record.slots as usize]
}

#[test]
fn contradictory_records_are_refused() {
    let mut bench = Bench::balanced("mh", &[1, 1, 1]);
    bench.add(bench::dns(), "rr");
    let good = || bench.tables.records();
    let spoil = |spoil: fn(&mut Records)| {
        let mut records = good();
        spoil(&mut records);
        records
    };
    let mut scratch = pointsman_director::native::NativeTables::new(CAPACITY);
    for (number, records) in [
        spoil(|r| r.services[0].1.scheduler = 99),
        spoil(|r| r.services[0].0.protocol = 99),
        spoil(|r| r.services.iter_mut().for_each(|s| s.1.slots = 1 << 20)),
        spoil(|r| r.services.iter_mut().for_each(|s| s.1.count += 1)),
        spoil(|r| r.services.iter_mut().for_each(|s| s.1.id = 0)),
        spoil(|r| r.services.iter_mut().for_each(|s| s.1.id = 1 << 20)),
        spoil(|r| r.services.iter_mut().for_each(|s| s.1.table = 1 << 20)),
        spoil(|r| slots(r)[0].server = NONE),
        spoil(|r| slots(r)[0].server = 30),
        spoil(|r| slots(r)[1].server = slots(r)[0].server),
        spoil(|r| r.servers.clear()),
        spoil(|r| r.servers.push((1 << 20, r.servers[0].1))),
    ]
    .into_iter()
    .enumerate()
    {
        let refused = Director::restore(CAPACITY, &records, &mut scratch);
        let text = refused.err().map(|error| error.to_string());
        assert!(
            text.is_some_and(|text| text.contains("impossible")),
            "{number}"
        );
    }
    assert!(Director::restore(CAPACITY, &good(), &mut scratch).is_ok());
}

#[test]
fn a_revived_server_counts_on_after_a_restart() {
    let mut bench = Bench::balanced("rr", &[1]);
    bench.send(&bench::segment(1, SYN).build());
    bench.delete(web(), rs(1), 80);
    restore(&mut bench);
    assert_eq!(
        bench.reason(&bench::segment(1, SYN).build()),
        Reason::ServerGone
    );
    let server = bench::real(
        rs(1),
        80,
        pointsman_director::model::ForwardingMethod::Direct,
        1,
    );
    bench
        .apply(&Change::AddServer { id: web(), server })
        .expect("valid");
    assert_eq!(
        bench.reason(&bench::segment(1, SYN).build()),
        Reason::Direct
    );
    assert_eq!(bench.counts(rs(1)), (1, 0));
}

/// What an operator sees of every counter.
fn counters(bench: &mut Bench) -> String {
    let mut text = String::new();
    for service in bench.director.services() {
        let servers = service.servers().map(|server| {
            let counted = bench.tables.stats(server.index()).expect("in range");
            (
                server.config().address,
                server.config().port,
                server.since_zero(counted),
            )
        });
        let servers: Vec<_> = servers.collect();
        text += &format!("{} {:?} {servers:?}\n", service.config().id, service.past());
    }
    text
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(200) })]

    #[test]
    fn counters_go_on_by_the_ledger(
        before in prop::collection::vec((change(), any::<bool>()), 1..60),
        after in prop::collection::vec((change(), any::<bool>()), 1..30),
    ) {
        let mut original = Bench::new();
        let mut restored = Bench::new();
        let mut first = 1000;
        let mut live = |bench: &mut [&mut Bench], steps: &[(Change, bool)]| {
            for (change, traffic) in steps {
                for bench in bench.iter_mut() {
                    // Refusals are compared elsewhere.
                    let _ = bench.apply(change);
                    if *traffic {
                        frames(first).for_each(|frame| drop(bench.send(&frame)));
                    }
                }
                first += 10;
            }
        };
        live(&mut [&mut original, &mut restored], &before);
        let ledger = serde_json::to_string(&restored.director.ledger()).expect("plain data");
        restore(&mut restored);
        let ledger = serde_json::from_str(&ledger).expect("as written");
        restored.director.restore_ledger(&ledger, &mut restored.tables).expect("native tables");
        prop_assert_eq!(counters(&mut original), counters(&mut restored));
        prop_assert_eq!(original.director.ledger(), restored.director.ledger());
        live(&mut [&mut original, &mut restored], &after);
        prop_assert_eq!(counters(&mut original), counters(&mut restored));
    }
}

#[test]
fn a_ledger_of_other_records_changes_nothing() {
    let mut bench = Bench::balanced("rr", &[1]);
    bench.send(&frames(1000).next().expect("a frame"));
    bench.apply(&Change::Zero { id: None }).expect("works");
    let mut ledger = bench.director.ledger();
    let account = ledger.servers[0].clone();
    restore(&mut bench);
    let totals = counters(&mut bench);
    for change in [
        |account: &mut ServerAccount| account.index += 1,
        |account: &mut ServerAccount| account.sequence += 1,
        // More than was ever counted.
        |account: &mut ServerAccount| account.zero.in_packets += 1,
    ] {
        ledger.servers[0] = account.clone();
        change(&mut ledger.servers[0]);
        let tables = &mut bench.tables;
        bench
            .director
            .restore_ledger(&ledger, tables)
            .expect("works");
        assert_eq!(counters(&mut bench), totals);
    }
    ledger.servers[0] = account;
    let tables = &mut bench.tables;
    bench
        .director
        .restore_ledger(&ledger, tables)
        .expect("works");
    assert_ne!(counters(&mut bench), totals);
}

//! A change that can't be carried out changes nothing: no room, or a record that can't be written.

mod bench;
#[path = "bench/history.rs"]
mod history;

use bench::{Bench, CAPACITY, VIP, dns, id, real, rs, service, web};
use history::{bench_of, change, listing, tables};
use pointsman_director::{
    control::{Capacity, Mirror, MirrorError},
    model::{Change, ControlError, ForwardingMethod, Protocol},
    native::NativeTables,
    record::{
        LocalityKey, LocalityRecord, MarkRuleRecord, ServerRecord, ServerStats, ServiceKey,
        ServiceRecord, Settings, SlotLine, TableLine, counts_flag, settings_flag,
    },
    tables::Tables,
};
use proptest::prelude::*;

/// Tables of which one call fails.
struct Failing<'a> {
    tables: &'a mut NativeTables,
    /// Calls that work before the one that does not.
    good: usize,
    failed: bool,
}

impl Failing<'_> {
    fn call<T>(
        &mut self,
        call: impl FnOnce(&mut NativeTables) -> Result<T, MirrorError>,
    ) -> Result<T, MirrorError> {
        if self.good == 0 && !self.failed {
            self.failed = true;
            return Err(MirrorError("struck".to_owned()));
        }
        self.good = self.good.saturating_sub(1);
        call(self.tables)
    }
}

impl Mirror for Failing<'_> {
    fn set_server(&mut self, index: u32, record: &ServerRecord) -> Result<(), MirrorError> {
        self.call(|tables| tables.set_server(index, record))
    }
    fn reset_server(&mut self, index: u32) -> Result<(), MirrorError> {
        self.call(|tables| tables.reset_server(index))
    }
    fn clear_overload(&mut self, index: u32) -> Result<(), MirrorError> {
        self.call(|tables| tables.clear_overload(index))
    }
    fn references(&mut self, index: u32) -> Result<u64, MirrorError> {
        self.call(|tables| tables.references(index))
    }
    fn stats(&mut self, index: u32) -> Result<ServerStats, MirrorError> {
        self.call(|tables| tables.stats(index))
    }
    fn localities(&mut self) -> Result<Vec<(LocalityKey, LocalityRecord)>, MirrorError> {
        self.call(Mirror::localities)
    }
    fn remove_locality(&mut self, key: &LocalityKey) -> Result<(), MirrorError> {
        self.call(|tables| tables.remove_locality(key))
    }
    fn set_slots(&mut self, first: u32, lines: &[SlotLine]) -> Result<(), MirrorError> {
        self.call(|tables| tables.set_slots(first, lines))
    }
    fn set_table(&mut self, first: u32, lines: &[TableLine]) -> Result<(), MirrorError> {
        self.call(|tables| tables.set_table(first, lines))
    }
    fn scheduler_state(&mut self, service: u32) -> Result<u64, MirrorError> {
        self.call(|tables| Mirror::scheduler_state(tables, service))
    }
    fn set_service(&mut self, key: &ServiceKey, record: &ServiceRecord) -> Result<(), MirrorError> {
        self.call(|tables| tables.set_service(key, record))
    }
    fn remove_service(&mut self, key: &ServiceKey) -> Result<(), MirrorError> {
        self.call(|tables| tables.remove_service(key))
    }
    fn set_mark_rules(
        &mut self,
        first: u32,
        records: &[MarkRuleRecord],
    ) -> Result<(), MirrorError> {
        self.call(|tables| tables.set_mark_rules(first, records))
    }
    fn set_settings(&mut self, settings: &Settings) -> Result<(), MirrorError> {
        self.call(|tables| tables.set_settings(settings))
    }
}

/// Tries `change` with every call of the mirror failing in turn, until it works; then says how
/// often it failed.
fn strike(bench: &mut Bench, change: &Change) -> Result<usize, TestCaseError> {
    for good in 0.. {
        let before = (listing(&bench.director), tables(&bench.tables));
        let mut mirror = Failing {
            tables: &mut bench.tables,
            good,
            failed: false,
        };
        let result = bench.director.apply(change, &mut mirror);
        let any = id(Protocol::Tcp, VIP, 0);
        let looked_for = mirror.tables.settings.flags & settings_flag::ANY_PORT != 0;
        prop_assert!(looked_for || bench.director.service(&any).is_none());
        let flags = mirror.tables.settings.flags;
        for service in bench.director.services() {
            let family = if service.config().id.is_ipv6() {
                settings_flag::SERVES_IPV6
            } else {
                settings_flag::SERVES_IPV4
            };
            prop_assert!(flags & family != 0);
        }
        // What need not have worked is done all the same.
        let Err(ControlError::DataPlane(text)) = &result else {
            return Ok(good);
        };
        prop_assert!(mirror.failed);
        prop_assert!(text.contains("struck"));
        prop_assert_eq!(
            listing(&bench.director),
            before.0,
            "{:?}, call {}",
            change,
            good
        );
        prop_assert_eq!(
            tables(&bench.tables),
            before.1,
            "{:?}, call {}",
            change,
            good
        );
    }
    Ok(0)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(200) })]

    #[test]
    fn failed_writes_change_nothing(changes in prop::collection::vec(change(), 1..40)) {
        let mut bench = Bench::new();
        let mut plain = Bench::new();
        for change in &changes {
            strike(&mut bench, change)?;
            let _ = plain.director.apply(change, &mut plain.tables);
        }
        // Failures on the way left no traces, and nothing leaked: all room is still there.
        let configured = |bench: &Bench| bench.director.services().map(|service| {
            let servers = service.servers().map(|s| s.config().clone());
            (service.config().clone(), servers.collect::<Vec<_>>())
        }).collect::<Vec<_>>();
        prop_assert_eq!(configured(&bench), configured(&plain));
        assert_room(&mut bench);
    }

    #[test]
    fn no_room_changes_nothing(changes in prop::collection::vec(change(), 20..120)) {
        let narrow = Capacity { services: 3, servers: 5, slot_lines: 3, table_lines: 140 };
        let mut bench = bench_of(narrow);
        let mut refused = 0;
        for change in &changes {
            let before = (listing(&bench.director), tables(&bench.tables));
            match bench.director.apply(change, &mut bench.tables) {
                Ok(()) => {}
                Err(error) => {
                    refused += usize::from(matches!(error, ControlError::NoMemory(_)));
                    prop_assert_eq!(listing(&bench.director), before.0, "{:?}", change);
                    prop_assert_eq!(tables(&bench.tables), before.1, "{:?}", change);
                }
            }
        }
        let _ = refused;
        bench.director.apply(&Change::Clear, &mut bench.tables).expect("works");
        for _ in 0..2 {
            bench.director.collect_removed(&mut bench.tables).expect("works");
        }
        // Everything can be had again.
        for port in 1..=3 {
            let service = service(id(Protocol::Tcp, VIP, port), "rr");
            let change = Change::AddService { service };
            prop_assert!(bench.director.apply(&change, &mut bench.tables).is_ok());
        }
        for number in 1..=5 {
            let server = real(rs(number), 1, ForwardingMethod::Direct, 1);
            let change = Change::AddServer { id: id(Protocol::Tcp, VIP, 1), server };
            prop_assert!(bench.director.apply(&change, &mut bench.tables).is_ok());
        }
    }
}

/// After clearing, a director of [`CAPACITY`] has room for all that it says.
fn assert_room(bench: &mut Bench) {
    let director = &mut bench.director;
    director
        .apply(&Change::Clear, &mut bench.tables)
        .expect("works");
    for _ in 0..2 {
        director.collect_removed(&mut bench.tables).expect("works");
    }
    assert_eq!(director.removed().count(), 0);
    for port in 0..CAPACITY.services as u16 {
        let service = service(id(Protocol::Tcp, VIP, 1000 + port), "rr");
        director
            .apply(&Change::AddService { service }, &mut bench.tables)
            .expect("room for all services");
    }
    for number in 0..CAPACITY.servers as u8 {
        let server = real(rs(number), 80, ForwardingMethod::Direct, 1);
        let id = id(Protocol::Tcp, VIP, 1000 + u16::from(number % 8));
        director
            .apply(&Change::AddServer { id, server }, &mut bench.tables)
            .expect("room for all servers");
    }
}

#[test]
fn every_table_says_when_it_is_full() {
    let room = Capacity {
        services: 2,
        servers: 9,
        slot_lines: 4,
        table_lines: 128,
    };
    let text = |bench: &mut Bench, change: Change| match bench
        .director
        .apply(&change, &mut bench.tables)
    {
        Err(ControlError::NoMemory(text)) => text,
        other => panic!("{change:?}: {other:?}"),
    };
    let mut bench = bench_of(room);
    bench.add(web(), "mh");
    bench.add(dns(), "sh");
    let third = service(id(Protocol::Tcp, VIP, 81), "rr");
    let full = text(&mut bench, Change::AddService { service: third });
    assert!(full.contains("--services"), "{full}");
    let add = |id, number| Change::AddServer {
        id,
        server: real(rs(number), 80, ForwardingMethod::Direct, 1),
    };
    bench
        .apply(&add(web(), 1))
        .expect("128 lines for one mh table");
    let full = text(&mut bench, add(dns(), 1));
    assert!(full.contains("--table-lines"), "{full}");
    // An edit needs the old table and the new one for a moment.
    let server = real(rs(1), 80, ForwardingMethod::Direct, 2);
    let full = text(&mut bench, Change::EditServer { id: web(), server });
    assert!(full.contains("--table-lines"), "{full}");

    let mut bench = bench_of(Capacity {
        slot_lines: 3,
        ..room
    });
    bench.add(web(), "rr");
    bench.add(dns(), "rr");
    for number in 1..=8 {
        bench.apply(&add(web(), number)).expect("room");
    }
    // The ninth needs two lines beside the one in use; then there is none left for another.
    bench.apply(&add(web(), 9)).expect("room");
    bench.delete(web(), rs(9), 80);
    let full = text(&mut bench, add(dns(), 1));
    assert!(full.contains("--servers"), "{full}");
}

#[test]
fn removal_is_collected_in_spite_of_failures() {
    let mut bench = Bench::balanced("rr", &[1, 1, 1]);
    for number in 1..=3 {
        bench.delete(web(), rs(number), 80);
    }
    bench
        .director
        .collect_removed(&mut bench.tables)
        .expect("works");
    assert_eq!(
        bench.director.removed().count(),
        3,
        "a packet may still be choosing them"
    );
    for good in 0..6 {
        let mut mirror = Failing {
            tables: &mut bench.tables,
            good,
            failed: false,
        };
        // Of three servers two calls each, one fails: the others are not forgotten.
        let before = bench.director.removed().count();
        let result = bench.director.collect_removed(&mut mirror);
        assert!(result.is_err() || !mirror.failed);
        assert!(bench.director.removed().count() <= before);
    }
    assert_eq!(bench.director.removed().count(), 0);
    assert_room(&mut bench);
}

#[test]
fn an_overload_stays_when_nothing_was_written() {
    let mut bench = Bench::balanced("rr", &[]);
    let mut server = real(rs(1), 80, ForwardingMethod::Direct, 1);
    server.upper = 1;
    bench.server(web(), server.clone());
    bench.send(&bench::segment(1, pointsman_wire::tcp::SYN).build());
    let overload = |bench: &Bench| {
        let counts = bench.tables.counts(0).expect("in range");
        counts.flags.load() & counts_flag::OVERLOAD != 0
    };
    assert!(overload(&bench));
    server.upper = 9;
    let change = Change::EditServer { id: web(), server };
    let mut mirror = Failing {
        tables: &mut bench.tables,
        good: 0,
        failed: false,
    };
    assert!(bench.director.apply(&change, &mut mirror).is_err());
    assert!(overload(&bench));
    bench.apply(&change).expect("works");
    assert!(!overload(&bench));
}

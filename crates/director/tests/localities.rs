//! Schedulers that look at the destination: `dh`, and the caches of `lblc` and `lblcr`.
//!
//! With services by address there is one destination only; so the scheduler is asked directly, as it
//! is for services by firewall mark.

mod bench;

use std::net::{IpAddr, Ipv4Addr};

use bench::{Bench, CAPACITY, number, real, rs, service, web};
use pointsman_director::{
    control::{Capacity, Director, LOCALITY_INTERVAL, Mirror, address_words},
    headers::Headers,
    model::{Change, ForwardingMethod},
    native::NativeTables,
    record::{
        LOCALITY_SERVERS, LocalityKey, LocalityRecord, NONE, ServerCounts, Settings, counts_flag,
    },
    schedule::{Room, schedule},
    tables::Tables,
};

const DIRECT: ForwardingMethod = ForwardingMethod::Direct;
const DAY: u64 = 86_400;

/// 192.168.7.`last`.
fn to(last: u8) -> IpAddr {
    Ipv4Addr::new(192, 168, 7, last).into()
}

/// The number of the server that a new connection to `destination` gets, 0 for none.
fn choose(bench: &Bench, destination: IpAddr) -> u8 {
    let mut headers = Headers::default();
    headers.flow.destination = address_words(destination);
    let record = bench.record(&web());
    let mut room = Room::default();
    let index = schedule(&bench.tables, &bench.env, &record, &headers, &mut room);
    if index == NONE {
        return 0;
    }
    let server = bench.director.server(index).expect("a server of ours");
    number(server.config().address)
}

fn index(bench: &Bench, number: u8) -> u32 {
    let service = bench.director.service(&web()).expect("there");
    let found = service.servers().find(|s| s.config().address == rs(number));
    found.expect("configured").index()
}

fn counts(bench: &Bench, number: u8) -> &ServerCounts {
    bench
        .tables
        .counts(index(bench, number))
        .expect("has counts")
}

fn set_active(bench: &Bench, active: [u32; 3]) {
    for (number, active) in (1..).zip(active) {
        counts(bench, number).active.store(active);
    }
}

fn entries(bench: &mut Bench) -> Vec<(LocalityKey, LocalityRecord)> {
    bench.tables.localities().expect("tables in memory")
}

fn change_scheduler(bench: &mut Bench, scheduler: &str) {
    let service = service(web(), scheduler);
    bench
        .apply(&Change::EditService { service })
        .expect("valid");
}

fn collect(bench: &mut Bench) {
    for _ in 0..3 {
        bench
            .director
            .collect_removed(&mut bench.tables)
            .expect("tables in memory");
    }
}

fn expire(bench: &mut Bench) -> usize {
    bench.wait(LOCALITY_INTERVAL);
    let now = bench.env.now.get();
    bench
        .director
        .expire_localities(now, &mut bench.tables)
        .expect("tables in memory")
}

#[test]
fn destination_hash_vectors() {
    let mut bench = Bench::balanced("dh", &[1, 1, 1]);
    let picks = |bench: &Bench| {
        (30..=39)
            .map(|last| choose(bench, to(last)))
            .collect::<Vec<_>>()
    };
    assert_eq!(picks(&bench), [2, 3, 2, 3, 2, 1, 2, 3, 2, 1]);
    // Weights say only who may be chosen, and nobody takes another one's place.
    bench.edit(web(), real(rs(3), 80, DIRECT, 9));
    bench.edit(web(), real(rs(1), 80, DIRECT, 0));
    assert_eq!(picks(&bench), [2, 3, 2, 3, 2, 0, 2, 3, 2, 0]);
    counts(&bench, 2).flags.store(counts_flag::OVERLOAD);
    assert_eq!(picks(&bench), [0, 3, 0, 3, 0, 0, 0, 3, 0, 0]);
    counts(&bench, 2).flags.store(0);
    // Every other destination is another server's when one is added or gone.
    bench.delete(web(), rs(1), 80);
    let two = picks(&bench);
    assert!(two.iter().all(|n| *n == 2 || *n == 3), "{two:?}");
    bench.server(web(), real(rs(1), 80, DIRECT, 1));
    // r1 is the newest now.
    let slots = |n| [1, 3, 2].iter().position(|s| *s == n).unwrap();
    let before = |n| [3, 2, 1].iter().position(|s| *s == n).unwrap();
    let expected: Vec<_> = [2, 3, 2, 3, 2, 1, 2, 3, 2, 1].map(before).into();
    let now: Vec<_> = picks(&bench).into_iter().map(slots).collect();
    assert_eq!(now, expected);
}

#[test]
fn every_address_has_its_server() {
    for scheduler in ["lblc", "lblcr"] {
        let bench = Bench::balanced(scheduler, &[100, 100, 100]);
        set_active(&bench, [5, 9, 9]);
        assert_eq!(choose(&bench, to(1)), 1, "{scheduler}");
        set_active(&bench, [9, 5, 9]);
        assert_eq!(choose(&bench, to(2)), 2, "{scheduler}");
        set_active(&bench, [9, 9, 5]);
        assert_eq!(choose(&bench, to(3)), 3, "{scheduler}");
        for last in 1..=3 {
            assert_eq!(choose(&bench, to(last)), last, "{scheduler}");
        }
    }
}

#[test]
fn who_has_too_much_to_do_is_replaced_or_joined() {
    for scheduler in ["lblc", "lblcr"] {
        let mut bench = Bench::balanced(scheduler, &[4, 4, 4]);
        assert_eq!(choose(&bench, to(1)), 3, "{scheduler}");
        // Not more than its weight; more, but the others are busy, too.
        set_active(&bench, [0, 0, 4]);
        assert_eq!(choose(&bench, to(1)), 3, "{scheduler}");
        set_active(&bench, [2, 2, 5]);
        assert_eq!(choose(&bench, to(1)), 3, "{scheduler}");
        set_active(&bench, [1, 2, 5]);
        assert_eq!(choose(&bench, to(1)), 1, "{scheduler}");
        let members: Vec<_> = entries(&mut bench)[0].1.members().to_vec();
        let (r1, r3) = (index(&bench, 1), index(&bench, 3));
        if scheduler == "lblc" {
            assert_eq!(members, [r1]);
        } else {
            assert_eq!(members, [r3, r1]);
            set_active(&bench, [2, 2, 1]);
            assert_eq!(choose(&bench, to(1)), 3, "the one with less to do");
            set_active(&bench, [2, 0, 2]);
            assert_eq!(choose(&bench, to(1)), 1, "of equals the last that joined");
        }
    }
}

#[test]
fn weight_0_and_thresholds() {
    for scheduler in ["lblc", "lblcr"] {
        let mut bench = Bench::balanced(scheduler, &[4, 4, 4]);
        assert_eq!(choose(&bench, to(1)), 3);
        counts(&bench, 3).flags.store(counts_flag::OVERLOAD);
        // Only lblcr asks for the threshold of a server that is remembered.
        let expected = if scheduler == "lblc" { 3 } else { 2 };
        assert_eq!(choose(&bench, to(1)), expected, "{scheduler}");
        assert_eq!(choose(&bench, to(2)), 2, "{scheduler}");
        counts(&bench, 3).flags.store(0);
        for number in 1..=3 {
            bench.edit(web(), real(rs(number), 80, DIRECT, 0));
        }
        assert_eq!(choose(&bench, to(1)), 0, "{scheduler}");
        bench.edit(web(), real(rs(1), 80, DIRECT, 1));
        assert_eq!(choose(&bench, to(1)), 1, "{scheduler}");
    }
}

#[test]
fn a_set_that_stays_as_it_is_loses_its_most_loaded_member() {
    let mut bench = Bench::balanced("lblcr", &[4, 4, 4]);
    for active in [[0, 0, 0], [0, 9, 9], [9, 0, 9]] {
        set_active(&bench, active);
        choose(&bench, to(1));
    }
    let [r1, r2, r3] = [1, 2, 3].map(|number| index(&bench, number));
    assert_eq!(entries(&mut bench)[0].1.members(), [r3, r1, r2]);
    set_active(&bench, [7, 2, 3]);
    bench.wait(DAY);
    choose(&bench, to(1));
    assert_eq!(entries(&mut bench)[0].1.members(), [r3, r1, r2]);
    bench.wait(1);
    choose(&bench, to(1));
    assert_eq!(entries(&mut bench)[0].1.members(), [r3, r2]);
    // It was modified just now; and the last one stays for ever.
    bench.wait(DAY);
    choose(&bench, to(1));
    assert_eq!(entries(&mut bench)[0].1.members().len(), 2);
    bench.wait(1);
    // The one that leaves may be chosen once more: it was the least loaded usable one.
    set_active(&bench, [0, 3, 2]);
    bench.edit(web(), real(rs(3), 80, DIRECT, 0));
    assert_eq!(choose(&bench, to(1)), 2);
    assert_eq!(entries(&mut bench)[0].1.members(), [r3]);
    bench.wait(3 * DAY);
    bench.edit(web(), real(rs(3), 80, DIRECT, 4));
    assert_eq!(choose(&bench, to(1)), 3);
    assert_eq!(entries(&mut bench)[0].1.members(), [r3]);
    bench.settings(|settings| settings.lblcr_expiration = 10);
    set_active(&bench, [0, 9, 9]);
    assert_eq!(choose(&bench, to(1)), 1);
    bench.wait(11);
    choose(&bench, to(1));
    assert_eq!(entries(&mut bench)[0].1.members(), [r1]);
}

#[test]
fn a_removed_server_is_remembered_until_it_is_back() {
    for scheduler in ["lblc", "lblcr"] {
        let mut bench = Bench::balanced(scheduler, &[4, 4, 4]);
        assert_eq!(choose(&bench, to(1)), 3);
        assert_eq!(choose(&bench, to(2)), 3);
        let before = index(&bench, 3);
        bench.delete(web(), rs(3), 80);
        // Not by its connections, it has none: by the cache.
        collect(&mut bench);
        assert_eq!(choose(&bench, to(1)), 2, "{scheduler}: gone");
        bench.server(web(), real(rs(3), 80, DIRECT, 4));
        assert_eq!(index(&bench, 3), before, "{scheduler}");
        set_active(&bench, [0, 0, 3]);
        assert_eq!(choose(&bench, to(2)), 3, "{scheduler}: back");
        // Once no entry refers to it, its index is given to others.
        set_active(&bench, [0, 0, 0]);
        bench.delete(web(), rs(3), 80);
        assert_eq!(choose(&bench, to(2)), 2);
        if scheduler == "lblc" {
            collect(&mut bench);
            bench.server(web(), real(rs(4), 80, DIRECT, 4));
            assert_eq!(index(&bench, 4), before);
        }
    }
}

#[test]
fn a_cache_goes_with_its_scheduler_and_its_service() {
    let mut bench = Bench::balanced("lblc", &[4, 4, 4]);
    choose(&bench, to(1));
    choose(&bench, to(2));
    assert_eq!(entries(&mut bench).len(), 2);
    // The same scheduler once more changes nothing.
    change_scheduler(&mut bench, "lblc");
    assert_eq!(entries(&mut bench).len(), 2);
    for scheduler in ["lblcr", "wlc", "lblc"] {
        change_scheduler(&mut bench, scheduler);
        assert_eq!(entries(&mut bench).len(), 0, "{scheduler}");
        choose(&bench, to(1));
    }
    let old = bench.record(&web()).table;
    bench
        .apply(&Change::DeleteService { id: web() })
        .expect("there");
    assert_eq!(entries(&mut bench).len(), 0);
    bench.add(web(), "lblc");
    assert_ne!(bench.record(&web()).table, old, "a cache of its own");
    bench.server(web(), real(rs(1), 80, DIRECT, 1));
    choose(&bench, to(1));
    bench.apply(&Change::Clear).expect("works");
    assert_eq!(entries(&mut bench).len(), 0);
}

#[test]
fn a_cache_outlives_the_daemon() {
    let mut bench = Bench::balanced("lblc", &[4, 4, 4]);
    choose(&bench, to(1));
    let cache = bench.record(&web()).table;
    let key = |cache| LocalityKey {
        address: address_words(to(9)),
        cache,
    };
    // What another service's cache left when the daemon was killed.
    let (_, record) = entries(&mut bench).remove(0);
    bench.tables.set_locality(&key(cache + 1), &record);
    let records = bench.tables.records();
    bench.director =
        Director::restore(CAPACITY, &records, &mut bench.tables).expect("records are sound");
    assert_eq!(entries(&mut bench).len(), 1);
    set_active(&bench, [0, 0, 3]);
    assert_eq!(choose(&bench, to(1)), 3);
    change_scheduler(&mut bench, "lblcr");
    assert!(bench.record(&web()).table > cache);
}

#[test]
fn what_is_not_used_is_forgotten() {
    let mut bench = Bench::balanced("lblc", &[4, 4, 4]);
    let mut replicated = bench::id(pointsman_director::model::Protocol::Udp, bench::VIP, 53);
    bench.add(replicated, "lblcr");
    bench.settings(|settings| {
        settings.lblc_expiration = 1000;
        settings.lblcr_expiration = 10_000;
    });
    choose(&bench, to(1));
    let other = bench.record(&replicated).table;
    let (key, record) = entries(&mut bench).remove(0);
    let key = LocalityKey {
        cache: other,
        ..key
    };
    bench.tables.set_locality(&key, &record);
    choose(&bench, to(2));
    // Every 30th time each cache is looked through.
    for call in 1..30 {
        assert_eq!(expire(&mut bench), 0, "call {call}");
        // Used now and then, it stays.
        choose(&bench, to(2));
    }
    assert_eq!(expire(&mut bench), 1);
    let left: Vec<_> = entries(&mut bench).iter().map(|(key, _)| *key).collect();
    assert_eq!(left.len(), 2);
    assert!(left.contains(&key), "a longer time with lblcr");
    for call in 1..30 {
        assert_eq!(expire(&mut bench), 0, "call {call}");
    }
    assert_eq!(expire(&mut bench), 1);
    replicated = web();
    bench
        .apply(&Change::DeleteService { id: replicated })
        .expect("there");
    assert_eq!(entries(&mut bench).len(), 1);
}

#[test]
fn a_cache_that_is_too_large_shrinks() {
    let mut bench = Bench::balanced("lblc", &[4, 4, 4]);
    let address = |n: u32| IpAddr::from((0x0a00_0000 + n).to_be_bytes());
    for n in 0..16_384 + 300 {
        choose(&bench, address(n));
    }
    // Unused for less than six minutes, all of them.
    for _ in 0..5 {
        assert_eq!(expire(&mut bench), 0);
    }
    for n in 0..100 {
        choose(&bench, address(n));
    }
    assert_eq!(expire(&mut bench), 400, "a third more than too many");
    assert_eq!(expire(&mut bench), 0);
    let left = entries(&mut bench);
    let used = |n| {
        let words = address_words(address(n));
        left.iter().any(|(key, _)| key.address == words)
    };
    assert!((0..100).all(used), "not those that are used");
}

#[test]
fn a_full_table_only_forgets() {
    for scheduler in ["lblc", "lblcr"] {
        let mut bench = Bench::balanced(scheduler, &[4, 4, 4]);
        bench.tables.locality_limit = 1;
        assert_eq!(choose(&bench, to(1)), 3);
        set_active(&bench, [0, 0, 1]);
        assert_eq!(choose(&bench, to(2)), 2);
        set_active(&bench, [0, 1, 1]);
        assert_eq!(choose(&bench, to(2)), 1);
        assert_eq!(choose(&bench, to(1)), 3);
        assert_eq!(entries(&mut bench).len(), 1);
    }
}

#[test]
fn a_set_has_an_end() {
    let mut bench = Bench::new();
    let room = Capacity {
        servers: 128,
        ..CAPACITY
    };
    bench.tables = NativeTables::new(room);
    bench.director = Director::new(room, Settings::DEFAULT);
    bench.add(web(), "lblcr");
    let last = LOCALITY_SERVERS as u8 + 1;
    for number in 1..=last {
        bench.server(web(), real(rs(number), 80, DIRECT, 1));
    }
    // Each is overloaded as soon as it has joined, and the next one joins.
    for number in (1..=last).rev() {
        assert_eq!(choose(&bench, to(1)), number);
        counts(&bench, number).active.store(2);
    }
    let members = entries(&mut bench)[0].1.members().to_vec();
    assert_eq!(members.len(), LOCALITY_SERVERS);
    assert_eq!(members[0], index(&bench, last));
    assert!(!members.contains(&index(&bench, 1)));
}

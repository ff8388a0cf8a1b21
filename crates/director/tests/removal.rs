//! What removed servers leave: connections, counts, counters, until they are back or collected.

mod bench;

use bench::{Bench, CLIENT, VIP, answer, dns, id, real, rs, segment, syn_of, web};
use pointsman_director::{
    Reason,
    control::{Mirror, ServerEntry},
    model::{Change, ForwardingMethod, Protocol, RealServer, ServiceId},
    record::ServerStats,
};
use pointsman_wire::tcp::{ACK, SYN};

const DIRECT: ForwardingMethod = ForwardingMethod::Direct;
const MASQUERADE: ForwardingMethod = ForwardingMethod::Masquerade;

#[test]
fn an_mh_table_remembers_weights_of_the_revived() {
    let mut bench = Bench::balanced("mh", &[1, 5, 1]);
    let table = |bench: &Bench| {
        let record = bench.record(&web());
        let lines = record.table..record.table + record.table_lines;
        let line = |line| *pointsman_director::tables::Tables::table(&bench.tables, line).unwrap();
        lines.map(line).collect::<Vec<_>>()
    };
    bench.send(&segment(1, SYN).build());
    bench.delete(web(), rs(2), 80);
    bench.server(web(), real(rs(2), 80, DIRECT, 5));
    let before = table(&bench);
    bench.delete(web(), rs(2), 80);
    bench.server(web(), real(rs(2), 80, DIRECT, 0));
    assert!(
        table(&bench) == before,
        "the last weight that was not 0 counts"
    );
}

fn only<'a>(bench: &'a Bench, id: &ServiceId) -> ServerEntry<'a> {
    let service = bench.director.service(id).expect("there");
    let mut servers = service.servers();
    servers.next().expect("one server")
}

#[test]
fn a_removed_servers_connections_are_dropped_until_it_is_back() {
    for (method, forwarded, port) in [
        (DIRECT, Reason::Direct, 80),
        (MASQUERADE, Reason::Masquerade, 8080),
    ] {
        let mut bench = Bench::single(web(), rs(1), port, method);
        bench.send(&segment(1, SYN).build());
        bench.send(&segment(1, ACK).build());
        let expires = bench.connection().expires;
        let index = only(&bench, &web()).index();
        bench.wait(5);
        bench.delete(web(), rs(1), port);
        assert_eq!(bench.reason(&segment(1, ACK).build()), Reason::ServerGone);
        assert_eq!(bench.connection().expires, expires, "the timer runs on");
        assert_eq!(
            bench.reason(&segment(2, SYN).build()),
            Reason::NoDestination
        );
        // Collected while a connection is left: kept.
        for _ in 0..3 {
            bench
                .director
                .collect_removed(&mut bench.tables)
                .expect("works");
        }
        assert_eq!(
            bench.director.removed().collect::<Vec<_>>(),
            [(web(), index)]
        );
        bench.server(web(), real(rs(1), port, method, 1));
        assert_eq!(only(&bench, &web()).index(), index, "the same record");
        assert_eq!(bench.counts(rs(1)), (1, 0), "and its counts");
        assert_eq!(bench.reason(&segment(1, ACK).build()), forwarded);
        assert_eq!(bench.director.removed().count(), 0);
        if method == MASQUERADE {
            let reply = answer(1, 8080, 1, ACK).build();
            assert_eq!(bench.send_by(bench::BACK, &reply).0.reason, Reason::Reply);
        }
    }
}

#[test]
fn a_server_of_another_service_does_not_revive() {
    let mut bench = Bench::single(web(), rs(1), 80, DIRECT);
    bench.send(&segment(1, SYN).build());
    let index = only(&bench, &web()).index();
    bench.delete(web(), rs(1), 80);
    let other = id(Protocol::Tcp, VIP, 81);
    bench.add(other, "rr");
    bench.server(other, real(rs(1), 81, DIRECT, 1));
    assert_ne!(only(&bench, &other).index(), index);
    assert_eq!(bench.counts(rs(1)), (0, 0));
    // Nor does another port of the same address.
    bench.server(web(), real(rs(1), 8080, MASQUERADE, 1));
    assert_ne!(only(&bench, &web()).index(), index);
}

#[test]
fn a_revived_server_is_overloaded_as_its_thresholds_say() {
    for (upper, accepted) in [(0, true), (2, true), (1, false)] {
        let limited = |upper| RealServer {
            upper,
            ..real(rs(1), 80, DIRECT, 1)
        };
        let mut bench = Bench::balanced("rr", &[]);
        bench.server(web(), limited(1));
        bench.send(&segment(1, SYN).build());
        bench.delete(web(), rs(1), 80);
        bench.server(web(), limited(upper));
        let reason = bench.reason(&syn_of(CLIENT.into(), 2));
        assert_eq!(reason == Reason::Direct, accepted, "{upper}: {reason:?}");
    }
}

#[test]
fn clearing_keeps_connections_and_re_creation_revives() {
    let mut bench = Bench::single(web(), rs(1), 80, DIRECT);
    bench.add(dns(), "wrr");
    bench.server(dns(), real(rs(1), 53, DIRECT, 1));
    bench.send(&segment(1, SYN).build());
    bench.apply(&Change::Clear).expect("works");
    assert!(bench.director.services().count() == 0 && bench.tables.services.is_empty());
    assert_eq!(bench.connections(), 1);
    assert_eq!(bench.reason(&segment(1, ACK).build()), Reason::NoService);
    assert_eq!(bench.reason(&segment(2, SYN).build()), Reason::NoService);
    bench.add(web(), "rr");
    bench.server(web(), real(rs(1), 80, DIRECT, 1));
    assert_eq!(bench.reason(&segment(1, ACK).build()), Reason::Direct);
    assert_eq!(bench.counts(rs(1)), (1, 0));
    // An empty director is cleared, too.
    bench.apply(&Change::Clear).expect("works");
    bench.apply(&Change::Clear).expect("works");
}

/// Packets that the service has counted, as the daemon sums them up.
fn total(bench: &mut Bench, id: &ServiceId) -> (u64, Vec<u64>) {
    let service = bench.director.service(id).expect("there");
    let mut sum: ServerStats = service.past();
    let mut each = Vec::new();
    for server in service.servers() {
        let now = Mirror::stats(&mut bench.tables, server.index()).expect("in range");
        let since = server.since_zero(now);
        sum = pointsman_director::control::sum(sum, since);
        each.push(since.in_packets);
    }
    (sum.in_packets, each)
}

#[test]
fn counters_outlive_removal_once() {
    let mut bench = Bench::single(web(), rs(1), 80, DIRECT);
    for _ in 0..3 {
        bench.send(&segment(1, SYN).build());
    }
    assert_eq!(total(&mut bench, &web()), (3, vec![3]));
    bench.delete(web(), rs(1), 80);
    assert_eq!(
        total(&mut bench, &web()),
        (3, vec![]),
        "the service remembers"
    );
    bench.server(web(), real(rs(1), 80, DIRECT, 1));
    assert_eq!(total(&mut bench, &web()), (3, vec![3]), "counted once");
    bench
        .apply(&Change::Zero { id: Some(web()) })
        .expect("works");
    assert_eq!(total(&mut bench, &web()), (0, vec![0]));
    bench.send(&segment(1, ACK).build());
    assert_eq!(total(&mut bench, &web()), (1, vec![1]));
    // A new service of the same id begins at nothing, and so do servers that come back to it.
    bench
        .apply(&Change::DeleteService { id: web() })
        .expect("there");
    bench.add(web(), "rr");
    bench.server(web(), real(rs(1), 80, DIRECT, 1));
    assert_eq!(total(&mut bench, &web()), (0, vec![0]));
    bench.send(&segment(1, ACK).build());
    assert_eq!(total(&mut bench, &web()), (1, vec![1]));
}

#[test]
fn zeroing_all_zeroes_every_service() {
    let mut bench = Bench::single(web(), rs(1), 80, DIRECT);
    bench.add(dns(), "rr");
    bench.server(dns(), real(rs(1), 53, DIRECT, 1));
    bench.send(&segment(1, SYN).build());
    bench.send(&bench::datagram(1).build());
    bench
        .apply(&Change::Zero { id: Some(dns()) })
        .expect("works");
    assert_eq!(
        (total(&mut bench, &web()).0, total(&mut bench, &dns()).0),
        (1, 0)
    );
    bench.send(&bench::datagram(1).build());
    bench.apply(&Change::Zero { id: None }).expect("works");
    assert_eq!(
        (total(&mut bench, &web()).0, total(&mut bench, &dns()).0),
        (0, 0)
    );
    // Connections are not counters.
    assert_eq!(bench.counts(rs(1)), (1, 1));
}

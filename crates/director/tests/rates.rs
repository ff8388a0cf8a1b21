//! Rates of services and real servers, and the counters that never fall.

mod bench;

use bench::{Bench, CAPACITY, dns, real, rs, segment, web};
use pointsman_director::{
    control::{Director, Mirror, sum},
    model::{Change, ForwardingMethod, ServiceId},
    record::ServerStats,
};
use pointsman_wire::tcp::SYN;

const DIRECT: ForwardingMethod = ForwardingMethod::Direct;

/// Sends `count` packets of one connection.
fn send(bench: &mut Bench, count: usize) {
    for _ in 0..count {
        bench.send(&segment(1, SYN).build());
    }
}

/// One step of the estimates.
fn step(bench: &mut Bench) {
    let services = bench.director.services();
    let servers = services.flat_map(|service| service.servers());
    let indices: Vec<u32> = servers.map(|server| server.index()).collect();
    let mut counters = vec![ServerStats::default(); CAPACITY.servers as usize];
    for index in indices {
        counters[index as usize] = Mirror::stats(&mut bench.tables, index).expect("in range");
    }
    bench.director.estimate(&counters);
}

/// Packets a second of a service, and of its servers.
fn rates(bench: &Bench, id: &ServiceId) -> (u64, Vec<u64>) {
    let service = bench.director.service(id).expect("there");
    let servers = service.servers().map(|server| server.rate().in_packets);
    (service.rate().in_packets, servers.collect())
}

/// Packets that a service has counted whatever happened.
fn ever(bench: &mut Bench, id: &ServiceId) -> u64 {
    let service = bench.director.service(id).expect("there");
    let mut total = service.ever();
    for server in service.servers() {
        let now = Mirror::stats(&mut bench.tables, server.index()).expect("in range");
        total = sum(total, now);
    }
    total.in_packets
}

#[test]
fn rates_follow_traffic_and_fade() {
    let mut bench = Bench::single(web(), rs(1), 80, DIRECT);
    bench.server(web(), real(rs(2), 80, DIRECT, 0));
    bench.add(dns(), "rr");
    assert_eq!(rates(&bench, &web()), (0, vec![0, 0]));
    send(&mut bench, 80);
    step(&mut bench);
    assert_eq!(rates(&bench, &web()), (10, vec![0, 10]));
    assert_eq!(rates(&bench, &dns()), (0, vec![]));
    let service = bench.director.service(&web()).expect("there");
    let bytes = segment(1, SYN).build().len() as u64 - 14;
    assert_eq!(service.rate().in_bytes, 10 * bytes);
    assert_eq!(service.rate().connections, 0, "an eighth, rounded");
    step(&mut bench);
    assert_eq!(rates(&bench, &web()), (7, vec![0, 7]));
}

#[test]
fn zeroing_resets_rates() {
    let mut bench = Bench::single(web(), rs(1), 80, DIRECT);
    send(&mut bench, 80);
    step(&mut bench);
    send(&mut bench, 80);
    let zero = |id| Change::Zero { id };
    bench.add(dns(), "rr");
    bench.apply(&zero(Some(dns()))).expect("works");
    assert_eq!(rates(&bench, &web()), (10, vec![10]), "another service's");
    bench.apply(&zero(None)).expect("works");
    assert_eq!(rates(&bench, &web()), (0, vec![0]));
    step(&mut bench);
    assert_eq!(rates(&bench, &web()), (0, vec![0]), "traffic from before");
    send(&mut bench, 80);
    step(&mut bench);
    assert_eq!(rates(&bench, &web()), (10, vec![10]));
}

#[test]
fn a_removed_server_leaves_no_step_in_its_services_rate() {
    let mut bench = Bench::single(web(), rs(1), 80, DIRECT);
    send(&mut bench, 80);
    step(&mut bench);
    send(&mut bench, 80);
    bench.delete(web(), rs(1), 80);
    step(&mut bench);
    assert_eq!(rates(&bench, &web()), (17, vec![]), "what it did counts");
    bench.server(web(), real(rs(1), 80, DIRECT, 1));
    step(&mut bench);
    assert_eq!(
        rates(&bench, &web()),
        (13, vec![17]),
        "as it was, and 80 more"
    );
}

#[test]
fn a_successor_does_not_take_the_past_for_traffic() {
    let mut bench = Bench::single(web(), rs(1), 80, DIRECT);
    send(&mut bench, 8000);
    let records = bench.tables.records();
    let restored = Director::restore(CAPACITY, &records, &mut bench.tables);
    bench.director = restored.expect("records of a director");
    step(&mut bench);
    assert_eq!(rates(&bench, &web()), (0, vec![0]));
    assert_eq!(ever(&mut bench, &web()), 0, "begins with the successor");
    send(&mut bench, 80);
    step(&mut bench);
    assert_eq!(rates(&bench, &web()), (10, vec![10]));
    assert_eq!(ever(&mut bench, &web()), 80);
}

#[test]
fn what_a_service_ever_counted_never_falls() {
    let mut bench = Bench::single(web(), rs(1), 80, DIRECT);
    send(&mut bench, 3);
    assert_eq!(ever(&mut bench, &web()), 3);
    bench.delete(web(), rs(1), 80);
    assert_eq!(ever(&mut bench, &web()), 3);
    bench.apply(&Change::Zero { id: None }).expect("works");
    assert_eq!(ever(&mut bench, &web()), 3);
    bench.server(web(), real(rs(1), 80, DIRECT, 1));
    assert_eq!(ever(&mut bench, &web()), 3, "counted once");
    send(&mut bench, 2);
    bench.apply(&Change::Zero { id: None }).expect("works");
    assert_eq!(ever(&mut bench, &web()), 5);
    // A service that is made anew begins anew, and what comes back to it brings nothing along.
    let delete = Change::DeleteService { id: web() };
    bench.apply(&delete).expect("there");
    bench.add(web(), "rr");
    bench.server(web(), real(rs(1), 80, DIRECT, 1));
    assert_eq!(ever(&mut bench, &web()), 0);
    send(&mut bench, 4);
    assert_eq!(ever(&mut bench, &web()), 4);
}

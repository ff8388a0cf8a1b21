//! Services for every port of an address.

mod bench;

use bench::{Bench, CLIENT, CLIENT_MAC, DIRECTOR_MAC, VIP, id, real, rs, segment, web};
use pointsman_director::{
    Reason,
    control::Director,
    model::{Change, ForwardingMethod, Protocol, ServiceId},
    record::Settings,
};
use pointsman_wire::{
    Frame, Summary,
    tcp::{ACK, SYN},
};

const MASQUERADE: ForwardingMethod = ForwardingMethod::Masquerade;

fn any() -> ServiceId {
    id(Protocol::Tcp, VIP, 0)
}

fn syn(port: u16) -> Vec<u8> {
    let ip = Frame::ipv4(CLIENT, VIP).macs(CLIENT_MAC, DIRECTOR_MAC);
    ip.tcp(40_000, port).flags(SYN).build()
}

fn bench() -> Bench {
    let mut bench = Bench::new();
    bench.add(any(), "rr");
    bench.server(any(), real(rs(1), 0, MASQUERADE, 1));
    bench
}

#[test]
fn every_port_is_sent_to_its_like() {
    let mut bench = bench();
    for port in [1, 80, 65_535] {
        let (verdict, out) = bench.send(&syn(port));
        assert_eq!(verdict.reason, Reason::Masquerade);
        let ports = Summary::parse(&out).and_then(|summary| summary.ports);
        assert_eq!(ports, Some((40_000, port)));
        let reply = bench::answer(1, port, 40_000, SYN | ACK).build();
        let (verdict, out) = bench.send_by(bench::BACK, &reply);
        assert_eq!(verdict.reason, Reason::Reply);
        let ports = Summary::parse(&out).and_then(|summary| summary.ports);
        assert_eq!(ports, Some((port, 40_000)));
    }
}

#[test]
fn a_service_of_the_port_comes_first() {
    let mut bench = bench();
    bench.add(web(), "rr");
    bench.server(web(), real(rs(2), 8080, MASQUERADE, 1));
    assert_eq!(bench.pick(&syn(80)), Ok(2));
    assert_eq!(bench.pick(&syn(81)), Ok(1));
    let udp = Frame::ipv4(CLIENT, VIP).macs(CLIENT_MAC, DIRECTOR_MAC);
    assert_eq!(bench.reason(&udp.udp(1, 81).build()), Reason::NoService);
}

#[test]
fn it_begins_and_ends_with_its_service() {
    let mut bench = Bench::single(web(), rs(2), 8080, MASQUERADE);
    assert_eq!(bench.reason(&syn(81)), Reason::NoService);
    bench.add(any(), "rr");
    bench.server(any(), real(rs(1), 0, MASQUERADE, 1));
    assert_eq!(bench.reason(&syn(81)), Reason::Masquerade);
    // Other settings, other services, a restart: it stays.
    bench.settings(|settings| *settings = Settings::DEFAULT);
    assert_eq!(bench.reason(&syn(82)), Reason::Masquerade);
    bench
        .apply(&Change::DeleteService { id: web() })
        .expect("there");
    assert_eq!(bench.reason(&syn(83)), Reason::Masquerade);
    let records = bench.tables.records();
    let director = Director::restore(bench::CAPACITY, &records, &mut bench.tables);
    bench.director = director.expect("possible records");
    assert_eq!(bench.reason(&syn(84)), Reason::Masquerade);
    bench.settings(|settings| *settings = Settings::DEFAULT);
    assert_eq!(bench.reason(&syn(85)), Reason::Masquerade);
    bench
        .apply(&Change::DeleteService { id: any() })
        .expect("there");
    assert_eq!(bench.reason(&syn(86)), Reason::NoService);
    assert_eq!(bench.reason(&segment(1, SYN).build()), Reason::NoService);
}

//! Templates: who sticks to which real server, and for how long.

mod bench;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use bench::{
    BACK, Bench, CLIENT, CLIENT_MAC, DIRECTOR_MAC, VIP, VIP6, answer, datagram, dns, id, real, rs,
    rs6, service, web, web6,
};
use pointsman_director::{
    Reason,
    model::{Change, ForwardingMethod, Persistence, Protocol, ServiceId},
    record::{ConnectionRecord, FlowKey, settings_flag},
    tables::Tables,
};
use pointsman_wire::{
    Frame, Summary,
    tcp::{ACK, FIN, RST, SYN},
};

const DIRECT: ForwardingMethod = ForwardingMethod::Direct;
const MASQUERADE: ForwardingMethod = ForwardingMethod::Masquerade;

fn client(last: u8) -> IpAddr {
    Ipv4Addr::new(192, 168, 1, last).into()
}

fn to(client: IpAddr, port: u16, service_port: u16, flags: u8) -> Vec<u8> {
    let vip: IpAddr = if client.is_ipv4() {
        VIP.into()
    } else {
        VIP6.into()
    };
    Frame::ip(client, vip)
        .macs(CLIENT_MAC, DIRECTOR_MAC)
        .tcp(port, service_port)
        .flags(flags)
        .build()
}

fn stick(bench: &mut Bench, id: ServiceId, timeout: u32, netmask: Ipv4Addr, prefix: u8) {
    let mut service = service(id, "rr");
    service.persistence = Some(Persistence {
        timeout,
        prefix,
        netmask: u32::from(netmask),
    });
    bench
        .apply(&Change::AddService { service })
        .expect("the service is valid");
}

/// Round robin over r3, r2, r1, each client for itself.
fn sticky(timeout: u32, method: ForwardingMethod, port: u16) -> Bench {
    let mut bench = Bench::new();
    stick(&mut bench, web(), timeout, Ipv4Addr::BROADCAST, 32);
    for number in 1..=3 {
        bench.server(web(), real(rs(number), port, method, 1));
    }
    bench
}

/// The templates, with their keys.
fn templates(bench: &Bench) -> Vec<(FlowKey, ConnectionRecord)> {
    let connections = bench.tables.connections.borrow();
    let templates = connections.iter().filter(|(_, c)| c.is_template());
    let mut all: Vec<_> = templates
        .map(|(key, c)| (*key, ConnectionRecord::clone(c)))
        .collect();
    all.sort_by_key(|(key, _)| *key);
    all
}

fn persistent(bench: &Bench, address: IpAddr) -> u32 {
    let mut sum = 0;
    for service in bench.director.services() {
        for server in service.servers().filter(|s| s.config().address == address) {
            let counts = bench.tables.counts(server.index()).expect("in range");
            sum += counts.persistent.load();
        }
    }
    sum
}

#[test]
fn a_client_comes_back_to_its_server() {
    let mut bench = sticky(60, DIRECT, 80);
    assert_eq!(bench.pick(&to(client(1), 1000, 80, SYN)), Ok(3));
    assert_eq!(bench.pick(&to(client(2), 1000, 80, SYN)), Ok(2));
    assert_eq!(bench.pick(&to(client(1), 1001, 80, SYN)), Ok(3));
    assert_eq!(bench.pick(&to(client(3), 1000, 80, SYN)), Ok(1));
    assert_eq!(bench.pick(&to(client(2), 1001, 80, SYN)), Ok(2));
    assert_eq!(bench.counts(rs(3)), (2, 0));
    assert_eq!(persistent(&bench, rs(3)), 1);
    assert_eq!(templates(&bench).len(), 3);
}

#[test]
fn a_network_shares_a_template() {
    let mut bench = Bench::new();
    stick(&mut bench, web(), 60, Ipv4Addr::new(255, 255, 255, 0), 24);
    stick(&mut bench, web6(), 60, Ipv4Addr::UNSPECIFIED, 62);
    for number in 1..=3 {
        bench.server(web(), real(rs(number), 80, DIRECT, 1));
        bench.server(web6(), real(rs6(number), 80, DIRECT, 1));
    }
    assert_eq!(bench.pick(&to(client(1), 1000, 80, SYN)), Ok(3));
    assert_eq!(bench.pick(&to(client(99), 1000, 80, SYN)), Ok(3));
    let other = Ipv4Addr::new(192, 168, 2, 1).into();
    assert_eq!(bench.pick(&to(other, 1000, 80, SYN)), Ok(2));
    let six = |subnet, host| Ipv6Addr::new(0xfd00, 0, 0, subnet, 0, 0, 0, host).into();
    assert_eq!(bench.pick(&to(six(0, 1), 1000, 80, SYN)), Ok(3));
    assert_eq!(bench.pick(&to(six(3, 2), 1000, 80, SYN)), Ok(3));
    assert_eq!(bench.pick(&to(six(4, 2), 1000, 80, SYN)), Ok(2));
    let shown = templates(&bench);
    let network = u32::from_ne_bytes([192, 168, 1, 0]);
    assert!(shown.iter().any(|(key, _)| key.source[0] == network));
    assert!(shown.iter().all(|(key, _)| key.source_port == 0));
}

#[test]
fn a_template_ends_after_its_time_and_begins_anew_with_each_connection() {
    let mut bench = sticky(100, DIRECT, 80);
    assert_eq!(bench.pick(&to(client(1), 1000, 80, SYN)), Ok(3));
    // Its connection ends: SYN_RECV lasts a minute.
    bench.wait(90);
    bench.sweep();
    assert_eq!(bench.connections(), 1, "only the template is left");
    assert_eq!(bench.pick(&to(client(1), 1001, 80, SYN)), Ok(3));
    bench.wait(99);
    bench.sweep();
    assert_eq!(persistent(&bench, rs(3)), 1);
    bench.wait(1);
    bench.sweep();
    assert_eq!(bench.connections(), 0);
    assert_eq!(persistent(&bench, rs(3)), 0);
    assert_eq!(bench.pick(&to(client(1), 1002, 80, SYN)), Ok(2));
}

#[test]
fn a_template_lives_while_connections_belong_to_it() {
    let mut bench = sticky(10, DIRECT, 80);
    assert_eq!(bench.pick(&to(client(1), 1000, 80, SYN)), Ok(3));
    bench.reason(&to(client(1), 1000, 80, ACK));
    // 10 seconds have passed, and the connection lasts 900.
    bench.wait(10);
    bench.sweep();
    assert_eq!(templates(&bench)[0].1.timeout.load(), 60);
    // From now on it is a minute for good.
    bench.wait(30);
    assert_eq!(bench.pick(&to(client(1), 1001, 80, SYN)), Ok(3));
    bench.wait(59);
    bench.sweep();
    assert_eq!(templates(&bench).len(), 1);
    // Both connections end; the template goes a minute after it was last extended.
    for port in [1000, 1001] {
        bench.reason(&to(client(1), port, 80, ACK));
        bench.reason(&to(client(1), port, 80, RST));
    }
    bench.wait(1);
    bench.sweep();
    let ends = templates(&bench)[0].1.expires.load() - bench.env.now.get();
    assert_eq!(ends, 60 * bench::SECOND);
    bench.wait(10);
    bench.sweep();
    assert_eq!(bench.connections(), 1);
    bench.wait(50);
    bench.sweep();
    assert_eq!(bench.connections(), 0);
    assert_eq!(persistent(&bench, rs(3)), 0);
}

#[test]
fn without_a_sweep_a_packet_extends_the_template() {
    let mut bench = sticky(10, DIRECT, 80);
    assert_eq!(bench.pick(&to(client(1), 1000, 80, SYN)), Ok(3));
    bench.wait(11);
    assert_eq!(bench.pick(&to(client(1), 1001, 80, SYN)), Ok(3));
    bench.wait(200);
    assert_eq!(
        bench.pick(&to(client(1), 1002, 80, SYN)),
        Ok(3),
        "not swept: still members"
    );
}

#[test]
fn only_a_real_client_assures_a_template() {
    let mut bench = sticky(60, MASQUERADE, 80);
    bench.pick(&to(CLIENT.into(), 1000, 80, SYN)).expect("sent");
    assert!(!templates(&bench)[0].1.is_assured());
    bench.send_by(BACK, &answer(3, 80, 1000, SYN | ACK).build());
    assert!(!templates(&bench)[0].1.is_assured());
    bench.send(&to(CLIENT.into(), 1000, 80, ACK));
    assert!(templates(&bench)[0].1.is_assured());
    let mut bench = Bench::new();
    stick(&mut bench, dns(), 60, Ipv4Addr::BROADCAST, 32);
    bench.server(dns(), real(rs(1), 53, MASQUERADE, 1));
    bench.send(&datagram(2000).build());
    bench.send(&datagram(2000).build());
    assert!(!templates(&bench)[0].1.is_assured());
    let IpAddr::V4(server) = rs(1) else {
        unreachable!("an IPv4 server")
    };
    let reply = Frame::ipv4(server, CLIENT).macs(bench::rs_mac(1), DIRECTOR_MAC);
    let (verdict, _) = bench.send_by(BACK, &reply.udp(53, 2000).build());
    assert_eq!(verdict.reason, Reason::Reply);
    assert!(templates(&bench)[0].1.is_assured());
}

#[test]
fn every_port_of_a_client_goes_to_one_server_at_the_clients_port() {
    let mut bench = Bench::new();
    stick(
        &mut bench,
        id(Protocol::Tcp, VIP, 0),
        60,
        Ipv4Addr::BROADCAST,
        32,
    );
    for number in 1..=3 {
        let server = real(rs(number), 8080, MASQUERADE, 1);
        bench.server(id(Protocol::Tcp, VIP, 0), server);
    }
    for (port, service_port) in [(1000, 80), (1001, 443), (1002, 80)] {
        let (verdict, out) = bench.send(&to(client(1), port, service_port, SYN));
        assert_eq!(verdict.reason, Reason::Masquerade);
        let ports = Summary::parse(&out).and_then(|summary| summary.ports);
        assert_eq!(
            ports,
            Some((port, service_port)),
            "the server's port plays no part"
        );
        assert_eq!(out[5], 3);
    }
    let (key, template) = &templates(&bench)[0];
    assert_eq!((key.destination_port, template.server_port), (0, 0));
    assert_eq!(template.members.load(), 3);
}

#[test]
fn ftp_data_follows_its_control_connection() {
    let ftp = id(Protocol::Tcp, VIP, 21);
    let mut bench = Bench::new();
    stick(&mut bench, ftp, 60, Ipv4Addr::BROADCAST, 32);
    for number in 1..=3 {
        bench.server(ftp, real(rs(number), 2121, MASQUERADE, 1));
    }
    let sent = |bench: &mut Bench, client, port, to_port| {
        let (verdict, out) = bench.send(&to(client, port, to_port, SYN));
        assert_eq!(verdict.reason, Reason::Masquerade);
        (
            out[5],
            Summary::parse(&out).and_then(|s| s.ports).expect("TCP").1,
        )
    };
    assert_eq!(sent(&mut bench, client(1), 1000, 21), (3, 2121));
    assert_eq!(sent(&mut bench, client(2), 1000, 21), (2, 2121));
    assert_eq!(sent(&mut bench, client(1), 1001, 50_000), (3, 50_000));
    assert_eq!(sent(&mut bench, client(2), 1001, 20), (2, 20));
    assert_eq!(
        bench.reason(&to(client(1), 1002, 80, SYN)),
        Reason::NoService
    );
    // Without persistence data connections are the local stack's.
    let mut bench = Bench::single(ftp, rs(1), 21, MASQUERADE);
    assert_eq!(
        bench.reason(&to(client(1), 1000, 21, SYN)),
        Reason::Masquerade
    );
    assert_eq!(
        bench.reason(&to(client(1), 1001, 50_000, SYN)),
        Reason::NoService
    );
}

#[test]
fn without_a_server_ftp_data_is_left_to_the_kernel() {
    let ftp = id(Protocol::Tcp, VIP, 21);
    let mut bench = Bench::new();
    stick(&mut bench, ftp, 60, Ipv4Addr::BROADCAST, 32);
    // The service's own port is refused; what may be another program's port is not ours to refuse.
    for (port, reason) in [
        (21, Reason::NoDestination),
        (20, Reason::NoService),
        (50_000, Reason::NoService),
    ] {
        assert_eq!(bench.reason(&to(client(1), 1000, port, SYN)), reason);
    }
    assert!(templates(&bench).is_empty());
}

#[test]
fn a_template_survives_weight_0_unless_quiescent_ones_expire() {
    for expire in [false, true] {
        let mut bench = sticky(60, DIRECT, 80);
        if expire {
            bench.settings(|s| s.flags |= settings_flag::EXPIRE_QUIESCENT);
        }
        assert_eq!(bench.pick(&to(client(1), 1000, 80, SYN)), Ok(3));
        bench.edit(web(), real(rs(3), 80, DIRECT, 0));
        // Templates are told apart by chance.
        bench.env.random.set(7);
        let next = bench.pick(&to(client(1), 1001, 80, SYN));
        assert_eq!(next, Ok(if expire { 2 } else { 3 }));
        let shown = templates(&bench);
        assert_eq!(shown.len(), if expire { 2 } else { 1 });
        if expire {
            let invalid = shown
                .iter()
                .filter(|(key, _)| key.destination_port == u16::MAX);
            let invalid: Vec<_> = invalid.collect();
            assert_eq!(invalid.len(), 1);
            assert_eq!(invalid[0].1.server_port, u16::MAX);
            assert_eq!(persistent(&bench, rs(3)), 1, "until its time is over");
            // Its connection finds it there, and lets it go.
            bench.reason(&to(client(1), 1000, 80, ACK));
            bench.reason(&to(client(1), 1000, 80, RST));
            bench.wait(10);
            bench.sweep();
            bench.wait(50);
            bench.sweep();
            assert_eq!(persistent(&bench, rs(3)), 0);
        }
    }
}

#[test]
fn a_removed_server_loses_its_clients() {
    let mut bench = sticky(60, DIRECT, 80);
    assert_eq!(bench.pick(&to(client(1), 1000, 80, SYN)), Ok(3));
    bench.delete(web(), rs(3), 80);
    // Templates are told apart by chance.
    bench.env.random.set(7);
    assert_eq!(bench.pick(&to(client(1), 1001, 80, SYN)), Ok(2));
    assert_eq!(bench.pick(&to(client(1), 1002, 80, SYN)), Ok(2));
    assert_eq!(
        bench.reason(&to(client(1), 1000, 80, ACK)),
        Reason::ServerGone
    );
    // The server is remembered for the sake of its connection and of its template.
    for _ in 0..2 {
        bench.wait(61);
        bench.sweep();
        bench
            .director
            .collect_removed(&mut bench.tables)
            .expect("collected");
    }
    assert_eq!(bench.director.removed().count(), 0);
}

#[test]
fn an_overloaded_server_keeps_its_clients() {
    let mut bench = Bench::new();
    stick(&mut bench, web(), 60, Ipv4Addr::BROADCAST, 32);
    let mut server = real(rs(1), 80, DIRECT, 1);
    server.upper = 1;
    bench.server(web(), server);
    assert_eq!(bench.pick(&to(client(1), 1000, 80, SYN)), Ok(1));
    assert_eq!(
        bench.pick(&to(client(2), 1000, 80, SYN)),
        Err(Reason::NoDestination)
    );
    assert_eq!(bench.pick(&to(client(1), 1001, 80, SYN)), Ok(1));
}

#[test]
fn connections_of_removed_servers_end_when_asked() {
    let mut bench = Bench::balanced("rr", &[1, 1]);
    assert_eq!(bench.pick(&to(client(1), 1000, 80, SYN)), Ok(2));
    bench.delete(web(), rs(2), 80);
    assert_eq!(
        bench.reason(&to(client(1), 1000, 80, ACK)),
        Reason::ServerGone
    );
    bench.settings(|s| s.flags |= settings_flag::EXPIRE_NODEST);
    assert_eq!(
        bench.reason(&to(client(1), 1000, 80, ACK)),
        Reason::NoConnection
    );
    assert_eq!(bench.connections(), 0);
    // A sweep does it without a packet.
    assert_eq!(bench.pick(&to(client(1), 1001, 80, SYN)), Ok(1));
    bench.delete(web(), rs(1), 80);
    bench.sweep();
    assert_eq!(bench.connections(), 0);
    // A SYN on a connection of a server that takes nothing new begins anew.
    bench.server(web(), real(rs(1), 80, DIRECT, 1));
    bench.server(web(), real(rs(2), 80, DIRECT, 1));
    assert_eq!(bench.pick(&to(client(1), 1002, 80, SYN)), Ok(2));
    bench.reason(&to(client(1), 1002, 80, ACK));
    bench.edit(web(), real(rs(2), 80, DIRECT, 0));
    assert_eq!(bench.pick(&to(client(1), 1002, 80, ACK)), Ok(2));
    assert_eq!(bench.pick(&to(client(1), 1002, 80, SYN)), Ok(1));
}

#[test]
fn a_connection_of_a_template_is_not_begun_anew() {
    let mut bench = sticky(60, DIRECT, 80);
    bench.pick(&to(client(1), 1000, 80, SYN)).expect("sent");
    bench.reason(&to(client(1), 1000, 80, ACK));
    bench.reason(&to(client(1), 1000, 80, RST));
    let template = templates(&bench)[0].1.members.load();
    bench.pick(&to(client(1), 1000, 80, SYN)).expect("sent");
    assert_eq!(template, templates(&bench)[0].1.members.load());
    assert_eq!(bench.connections(), 2);
}

#[test]
fn one_packet_scheduling_remembers_nothing() {
    let mut bench = Bench::new();
    let mut config = service(dns(), "rr");
    config.one_packet = true;
    let add = Change::AddService { service: config };
    bench.apply(&add).expect("the service is valid");
    for number in 1..=3 {
        bench.server(dns(), real(rs(number), 53, DIRECT, 1));
    }
    let picks: Vec<_> = (0..5)
        .map(|_| bench.pick(&datagram(2000).build()))
        .collect();
    assert_eq!(picks, [Ok(3), Ok(2), Ok(1), Ok(3), Ok(2)]);
    assert_eq!(bench.connections(), 0);
    assert_eq!(bench.counts(rs(3)), (0, 0));
    let service = bench.director.service(&dns()).expect("configured");
    let index = service.servers().next().expect("three servers").index();
    let stats = pointsman_director::control::Mirror::stats(&mut bench.tables, index);
    assert_eq!(
        stats.expect("in range").connections,
        2,
        "a packet is a connection"
    );
}

#[test]
fn drop_entry_ends_what_never_was_a_client() {
    let mut bench = sticky(600, DIRECT, 80);
    bench.pick(&to(client(1), 1000, 80, SYN)).expect("sent");
    bench.pick(&to(client(2), 1000, 80, SYN)).expect("sent");
    bench.reason(&to(client(2), 1000, 80, ACK));
    bench.sweep();
    assert_eq!(bench.connections(), 4);
    bench.settings(|s| s.flags |= settings_flag::DROP_ENTRY);
    // Not this one's turn.
    bench.env.random.set(1);
    bench.sweep();
    assert_eq!(bench.connections(), 4);
    bench.env.random.set(0);
    bench.sweep();
    bench.sweep();
    assert_eq!(
        bench.connections(),
        2,
        "the half-open one and its template are gone"
    );
    assert!(templates(&bench)[0].1.is_assured());
    // An established one that did little, idle for a minute.
    bench.wait(59);
    bench.sweep();
    assert_eq!(bench.connections(), 2);
    bench.wait(1);
    bench.sweep();
    assert_eq!(bench.connections(), 1, "its template is a real client's");
    assert_eq!(bench.counts(rs(2)), (0, 0));
}

#[test]
fn without_services_connections_are_the_kernels() {
    let mut bench = sticky(60, DIRECT, 80);
    bench.pick(&to(client(1), 1000, 80, SYN)).expect("sent");
    let delete = Change::DeleteService { id: web() };
    bench.apply(&delete).expect("the service is there");
    assert_eq!(
        bench.reason(&to(client(1), 1000, 80, ACK)),
        Reason::NoService
    );
    // While another one is there its packets have nowhere to go.
    bench.add(dns(), "rr");
    assert_eq!(
        bench.reason(&to(client(1), 1000, 80, ACK)),
        Reason::ServerGone
    );
    assert_eq!(
        bench.reason(&to(client(1), 1000, 80, FIN)),
        Reason::ServerGone
    );
}

//! Changes to services and servers: what is refused, what an edit means, what a removal leaves.

mod bench;

use std::net::IpAddr;

use bench::{Bench, VIP, VIP6, id, real, rs, rs6, segment, service, web};
use pointsman_director::{
    Reason,
    model::{
        Change, ControlError, ForwardingMethod, Protocol, RealServer, TunnelChecksum, TunnelType,
        VirtualService,
    },
};
use pointsman_wire::tcp::{ACK, SYN};

const DIRECT: ForwardingMethod = ForwardingMethod::Direct;
const TUNNEL: ForwardingMethod = ForwardingMethod::Tunnel;
const MASQUERADE: ForwardingMethod = ForwardingMethod::Masquerade;

/// Applies `change` and expects this refusal; nothing may have changed.
fn assert_refused(bench: &mut Bench, change: &Change, expected: &ControlError) {
    let before = format!("{:?} {:?}", listing(bench), bench.tables.records());
    let refused = bench.apply(change).expect_err("to be refused");
    assert_eq!(refused, *expected, "{change:?}");
    let after = format!("{:?} {:?}", listing(bench), bench.tables.records());
    assert_eq!(after, before, "{change:?} left traces");
}

fn listing(bench: &Bench) -> Vec<(VirtualService, Vec<RealServer>)> {
    let services = bench.director.services();
    services
        .map(|service| {
            let servers = service.servers().map(|s| s.config().clone()).collect();
            (service.config().clone(), servers)
        })
        .collect()
}

fn add_service(service: VirtualService) -> Change {
    Change::AddService { service }
}

fn add(server: RealServer) -> Change {
    Change::AddServer { id: web(), server }
}

fn direct(address: &str) -> RealServer {
    let address: IpAddr = address.parse().expect("an address");
    real(address, 80, DIRECT, 1)
}

#[test]
fn services_are_refused_as_the_kernel_refuses() {
    let mut bench = Bench::balanced("wlc", &[1]);
    let other = id(Protocol::Tcp, VIP, 81);
    let gone = || service(other, "rr");
    for (change, error) in [
        (
            add_service(service(web(), "rr")),
            ControlError::ServiceExists,
        ),
        (
            add_service(service(other, "xyz")),
            ControlError::SchedulerNotFound,
        ),
        (
            add_service(service(other, "")),
            ControlError::SchedulerNotFound,
        ),
        // The service is looked for before the scheduler.
        (
            add_service(service(web(), "xyz")),
            ControlError::ServiceExists,
        ),
        (
            Change::EditService {
                service: service(other, "xyz"),
            },
            ControlError::NoSuchService,
        ),
        (
            Change::EditService { service: gone() },
            ControlError::NoSuchService,
        ),
        (
            Change::EditService {
                service: service(web(), "xyz"),
            },
            ControlError::SchedulerNotFound,
        ),
        (
            Change::DeleteService { id: other },
            ControlError::NoSuchService,
        ),
        (
            Change::Zero { id: Some(other) },
            ControlError::NoSuchService,
        ),
    ] {
        assert_refused(&mut bench, &change, &error);
    }
}

#[test]
fn what_is_not_there_yet_is_said() {
    let mut bench = Bench::new();
    let with = |change: fn(&mut VirtualService)| {
        let mut service = service(web(), "rr");
        change(&mut service);
        add_service(service)
    };
    let changes = vec![with(|s| s.engine = Some("sip".to_owned()))];
    for change in changes {
        match bench.apply(&change) {
            Err(ControlError::NotYet(what)) => assert!(!what.is_empty()),
            other => panic!("{change:?}: {other:?}"),
        }
    }
    assert!(listing(&bench).is_empty());
}

#[test]
fn servers_are_refused_as_the_kernel_refuses() {
    let mut bench = Bench::balanced("wlc", &[1]);
    let missing = id(Protocol::Udp, VIP, 80);
    let edit = |server| Change::EditServer { id: web(), server };
    let thresholds = |upper, lower| RealServer {
        upper,
        lower,
        ..direct("10.1.0.12")
    };
    let weight = |weight| RealServer {
        weight,
        ..direct("10.1.0.12")
    };
    let method = |method, address| RealServer {
        method,
        ..direct(address)
    };
    for (change, error) in [
        (
            Change::AddServer {
                id: missing,
                server: direct("10.1.0.12"),
            },
            ControlError::ServiceNotDefined,
        ),
        (
            Change::EditServer {
                id: missing,
                server: direct("10.1.0.11"),
            },
            ControlError::ServiceNotDefined,
        ),
        (
            Change::DeleteServer {
                id: missing,
                address: rs(1),
                port: 80,
            },
            ControlError::ServiceNotDefined,
        ),
        (add(direct("10.1.0.11")), ControlError::DestinationExists),
        (edit(direct("10.1.0.12")), ControlError::NoSuchDestination),
        (edit(direct("224.0.0.1")), ControlError::NoSuchDestination),
        (
            Change::DeleteServer {
                id: web(),
                address: rs(2),
                port: 80,
            },
            ControlError::NoSuchDestination,
        ),
        (
            Change::DeleteServer {
                id: web(),
                address: rs(1),
                port: 81,
            },
            ControlError::NoSuchDestination,
        ),
        (add(weight(-1)), ControlError::Range),
        (add(thresholds(1, 2)), ControlError::Range),
        (add(thresholds(0, 1)), ControlError::Range),
        (
            edit(RealServer {
                weight: -1,
                ..direct("10.1.0.11")
            }),
            ControlError::Range,
        ),
        (add(direct("224.0.0.1")), ControlError::Invalid),
        (add(direct("239.255.255.255")), ControlError::Invalid),
        (add(direct("255.255.255.255")), ControlError::Invalid),
        (add(direct("0.0.0.0")), ControlError::Invalid),
        (add(direct("0.1.2.3")), ControlError::Invalid),
        (add(direct("fd01::11")), ControlError::Invalid),
        (add(method(MASQUERADE, "fd01::11")), ControlError::Invalid),
        (add(method(TUNNEL, "fe80::1")), ControlError::Invalid),
        (add(method(TUNNEL, "ff02::1")), ControlError::Invalid),
        (add(method(TUNNEL, "::")), ControlError::Invalid),
    ] {
        assert_refused(&mut bench, &change, &error);
    }
    for tunnel in [
        TunnelType::Gue {
            port: 6080,
            checksum: TunnelChecksum::None,
        },
        TunnelType::Gre {
            checksum: TunnelChecksum::Full,
        },
    ] {
        let server = RealServer {
            tunnel,
            ..method(TUNNEL, "10.1.0.12")
        };
        assert!(matches!(
            bench.apply(&add(server)),
            Err(ControlError::NotYet(_))
        ));
    }
    // Local addresses, the largest weight and equal thresholds are fine.
    for server in [
        direct("127.0.0.1"),
        direct("192.168.1.100"),
        RealServer {
            weight: i32::MAX,
            ..direct("10.1.0.13")
        },
        thresholds(2, 2),
    ] {
        bench
            .director
            .apply(&add(server), &mut bench.tables)
            .expect("valid");
    }
}

#[test]
fn a_service_takes_no_more_servers_than_positions() {
    let mut bench = Bench::balanced("mh", &[]);
    let number = |n: u16| IpAddr::from([10, 2, (n >> 8) as u8, n as u8]);
    for n in 0..32 {
        bench
            .director
            .apply(&add(real(number(n), 80, DIRECT, 1)), &mut bench.tables)
            .expect("room");
    }
    let full = bench
        .director
        .apply(&add(real(number(32), 80, DIRECT, 1)), &mut bench.tables);
    assert!(matches!(full, Err(ControlError::NoMemory(text)) if text.contains("--servers")));
    assert_eq!(bench.director.hops().count(), 32);
}

#[test]
fn direct_and_tunnelled_servers_have_the_services_port() {
    let mut bench = Bench::new();
    bench.add(web(), "rr");
    for (number, method, port, expected) in [
        (1, DIRECT, 8080, 80),
        (2, TUNNEL, 0, 80),
        (3, MASQUERADE, 8080, 8080),
    ] {
        bench.server(web(), real(rs(number), port, method, 1));
        let service = bench.director.service(&web()).expect("there");
        let newest: Vec<_> = service.servers().collect();
        assert_eq!(newest[0].config().port, expected);
        assert_eq!(newest[0].record().port, u16::to_be(expected));
    }
    // So 10.1.0.11:8080 by direct routing is 10.1.0.11:80, whoever asks.
    let again = add(real(rs(1), 9090, DIRECT, 1));
    assert_refused(&mut bench, &again, &ControlError::DestinationExists);
    bench.edit(web(), real(rs(1), 9090, DIRECT, 7));
    assert_eq!(listing(&bench)[0].1[2].weight, 7);
}

#[test]
fn an_edit_replaces_everything_but_the_place() {
    let mut bench = Bench::balanced("wlc", &[1, 2, 3]);
    let mut server = real(rs(2), 80, TUNNEL, 9);
    (server.upper, server.lower) = (5, 4);
    bench.edit(web(), server.clone());
    assert_eq!(listing(&bench)[0].1[1], server);
    assert_eq!(bench.counts(rs(2)), (0, 0));
    bench.edit(web(), real(rs(2), 80, DIRECT, 1));
    assert_eq!(listing(&bench)[0].1[1], real(rs(2), 80, DIRECT, 1));
    let addresses: Vec<_> = listing(&bench)[0].1.iter().map(|s| s.address).collect();
    assert_eq!(addresses, [rs(3), rs(2), rs(1)]);

    let flags = service(web(), "sh port fallback");
    bench
        .apply(&Change::EditService {
            service: flags.clone(),
        })
        .expect("valid");
    assert_eq!(listing(&bench)[0].0, flags);
    let plain = service(web(), "wlc");
    bench
        .apply(&Change::EditService {
            service: plain.clone(),
        })
        .expect("valid");
    assert_eq!(listing(&bench)[0].0, plain);
    assert_eq!(listing(&bench)[0].1.len(), 3);
}

#[test]
fn connections_keep_the_method_they_began_with() {
    let mut bench = Bench::single(web(), rs(1), 80, DIRECT);
    bench.send(&segment(1, SYN).build());
    bench.edit(web(), real(rs(1), 80, TUNNEL, 1));
    bench.set_hop(rs(1), bench::hop(1));
    assert_eq!(bench.reason(&segment(1, ACK).build()), Reason::Direct);
    assert_eq!(bench.reason(&segment(2, SYN).build()), Reason::Tunnel);
}

#[test]
fn mixed_families_need_a_tunnel() {
    let mut bench = Bench::new();
    let web6 = id(Protocol::Tcp, VIP6, 80);
    bench.add(web6, "rr");
    bench.server(web6, real(rs(1), 80, TUNNEL, 1));
    bench.server(web6, real(rs6(1), 80, TUNNEL, 1));
    let server = real(rs(1), 80, MASQUERADE, 1);
    let change = Change::EditServer { id: web6, server };
    assert_refused(&mut bench, &change, &ControlError::Invalid);
}

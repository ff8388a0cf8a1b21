//! Connections that another director told of.

mod bench;

use bench::{
    BACK, Bench, CLIENT, CLIENT_MAC, CLIENT6, DIRECTOR_MAC, FRONT, VIP, VIP6, answer, every, rs,
    rs6, segment, service, v6, web,
};
use pointsman_director::{
    Reason,
    adopt::{Adopted, Adoption, adopt},
    control::{Untaken, address_words, tell},
    model::{Change, ForwardingMethod, Persistence, RealServer, ServiceId},
    record::{NextHop, connection_flag, hop_flag},
};
use pointsman_wire::{
    sync::{Sequence, SyncConnection, sync_flag},
    tcp::{ACK, FIN, SYN},
};

const DIRECT: ForwardingMethod = ForwardingMethod::Direct;
const ESTABLISHED: u16 = 1;
const FIN_WAIT: u16 = 4;

fn told(flags: u32, state: u16, port: u16) -> SyncConnection {
    SyncConnection {
        protocol: 6,
        flags,
        state,
        client: CLIENT.into(),
        client_port: port,
        address: VIP.into(),
        port: 80,
        server: rs(1),
        server_port: 80,
        mark: 0,
        timeout: 900,
        sequences: None,
        engine: Vec::new(),
        engine_data: Vec::new(),
    }
}

fn take(bench: &Bench, told: &SyncConnection) -> Result<Adopted, Untaken> {
    let (key, record) = bench.director.take_told(told)?;
    let mut adoption = Adoption {
        key,
        record,
        ..Adoption::default()
    };
    Ok(adopt(&bench.tables, &bench.env, &mut adoption))
}

#[test]
fn a_connection_of_another_goes_on_here() {
    let mut bench = every(DIRECT);
    assert_eq!(
        bench.reason(&segment(1000, ACK).build()),
        Reason::NoConnection
    );
    assert_eq!(
        take(&bench, &told(0x83, ESTABLISHED, 1000)),
        Ok(Adopted::Added)
    );
    assert_eq!(bench.counts(rs(1)), (1, 0));
    assert_eq!(bench.pick(&segment(1000, ACK).build()), Ok(1));
    let word = bench.connection().word.load();
    assert_ne!(word & connection_flag::SYNC, 0);
    assert_ne!(word & connection_flag::NO_OUTPUT, 0);
    assert_eq!(bench.pick(&segment(1000, FIN | ACK).build()), Ok(1));
    assert_eq!(bench.state(), "FIN_WAIT");
    assert_eq!(bench.counts(rs(1)), (0, 1));
    bench.wait(121);
    bench.sweep();
    assert_eq!((bench.connections(), bench.counts(rs(1))), (0, (0, 0)));
}

#[test]
fn ipv6_goes_on_too() {
    let mut bench = every(DIRECT);
    let six = SyncConnection {
        client: CLIENT6.into(),
        address: VIP6.into(),
        server: rs6(1),
        ..told(0x83, ESTABLISHED, 1000)
    };
    let frame = v6().tcp(1000, 80).flags(ACK).build();
    assert_eq!(bench.reason(&frame), Reason::NoConnection);
    assert_eq!(take(&bench, &six), Ok(Adopted::Added));
    assert_eq!(bench.pick(&frame), Ok(1));
    assert_eq!(bench.counts(rs6(1)), (1, 0));
}

#[test]
fn replies_of_a_masqueraded_connection_come_back() {
    let mut bench = every(ForwardingMethod::Masquerade);
    let back = NextHop {
        ifindex: FRONT,
        mtu: 1500,
        destination: CLIENT_MAC,
        source: DIRECTOR_MAC,
        vlan: 0,
        flags: hop_flag::RESOLVED,
    };
    bench.settings(|settings| settings.epoch = 1);
    bench.env.routes.insert(address_words(CLIENT.into()), back);
    let mut one = told(0, ESTABLISHED, 1000);
    one.server_port = 8080;
    // What the message says of the method does not count: the server is a masqueraded one here.
    one.flags = 3;
    assert_eq!(take(&bench, &one), Ok(Adopted::Added));
    let (verdict, _) = bench.send_by(BACK, &answer(1, 8080, 1000, ACK).build());
    assert_eq!((verdict.reason, verdict.ifindex), (Reason::Reply, FRONT));
    assert_eq!(
        bench.reason(&segment(1000, ACK).build()),
        Reason::Masquerade
    );
    bench.wait(901);
    bench.sweep();
    assert!(bench.tables.replies.borrow().is_empty());
}

#[test]
fn a_known_connection_follows_what_is_told() {
    let mut bench = Bench::balanced("rr", &[1, 1]);
    let (one, two) = (told(0x83, ESTABLISHED, 1000), rs(2));
    assert_eq!(take(&bench, &one), Ok(Adopted::Added));
    bench.wait(100);
    let closing = SyncConnection {
        timeout: 120,
        ..told(0x183, FIN_WAIT, 1000)
    };
    assert_eq!(take(&bench, &closing), Ok(Adopted::Updated));
    assert_eq!((bench.state(), bench.counts(rs(1))), ("FIN_WAIT", (0, 1)));
    bench.wait(119);
    bench.sweep();
    assert_eq!(bench.connections(), 1, "its time began anew");
    // Another one under the same ports, to another server: inactive, it is ignored.
    let other = SyncConnection {
        server: two,
        ..told(0x183, FIN_WAIT, 1000)
    };
    assert_eq!(take(&bench, &other), Ok(Adopted::Ignored));
    let other = SyncConnection {
        server: two,
        ..told(0x83, ESTABLISHED, 1000)
    };
    assert_eq!(take(&bench, &other), Ok(Adopted::Added));
    assert_eq!((bench.counts(rs(1)), bench.counts(two)), ((0, 0), (1, 0)));
    assert_eq!(bench.pick(&segment(1000, ACK).build()), Ok(2));
}

#[test]
fn ones_own_connection_stays_ones_own() {
    let mut bench = Bench::balanced("rr", &[1]);
    assert_eq!(bench.pick(&segment(1000, SYN).build()), Ok(1));
    assert_eq!(
        take(&bench, &told(0x83, ESTABLISHED, 1000)),
        Ok(Adopted::Updated)
    );
    assert_eq!(bench.connection().word.load() & connection_flag::SYNC, 0);
    assert_eq!(
        (bench.state(), bench.counts(rs(1))),
        ("ESTABLISHED", (1, 0))
    );
}

#[test]
fn a_template_of_another_holds_the_client() {
    let mut bench = Bench::new();
    let mut sticky = service(web(), "rr");
    sticky.persistence = Some(Persistence {
        timeout: 60,
        prefix: 128,
        netmask: u32::MAX,
    });
    bench
        .apply(&Change::AddService { service: sticky })
        .unwrap();
    for number in 1..=3 {
        bench.server(web(), bench::real(rs(number), 80, DIRECT, 1));
    }
    let template = SyncConnection {
        timeout: 60,
        server: rs(2),
        ..told(0x1100, 1, 0)
    };
    assert_eq!(take(&bench, &template), Ok(Adopted::Added));
    let persistent = |bench: &Bench| {
        let entry = bench.director.service(&web()).unwrap();
        let server = entry
            .servers()
            .find(|s| s.config().address == rs(2))
            .unwrap();
        use pointsman_director::tables::Tables;
        bench
            .tables
            .counts(server.index())
            .unwrap()
            .persistent
            .load()
    };
    assert_eq!(persistent(&bench), 1);
    for port in 1000..1004 {
        assert_eq!(bench.pick(&segment(port, SYN).build()), Ok(2));
    }
    assert_eq!(take(&bench, &template), Ok(Adopted::Updated));
    assert_eq!(persistent(&bench), 1);
    bench.wait(10_000);
    bench.sweep();
    bench.wait(100);
    bench.sweep();
    assert_eq!((bench.connections(), persistent(&bench)), (0, 0));
}

#[test]
fn what_is_told_is_what_another_takes() {
    for method in [
        DIRECT,
        ForwardingMethod::Tunnel,
        ForwardingMethod::Masquerade,
    ] {
        let mut here = every(method);
        for frame in [
            segment(1000, SYN).build(),
            segment(1000, ACK).build(),
            bench::datagram(1001).build(),
            v6().tcp(1002, 80).flags(SYN).build(),
        ] {
            here.pick(&frame).expect("forwarded");
        }
        let there = every(method);
        let connections = here.tables.connections.borrow();
        for (key, record) in connections.iter() {
            let server = here
                .director
                .server(record.server)
                .unwrap()
                .config()
                .address;
            let told = tell(key, record, server);
            assert_eq!(take(&there, &told), Ok(Adopted::Added), "{told:?}");
            let taken = there.tables.connections.borrow()[key].clone();
            assert_eq!(taken.server, record.server);
            assert_eq!(taken.server_port, record.server_port);
            assert_eq!(
                taken.word.load(),
                record.word.load() | connection_flag::SYNC,
                "{told:?}"
            );
            assert_eq!(taken.expires.load(), record.expires.load());
        }
        assert_eq!(here.counts(rs(1)), there.counts(rs(1)));
    }
}

#[test]
fn what_can_not_be_is_not_taken() {
    let bench = every(DIRECT);
    let take = |change: &dyn Fn(&mut SyncConnection)| {
        let mut one = told(0x83, ESTABLISHED, 1000);
        change(&mut one);
        bench.director.take_told(&one).map(drop)
    };
    assert_eq!(take(&|_| ()), Ok(()));
    assert_eq!(take(&|c| c.server = rs(7)), Err(Untaken::Unbound));
    assert_eq!(take(&|c| c.port = 81), Err(Untaken::Unbound));
    assert_eq!(
        take(&|c| c.mark = 7),
        Ok(()),
        "there is no service of the mark"
    );
    assert_eq!(take(&|c| c.state = 11), Err(Untaken::Unknown));
    assert_eq!(take(&|c| c.protocol = 50), Err(Untaken::Unknown));
    assert_eq!(take(&|c| c.engine = b"sip".to_vec()), Err(Untaken::Unknown));
    assert_eq!(
        take(&|c| c.flags |= sync_flag::NO_CLIENT_PORT),
        Err(Untaken::Unknown)
    );
    let moved = Sequence {
        delta: 3,
        ..Sequence::default()
    };
    let sequences = Some([Sequence::default(), moved]);
    assert_eq!(take(&|c| c.sequences = sequences), Err(Untaken::Unknown));
    assert_eq!(take(&|c| c.server = rs6(1)), Err(Untaken::Unknown));
}

#[test]
fn real_servers_are_found_as_the_kernel_finds_them() {
    let mut bench = Bench::new();
    let mark = ServiceId::Mark {
        mark: 9,
        ipv6: false,
    };
    let any = bench::id(pointsman_director::model::Protocol::Tcp, VIP, 0);
    let mut every_port = service(any, "rr");
    every_port.persistence = Some(Persistence {
        timeout: 60,
        prefix: 128,
        netmask: u32::MAX,
    });
    bench
        .apply(&Change::AddService {
            service: every_port,
        })
        .unwrap();
    bench.add(mark, "rr");
    let at = |number, port| RealServer {
        port,
        ..bench::real(rs(number), port, DIRECT, 1)
    };
    bench.server(any, at(1, 0));
    bench.server(mark, at(2, 0));
    let server = |one: &SyncConnection| {
        let (_, record) = bench.director.take_told(one).ok()?;
        Some(bench.director.server(record.server)?.config().address)
    };
    let mut one = told(0x83, ESTABLISHED, 1000);
    (one.port, one.server_port) = (8443, 8443);
    assert_eq!(server(&one), Some(rs(1)));
    (one.mark, one.server) = (9, rs(2));
    assert_eq!(server(&one), Some(rs(2)));
    let template = SyncConnection {
        protocol: 0,
        address: "0.0.0.9".parse().unwrap(),
        port: 0,
        server_port: 0,
        ..SyncConnection {
            flags: 0x1183,
            ..one
        }
    };
    assert_eq!(server(&template), Some(rs(2)));
    let (key, record) = bench.director.take_told(&template).unwrap();
    assert_eq!((key.protocol, key.destination[0]), (!0, 9_u32.to_be()));
    assert_eq!(tell(&key, &record, rs(2)).address, template.address);
    assert_eq!(tell(&key, &record, rs(2)).protocol, 0);
}

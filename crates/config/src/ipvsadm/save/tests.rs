use pointsman_director::model::{Change, RateView, SchedulerFlags, ServerView, StatsView};
use proptest::prelude::*;

use super::super::{Numeric, arguments};
use super::*;

/// Runs the lines of a save file against an empty table, as the kernel would.
fn restore(text: &str) -> Vec<ServiceView> {
    let mut services: Vec<ServiceView> = Vec::new();
    for line in lines(text) {
        match line.command(&Numeric) {
            Ok(Command::Change {
                change: Change::AddService { service },
                ..
            }) => {
                let servers = Vec::new();
                let (stats, rate) = (StatsView::default(), RateView::default());
                services.push(ServiceView {
                    service,
                    stats,
                    rate,
                    servers,
                });
            }
            Ok(Command::Change {
                change: Change::AddServer { id, server },
                ..
            }) => {
                let service = services.iter_mut().find(|view| view.service.id == id);
                let service = service.expect("a server follows its service");
                service.servers.insert(0, server_view(server));
            }
            other => panic!("line {}: {other:?}", line.number),
        }
    }
    services
}

fn server_view(server: RealServer) -> ServerView {
    ServerView {
        server,
        active: 0,
        inactive: 0,
        persistent: 0,
        stats: StatsView::default(),
        rate: RateView::default(),
        next_hop: String::new(),
    }
}

fn save(services: &[ServiceView]) -> String {
    let mut out = Vec::new();
    write(&mut out, services, true, &Numeric).expect("a vector takes all");
    String::from_utf8(out).expect("text")
}

/// A file with every kind of line, in the order in which it is saved.
const FILE: &str = "\
-A -t 10.0.0.1:80 -s wlc
-a -t 10.0.0.1:80 -r [fd00::2]:80 -i -w 1 --tun-type ipip
-a -t 10.0.0.1:80 -r 10.1.0.2:80 -g -w 7
-a -t 10.0.0.1:80 -r 10.1.0.3:8080 -m -w 0
-a -t 10.0.0.1:80 -r 10.1.0.5:80 -i -w 1 --tun-type gue --tun-port 6080 --tun-nocsum
-a -t 10.0.0.1:80 -r 10.1.0.6:80 -i -w 1 --tun-type gue --tun-port 6080 --tun-remcsum
-a -t 10.0.0.1:80 -r 10.1.0.7:80 -i -w 1 --tun-type gre --tun-csum
-A -t 10.0.0.1:82 -s sh -b sh-port
-A -t 10.0.0.1:85 -s mh -b mh-fallback,mh-port
-A -t 10.0.0.1:445 -s rr -p 100 -M 255.255.255.0
-A -u 10.0.0.1:449 -s wlc -o
-A -u 10.0.0.1:5060 -s wlc -p 60 --pe sip
-A --sctp-service 10.0.0.9:443 -s wlc --pe sip -b flag-1,flag-3
-A -t [fd00::1]:0 -s wlc -p 360
-A -t [fd00::1]:443 -s rr -p 100 -M 64
-A -f 1 -s wlc -o
-a -f 1 -r 10.1.0.9:0 -g -w 1
-A -f 2 -6 -s rr
-a -f 2 -6 -r [fd00::9]:0 -g -w 1
";

#[test]
fn a_file_is_read_and_written_back() {
    assert_eq!(save(&restore(FILE)), FILE);
}

#[test]
fn what_ipvsadm_cannot_read_back_is_written_all_the_same() {
    let mut services = restore("-A -f 1\n-A -t 10.0.0.1:83 -s sh -b flag-3\n");
    services[0].service.id = ServiceId::Mark {
        mark: u32::MAX,
        ipv6: false,
    };
    let text = save(&services);
    assert_eq!(text, "-A -f -1 -s wlc\n-A -t 10.0.0.1:83 -s sh -b \n");
    for line in lines(&text) {
        let error = line.command(&Numeric).expect_err("neither is a command");
        let expected = match line.number {
            1 => ("invalid fwmark value `-1' specified\n", 2),
            _ => ("-b: missing argument\n", 255),
        };
        assert_eq!((error.message.as_str(), error.exit_code), expected);
    }
}

#[test]
fn lines_are_split_at_blanks_alone() {
    let text = "\n-C\r\n  ipvsadm ipvsadm -A\t-t  x \n \t\nipvsadm\n# -C\n-s \"r r\"";
    let split: Vec<(usize, Vec<&str>)> = lines(text)
        .map(|line| (line.number, line.arguments))
        .collect();
    assert_eq!(
        split,
        [
            (2, vec!["-C"]),
            (3, vec!["-A", "-t", "x"]),
            (6, vec!["#", "-C"]),
            (7, vec!["-s", "\"r", "r\""]),
        ]
    );
}

#[test]
fn a_line_is_read_as_restore_reads_it() {
    let read = |text| lines(text).next().expect("a line").command(&Numeric);
    assert_eq!(read("-R"), Err(UsageError::try_help()));
    assert_eq!(read("# comment"), Err(UsageError::try_help()));
    assert_eq!(read("ipvsadm -h"), Ok(Command::Version));
    assert_eq!(
        read("-L"),
        Ok(Command::List(arguments::ListOptions::default()))
    );
}

fn address(ipv6: bool) -> impl Strategy<Value = IpAddr> {
    // Addresses further apart than 2^31 have no order that is the same both ways round.
    any::<u8>().prop_map(move |host| match ipv6 {
        true => IpAddr::from([0xfd00, 0, 0, 0, 0, 0, 0, u16::from(host)]),
        false => IpAddr::from([10, 0, 0, host]),
    })
}

fn service() -> impl Strategy<Value = VirtualService> {
    let protocol = prop_oneof![
        Just(Protocol::Tcp),
        Just(Protocol::Udp),
        Just(Protocol::Sctp)
    ];
    let id = prop_oneof![
        (protocol, any::<bool>().prop_flat_map(address), any::<u16>()).prop_map(
            |(protocol, address, port)| ServiceId::Address {
                protocol,
                address,
                port
            }
        ),
        (1..0x4000_0000u32, any::<bool>()).prop_map(|(mark, ipv6)| ServiceId::Mark { mark, ipv6 }),
    ];
    let scheduler = prop_oneof![Just("wlc"), Just("sh"), Just("mh"), Just("rr")];
    let persistence = proptest::option::of((1..2_678_401u32, 1..129u8, any::<u32>()));
    let engine = proptest::option::of(Just("sip".to_owned()));
    (
        id,
        scheduler,
        any::<[bool; 3]>(),
        persistence,
        any::<bool>(),
        engine,
    )
        .prop_map(
            |(id, scheduler, [flag1, flag2, flag3], persistence, one_packet, engine)| {
                let persistence =
                    persistence.map(|(timeout, prefix, netmask)| match id.is_ipv6() {
                        true => Persistence {
                            timeout,
                            prefix,
                            netmask: 0,
                        },
                        false => Persistence {
                            timeout,
                            prefix: netmask.leading_ones() as u8,
                            netmask,
                        },
                    });
                let everyone = Persistence {
                    timeout: 360,
                    prefix: 128,
                    netmask: 0,
                };
                let everyone_v4 = Persistence {
                    timeout: 360,
                    prefix: 32,
                    netmask: u32::MAX,
                };
                let needed = if id.is_ipv6() { everyone } else { everyone_v4 };
                let is_udp = !matches!(
                    id,
                    ServiceId::Address {
                        protocol: Protocol::Tcp | Protocol::Sctp,
                        ..
                    }
                );
                let needs_persistence = matches!(id, ServiceId::Address { port: 0, .. });
                VirtualService {
                    id,
                    scheduler: scheduler.to_owned(),
                    // Flag 3 has no name for sh and mh, so it cannot be saved.
                    flags: SchedulerFlags {
                        flag1,
                        flag2,
                        flag3: flag3 && !matches!(scheduler, "sh" | "mh"),
                    },
                    persistence: persistence.or(needs_persistence.then_some(needed)),
                    one_packet: one_packet && is_udp,
                    engine,
                }
            },
        )
}

fn tunnel() -> impl Strategy<Value = TunnelType> {
    let sums = [
        TunnelChecksum::None,
        TunnelChecksum::Full,
        TunnelChecksum::Remote,
    ];
    prop_oneof![
        Just(TunnelType::Ipip),
        (1..=u16::MAX, proptest::sample::select(sums.to_vec()))
            .prop_map(|(port, checksum)| TunnelType::Gue { port, checksum }),
        proptest::sample::select(sums[..2].to_vec())
            .prop_map(|checksum| TunnelType::Gre { checksum }),
    ]
}

fn server() -> impl Strategy<Value = RealServer> {
    let method = prop_oneof![
        Just(ForwardingMethod::Direct),
        Just(ForwardingMethod::Masquerade),
        Just(ForwardingMethod::Tunnel)
    ];
    let address = any::<bool>().prop_flat_map(address);
    (address, any::<u16>(), method, 0..=i32::MAX, tunnel()).prop_map(
        |(address, port, method, weight, tunnel)| {
            let is_tunnel = method == ForwardingMethod::Tunnel;
            let tunnel = if is_tunnel { tunnel } else { TunnelType::Ipip };
            RealServer {
                address,
                port,
                method,
                weight,
                upper: 0,
                lower: 0,
                tunnel,
            }
        },
    )
}

/// Makes a configuration that the kernel could hold: no name twice, families and ports that fit.
fn valid(drawn: Vec<(VirtualService, Vec<RealServer>)>) -> Vec<ServiceView> {
    let mut services: Vec<ServiceView> = Vec::new();
    for (service, drawn) in drawn {
        if services.iter().any(|view| view.service.id == service.id) {
            continue;
        }
        let mut servers: Vec<ServerView> = Vec::new();
        for mut server in drawn {
            let is_tunnel = server.method == ForwardingMethod::Tunnel;
            if server.address.is_ipv6() != service.id.is_ipv6() && !is_tunnel {
                continue;
            }
            if let ServiceId::Address { port, .. } = service.id
                && server.method != ForwardingMethod::Masquerade
            {
                server.port = port;
            }
            let name = (server.address, server.port);
            if servers
                .iter()
                .all(|view| (view.server.address, view.server.port) != name)
            {
                servers.push(server_view(server));
            }
        }
        let (stats, rate) = (StatsView::default(), RateView::default());
        services.push(ServiceView {
            service,
            stats,
            rate,
            servers,
        });
    }
    services
}

proptest! {
    #[test]
    fn saving_and_restoring_change_nothing(
        drawn in proptest::collection::vec((service(), proptest::collection::vec(server(), 0..6)), 0..8)
    ) {
        let services = valid(drawn);
        let text = save(&services);
        let restored = restore(&text);
        prop_assert_eq!(save(&restored), text);
        prop_assert_eq!(restored.len(), services.len());
        for view in &services {
            let same = restored.iter().find(|other| other.service == view.service);
            let same = same.expect("every service comes back");
            prop_assert_eq!(same.servers.len(), view.servers.len());
            prop_assert!(view.servers.iter().all(|server| same.servers.contains(server)));
        }
    }

    #[test]
    fn any_file_is_read_or_refused(text in "([-a-zA-Z0-9.:# \t]{0,30}\n){0,5}") {
        for line in lines(&text) {
            prop_assert!(!line.arguments.is_empty());
            if let Err(error) = line.command(&Numeric) {
                prop_assert!(!error.message.is_empty());
            }
        }
    }
}

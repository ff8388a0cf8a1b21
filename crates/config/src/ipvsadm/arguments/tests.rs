use std::net::Ipv4Addr;

use super::*;
use crate::ipvsadm::Numeric;
use pointsman_director::model::{
    ForwardingMethod, Persistence, Protocol, RealServer, SchedulerFlags, ServiceId, TunnelChecksum,
    TunnelType, VirtualService,
};

mod acceptance;
mod arbitrary;
mod refusals;

/// Knows the few names these tests use.
struct Names;

impl Resolve for Names {
    fn address(&self, name: &str) -> Option<Ipv4Addr> {
        (name == "localhost").then_some(Ipv4Addr::LOCALHOST)
    }

    fn port(&self, name: &str, protocol: Protocol) -> Option<u16> {
        match (name, protocol) {
            ("http", Protocol::Tcp) => Some(80),
            ("tftp", Protocol::Udp) => Some(69),
            _ => None,
        }
    }

    fn host_name(&self, _address: IpAddr) -> Option<String> {
        None
    }

    fn port_name(&self, _port: u16, _protocol: Protocol) -> Option<String> {
        None
    }
}

/// Reads a line whose words stand between single blanks; `''` is an empty word.
fn read(line: &str) -> Result<Command, UsageError> {
    let words: Vec<&str> = line
        .split(' ')
        .map(|word| if word == "''" { "" } else { word })
        .collect();
    parse(&words, &Names)
}

#[track_caller]
fn change(line: &str) -> Change {
    match read(line) {
        Ok(Command::Change { change, warnings }) if warnings.is_empty() => change,
        other => panic!("{line}: {other:?}"),
    }
}

fn service(line: &str) -> VirtualService {
    match change(line) {
        Change::AddService { service } | Change::EditService { service } => service,
        other => panic!("{line}: {other:?}"),
    }
}

fn server(line: &str) -> RealServer {
    match read(line) {
        Ok(Command::Change {
            change: Change::AddServer { server, .. } | Change::EditServer { server, .. },
            ..
        }) => server,
        other => panic!("{line}: {other:?}"),
    }
}

fn tcp(address: &str, port: u16) -> ServiceId {
    let address = address.parse().expect("an address");
    ServiceId::Address {
        protocol: Protocol::Tcp,
        address,
        port,
    }
}

#[test]
fn a_service_has_ipvsadms_defaults() {
    let plain = VirtualService {
        id: tcp("10.0.0.1", 80),
        scheduler: "wlc".to_owned(),
        flags: SchedulerFlags::default(),
        persistence: None,
        one_packet: false,
        engine: None,
    };
    for line in [
        "-A -t 10.0.0.1:80",
        "-A -t10.0.0.1:80",
        "-A -t=10.0.0.1:80",
        "-At10.0.0.1:80",
        "-A --tcp-service 10.0.0.1:80",
        "--add-service --tcp-service=10.0.0.1:80",
        "-A -t 10.1:http",
        "-A -t 0x0a000001:+80",
        "-A -t 10.0.0.1:80 -s ''",
        "-A -t 10.0.0.1:80 --pe '' -b ''",
        "-A -t 10.0.0.1:80 -M 255.0.0.0",
        "-A -t 10.0.0.1:80 --sort --",
        "-E -t 10.0.0.1:80",
    ] {
        assert_eq!(service(line), plain, "{line}");
    }
}

#[test]
fn every_setting_of_a_service_is_read() {
    assert_eq!(
        service("-E -u 10.0.0.1:tftp -s sh -p 100 -M 255.255.255.0 --pe sip -o -b sh-port,flag-3"),
        VirtualService {
            id: ServiceId::Address {
                protocol: Protocol::Udp,
                address: IpAddr::from([10, 0, 0, 1]),
                port: 69,
            },
            scheduler: "sh".to_owned(),
            flags: SchedulerFlags {
                flag1: false,
                flag2: true,
                flag3: true
            },
            persistence: Some(Persistence {
                timeout: 100,
                prefix: 24,
                netmask: 0xffff_ff00
            }),
            one_packet: true,
            engine: Some("sip".to_owned()),
        }
    );
    assert!(service("-A -t 10.0.0.1:80 -b mh-port -s mh").flags.flag2);
    assert_eq!(
        service("-A -t 10.0.0.1:80 -s aaaaaaaaaabbbbbbbbbb").scheduler,
        "aaaaaaaaaabbbbb"
    );
    let engine = service("-A -t 10.0.0.1:80 --pe aaaaaaaaaabbbbbbbbbb").engine;
    assert_eq!(engine.as_deref(), Some("aaaaaaaaaabbbbbb"));
}

#[test]
fn persistence_has_a_timeout_and_a_mask() {
    let v4 = |timeout, netmask: u32| Persistence {
        timeout,
        prefix: netmask.leading_ones() as u8,
        netmask,
    };
    let v6 = |timeout, prefix| Persistence {
        timeout,
        prefix,
        netmask: 0,
    };
    for (line, persistence) in [
        ("-A -t 10.0.0.1 -p", v4(360, u32::MAX)),
        ("-A -t 10.0.0.1 -p -s rr", v4(360, u32::MAX)),
        ("-A -t 10.0.0.1 -p10", v4(10, u32::MAX)),
        ("-A -t 10.0.0.1 --persistent=10", v4(10, u32::MAX)),
        (
            "-A -t 10.0.0.1 --persistent 2678400",
            v4(2_678_400, u32::MAX),
        ),
        ("-A -t 10.0.0.1 -p -M 24", v4(360, 24)),
        ("-A -M 255.0.255.0 -t 10.0.0.1 -p", v4(360, 0xff00_ff00)),
        ("-A -t [fd00::1]:80 -p", v6(360, 128)),
        ("-A -t [fd00::1]:80 -p -M 64", v6(360, 64)),
        ("-A -t [fd00::1]:80 -p -M 64x", v6(360, 64)),
        ("-A -M 64 -t [fd00::1]:80 -p", v6(360, 128)),
        ("-A -f 1 -6 -M 64 -p", v6(360, 64)),
        ("-A -f 1 -M 64 -6 -p", v6(360, 128)),
    ] {
        assert_eq!(service(line).persistence, Some(persistence), "{line}");
    }
}

#[test]
fn services_are_known_by_address_or_mark() {
    let mark = |mark, ipv6| ServiceId::Mark { mark, ipv6 };
    for (line, id) in [
        ("-D -t 10.0.0.1:80", tcp("10.0.0.1", 80)),
        ("-D -t localhost:http", tcp("127.0.0.1", 80)),
        ("-D -t 10.0.0.1", tcp("10.0.0.1", 0)),
        ("-D -t [10.0.0.1]:80", tcp("10.0.0.1", 0)),
        ("-D -t [fd00::1]:80", tcp("fd00::1", 80)),
        ("-D -t fd00::1:80", tcp("fd00::1:80", 0)),
        ("-D -t ::", tcp("::", 0)),
        ("-D -f 4294967295", mark(u32::MAX, false)),
        ("-D -f +7 -6", mark(7, true)),
    ] {
        assert_eq!(change(line), Change::DeleteService { id }, "{line}");
    }
}

#[test]
fn a_real_server_has_ipvsadms_defaults() {
    let plain = RealServer {
        address: IpAddr::from([10, 1, 0, 1]),
        port: 80,
        method: ForwardingMethod::Direct,
        weight: 1,
        upper: 0,
        lower: 0,
        tunnel: TunnelType::Ipip,
    };
    assert_eq!(server("-a -t 10.0.0.1:80 -r 10.1.0.1"), plain);
    assert_eq!(server("-e -r 10.1.0.1 -t 10.0.0.1:80"), plain);
    assert_eq!(
        server("-a -t 10.0.0.1:80 -r 10.1.0.1:8080 -mw2147483647 -x 5 -y 9"),
        RealServer {
            port: 8080,
            method: ForwardingMethod::Masquerade,
            weight: i32::MAX,
            upper: 5,
            lower: 9,
            ..plain
        }
    );
}

#[test]
fn the_port_of_a_real_server_follows_the_method() {
    for (line, port) in [
        ("-a -t 10.0.0.1:80 -r 10.1.0.1 -m", 80),
        ("-a -t 10.0.0.1:80 -r 10.1.0.1:0 -m", 0),
        ("-a -r 10.1.0.1 -t 10.0.0.1:80 -m", 0),
        ("-a -t 10.0.0.1:80 -r [10.1.0.1]:90 -m", 80),
        ("-a -t 10.0.0.1:80 -r 10.1.0.1:90 -g", 80),
        ("-a -t 10.0.0.1:80 -r 10.1.0.1:90 -i", 80),
        ("-a -f 1 -r 10.1.0.1:90 -i", 90),
        ("-a -f 1 -r 10.1.0.1:http", 80),
        ("-a -f 1 -r 10.1.0.1", 0),
        ("-a -f 1 -6 -r fd00::2", 0),
    ] {
        assert_eq!(server(line).port, port, "{line}");
    }
    let id = tcp("10.0.0.1", 80);
    for (line, port) in [("10.1.0.1:90", 90), ("10.1.0.1", 80)] {
        let address = IpAddr::from([10, 1, 0, 1]);
        let delete = change(&format!("-d -t 10.0.0.1:80 -r {line}"));
        assert_eq!(delete, Change::DeleteServer { id, address, port });
    }
}

#[test]
fn a_port_that_cannot_be_had_is_warned_about() {
    let warnings = |line| match read(line) {
        Ok(Command::Change { warnings, .. }) => warnings,
        other => panic!("{line}: {other:?}"),
    };
    assert_eq!(
        warnings("-a -t 10.0.0.1:80 -r 10.1.0.1:90"),
        [
            "real server 10.1.0.1:90 of TCP 10.0.0.1:80: direct routing does not change ports, so \
          port 80 is used; use -m to reach another port"
        ]
    );
    assert_eq!(warnings("-e -t 10.0.0.1:80 -r 10.1.0.1:90 -i").len(), 1);
    for line in [
        "-a -t 10.0.0.1:80 -r 10.1.0.1:80",
        "-a -t 10.0.0.1:80 -r 10.1.0.1:90 -m",
    ] {
        assert!(warnings(line).is_empty(), "{line}");
    }
}

#[test]
fn tunnels_have_a_type_a_port_and_a_checksum() {
    let gue = |checksum| TunnelType::Gue {
        port: 6080,
        checksum,
    };
    let gre = |checksum| TunnelType::Gre { checksum };
    for (options, tunnel) in [
        ("--tun-type ipip", TunnelType::Ipip),
        ("--tun-type gue --tun-port 6080", gue(TunnelChecksum::None)),
        (
            "--tun-type gue --tun-port 6080 --tun-nocsum",
            gue(TunnelChecksum::None),
        ),
        (
            "--tun-type gue --tun-port 6080 --tun-csum",
            gue(TunnelChecksum::Full),
        ),
        (
            "--tun-type gue --tun-port 6080 --tun-remcsum",
            gue(TunnelChecksum::Remote),
        ),
        ("--tun-type gre", gre(TunnelChecksum::None)),
        ("--tun-type gre --tun-csum", gre(TunnelChecksum::Full)),
    ] {
        let line = format!("-a -t 10.0.0.1:80 -r [fd00::2]:80 -i {options}");
        assert_eq!(server(&line).tunnel, tunnel, "{options}");
    }
}

#[test]
fn other_changes_are_read() {
    assert_eq!(change("-C"), Change::Clear);
    assert_eq!(change("-Z"), Change::Zero { id: None });
    assert_eq!(
        change("-Z -t 10.0.0.1"),
        Change::Zero {
            id: Some(tcp("10.0.0.1", 0))
        }
    );
    let set = Change::SetTimeouts {
        tcp: 900,
        tcp_fin: 0,
        udp: 300,
    };
    assert_eq!(change("--set 900 0 300"), set);
}

#[test]
fn lists_have_a_subject_and_a_view() {
    let plain = ListOptions::default();
    assert_eq!(parse::<&str>(&[], &Numeric), Ok(Command::List(plain)));
    let numeric = ListOptions {
        numeric: true,
        ..plain
    };
    let connections = ListOptions {
        subject: ListSubject::Connections,
        ..plain
    };
    for (line, options) in [
        ("-l", plain),
        ("-Ln", numeric),
        (
            "-Lnc",
            ListOptions {
                numeric: true,
                ..connections
            },
        ),
        (
            "-L -c --persistent-conn",
            ListOptions {
                view: ListView::PersistentConnections,
                ..connections
            },
        ),
        (
            "-L --timeout",
            ListOptions {
                subject: ListSubject::Timeouts,
                ..plain
            },
        ),
        (
            "-L --daemon --syncid 3",
            ListOptions {
                subject: ListSubject::Daemons,
                ..plain
            },
        ),
        (
            "-L --rate --stats",
            ListOptions {
                view: ListView::Stats,
                ..plain
            },
        ),
        (
            "-L --tun-info --thresholds",
            ListOptions {
                view: ListView::Thresholds,
                ..plain
            },
        ),
        (
            "-L -X --nosort",
            ListOptions {
                exact: true,
                unsorted: true,
                ..plain
            },
        ),
        (
            "-L -t 10.0.0.1:80",
            ListOptions {
                subject: ListSubject::Service(tcp("10.0.0.1", 80)),
                ..plain
            },
        ),
    ] {
        assert_eq!(read(line), Ok(Command::List(options)), "{line}");
    }
}

#[test]
fn daemons_are_read_in_full() {
    let plain = StartDaemon {
        role: SyncRole::Master,
        interface: "eth0".to_owned(),
        sync_id: 0,
        group: None,
        port: None,
        ttl: None,
        max_length: None,
    };
    assert_eq!(
        read("--start-daemon=master"),
        Ok(Command::StartDaemon(plain.clone()))
    );
    let full = StartDaemon {
        role: SyncRole::Backup,
        interface: "bond0.123456789".to_owned(),
        sync_id: 255,
        group: Some("ff02::81".parse().expect("an address")),
        port: Some(8849),
        ttl: Some(2),
        max_length: Some(65507),
    };
    let line = "--start-daemon backup --mcast-interface bond0.1234567890 --syncid 255 \
                --mcast-group ff02::81 --mcast-port 8849 --mcast-ttl 2 --sync-maxlen 65507";
    assert_eq!(read(line), Ok(Command::StartDaemon(full)));
    let stop = StopDaemon {
        role: SyncRole::Backup,
        sync_id: 7,
    };
    assert_eq!(
        read("--stop-daemon backup --syncid 7"),
        Ok(Command::StopDaemon(stop))
    );
}

#[test]
fn commands_without_options_are_read() {
    for (line, command) in [
        ("-S", Command::Save { numeric: false }),
        ("-Sn", Command::Save { numeric: true }),
        ("-R", Command::Restore),
        ("-h extra -q", Command::Help),
        ("-vq", Command::Version),
    ] {
        assert_eq!(read(line), Ok(command), "{line}");
    }
}

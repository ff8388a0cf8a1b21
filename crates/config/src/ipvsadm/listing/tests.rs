use std::net::Ipv4Addr;

use pointsman_director::model::{Persistence, SchedulerFlags};

use super::super::Numeric;
use super::*;

mod connections;
mod order;

/// Gives every host the same name.
struct OneHost(&'static str);

impl Resolve for OneHost {
    fn address(&self, _name: &str) -> Option<Ipv4Addr> {
        None
    }

    fn port(&self, _name: &str, _protocol: Protocol) -> Option<u16> {
        None
    }

    fn host_name(&self, _address: IpAddr) -> Option<String> {
        Some(self.0.to_owned())
    }

    fn port_name(&self, port: u16, protocol: Protocol) -> Option<String> {
        (port == 80 && protocol == Protocol::Tcp).then(|| "http".to_owned())
    }
}

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

fn view(id: ServiceId, scheduler: &str) -> ServiceView {
    let scheduler = scheduler.to_owned();
    let service = VirtualService {
        id,
        scheduler,
        flags: SchedulerFlags::default(),
        persistence: None,
        one_packet: false,
        engine: None,
    };
    ServiceView {
        service,
        stats: StatsView::default(),
        rate: RateView::default(),
        servers: Vec::new(),
    }
}

fn at(protocol: Protocol, address: &str, port: u16, scheduler: &str) -> ServiceView {
    view(
        ServiceId::Address {
            protocol,
            address: ip(address),
            port,
        },
        scheduler,
    )
}

fn server(address: &str, port: u16, method: ForwardingMethod, weight: i32) -> ServerView {
    let tunnel = TunnelType::Ipip;
    ServerView {
        server: RealServer {
            address: ip(address),
            port,
            method,
            weight,
            upper: 0,
            lower: 0,
            tunnel,
        },
        active: 0,
        inactive: 0,
        persistent: 0,
        stats: StatsView::default(),
        rate: RateView::default(),
        next_hop: String::new(),
    }
}

/// A service of every kind, as the kernel might keep them.
fn everything() -> Vec<ServiceView> {
    let mut plain = at(Protocol::Tcp, "10.0.0.1", 80, "wlc");
    plain.stats = StatsView {
        connections: 5,
        in_packets: 8,
        out_packets: 2,
        in_bytes: 338,
        out_bytes: 80,
    };
    plain.rate = RateView {
        connections: 100_000_000,
        in_packets: 123_456_789,
        out_packets: 1_000_000_001,
        in_bytes: 100_000_000_000,
        out_bytes: 100_000_000_000_000,
    };
    let mut busy = server("10.1.0.2", 80, ForwardingMethod::Direct, 7);
    (busy.active, busy.inactive, busy.persistent) = (3, 4, 5);
    (busy.server.upper, busy.server.lower) = (6, 7);
    busy.stats = StatsView {
        connections: 99_999_999,
        in_packets: 100_000_000,
        out_packets: 999_999_999,
        in_bytes: 1_000_000_000,
        out_bytes: 99_999_999_999,
    };
    busy.rate = plain.rate;
    plain.servers = vec![
        busy,
        server("fd00::2", 80, ForwardingMethod::Tunnel, 1),
        server("10.1.0.4", 8080, ForwardingMethod::Masquerade, 65536),
    ];

    let mut by_port = at(Protocol::Tcp, "10.0.0.1", 82, "sh");
    by_port.service.flags.flag2 = true;
    let mut nameless = at(Protocol::Tcp, "10.0.0.1", 83, "sh");
    nameless.service.flags.flag3 = true;
    let mut flagged = at(Protocol::Tcp, "10.0.0.1", 84, "wlc");
    flagged.service.flags = SchedulerFlags {
        flag1: true,
        flag2: true,
        flag3: true,
    };
    let mut masked = at(Protocol::Tcp, "10.0.0.1", 445, "rr");
    masked.service.persistence = Some(Persistence {
        timeout: 100,
        prefix: 24,
        netmask: 0xffff_ff00,
    });
    let mut sip = at(Protocol::Udp, "10.0.0.1", 5060, "wlc");
    sip.service.persistence = Some(Persistence {
        timeout: 60,
        prefix: 32,
        netmask: u32::MAX,
    });
    sip.service.engine = Some("sip".to_owned());
    sip.service.one_packet = true;
    let mut bare_engine = at(Protocol::Sctp, "10.0.0.9", 443, "wlc");
    bare_engine.service.engine = Some("sip".to_owned());
    let mut v6 = at(Protocol::Tcp, "fd00::1", 443, "rr");
    v6.service.persistence = Some(Persistence {
        timeout: 100,
        prefix: 64,
        netmask: 0,
    });
    let mut mark = view(
        ServiceId::Mark {
            mark: 1,
            ipv6: false,
        },
        "wlc",
    );
    mark.service.one_packet = true;
    let mark6 = view(
        ServiceId::Mark {
            mark: 2,
            ipv6: true,
        },
        "rr",
    );
    let high_mark = view(
        ServiceId::Mark {
            mark: u32::MAX,
            ipv6: false,
        },
        "wlc",
    );
    vec![
        v6,
        mark6,
        bare_engine,
        mark,
        sip,
        high_mark,
        flagged,
        masked,
        nameless,
        plain,
        by_port,
    ]
}

fn list(services: &[ServiceView], options: ListOptions) -> String {
    named(services, options, &Numeric)
}

fn named(services: &[ServiceView], options: ListOptions, names: &impl Resolve) -> String {
    let mut out = Vec::new();
    super::services(&mut out, services, 4096, &options, names).expect("a vector takes all");
    String::from_utf8(out).expect("text")
}

fn only_first() -> Vec<ServiceView> {
    everything()
        .into_iter()
        .filter(|view| view.servers.len() == 3)
        .collect()
}

const NUMERIC: ListOptions = ListOptions {
    subject: ListSubject::Services,
    view: ListView::Plain,
    numeric: true,
    exact: false,
    unsorted: false,
};

/// Takes away the `~` that shows where a line with trailing blanks ends.
fn golden(text: &str) -> String {
    text.replace("~\n", "\n")
}

#[test]
fn the_plain_list_has_every_setting() {
    let expected = golden(
        "\
IP Virtual Server version 1.2.1 (size=4096)
Prot LocalAddress:Port Scheduler Flags
  -> RemoteAddress:Port           Forward Weight ActiveConn InActConn
FWM  -1 wlc
TCP  10.0.0.1:80 wlc
  -> [fd00::2]:80                 Tunnel  1      0          0         ~
  -> 10.1.0.2:80                  Route   7      3          4         ~
  -> 10.1.0.4:8080                Masq    65536  0          0         ~
TCP  10.0.0.1:82 sh (sh-port)
TCP  10.0.0.1:83 sh ()
TCP  10.0.0.1:84 wlc (flag-1,flag-2,flag-3)
TCP  10.0.0.1:445 rr persistent 100 mask 255.255.255.0
UDP  10.0.0.1:5060 wlc persistent 60 pe sip ops
SCTP 10.0.0.9:443 wlc
TCP  [fd00::1]:443 rr persistent 100 mask 64
FWM  1 wlc ops
FWM  2 IPv6 rr
",
    );
    assert_eq!(list(&everything(), NUMERIC), expected);
}

#[test]
fn one_service_has_no_version_line() {
    let services = only_first();
    let subject = ListSubject::Service(services[0].service.id);
    let text = list(&services, ListOptions { subject, ..NUMERIC });
    assert!(
        text.starts_with("Prot LocalAddress:Port Scheduler Flags\n  -> Remote"),
        "{text}"
    );
}

#[test]
fn every_view_has_its_columns() {
    for (view, lines) in [
        (
            ListView::TunnelInfo,
            [
                "Prot LocalAddress:Port Scheduler Flags",
                "  -> RemoteAddress:Port           Forward TunnelInfo    Weight ActiveConn InActConn",
                "TCP  10.0.0.1:80 wlc",
                "  -> [fd00::2]:80                 Tunnel  ipip          1      0          0         ",
                "  -> 10.1.0.2:80                  Route   n/a           7      3          4         ",
            ],
        ),
        (
            ListView::Thresholds,
            [
                "Prot LocalAddress:Port            Uthreshold Lthreshold ActiveConn InActConn ",
                "  -> RemoteAddress:Port",
                "TCP  10.0.0.1:80 wlc",
                "  -> [fd00::2]:80                 0          0          0          0         ",
                "  -> 10.1.0.2:80                  6          7          3          4         ",
            ],
        ),
        (
            ListView::PersistentConnections,
            [
                "Prot LocalAddress:Port            Weight    PersistConn ActiveConn InActConn ",
                "  -> RemoteAddress:Port",
                "TCP  10.0.0.1:80 wlc",
                "  -> [fd00::2]:80                 1         0           0          0         ",
                "  -> 10.1.0.2:80                  7         5           3          4         ",
            ],
        ),
        (
            ListView::Stats,
            [
                "Prot LocalAddress:Port               Conns   InPkts  OutPkts  InBytes OutBytes",
                "  -> RemoteAddress:Port",
                "TCP  10.0.0.1:80                         5        8        2      338       80",
                "  -> [fd00::2]:80                        0        0        0        0        0",
                "  -> 10.1.0.2:80                  99999999  100000K  999999K    1000M   99999M",
            ],
        ),
        (
            ListView::Rate,
            [
                "Prot LocalAddress:Port                 CPS    InPPS   OutPPS    InBPS   OutBPS",
                "  -> RemoteAddress:Port",
                "TCP  10.0.0.1:80                   100000K  123456K    1000M     100G     100T",
                "  -> [fd00::2]:80                        0        0        0        0        0",
                "  -> 10.1.0.2:80                  100000000 123456789 1000000001     100G     100T",
            ],
        ),
    ] {
        let text = list(&only_first(), ListOptions { view, ..NUMERIC });
        let shown: Vec<&str> = text.lines().skip(1).take(5).collect();
        assert_eq!(shown, lines, "{view:?}");
    }
}

#[test]
fn exact_numbers_are_as_wide_as_they_need() {
    let options = ListOptions {
        view: ListView::Stats,
        exact: true,
        ..NUMERIC
    };
    let text = list(&only_first(), options);
    let row =
        "  -> 10.1.0.2:80                  99999999 100000000 999999999 1000000000 99999999999";
    assert_eq!(text.lines().nth(5), Some(row));
    let options = ListOptions {
        view: ListView::Rate,
        exact: true,
        ..NUMERIC
    };
    let text = list(&only_first(), options);
    let row = "TCP  10.0.0.1:80                  100000000 123456789 1000000001 100000000000 \
               100000000000000";
    assert_eq!(text.lines().nth(3), Some(row));
}

#[test]
fn units_begin_where_ipvsadm_begins_them() {
    for (value, text) in [
        (0, "        0"),
        (99_999_999, " 99999999"),
        (100_000_000, "  100000K"),
        (999_999_999, "  999999K"),
        (1_000_000_000, "    1000M"),
        (99_999_999_999, "   99999M"),
        (100_000_000_000, "     100G"),
        (99_999_999_999_999, "   99999G"),
        (100_000_000_000_000, "     100T"),
        (u64::MAX, "18446744T"),
    ] {
        let mut out = Vec::new();
        write_large(&mut out, value, false).expect("a vector takes all");
        assert_eq!(String::from_utf8(out).as_deref(), Ok(text));
    }
}

#[test]
fn tunnels_are_described() {
    let gue = |checksum| TunnelType::Gue {
        port: 6080,
        checksum,
    };
    for (tunnel, text) in [
        (TunnelType::Ipip, "ipip"),
        (gue(TunnelChecksum::None), "gue:6080:-c"),
        (gue(TunnelChecksum::Full), "gue:6080:+c"),
        (gue(TunnelChecksum::Remote), "gue:6080:r+c"),
        (
            TunnelType::Gre {
                checksum: TunnelChecksum::None,
            },
            "gre:-c",
        ),
        (
            TunnelType::Gre {
                checksum: TunnelChecksum::Full,
            },
            "gre:+c",
        ),
    ] {
        assert_eq!(tunnel_info(ForwardingMethod::Tunnel, tunnel), text);
        assert_eq!(tunnel_info(ForwardingMethod::Masquerade, tunnel), "n/a");
    }
}

#[test]
fn names_are_cut_for_ipv4_alone() {
    let mut services = only_first();
    services.extend(
        everything()
            .into_iter()
            .filter(|view| view.service.id.is_ipv6()),
    );
    let options = ListOptions {
        numeric: false,
        ..NUMERIC
    };
    let text = named(
        &services,
        options,
        &OneHost("a-very-long-host-name-that-goes.example.com"),
    );
    let expected = golden(
        "\
TCP  a-very-long-host-name-that-g wlc
  -> [a-very-long-host-name-that-goes.example.com]:http Tunnel  1      0          0         ~
  -> a-very-long-host-name-that-g Route   7      3          4         ~
  -> a-very-long-host-name-that-g Masq    65536  0          0         ~
TCP  [a-very-long-host-name-that-goes.example.com]:443 rr persistent 100 mask 64
FWM  2 IPv6 rr
",
    );
    assert_eq!(
        text.split_once("InActConn\n").map(|(_, rows)| rows),
        Some(expected.as_str())
    );
}

#[test]
fn addresses_with_only_low_bits_end_dotted() {
    let services = [
        at(Protocol::Tcp, "::18.52.86.120", 80, "rr"),
        at(Protocol::Tcp, "::1", 80, "rr"),
    ];
    let text = list(&services, NUMERIC);
    let names: Vec<&str> = text.lines().skip(3).collect();
    assert_eq!(names, ["TCP  [::1]:80 rr", "TCP  [::18.52.86.120]:80 rr"]);
}

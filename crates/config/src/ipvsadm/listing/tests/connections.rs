//! Lists of connections, timeouts and daemons.

use super::*;

fn connection(protocol: u8, expires: u32, state: &str, ends: [(&str, u16); 3]) -> ConnectionView {
    let [
        (client, client_port),
        (address, port),
        (server, server_port),
    ] = ends;
    ConnectionView {
        protocol,
        expires,
        state: state.to_owned(),
        client: ip(client),
        client_port,
        address: ip(address),
        port,
        server: ip(server),
        server_port,
    }
}

#[test]
fn connections_are_listed_as_they_come() {
    let list = [
        connection(
            6,
            897,
            "ESTABLISHED",
            [
                ("192.168.1.10", 40005),
                ("192.168.1.100", 8443),
                ("10.1.0.12", 8443),
            ],
        ),
        connection(
            6,
            29,
            "NONE",
            [
                ("192.168.1.0", 0),
                ("192.168.1.100", 80),
                ("10.1.0.12", 8082),
            ],
        ),
        connection(
            0,
            600_000,
            "ASSURED",
            [("192.168.1.10", 0), ("0.0.0.9", 0), ("10.1.0.12", 0)],
        ),
        connection(
            6,
            893,
            "ESTABLISHED",
            [("fd00::10", 40006), ("fd00::100", 80), ("fd01::12", 80)],
        ),
        connection(
            132,
            1,
            "ESTABLISHED",
            [("192.168.1.10", 80), ("0.0.0.9", 80), ("10.0.0.12", 80)],
        ),
    ];
    let mut out = Vec::new();
    let numeric = ListOptions {
        numeric: true,
        ..ListOptions::default()
    };
    connections(&mut out, list.clone(), &numeric, &Numeric).expect("a vector takes all");
    let expected = "\
IPVS connection entries
pro expire state       source             virtual            destination
TCP 14:57  ESTABLISHED 192.168.1.10:40005 192.168.1.100:8443 10.1.0.12:8443
TCP 00:29  NONE        192.168.1.0:0      192.168.1.100:80   10.1.0.12:8082
IP  10000:00 ASSURED     192.168.1.10:0     0.0.0.9:0          10.1.0.12:0
TCP 14:53  ESTABLISHED [fd00::10]:40006   [fd00::100]:80     [fd01::12]:80
SCTP 00:01  ESTABLISHED 192.168.1.10:80    0.0.0.9:80         10.0.0.12:80
";
    assert_eq!(String::from_utf8(out).as_deref(), Ok(expected));

    let mut out = Vec::new();
    connections(
        &mut out,
        list,
        &ListOptions::default(),
        &OneHost("h.example"),
    )
    .expect("a vector takes all");
    let text = String::from_utf8(out).expect("text");
    let row = "TCP 00:29  NONE        h.example:0        h.example:http     h.example:8082";
    assert_eq!(text.lines().nth(3), Some(row));
}

#[test]
fn timeouts_and_daemons_have_a_line_each() {
    let mut out = Vec::new();
    timeouts(
        &mut out,
        &TimeoutsView {
            tcp: 900,
            tcp_fin: 120,
            udp: 300,
        },
    )
    .expect("all is taken");
    let daemon = |role| SyncDaemonView {
        role,
        interface: "vc".to_owned(),
        sync_id: 42,
        max_length: 1472,
        group: ip("224.0.0.81"),
        port: 8848,
        ttl: 1,
    };
    daemons(
        &mut out,
        &[daemon(SyncRole::Backup), daemon(SyncRole::Master)],
    )
    .expect("all is taken");
    let expected = "\
Timeout (tcp tcpfin udp): 900 120 300
master sync daemon (mcast=vc, syncid=42, maxlen=1472, group=224.0.0.81, port=8848, ttl=1)
backup sync daemon (mcast=vc, syncid=42, maxlen=1472, group=224.0.0.81, port=8848, ttl=1)
";
    assert_eq!(String::from_utf8(out).as_deref(), Ok(expected));
}

//! The ladder shows a connection at every hop, and says where it cannot see.

use std::net::SocketAddr;
use std::process::Command;

use pointsman_lab::address::{Family, vip};
use pointsman_lab::bpf::{Hook, XDP_DROP};
use pointsman_lab::lab::{self, Lab, Program};
use pointsman_lab::ladder::join;
use pointsman_lab::recorder::Recorder;
use pointsman_lab::topology::{Kind, Options, Role, Topology, WirePort};
use pointsman_path::ladder::{Checksum, Gap, Ladder, Packet, Style};
use pointsman_path::observation::Way;

const PROGRAM: &str = env!("CARGO_BIN_EXE_pointsman-lab");

fn build(kind: Kind, options: &Options) -> Option<Lab> {
    if let Some(reason) = lab::why_not() {
        eprintln!("skipped: {reason}");
        return None;
    }
    let lab = Topology::build(kind, options).unwrap();
    lab.start_servers(&Program::new(PROGRAM), &[80]).unwrap();
    Some(lab)
}

/// Where a packet was seen, as `client/eth0 out`.
fn way(ladder: &Ladder, packet: &Packet) -> Vec<String> {
    let hops = packet.hops.iter().map(|hop| {
        let direction = if hop.way == Way::Out { "out" } else { "in" };
        format!("{} {direction}", ladder.points[hop.point])
    });
    hops.collect()
}

#[test]
fn a_routed_connection_is_seen_at_every_hop() {
    let Some(lab) = build(Kind::Tunnel, &Options::default()) else {
        return;
    };
    for family in Family::BOTH {
        let server = SocketAddr::new(lab.topology().real_server(2, family), 80);
        let recorder = Recorder::start(&lab).unwrap();
        assert_eq!(lab.client().name(server).unwrap(), "rs2");
        let recording = recorder.stop().unwrap();
        let ladder = join(lab.topology(), &recording);
        let connection = ladder.to(server).expect("the connection is missing");
        assert_eq!(connection.server.as_deref(), Some("rs2"));
        assert_eq!(
            connection.client.ip(),
            pointsman_lab::address::client(family)
        );
        let forward = [
            "client/eth0 out",
            "switch/client0 in",
            "switch/router0 out",
            "router/eth0 in",
            "router/eth1 out",
            "switch/router1 in",
            "switch/rs2-0 out",
            "rs2/eth0 in",
        ];
        let back: Vec<String> = forward
            .iter()
            .rev()
            .map(|hop| match hop.split_once(' ') {
                Some((point, "in")) => format!("{point} out"),
                Some((point, _)) => format!("{point} in"),
                None => unreachable!(),
            })
            .collect();
        // SYN, SYN/ACK, ACK, request, answer: all whole.
        assert!(connection.packets.len() >= 5);
        for packet in &connection.packets[..5] {
            let found = way(&ladder, packet);
            if packet.forward {
                assert_eq!(found, forward);
            } else {
                assert_eq!(found, back);
            }
            assert!(packet.delivered, "{packet:?}");
            assert!(packet.gaps.is_empty(), "{:?}", packet.gaps);
            for (at, hop) in packet.hops.iter().enumerate() {
                let changes = hop.changes.join("; ");
                assert_eq!(!changes.is_empty(), at == 4, "{changes}");
                assert_ne!(hop.checksum, Checksum::Wrong);
            }
            let changes = packet.hops[4].changes.join("; ");
            assert!(changes.contains("TTL 64 -> 63"), "{changes}");
            let next = if packet.forward {
                "rs2 eth0"
            } else {
                "client eth0"
            };
            assert!(
                changes.contains(&format!("destination MAC -> {next}")),
                "{changes}"
            );
        }
        let text = ladder.text(connection, Style::default());
        assert!(text.starts_with(&format!(
            "TCP {} > {server}, real server rs2",
            connection.client
        )));
        assert!(
            text.contains("02:00:00:00:03:01 > 02:00:00:00:12:00"),
            "{text}"
        );
        assert!(
            !text.contains('\x1b') && !text.contains("not seen"),
            "{text}"
        );
        let colour = ladder.text(
            connection,
            Style {
                colour: true,
                ..Style::default()
            },
        );
        assert!(colour.contains('\x1b'));
    }
}

#[test]
fn translation_of_the_address_does_not_tear_a_connection_apart() {
    let Some(lab) = build(Kind::Nat, &Options::default()) else {
        return;
    };
    // The kernel's own NAT stands in for the director.
    let server = lab.topology().real_server(3, Family::V4);
    let rules = format!(
        "table ip nat {{ chain pre {{ type nat hook prerouting priority dstnat; \
         ip daddr {} tcp dport 8000 dnat to {server}:80; }}; }}",
        vip(Family::V4)
    );
    lab.check(Role::Director, Command::new("nft").arg(&rules))
        .unwrap();
    let service = SocketAddr::new(vip(Family::V4), 8000);
    let recorder = Recorder::start(&lab).unwrap();
    assert_eq!(lab.client().name(service).unwrap(), "rs3");
    let ladder = join(lab.topology(), &recorder.stop().unwrap());
    assert_eq!(ladder.conversations.len(), 1, "{:?}", ladder.conversations);
    let connection = ladder.to(service).unwrap();
    assert_eq!(connection.server.as_deref(), Some("rs3"));
    for packet in &connection.packets[..4] {
        assert_eq!(packet.hops.len(), 8, "{:?}", way(&ladder, packet));
        let changes = packet.hops[4].changes.join("; ");
        let wanted = if packet.forward {
            format!("destination {} -> {server}", vip(Family::V4))
        } else {
            format!("source {server} -> {}", vip(Family::V4))
        };
        assert!(changes.contains(&wanted), "{changes}");
        assert!(changes.contains("port"), "{changes}");
    }
}

#[test]
fn a_lost_packet_is_last_seen_where_it_was_lost() {
    let Some(lab) = build(Kind::Tunnel, &Options::default()) else {
        return;
    };
    let server = SocketAddr::new(lab.topology().real_server(1, Family::V4), 80);
    let rules = "table ip filter { chain f { type filter hook forward priority 0; \
                 tcp flags & (syn | ack) == syn | ack drop; }; }";
    lab.check(Role::Router, Command::new("nft").arg(rules))
        .unwrap();
    let recorder = Recorder::start(&lab).unwrap();
    let limit = std::time::Duration::from_secs(2);
    assert!(lab.client().limit(limit).name(server).is_err());
    let ladder = join(lab.topology(), &recorder.stop().unwrap());
    let connection = ladder.to(server).unwrap();
    let answer = connection
        .packets
        .iter()
        .find(|packet| !packet.forward)
        .unwrap();
    assert!(!answer.delivered);
    let found = way(&ladder, answer);
    assert_eq!(found.last().map(String::as_str), Some("router/eth1 in"));
    // The client repeats its SYN: another packet, not more hops of the first.
    let repeated: Vec<_> = connection
        .packets
        .iter()
        .filter(|packet| packet.forward && packet.hops.len() == 8 && packet.delivered)
        .collect();
    assert!(repeated.len() >= 2, "{:?}", connection.packets.len());
    assert!(
        ladder
            .text(connection, Style::default())
            .contains("last seen here")
    );
}

#[test]
fn cut_segments_are_told_as_such_and_checksums_as_completed() {
    let wire_port = WirePort {
        complete_checksums: true,
    };
    let options = Options {
        wire_port,
        ..Options::default()
    };
    let Some(lab) = build(Kind::Nat, &options) else {
        return;
    };
    // The director itself has the far end: its ports are the wire.
    serve_on_director(&lab);
    let director = SocketAddr::new(vip(Family::V4), 80);
    let recorder = Recorder::start(&lab).unwrap();
    lab.client().echo(director, 20_000).unwrap();
    let ladder = join(lab.topology(), &recorder.stop().unwrap());
    let connection = ladder.to(director).unwrap();
    let syn = &connection.packets[0];
    assert_eq!(syn.hops[1].checksum, Checksum::Pending);
    // Already where the port sends, before the director receives.
    assert_eq!(way(&ladder, syn)[2], "switch/director0 out");
    let changes = syn.hops[2].changes.join("; ");
    assert!(changes.contains("checksum completed"), "{changes}");
    assert_eq!(syn.hops[2].checksum, Checksum::Right);
    let cut = connection
        .packets
        .iter()
        .filter(|packet| packet.resegmented().is_some());
    let cut: Vec<_> = cut.collect();
    assert!(cut.len() > 3, "nothing was cut");
    let length = |packet: &Packet| packet.hops[0].headers.ip().unwrap().payload_length;
    let whole = &connection.packets[cut[0].resegmented().unwrap()];
    assert!(length(whole) > length(cut[0]));
}

fn serve_on_director(lab: &Lab) {
    let mut command = Command::new(PROGRAM);
    command.args(["serve", "--name", "director", "--port", "80"]);
    lab.start(Role::Director, &mut command, "ready ").unwrap();
}

#[test]
fn what_xdp_takes_is_said_to_be_hidden() {
    let Some(lab) = build(Kind::TwoBridge, &Options::default()) else {
        return;
    };
    let service = SocketAddr::new(vip(Family::V4), 80);
    // Neighbours are resolved before, for ARP is dropped too.
    lab.client().ping(vip(Family::V4)).unwrap();
    let _attached = lab
        .attach(Role::Director, "eth0", Hook::Xdp, &XDP_DROP)
        .unwrap();
    let recorder = Recorder::start(&lab).unwrap();
    let limit = std::time::Duration::from_secs(1);
    assert!(lab.client().limit(limit).name(service).is_err());
    let ladder = join(lab.topology(), &recorder.stop().unwrap());
    let Some(connection) = ladder.to(service) else {
        panic!("the SYN was not seen at all: {:?}", ladder.conversations);
    };
    let syn = &connection.packets[0];
    let Some((_, Gap::Hidden(at))) = syn.gaps.first() else {
        panic!("no hidden hop in {syn:?}");
    };
    let hidden = &ladder.points[*at];
    assert_eq!(hidden.to_string(), "director/eth0");
    assert!(hidden.xdp.unwrap().native);
    let text = ladder.text(connection, Style::default());
    assert!(
        text.contains("director eth0: not observable here, native XDP program"),
        "{text}"
    );
}

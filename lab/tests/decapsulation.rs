//! Tunnel packets reach the servers behind the router, whatever the sender left undone in them.

use std::net::{SocketAddr, UdpSocket};
use std::process::Command;
use std::time::Duration;

use nix::net::if_::if_nametoindex;
use pointsman_lab::address::{self, Family, vip};
use pointsman_lab::bpf::{Attached, Hook};
use pointsman_lab::encapsulator::Encapsulator;
use pointsman_lab::lab::{self, Lab, Program};
use pointsman_lab::ladder::join;
use pointsman_lab::outer::{GRE, GUE_PORT};
use pointsman_lab::recorder::{Recorder, write_pcapng};
use pointsman_lab::topology::{Kind, Options, Role, Topology};
use pointsman_linux::packet::{self, Capture};
use pointsman_path::ladder::Style;
use pointsman_path::observation::Way;
use pointsman_wire::{Frame, Mac, Summary};

const PROGRAM: &str = env!("CARGO_BIN_EXE_pointsman-lab");
const DIRECTOR: Mac = Mac([2, 0, 0, 0, 2, 0]);
const ROUTER: Mac = Mac([2, 0, 0, 0, 3, 0]);
const PAIRS: [(Family, Family); 4] = [
    (Family::V4, Family::V4),
    (Family::V6, Family::V4),
    (Family::V6, Family::V6),
    (Family::V4, Family::V6),
];

/// A tunnel lab whose director does nothing; none without the privilege to build it.
fn tunnel_lab() -> Option<Lab> {
    if let Some(reason) = lab::why_not() {
        eprintln!("skipped: {reason}");
        return None;
    }
    let options = Options {
        real_servers: 2,
        // Room for the outer header.
        fabric_mtu: 1600,
        // Its kernel must not answer for the VIP.
        vip_on_director: false,
        ..Options::default()
    };
    let lab = Topology::build(Kind::Tunnel, &options).unwrap();
    let program = Program::new(PROGRAM);
    lab.start_decapsulators(&program).unwrap();
    lab.start_servers(&program, &[80]).unwrap();
    Some(lab)
}

/// Headers are enough.
fn heads() -> packet::Options {
    packet::Options {
        snaplen: Some(160),
        ..packet::Options::default()
    }
}

fn outer(lab: &Lab, server: u8, family: Family) -> Frame {
    let director = address::Net::External.host(address::DIRECTOR_HOST, family);
    Frame::ip(director, lab.topology().real_server(server, family)).macs(DIRECTOR, ROUTER)
}

/// Has the director wrap every packet to the VIP for rs2.
fn encapsulate(lab: &Lab, inner: Family, outside: Family) -> Attached {
    let director = address::Net::External.host(address::DIRECTOR_HOST, outside);
    let interface = lab
        .run_in(Role::Director, || if_nametoindex("eth0"))
        .unwrap()
        .unwrap();
    let encapsulator = Encapsulator {
        address: vip(inner),
        source: director,
        destination: lab.topology().real_server(2, outside),
        macs: (DIRECTOR, ROUTER),
        interface,
    };
    let program = encapsulator.program();
    lab.attach(Role::Director, "eth0", Hook::TcxIngress, &program)
        .unwrap()
}

#[test]
fn whole_conversations_pass_in_all_four_pairs() {
    for (inner, outside) in PAIRS {
        let Some(lab) = tunnel_lab() else { return };
        let mut neighbour = Command::new("ip");
        let vip = vip(inner);
        let words = [
            "neighbour",
            "replace",
            &vip.to_string(),
            "lladdr",
            &DIRECTOR.to_string(),
        ];
        lab.check(Role::Client, neighbour.args(words).args(["dev", "eth0"]))
            .unwrap();
        let _attached = encapsulate(&lab, inner, outside);
        let service = SocketAddr::new(vip, 80);
        let client = lab.client().limit(Duration::from_secs(20));
        assert_eq!(
            client.name(service).unwrap(),
            "rs2",
            "{inner:?} in {outside:?}"
        );
        // The client's source address survives.
        let peer = String::from_utf8(client.get(service, "/peer").unwrap()).unwrap();
        let wanted = SocketAddr::new(address::client(inner), 0).to_string();
        assert!(peer.starts_with(wanted.trim_end_matches('0')), "{peer}");
        let open = || Capture::open_with("eth0", &heads());
        let mut capture = lab.run_in(Role::RealServer(2), open).unwrap().unwrap();
        client.echo(service, 10_000_000).unwrap();
        // It must have met what makes this hard: super-frames with partial checksums, wrapped.
        let mut hard = 0;
        while let Some(frame) = capture.next(Duration::ZERO).unwrap() {
            let wrapped = Summary::parse(&frame.bytes).is_some_and(|packet| packet.inner.is_some());
            hard += usize::from(wrapped && frame.length > 1600 && frame.checksum_pending);
        }
        assert!(hard > 0, "offloads were not exercised");
        let answer = client.udp(service, &[b'u'; 1400]).unwrap();
        assert_eq!((answer.name.as_str(), answer.from), ("rs2", service));
        assert_eq!(answer.echo, [b'u'; 1400]);
    }
}

/// The inner packet of a UDP question from the client's socket.
fn question(client: &UdpSocket, payload: &[u8]) -> Vec<u8> {
    let client = client.local_addr().unwrap();
    Frame::ip(client.ip(), vip(Family::of(client.ip())))
        .udp(client.port(), 80)
        .payload(payload)
        .build_packet()
}

fn client_socket(lab: &Lab, family: Family) -> UdpSocket {
    let address = SocketAddr::new(address::client(family), 0);
    let socket = lab
        .run_in(Role::Client, || UdpSocket::bind(address))
        .unwrap()
        .unwrap();
    socket
        .set_read_timeout(Some(Duration::from_secs(5)))
        .unwrap();
    socket
}

fn next_answer(socket: &UdpSocket) -> String {
    let mut buffer = [0; 4096];
    let (length, _) = socket.recv_from(&mut buffer).expect("no answer came");
    String::from_utf8_lossy(&buffer[..length]).into_owned()
}

#[test]
fn hand_made_datagrams_pass_and_damaged_ones_do_not() {
    let Some(lab) = tunnel_lab() else { return };
    let open = || Capture::open("eth0");
    let mut director = lab.run_in(Role::Director, open).unwrap().unwrap();
    for (inner, outside) in PAIRS {
        let client = client_socket(&lab, inner);
        let mut damaged = question(&client, b"damaged");
        *damaged.last_mut().unwrap() ^= 0x40;
        let frame = outer(&lab, 1, outside).ip_in_ip(&damaged).build();
        director.send(&frame).unwrap();
        // To the VIP, but to a server that does not have the outer address.
        let stray = outer(&lab, 9, outside)
            .ip_in_ip(&question(&client, b"stray"))
            .build();
        director.send(&stray).unwrap();
        let frame = outer(&lab, 1, outside)
            .ip_in_ip(&question(&client, b"whole"))
            .build();
        director.send(&frame).unwrap();
        assert_eq!(
            next_answer(&client),
            "rs1\nwhole",
            "{inner:?} in {outside:?}"
        );
        // The other tunnels.
        let packet = question(&client, b"gre");
        director
            .send(&outer(&lab, 2, outside).gre(&packet, true).build())
            .unwrap();
        assert_eq!(next_answer(&client), "rs2\ngre");
        let packet = question(&client, b"gue");
        let frame = outer(&lab, 2, outside)
            .udp(5000, GUE_PORT)
            .gue(&packet)
            .build();
        director.send(&frame).unwrap();
        assert_eq!(next_answer(&client), "rs2\ngue");
    }
    // Fragments of the outer packet, the last one first.
    let payload = "f".repeat(3000);
    let client = client_socket(&lab, Family::V4);
    let large = question(&client, payload.as_bytes());
    let whole = outer(&lab, 2, Family::V4).id(77).ip_in_ip(&large);
    let fragments = whole.fragments(1500);
    assert_eq!(fragments.len(), 3);
    for fragment in fragments.iter().rev() {
        director.send(fragment).unwrap();
    }
    assert_eq!(next_answer(&client), format!("rs2\n{payload}"));
    // The kernel has no tunnel here and must not say so.
    while let Some(frame) = director.next(Duration::ZERO).unwrap() {
        let Some(summary) = Summary::parse(&frame.bytes) else {
            continue;
        };
        let quoted = summary.quoted.as_ref();
        let about_tunnel = quoted.is_some_and(|quoted| [4, 41, 17, GRE].contains(&quoted.protocol));
        let from_server = lab.topology().real_server_named(summary.source);
        assert!(
            !about_tunnel || from_server.is_none(),
            "{from_server:?} answered {summary:?}"
        );
    }
}

#[test]
fn the_ladder_shows_the_outer_header_come_and_go() {
    let Some(lab) = tunnel_lab() else { return };
    for (inner, outside) in PAIRS {
        let mut neighbour = Command::new("ip");
        let vip = vip(inner);
        let words = [
            "neighbour",
            "replace",
            &vip.to_string(),
            "lladdr",
            &DIRECTOR.to_string(),
        ];
        lab.check(Role::Client, neighbour.args(words).args(["dev", "eth0"]))
            .unwrap();
        let _attached = encapsulate(&lab, inner, outside);
        let service = SocketAddr::new(vip, 80);
        let recorder = Recorder::start(&lab).unwrap();
        assert_eq!(lab.client().name(service).unwrap(), "rs2");
        let recording = recorder.stop().unwrap();
        let ladder = join(lab.topology(), &recording);
        let connection = ladder.to(service).unwrap();
        assert_eq!(connection.server.as_deref(), Some("rs2"));
        let syn = &connection.packets[0];
        let changes = |place: &str, direction| {
            let found = syn
                .hops
                .iter()
                .find(|hop| ladder.points[hop.point].to_string() == place && hop.way == direction);
            let text = ladder.text(connection, Style::default());
            found
                .unwrap_or_else(|| panic!("not at {place}:\n{text}"))
                .changes
                .join("; ")
        };
        let wrapped = changes("director/eth0", Way::Out);
        assert!(wrapped.contains("tunnel none -> IPIP"), "{wrapped}");
        let unwrapped = changes("rs2/decap0", Way::In);
        assert!(
            unwrapped.contains("tunnel IPIP") && unwrapped.contains("-> none"),
            "{unwrapped}"
        );
        assert!(syn.delivered && syn.gaps.is_empty(), "{:?}", syn.gaps);
        let text = ladder.text(connection, Style::default());
        assert!(text.contains("outer TTL 64 -> 63"), "{text}");
        // A file that other programs can read: the device without link layer included.
        let path = std::env::temp_dir().join(format!("{}.pcapng", lab.tag()));
        write_pcapng(&recording, &path).unwrap();
        let bytes = std::fs::read(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        assert_eq!(bytes[..4], [0x0a, 0x0d, 0x0d, 0x0a]);
        assert!(
            bytes.len()
                > recording
                    .observations
                    .iter()
                    .map(|seen| seen.bytes.len())
                    .sum()
        );
    }
}

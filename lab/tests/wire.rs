//! Native XDP on a veth: what it breaks without a wire, and that a wire port is one.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use pointsman_lab::address::{Family, vip};
use pointsman_lab::bpf::{Hook, Instruction, XDP_PASS};
use pointsman_lab::lab::{self, Lab, Program};
use pointsman_lab::ladder::join;
use pointsman_lab::recorder::Recorder;
use pointsman_lab::topology::{Kind, Options, Role, Topology, WirePort};
use pointsman_path::ladder::{Checksum, Conversation, Gap, Ladder, Style};

const PROGRAM: &str = env!("CARGO_BIN_EXE_pointsman-lab");
const DIRECTOR: [u8; 6] = [2, 0, 0, 0, 2, 0];
const SERVER: [u8; 6] = [2, 0, 0, 0, 0x11, 0];

/// The smallest direct-routing director: everything to the VIP goes to rs1 by `XDP_TX`.
fn direct_routing() -> Vec<Instruction> {
    let op = Instruction::new;
    let IpAddr::V4(address) = vip(Family::V4) else {
        unreachable!()
    };
    let address = i32::from_ne_bytes(address.octets());
    let mut program = vec![
        op(0x61, 2, 1, 0, 0),                             // r2 = data
        op(0x61, 3, 1, 4, 0),                             // r3 = data_end
        op(0xbf, 4, 2, 0, 0),                             // r4 = r2 + 34
        op(0x07, 4, 0, 0, 34),                            //
        op(0x2d, 4, 3, 10, 0),                            // if r4 > r3 pass
        op(0x69, 5, 2, 12, 0),                            // r5 = EtherType
        op(0x55, 5, 0, 8, i32::from(0x0800_u16.to_be())), // if not IPv4 pass
        op(0x61, 5, 2, 30, 0),                            // r5 = destination
        op(0x56, 5, 0, 6, address),                       // if not the VIP pass
    ];
    for (at, mac) in [(0, SERVER), (6, DIRECTOR)] {
        let [a, b, c, d, e, f] = mac;
        program.push(op(0x62, 2, 0, at, i32::from_ne_bytes([a, b, c, d])));
        program.push(op(
            0x6a,
            2,
            0,
            at + 4,
            i32::from(u16::from_ne_bytes([e, f])),
        ));
    }
    program.extend([op(0xb7, 0, 0, 0, 3), op(0x95, 0, 0, 0, 0)]); // XDP_TX
    program.extend(XDP_PASS);
    program
}

fn build(complete_checksums: bool) -> Option<Lab> {
    if let Some(reason) = lab::why_not() {
        eprintln!("skipped: {reason}");
        return None;
    }
    let wire_port = WirePort { complete_checksums };
    let options = Options {
        wire_port,
        ..Options::default()
    };
    let lab = Topology::build(Kind::OneLeg, &options).unwrap();
    lab.start_servers(&Program::new(PROGRAM), &[80]).unwrap();
    // The client's neighbour entry, while ARP still goes through.
    lab.client().ping(vip(Family::V4)).unwrap();
    Some(lab)
}

fn service() -> SocketAddr {
    SocketAddr::new(vip(Family::V4), 80)
}

fn is_hidden(ladder: &Ladder, connection: &Conversation) -> bool {
    let gaps = &connection.packets[0].gaps;
    let at_director = |gap: &Gap| match gap {
        Gap::Hidden(at) => {
            let point = &ladder.points[*at];
            point.to_string() == "director/eth0" && point.xdp.is_some_and(|xdp| xdp.native)
        }
        Gap::Missing(_) => false,
    };
    gaps.len() == 1 && at_director(&gaps[0].1)
}

#[test]
fn native_xdp_works_behind_a_wire_port() {
    let Some(lab) = build(true) else { return };
    let _attached = lab
        .attach(Role::Director, "eth0", Hook::Xdp, &direct_routing())
        .unwrap();
    let recorder = Recorder::start(&lab).unwrap();
    let name = lab.client().name(service());
    let ladder = join(lab.topology(), &recorder.stop().unwrap());
    let connection = ladder.to(service()).unwrap();
    let text = ladder.text(connection, Style::default());
    assert_eq!(name.ok().as_deref(), Some("rs1"), "{text}");
    assert_eq!(connection.server.as_deref(), Some("rs1"));
    assert!(
        is_hidden(&ladder, connection),
        "{:?}",
        connection.packets[0].gaps
    );
    // The ports around the director show what it did.
    let syn = &connection.packets[0];
    assert!(syn.delivered);
    let changed = syn
        .hops
        .iter()
        .find(|hop| hop.changes.join(";").contains("MAC"))
        .unwrap();
    assert_eq!(ladder.points[changed.point].to_string(), "switch/director0");
    let client = lab.client().limit(Duration::from_secs(60));
    client.echo(service(), 10_000_000).unwrap();
}

#[test]
fn native_xdp_breaks_checksums_that_the_sender_left_open() {
    let Some(lab) = build(false) else { return };
    let _attached = lab
        .attach(Role::Director, "eth0", Hook::Xdp, &direct_routing())
        .unwrap();
    // Without any program at the far end the frames would be lost there.
    let _far_end = lab
        .attach(Role::Switch, "director0", Hook::Xdp, &XDP_PASS)
        .unwrap();
    let recorder = Recorder::start(&lab).unwrap();
    assert!(
        lab.client()
            .limit(Duration::from_secs(1))
            .name(service())
            .is_err()
    );
    let ladder = join(lab.topology(), &recorder.stop().unwrap());
    let connection = ladder.to(service()).unwrap();
    let last = connection.packets[0].hops.last().unwrap();
    assert_eq!(ladder.points[last.point].to_string(), "rs1/eth0");
    assert_eq!(last.checksum, Checksum::Wrong);
    assert!(
        connection.packets.iter().all(|packet| packet.forward),
        "rs1 answered"
    );
    let text = ladder.text(connection, Style::default());
    assert!(text.contains("CHECKSUM WRONG from here on"), "{text}");
}

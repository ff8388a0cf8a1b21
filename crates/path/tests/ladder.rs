//! Frames of many hosts become packets on their way, whatever order and clocks they come with.

use std::net::Ipv4Addr;

use pointsman_path::ladder::{Checksum, Gap, Hints, Ladder, Packet, Protocol, Repeat, Style};
use pointsman_path::observation::{Observation, Point, Recording, Way};
use pointsman_wire::{Frame, Mac, build, tcp};
use proptest::prelude::*;

const CLIENT: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 145);
const VIP: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 208);
const DIRECTOR: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 200);
const SERVER: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 202);
const GATEWAY_MAC: Mac = Mac([0x84, 0x78, 0xac, 0x27, 0x6c, 0x41]);
const DIRECTOR_MAC: Mac = Mac([2, 0, 0, 0, 2, 0]);
const SERVER_MAC: Mac = Mac([2, 0, 0, 0, 0x11, 0]);

/// How the director forwards.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Method {
    Direct,
    Tunnel,
    Masquerade,
}

/// The points of the world: a gateway, a host with the director's port, the director, a real server.
fn points() -> Vec<Point> {
    let point = |node: &str, device: &str, mac: Mac, address: &[Ipv4Addr]| Point {
        mac: Some(mac),
        addresses: address.iter().map(|address| (*address).into()).collect(),
        ..Point::new(node, device)
    };
    let port = |device: &str| Point {
        bridge: Some("br0".to_owned()),
        ..point(
            "host1",
            device,
            Mac([2, 0, 0, 0, 9, device.len() as u8]),
            &[],
        )
    };
    vec![
        point("gw", "lan0", GATEWAY_MAC, &[]),
        port("eth0"),
        port("vnet0"),
        point("dir1", "eth0", DIRECTOR_MAC, &[DIRECTOR, VIP]),
        point("rs2", "eth0", SERVER_MAC, &[SERVER, VIP]),
    ]
}

const GATEWAY: usize = 0;
const HOST_ETH0: usize = 1;
const HOST_VNET0: usize = 2;
const DIR: usize = 3;
const RS: usize = 4;

/// One TCP packet of a connection.
#[derive(Debug, Clone, Copy)]
struct Segment {
    port: u16,
    flags: u8,
    sequence: u32,
    acknowledgement: u32,
    stamp: u32,
    id: u32,
    length: usize,
    forward: bool,
}

impl Segment {
    fn frame(self, source: Ipv4Addr, destination: Ipv4Addr) -> Frame<build::TcpPart> {
        let (from, to) = if self.forward {
            (self.port, 80)
        } else {
            (80, self.port)
        };
        Frame::ipv4(source, destination)
            .id(self.id)
            .tcp(from, to)
            .flags(self.flags)
            .sequence(self.sequence)
            .acknowledgement(self.acknowledgement)
            .timestamps(self.stamp, 0)
            .payload(&vec![self.sequence as u8; self.length])
    }

    /// Where it is seen and how it looks there, in the order of its way.
    fn way(self, method: Method) -> Vec<(usize, Way, Vec<u8>)> {
        let plain = |source, destination, macs: (Mac, Mac), ttl| {
            self.frame(source, destination)
                .macs(macs.0, macs.1)
                .ttl(ttl)
                .build()
        };
        let to_director = (GATEWAY_MAC, DIRECTOR_MAC);
        let to_server = (DIRECTOR_MAC, SERVER_MAC);
        let inward = plain(CLIENT, VIP, to_director, 60);
        let begin = vec![
            (GATEWAY, Way::Out, inward.clone()),
            (HOST_ETH0, Way::OtherHost, inward.clone()),
            (HOST_VNET0, Way::Out, inward.clone()),
            (DIR, Way::In, inward),
        ];
        let onward = |frame: Vec<u8>| {
            vec![
                (DIR, Way::Out, frame.clone()),
                (HOST_VNET0, Way::OtherHost, frame.clone()),
                (HOST_ETH0, Way::Out, frame.clone()),
                (RS, Way::In, frame),
            ]
        };
        match (self.forward, method) {
            (true, Method::Direct) => [begin, onward(plain(CLIENT, VIP, to_server, 60))].concat(),
            (true, Method::Tunnel) => {
                let inner = self.frame(CLIENT, VIP).ttl(60).build_packet();
                let outer = Frame::ipv4(DIRECTOR, SERVER)
                    .macs(to_server.0, to_server.1)
                    .ip_in_ip(&inner)
                    .build();
                [begin, onward(outer)].concat()
            }
            (true, Method::Masquerade) => {
                [begin, onward(plain(CLIENT, SERVER, to_server, 59))].concat()
            }
            (false, Method::Masquerade) => {
                let first = plain(SERVER, CLIENT, (SERVER_MAC, DIRECTOR_MAC), 64);
                let second = plain(VIP, CLIENT, (DIRECTOR_MAC, GATEWAY_MAC), 63);
                vec![
                    (RS, Way::Out, first.clone()),
                    (HOST_ETH0, Way::OtherHost, first.clone()),
                    (HOST_VNET0, Way::Out, first.clone()),
                    (DIR, Way::In, first),
                    (DIR, Way::Out, second.clone()),
                    (HOST_VNET0, Way::OtherHost, second.clone()),
                    (HOST_ETH0, Way::Out, second.clone()),
                    (GATEWAY, Way::In, second),
                ]
            }
            (false, _) => {
                let back = plain(VIP, CLIENT, (SERVER_MAC, GATEWAY_MAC), 64);
                vec![(RS, Way::Out, back.clone()), (GATEWAY, Way::In, back)]
            }
        }
    }
}

/// The packets of one short connection, the SYN sent `syns` times.
fn connection(port: u16, syns: u32) -> Vec<Segment> {
    let start = u32::from(port) * 7919;
    let segment = |at: u32, forward, flags, sequence, acknowledgement, length| Segment {
        port,
        flags,
        sequence,
        acknowledgement,
        stamp: 1000 + at,
        id: if flags == tcp::SYN | tcp::ACK {
            0
        } else {
            100 + at
        },
        length,
        forward,
    };
    let syn = (0..syns).map(|at| segment(at, true, tcp::SYN, start, 0, 0));
    let rest = [
        segment(syns, false, tcp::SYN | tcp::ACK, 5000, start + 1, 0),
        segment(syns + 1, true, tcp::ACK, start + 1, 5001, 0),
        segment(syns + 2, true, tcp::ACK | tcp::PSH, start + 1, 5001, 70),
        segment(syns + 3, false, tcp::ACK | tcp::PSH, 5001, start + 71, 900),
    ];
    syn.chain(rest).collect()
}

/// A recording that grows as time passes.
struct World {
    recording: Recording,
    now_ns: u64,
}

impl World {
    fn new() -> Self {
        Self {
            recording: Recording {
                points: points(),
                observations: Vec::new(),
            },
            now_ns: 1_700_000_000_000_000_000,
        }
    }

    fn see(&mut self, point: usize, way: Way, bytes: Vec<u8>, skew: &[i64], pause: u64) {
        self.now_ns += pause;
        self.recording.observations.push(Observation {
            point,
            way,
            at_ns: self.now_ns.saturating_add_signed(skew[point]),
            length: bytes.len(),
            bytes,
            checksum_pending: false,
            gso: false,
            note: None,
        });
    }
}

fn hints() -> Hints {
    Hints {
        virtual_addresses: vec![VIP.into()],
        servers: vec![SERVER.into()],
        ..Hints::default()
    }
}

fn places(packet: &Packet) -> Vec<(usize, Way)> {
    packet.hops.iter().map(|hop| (hop.point, hop.way)).collect()
}

fn method() -> impl Strategy<Value = Method> {
    prop_oneof![
        Just(Method::Direct),
        Just(Method::Tunnel),
        Just(Method::Masquerade)
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Hosts' clocks are up to a second apart and frames come in any order: packets, hops and their
    /// order are as they were.
    #[test]
    fn ladders_do_not_depend_on_clocks_or_on_the_order_of_frames(
        method in method(),
        skews in prop::collection::vec(-1_000_000_000_i64..1_000_000_000, 4),
        syns in prop::collection::vec(1_u32..4, 1..4),
        pauses in prop::collection::vec(1_000_u64..60_000, 17),
        knows_ways in any::<bool>(),
        seed in any::<u64>(),
    ) {
        // The gateway, the host with its two ports, the director, the real server.
        let skew = [skews[0], skews[1], skews[1], skews[2], skews[3]];
        let mut world = World::new();
        type Sent = (Segment, Vec<(usize, Way)>);
        let mut expected: Vec<Vec<Sent>> = Vec::new();
        for (number, syns) in syns.iter().enumerate() {
            let mut packets = Vec::new();
            for segment in connection(40_000 + number as u16, *syns) {
                let way = segment.way(method);
                packets.push((segment, way.iter().map(|(point, way, _)| (*point, *way)).collect()));
                for (point, way, bytes) in way {
                    let pause = pauses[world.recording.observations.len() % pauses.len()];
                    world.see(point, way, bytes, &skew, pause);
                }
                // A sender waits before it sends again, and a reader before it answers.
                world.now_ns += 2_000_000;
            }
            expected.push(packets);
        }
        // Files do not tell directions; masquerade is seen by all in both directions.
        let blind = method == Method::Masquerade && !knows_ways;
        if blind {
            for seen in &mut world.recording.observations {
                seen.way = Way::Unknown;
            }
            for point in &mut world.recording.points {
                point.mac = None;
                point.bridge = None;
            }
        }
        shuffle(&mut world.recording.observations, seed);
        let ladder = Ladder::new(&world.recording, &hints());
        prop_assert_eq!(ladder.conversations.len(), syns.len());
        for (number, packets) in expected.iter().enumerate() {
            let port = 40_000 + number as u16;
            let found = ladder.conversations.iter().find(|found| found.client.port() == port);
            let found = found.unwrap();
            prop_assert_eq!(found.service, (VIP, 80).into());
            prop_assert_eq!(found.packets.len(), packets.len());
            for (at, (segment, way)) in packets.iter().enumerate() {
                let sent = |packet: &&Packet| {
                    let inner = packet.hops[0].headers.ip().unwrap().innermost();
                    inner.tcp.as_ref().unwrap().timestamps == Some((segment.stamp, 0))
                        && packet.forward == segment.forward
                };
                let packet = found.packets.iter().find(sent).unwrap();
                if blind {
                    let wanted: Vec<usize> = way.iter().map(|(point, _)| *point).collect();
                    let found: Vec<usize> = packet.hops.iter().map(|hop| hop.point).collect();
                    prop_assert_eq!(found, wanted);
                } else {
                    prop_assert_eq!(&places(packet), way);
                }
                let again = segment.flags == tcp::SYN && at > 0;
                prop_assert_eq!(packet.repeat.is_some(), again, "{:?}", packet.repeat);
                if again && !blind {
                    prop_assert!(matches!(packet.repeat, Some(Repeat::Retransmission(_))));
                }
            }
        }
    }

    /// A frame that a capture shows twice is a duplicate of the packet, not another one's hop.
    #[test]
    fn doubled_frames_are_duplicates(method in method(), at in 0_usize..8, seed in any::<u64>()) {
        let mut world = World::new();
        let segments = connection(40_000, 1);
        for segment in &segments {
            for (number, (point, way, bytes)) in segment.way(method).into_iter().enumerate() {
                world.see(point, way, bytes.clone(), &[0; 5], 1000);
                if segment.flags == tcp::SYN && number == at {
                    world.see(point, way, bytes, &[0; 5], 100);
                }
            }
        }
        shuffle(&mut world.recording.observations, seed);
        let ladder = Ladder::new(&world.recording, &hints());
        let [conversation] = &ladder.conversations[..] else {
            panic!("{} conversations", ladder.conversations.len());
        };
        prop_assert_eq!(conversation.packets.len(), segments.len() + 1);
        let doubles = conversation.packets.iter().filter(|packet| packet.repeat.is_some());
        let doubles: Vec<_> = doubles.collect();
        prop_assert_eq!(doubles.len(), 1);
        prop_assert!(matches!(doubles[0].repeat, Some(Repeat::Duplicate(_))), "{:?}", doubles[0]);
    }

    /// Whatever bytes were captured, nothing panics and no frame is invented or lost.
    #[test]
    fn any_bytes_make_a_ladder(
        frames in prop::collection::vec((0_usize..5, prop::collection::vec(any::<u8>(), 0..90)), 0..20),
    ) {
        let mut world = World::new();
        for (point, bytes) in frames {
            world.see(point, Way::Unknown, bytes, &[0; 5], 1);
        }
        let ladder = Ladder::new(&world.recording, &Hints::default());
        let hops: usize = ladder
            .conversations
            .iter()
            .flat_map(|found| &found.packets)
            .map(|packet| packet.hops.len())
            .sum();
        prop_assert_eq!(hops + ladder.unread, world.recording.observations.len());
    }
}

/// Brings a list into an order that a seed decides.
fn shuffle<T>(list: &mut [T], mut seed: u64) {
    for at in (1..list.len()).rev() {
        // Knuth's MMIX generator.
        seed = seed
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        list.swap(at, (seed >> 33) as usize % (at + 1));
    }
}

/// The story of the anti-spoofing rule: forwarded frames reach the director's port and no further.
#[test]
fn a_frame_that_dies_on_a_bridge_is_first_missing_at_the_other_port() {
    let mut world = World::new();
    for segment in &connection(51_643, 3)[..3] {
        for (point, way, bytes) in &segment.way(Method::Direct)[..6] {
            world.see(*point, *way, bytes.clone(), &[0; 5], 1000);
        }
        world.now_ns += 1_000_000_000;
    }
    let ladder = Ladder::new(&world.recording, &hints());
    let [conversation] = &ladder.conversations[..] else {
        panic!("{} conversations", ladder.conversations.len());
    };
    assert_eq!(conversation.server, None);
    for packet in &conversation.packets {
        assert!(!packet.delivered);
        assert_eq!(packet.gaps, [(6, Gap::Missing(HOST_ETH0))]);
    }
    let text = ladder.table(conversation, Style::default());
    let expected = "\
TCP 192.0.2.145:51643 > 198.51.100.208:80, no real server seen, 3 packets

  request  3 seen: [S] x3; 2 retransmitted
  node   dev               source MAC         destination MAC    frames  addresses
  gw     lan0   out        84:78:ac:27:6c:41  02:00:00:00:02:00       3  192.0.2.145:51643 > 198.51.100.208:80
  host1  eth0   in         =                  =                       3  =
  host1  vnet0  out        =                  =                       3  =
  dir1   eth0   in         =                  =                       3  =
  dir1   eth0   out        02:00:00:00:02:00* 02:00:00:00:11:00*      3  =
  host1  vnet0  in         =                  =                       3  =
  host1/eth0  first missing; last seen at host1/vnet0  X
";
    assert_eq!(text, expected);
    // A capture that lost frames proves nothing.
    world.recording.points[HOST_ETH0].lost = 4;
    let ladder = Ladder::new(&world.recording, &hints());
    let text = ladder.table(&ladder.conversations[0], Style::default());
    assert!(text.contains("but the capture there lost frames"), "{text}");
    assert!(
        ladder.remarks()[0].contains("lost 4 frames"),
        "{:?}",
        ladder.remarks()
    );
}

#[test]
fn arp_is_a_conversation_with_all_who_answer() {
    let mut world = World::new();
    let ask = build::arp_request(GATEWAY_MAC, CLIENT, VIP);
    world.see(GATEWAY, Way::Out, ask.clone(), &[0; 5], 1);
    world.see(DIR, Way::In, ask.clone(), &[0; 5], 1);
    world.see(RS, Way::In, ask, &[0; 5], 1);
    for mac in [SERVER_MAC, DIRECTOR_MAC] {
        let answer = build::arp_reply(mac, VIP, GATEWAY_MAC, CLIENT);
        let from = if mac == SERVER_MAC { RS } else { DIR };
        world.see(from, Way::Out, answer.clone(), &[0; 5], 10);
        world.see(GATEWAY, Way::In, answer, &[0; 5], 1);
    }
    let ladder = Ladder::new(&world.recording, &hints());
    let [conversation] = &ladder.conversations[..] else {
        panic!("{} conversations", ladder.conversations.len());
    };
    assert_eq!(conversation.protocol, Protocol::Arp);
    let answers = conversation.packets.iter().filter(|packet| !packet.forward);
    assert_eq!(answers.count(), 2, "{conversation:?}");
    let text = ladder.table(conversation, Style::default());
    assert!(
        text.contains("198.51.100.208 is at 02:00:00:00:11:00"),
        "{text}"
    );
}

#[test]
fn a_routing_loop_is_one_packet_that_comes_by_again_and_again() {
    let mut world = World::new();
    let segment = connection(40_000, 1)[0];
    for ttl in (1..=8).rev() {
        let frame = segment.frame(CLIENT, VIP).ttl(ttl).build();
        world.see(DIR, Way::In, frame.clone(), &[0; 5], 10);
    }
    let ladder = Ladder::new(&world.recording, &hints());
    let packets = &ladder.conversations[0].packets;
    assert_eq!(packets.len(), 1);
    assert_eq!(packets[0].hops.len(), 8);
}

#[test]
fn the_same_question_to_two_servers_is_two_conversations() {
    let mut world = World::new();
    for server in [SERVER, DIRECTOR] {
        let ask = Frame::ipv4(CLIENT, server)
            .id(0)
            .udp(5353, 53)
            .payload(b"who is it");
        let frame = ask.macs(GATEWAY_MAC, SERVER_MAC).build();
        world.see(GATEWAY, Way::Out, frame.clone(), &[0; 5], 10);
        world.see(RS, Way::In, frame, &[0; 5], 10);
    }
    let ladder = Ladder::new(&world.recording, &Hints::default());
    assert_eq!(ladder.conversations.len(), 2);
    for conversation in &ladder.conversations {
        assert_eq!(conversation.packets.len(), 1);
        assert_eq!(conversation.packets[0].hops.len(), 2);
    }
}

#[test]
fn a_short_capture_says_nothing_of_checksums_and_still_joins() {
    let mut world = World::new();
    let segment = connection(40_000, 1)[3];
    for (point, way, mut bytes) in segment.way(Method::Masquerade) {
        if point == HOST_ETH0 {
            bytes.truncate(14 + 20 + 32);
        }
        world.see(point, way, bytes, &[0; 5], 1000);
    }
    for seen in &mut world.recording.observations {
        seen.length = 14 + 20 + 32 + 70;
    }
    let ladder = Ladder::new(&world.recording, &hints());
    assert_eq!(ladder.conversations.len(), 1);
    let [packet] = &ladder.conversations[0].packets[..] else {
        panic!("{} packets", ladder.conversations[0].packets.len());
    };
    assert_eq!(packet.hops.len(), 8);
    assert_eq!(packet.hops[1].checksum, Checksum::Unknown);
    assert_eq!(packet.hops[0].checksum, Checksum::Right);
    assert!(packet.delivered);
}

//! Synchronisation messages against bytes that a kernel sent.

use std::net::IpAddr;

use pointsman_wire::sync::{Batch, Sequence, SyncConnection, SyncFault, decode, sync_flag};
use proptest::prelude::*;

const CLIENT: &str = "192.168.1.10";
const VIP: &str = "192.168.1.100";

fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<u8> = hex.bytes().filter(|b| !b.is_ascii_whitespace()).collect();
    let pair = |pair: &[u8]| u8::from_str_radix(str::from_utf8(pair).unwrap(), 16).unwrap();
    digits.chunks(2).map(pair).collect()
}

fn connection(flags: u32, state: u16, ports: [u16; 3], timeout: u32) -> SyncConnection {
    let address = |text: &str| text.parse::<IpAddr>().unwrap();
    SyncConnection {
        protocol: 6,
        flags,
        state,
        client: address(CLIENT),
        client_port: ports[0],
        address: address(VIP),
        port: ports[1],
        server: address("10.1.0.11"),
        server_port: ports[2],
        mark: 0,
        timeout,
        sequences: None,
        engine: Vec::new(),
        engine_data: Vec::new(),
    }
}

/// What a kernel of sync id 42 says in one message, and the same in bytes.
fn golden() -> Vec<(&'static str, Vec<SyncConnection>, Vec<u8>)> {
    const ADDRESSES: &str = "c0a8010a c0a80164 0a01000b";
    let one = |size: u16, entry: &str| bytes(&format!("002a{size:04x} 01010000 {entry}"));
    let established = connection(0x83, 1, [40001, 80, 80], 900);
    let closing = connection(0x183, 4, [40001, 80, 80], 120);
    let translated = connection(0, 1, [40002, 80, 8080], 900);
    let datagram = SyncConnection {
        protocol: 17,
        ..connection(0x100, 0, [40004, 53, 53], 300)
    };
    let template = connection(0x1100, 0, [0, 80, 80], 77);
    let by_mark = SyncConnection {
        protocol: 0,
        mark: 9,
        address: "0.0.0.9".parse().unwrap(),
        server: "10.1.0.12".parse().unwrap(),
        ..connection(0x1183, 0, [0, 0, 0], 60)
    };
    let child = SyncConnection {
        mark: 9,
        ..connection(0x83, 1, [40005, 8443, 8443], 900)
    };
    let v6 = |text: &str| text.parse::<IpAddr>().unwrap();
    let six = SyncConnection {
        client: v6("fd00::10"),
        address: v6("fd00::100"),
        server: v6("fd01::12"),
        ..connection(0x83, 1, [40006, 80, 80], 900)
    };
    let call = SyncConnection {
        protocol: 17,
        engine: b"sip".to_vec(),
        engine_data: b"abc123@host.example".to_vec(),
        ..connection(0x1100, 0, [0, 5060, 5060], 60)
    };
    let entry = |head: &str| format!("{head} {ADDRESSES}");
    let plain = "00060024 00000083 0001 9c41 0050 0050 00000000 00000384";
    let first = entry(plain);
    let name = "abc123@host.example".bytes().map(|b| format!("{b:02x}"));
    let sip = format!(
        "0011003e 00001100 0000 0000 13c4 13c4 00000000 0000003c {ADDRESSES} 0213 {} 0303 736970",
        name.collect::<String>()
    );
    vec![
        (
            "direct routing",
            vec![established.clone()],
            one(0x2c, &first),
        ),
        (
            "closing",
            vec![closing],
            one(
                0x2c,
                &entry("00060024 00000183 0004 9c41 0050 0050 00000000 00000078"),
            ),
        ),
        (
            "masquerade",
            vec![translated],
            one(
                0x2c,
                &entry("00060024 00000000 0001 9c42 0050 1f90 00000000 00000384"),
            ),
        ),
        (
            "UDP",
            vec![datagram],
            one(
                0x2c,
                &entry("00110024 00000100 0000 9c44 0035 0035 00000000 0000012c"),
            ),
        ),
        (
            "a template",
            vec![template],
            one(
                0x2c,
                &entry("00060024 00001100 0000 0000 0050 0050 00000000 0000004d"),
            ),
        ),
        (
            "a template of a mark",
            vec![by_mark],
            one(
                0x2c,
                "00000024 00001183 0000 0000 0000 0000 00000009 0000003c c0a8010a 00000009 0a01000c",
            ),
        ),
        (
            "its child",
            vec![child],
            one(
                0x2c,
                &entry("00060024 00000083 0001 9c45 20fb 20fb 00000009 00000384"),
            ),
        ),
        (
            "IPv6",
            vec![six],
            one(
                0x50,
                "01060048 00000083 0001 9c46 0050 0050 00000000 00000384 \
                 fd000000000000000000000000000010 fd000000000000000000000000000100 \
                 fd010000000000000000000000000012",
            ),
        ),
        ("SIP", vec![call.clone()], one(0x46, &sip)),
        (
            "two",
            vec![established.clone(), established.clone()],
            bytes(&format!("002a0050 02010000 {first} {first}")),
        ),
        (
            "padding stands between entries only",
            vec![call, established],
            bytes(&format!("002a006c 02010000 {sip} 0000 {first}")),
        ),
    ]
}

#[test]
fn messages_read_and_write_as_the_kernel_has_them() {
    for (name, connections, bytes) in golden() {
        let decoded = decode(&bytes).unwrap();
        assert_eq!(decoded.connections, connections, "{name}");
        let told = (
            decoded.sync_id,
            decoded.version,
            decoded.skipped,
            decoded.fault,
        );
        assert_eq!(told, (42, 1, 0, None), "{name}");
        let mut batch = Batch::new(42, 1472);
        assert!(batch.is_empty());
        for connection in &connections {
            assert!(batch.push(connection), "{name}");
        }
        assert_eq!(batch.finish(), bytes, "{name}");
    }
}

#[test]
fn version_0_is_read() {
    let old = bytes(
        "022a0034 0006 9c4a 0050 0050 c0a8010a c0a80164 0a01000b 0083 0001 \
         0006 0000 0050 0050 c0a8010a c0a80164 0a01000b 1100 0001",
    );
    let decoded = decode(&old).unwrap();
    assert_eq!(
        (decoded.sync_id, decoded.version, decoded.fault),
        (42, 0, None)
    );
    let expected = [
        connection(0x83, 1, [40010, 80, 80], 0),
        connection(0x1100, 1, [0, 80, 80], 0),
    ];
    assert_eq!(decoded.connections, expected);
    let mut sequenced = [&[1, 7, 0, 52][..], &[0; 48]].concat();
    sequenced[24..26].copy_from_slice(&0x0400_u16.to_be_bytes());
    sequenced[28..32].copy_from_slice(&5_u32.to_ne_bytes());
    let decoded = decode(&sequenced).unwrap();
    assert_eq!(decoded.connections[0].sequences.unwrap()[0].initial, 5);
    let cut = [&[1, 7, 0, 51][..], &sequenced[4..51]].concat();
    assert_eq!(decode(&cut).unwrap().fault, Some(SyncFault::Entry(0)));
}

#[test]
fn what_does_not_fit_is_left_for_the_next_message() {
    let one = connection(0x83, 1, [40001, 80, 80], 900);
    let mut batch = Batch::new(1, 8 + 36 + 35);
    assert!(batch.push(&one));
    assert!(!batch.push(&one), "one byte short");
    let mut batch = Batch::new(1, 65_507);
    for _ in 0..255 {
        assert!(batch.push(&one));
    }
    assert!(!batch.push(&one), "the number of entries is a byte");
    assert_eq!(decode(&batch.finish()).unwrap().connections.len(), 255);
    let mixed = SyncConnection {
        server: "fd00::1".parse().unwrap(),
        ..one
    };
    assert!(!Batch::new(1, 1472).push(&mixed), "families don't mix");
}

#[test]
fn faults_end_the_message_and_leave_what_came_before() {
    let good = golden().remove(9).2;
    let faulty = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = good.clone();
        change(&mut bytes);
        decode(&bytes).map(|decoded| (decoded.connections.len(), decoded.fault))
    };
    assert_eq!(faulty(&|b| b.truncate(3)), Err(SyncFault::Short));
    assert_eq!(faulty(&|b| b.truncate(79)), Err(SyncFault::Size));
    assert_eq!(faulty(&|b| b[5] = 2), Err(SyncFault::Version));
    assert_eq!(faulty(&|b| b[7] = 1), Err(SyncFault::Version));
    assert_eq!(faulty(&|b| b[3] = 5), Err(SyncFault::Short));
    assert_eq!(faulty(&|b| b[44] = 2), Ok((1, Some(SyncFault::Type(1)))));
    assert_eq!(faulty(&|b| b[46] = 0x10), Ok((1, Some(SyncFault::Type(1)))));
    assert_eq!(faulty(&|b| b[47] = 35), Ok((1, Some(SyncFault::Entry(1)))));
    assert_eq!(faulty(&|b| b[47] = 3), Ok((1, Some(SyncFault::Entry(1)))));
    assert_eq!(faulty(&|b| b[47] = 37), Ok((1, Some(SyncFault::Entry(1)))));
    assert_eq!(faulty(&|b| b[4] = 3), Ok((2, Some(SyncFault::Entry(2)))));
    assert_eq!(faulty(&|b| b[4] = 1), Ok((1, None)), "the rest is nobody's");
}

#[test]
fn unknown_options_cost_the_entry_or_nothing() {
    let with = |option: &[u8]| {
        let mut bytes = golden().remove(0).2;
        bytes.extend_from_slice(option);
        let (size, entry) = (bytes.len() as u16, (bytes.len() - 8) as u16);
        bytes[2..4].copy_from_slice(&size.to_be_bytes());
        bytes[10..12].copy_from_slice(&entry.to_be_bytes());
        let decoded = decode(&bytes).unwrap();
        (decoded.connections.len(), decoded.skipped, decoded.fault)
    };
    assert_eq!(with(&[9, 1, 0]), (0, 1, None));
    assert_eq!(with(&[0x49, 1, 0]), (1, 0, None));
    let fault = Some(SyncFault::Option(0));
    assert_eq!(with(&[9]), (0, 0, fault));
    assert_eq!(with(&[9, 0]), (0, 0, fault));
    assert_eq!(with(&[9, 2, 0]), (0, 0, fault));
    assert_eq!(with(&[1, 1, 0]), (0, 0, fault));
    assert_eq!(with(&[3, 1, b'x', 3, 1, b'x']), (0, 0, fault), "twice");
    assert_eq!(
        with(&[[3, 17].as_slice(), &[b'x'; 17]].concat()),
        (0, 0, fault)
    );
}

fn any_connection() -> impl Strategy<Value = SyncConnection> {
    let addresses = prop_oneof![
        any::<[[u8; 4]; 3]>().prop_map(|a| a.map(IpAddr::from)),
        any::<[[u8; 16]; 3]>().prop_map(|a| a.map(IpAddr::from)),
    ];
    let numbers = (any::<u8>(), any::<u32>(), any::<u16>(), any::<[u16; 3]>());
    let sequences = prop::option::of(any::<[[u32; 3]; 2]>());
    let engine = prop::collection::vec(any::<u8>(), 0..=16);
    let data = prop::collection::vec(any::<u8>(), 0..=255);
    let words = any::<[u32; 2]>();
    (numbers, addresses, words, sequences, engine, data).prop_map(
        |(numbers, [client, address, server], [mark, timeout], sequences, engine, engine_data)| {
            let (protocol, flags, state, [client_port, port, server_port]) = numbers;
            let sequence = |[initial, delta, previous_delta]: [u32; 3]| Sequence {
                initial,
                delta,
                previous_delta,
            };
            SyncConnection {
                protocol,
                flags: flags & sync_flag::TAKEN,
                state,
                client,
                client_port,
                address,
                port,
                server,
                server_port,
                mark,
                timeout,
                sequences: sequences.map(|both| both.map(sequence)),
                engine,
                engine_data,
            }
        },
    )
}

proptest! {
    #[test]
    fn any_bytes_read_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = decode(&bytes);
    }

    #[test]
    fn a_damaged_message_reads_without_a_panic(
        which in 0..11_usize, at in any::<prop::sample::Index>(), byte in any::<u8>()
    ) {
        let mut bytes = golden().remove(which).2;
        let at = at.index(bytes.len());
        bytes[at] = byte;
        let _ = decode(&bytes);
    }

    #[test]
    fn what_is_written_is_read(all in prop::collection::vec(any_connection(), 1..5)) {
        let mut batch = Batch::new(3, 60_000);
        for one in &all {
            prop_assert!(batch.push(one));
        }
        let decoded = decode(&batch.finish()).unwrap();
        prop_assert_eq!(decoded.connections, all);
        prop_assert_eq!((decoded.sync_id, decoded.fault), (3, None));
    }
}

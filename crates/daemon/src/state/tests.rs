use pointsman_director::{
    control::{ServerAccount, ServiceAccount},
    model::{
        ForwardingMethod, MarkAction, MarkRule, Persistence, Protocol, SchedulerFlags, ServiceId,
        StatsView, TunnelType,
    },
    setting::Setting,
};
use proptest::prelude::*;

use super::*;

fn id(port: u16) -> ServiceId {
    ServiceId::Address {
        protocol: Protocol::Tcp,
        address: "10.0.0.1".parse().unwrap(),
        port,
    }
}

fn service(port: u16, servers: u16) -> SavedService {
    let server = |number| RealServer {
        address: "fd00::1".parse().unwrap(),
        port: number,
        method: ForwardingMethod::Tunnel,
        weight: i32::from(number),
        upper: 9,
        lower: 1,
        tunnel: TunnelType::Ipip,
    };
    SavedService {
        service: VirtualService {
            id: id(port),
            scheduler: "rr".to_owned(),
            flags: SchedulerFlags::default(),
            persistence: Some(Persistence {
                timeout: 300,
                prefix: 24,
                netmask: 0xffff_ff00,
            }),
            one_packet: true,
            engine: None,
        },
        servers: (0..servers).map(server).collect(),
    }
}

fn state() -> SavedState {
    let counted = StatsView {
        connections: 3,
        in_bytes: u64::MAX,
        ..StatsView::default()
    };
    SavedState {
        timeouts: Some(TimeoutsView {
            tcp: 900,
            tcp_fin: 120,
            udp: 7,
        }),
        settings: Given::from([(Setting::SloppyTcp, 1), (Setting::Amemthresh, 12)]),
        mark_rules: vec![MarkRule {
            interface: Some("eth0".to_owned()),
            ..MarkRule::every(MarkAction::Set { value: 1, mask: 3 })
        }],
        services: vec![service(80, 3), service(81, 0)],
        sync: vec![Request {
            role: crate::sync::Role::Backup,
            interface: "eth1".to_owned(),
            sync_id: 42,
            max_length: None,
            group: Some("224.0.0.82".parse().unwrap()),
            port: None,
            ttl: Some(3),
        }],
        plane: Some(PlaneId {
            boot: "8d0e8a4e-6f3c-4b52-9d0b-2f9c9a5b7e11".to_owned(),
            map: 7,
        }),
        ledger: Ledger {
            services: vec![ServiceAccount {
                id: id(80),
                index: 0,
                past: counted,
            }],
            servers: vec![ServerAccount {
                index: 1,
                sequence: 2,
                zero: counted,
                alone: true,
            }],
        },
    }
}

/// A file around any contents, as if Pointsman had written them.
fn around(body: &str) -> String {
    head(&checksum(body.as_bytes())) + body + TAIL
}

#[test]
fn what_is_written_is_read() {
    for state in [state(), SavedState::default()] {
        let bytes = state.encode();
        assert_eq!(SavedState::decode(&bytes), Ok(state));
    }
    // A daemon that knows more goes by what it does not find.
    assert_eq!(
        SavedState::decode(around("{}").as_bytes()),
        Ok(SavedState::default())
    );
}

#[test]
fn it_is_json_that_programs_can_read() {
    let value: serde_json::Value = serde_json::from_slice(&state().encode()).unwrap();
    assert_eq!(value["version"], 1);
    assert_eq!(value["state"]["services"][0]["servers"][2]["port"], 2);
    assert_eq!(value["state"]["settings"]["sloppy_tcp"], 1);
}

#[test]
fn what_was_saved_becomes_changes_oldest_server_first() {
    let changes: Vec<Change> = state().changes().collect();
    assert_eq!(changes.len(), 1 + 1 + 1 + 3 + 1);
    assert!(matches!(changes[0], Change::SetTimeouts { udp: 7, .. }));
    assert!(matches!(&changes[1], Change::SetMarkRules { rules } if rules.len() == 1));
    assert!(matches!(&changes[3], Change::AddServer { server, .. } if server.port == 0));
    assert!(matches!(&changes[6], Change::AddService { service } if service.id == id(81)));
}

#[test]
fn every_truncation_and_every_flipped_bit_is_detected() {
    let bytes = state().encode();
    for length in 0..bytes.len() {
        assert!(
            SavedState::decode(&bytes[..length]).is_err(),
            "cut to {length} bytes"
        );
    }
    for at in 0..bytes.len() {
        for bit in 0..8 {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1 << bit;
            assert!(
                SavedState::decode(&damaged).is_err(),
                "bit {bit} of byte {at}"
            );
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(500) })]

    /// Blocks of a disk that were lost, repeated or exchanged; bytes of somebody else.
    #[test]
    fn other_damage_is_detected(
        from in any::<prop::sample::Index>(),
        to in any::<prop::sample::Index>(),
        length in 1..64_usize,
        foreign in prop::collection::vec(any::<u8>(), 0..32),
        kind in 0..4,
    ) {
        let bytes = state().encode();
        let (from, to) = (from.index(bytes.len()), to.index(bytes.len()));
        let end = (from + length).min(bytes.len());
        let mut damaged = bytes.clone();
        match kind {
            0 => damaged[from..end].fill(0),
            1 => drop(damaged.drain(from..end)),
            2 => drop(damaged.splice(to..to, bytes[from..end].iter().copied())),
            _ => drop(damaged.splice(from..end, foreign)),
        }
        prop_assume!(damaged != bytes);
        prop_assert!(SavedState::decode(&damaged).is_err());
    }
}

#[test]
fn what_is_wrong_is_said() {
    let whole = String::from_utf8(state().encode()).unwrap();
    let without_end = &whole[..whole.len() - 40];
    let body = |body: &str| around(body);
    for (text, words) in [
        (String::new(), "it is empty"),
        (without_end.to_owned(), "EOF while parsing"),
        ("{\"a\": 1}\n".to_owned(), "missing field `format`"),
        (
            whole.replace("pointsman-state", "apples"),
            "its format is \"apples\"",
        ),
        (
            whole.replace("\"version\": 1", "\"version\": 2"),
            "it is of version 2; this Pointsman reads version 1",
        ),
        (whole.replace("900", "901"), "its checksum is"),
        (
            whole.replace(",\n\"crc32\"", ", \"crc32\""),
            "line 3 is not",
        ),
        (format!("{whole}\n"), "line 18 is not"),
        (
            body("{\n\"marks\": 1}"),
            "unknown field `marks`, expected one of",
        ),
        (body("{\n\"marks\": 1}"), "at line 6 column 7"),
        (
            body("{\"settings\": {\"drop_entry\": 7}}"),
            "settings: drop_entry is a number from 0 to 3",
        ),
        (body("{\"settings\": {\"fly\": 7}}"), "no setting \"fly\""),
        (
            body("{\"timeouts\": {\"tcp\": 0, \"tcp_fin\": 1, \"udp\": 1}}"),
            "timeouts: tcp is 0",
        ),
        (
            body("{\"timeouts\": {\"tcp\": 1, \"tcp_fin\": 1, \"udp\": 1, \"sctp\": 1}}"),
            "unknown field timeouts.?.sctp",
        ),
    ] {
        let damage = SavedState::decode(text.as_bytes()).unwrap_err().to_string();
        assert!(damage.contains(words), "{damage:?} should say {words:?}");
    }
    assert_eq!(
        SavedState::decode(b"{\n\xff"),
        Err(Damage::Text(2)),
        "no text at all"
    );
}

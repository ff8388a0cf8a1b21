//! The text, read by a strict reader.

mod exposition;

use std::time::Duration;

use pointsman_director::{Reason, model::ForwardingMethod, record::ServerStats};

use super::*;
use crate::health::{HealthStatus, ServerHealth};

fn server(number: u8) -> ServerCensus {
    ServerCensus {
        address: [10, 1, 0, number].into(),
        port: 80,
        method: ForwardingMethod::Tunnel,
        weight: 3,
        stats: ServerStats {
            connections: 1,
            in_packets: 2,
            in_bytes: 3,
            out_packets: 4,
            out_bytes: 5,
        },
        active: 6,
        inactive: 7,
        persistent: 8,
        overloaded: number == 2,
        reachable: true,
    }
}

fn service(id: ServiceId, servers: Vec<ServerCensus>) -> ServiceCensus {
    ServiceCensus {
        id,
        scheduler: "wlc".to_owned(),
        stats: ServerStats {
            connections: 10,
            in_packets: 20,
            in_bytes: u64::from(u32::MAX) * 1000,
            out_packets: 40,
            out_bytes: 50,
        },
        servers,
    }
}

fn metrics() -> Metrics {
    let id = |address: &str| ServiceId::Address {
        protocol: Protocol::Tcp,
        address: address.parse().expect("an address"),
        port: 80,
    };
    let mark = ServiceId::Mark {
        mark: 7,
        ipv6: true,
    };
    Metrics {
        version: "1.2.3",
        started: SystemTime::UNIX_EPOCH + Duration::from_millis(1500),
        interfaces: vec![InterfaceStatus {
            name: "eth\"0\\".to_owned(),
            ifindex: 2,
            hook: "tcx".to_owned(),
            why: "because".to_owned(),
        }],
        census: Census {
            services: vec![
                service(id("10.0.0.1"), vec![server(1), server(2)]),
                service(id("fd00::1"), Vec::new()),
                service(mark, Vec::new()),
            ],
            connections: 26,
            verdicts: Reason::ALL.iter().map(|reason| (*reason, 9)).collect(),
        },
        connection_room: 1024,
        sweeps: Entry {
            rounds: 3,
            done: 4,
            last: Some(SystemTime::UNIX_EPOCH + Duration::from_secs(2)),
            took: Duration::from_millis(5),
        },
        estimates: Entry::default(),
        estimating: true,
        answers: AnswerCounts::default(),
        routers: vec![RouterStatus {
            name: "VI_1".to_owned(),
            interface: "eth0".to_owned(),
            vrid: 51,
            state: "MASTER".to_owned(),
            priority: 150,
            master: None,
            addresses: Vec::new(),
            interval_ms: 1000,
            received: 1,
            sent: 2,
            became_master: 3,
            released_master: 2,
            zero_received: 0,
            zero_sent: 0,
            pauses: 0,
            rejected: [("password".to_owned(), 7)].into(),
            believed: None,
            rival: Some([10, 0, 0, 2].into()),
        }],
        health: vec![HealthStatus {
            service: "[10.0.0.1]:tcp:80".to_owned(),
            quorum: true,
            sorry: false,
            servers: vec![ServerHealth {
                server: "[10.1.0.1]:tcp:80".to_owned(),
                up: false,
                checks: Vec::new(),
            }],
        }],
        sync: vec![SyncStatus {
            role: crate::sync::Role::Backup,
            interface: "eth1".to_owned(),
            sync_id: 42,
            max_length: 1472,
            group: "224.0.0.81".parse().expect("a group"),
            port: 8848,
            ttl: 1,
            counts: crate::sync::SyncCounts {
                messages: 7,
                ..Default::default()
            },
        }],
        bfd: sessions(),
    }
}

fn sessions() -> BfdStatus {
    let session = crate::bfd::SessionStatus {
        name: "A \"quoted\"".to_owned(),
        neighbor: [10, 0, 0, 2].into(),
        state: "Up".to_owned(),
        remote_state: Some("Up".to_owned()),
        diagnostic: "No Diagnostic".to_owned(),
        interval_us: 50_000,
        detection_us: 150_000,
        received: 7,
        sent: 8,
        ups: 2,
        downs: 1,
        pauses: 3,
        rejected: [("hop-limit".to_owned(), 4)].into(),
    };
    BfdStatus {
        sessions: vec![session],
        rejected: [("cut".to_owned(), 5)].into(),
    }
}

fn text(metrics: &Metrics) -> String {
    let mut out = Vec::new();
    write(&mut out, metrics).expect("memory takes all");
    String::from_utf8(out).expect("text")
}

#[test]
fn every_metric_is_well_formed_and_has_its_value() {
    let read = exposition::read(&text(&metrics()));
    let value = |name: &str, labels: &str| {
        let metric = read.get(name).unwrap_or_else(|| panic!("no {name}"));
        *metric
            .values
            .get(labels)
            .unwrap_or_else(|| panic!("{name}: {metric:?}"))
    };
    let web = r#"protocol="tcp",address="10.0.0.1",port="80""#;
    let one = format!(r#"{web},server="10.1.0.1",server_port="80""#);
    let two = format!(r#"{web},server="10.1.0.2",server_port="80""#);
    let session = r#"session="A \"quoted\"",neighbor="10.0.0.2""#;
    let strange = format!(r#"{session},reason="hop-limit""#);
    for (name, labels, expected) in [
        ("pointsman_build_info", r#"version="1.2.3""#, 1.0),
        ("pointsman_start_time_seconds", "", 1.5),
        (
            "pointsman_interface_info",
            r#"interface="eth\"0\\",hook="tcx""#,
            1.0,
        ),
        (
            "pointsman_verdicts_total",
            r#"action="drop",reason="table-full""#,
            9.0,
        ),
        ("pointsman_bfd_up", session, 1.0),
        ("pointsman_bfd_detection_seconds", session, 0.15),
        ("pointsman_bfd_downs_total", session, 1.0),
        ("pointsman_bfd_rejected_packets_total", &strange, 4.0),
        (
            "pointsman_bfd_rejected_packets_total",
            r#"reason="cut""#,
            5.0,
        ),
        ("pointsman_connections", "", 26.0),
        ("pointsman_connection_room", "", 1024.0),
        ("pointsman_services", "", 3.0),
        ("pointsman_servers", "", 2.0),
        ("pointsman_sweeps_total", "", 3.0),
        ("pointsman_swept_connections_total", "", 4.0),
        ("pointsman_sweep_last_timestamp_seconds", "", 2.0),
        ("pointsman_sweep_duration_seconds", "", 0.005),
        ("pointsman_estimating", "", 1.0),
        ("pointsman_sync_messages_total", r#"outcome="heard""#, 7.0),
        ("pointsman_sync_messages_total", r#"outcome="sent""#, 0.0),
        ("pointsman_estimate_last_timestamp_seconds", "", 0.0),
        ("pointsman_service_connections_total", web, 10.0),
        ("pointsman_service_in_bytes_total", web, 4_294_967_295_000.0),
        (
            "pointsman_service_in_packets_total",
            r#"protocol="tcp",address="fd00::1",port="80""#,
            20.0,
        ),
        (
            "pointsman_service_out_packets_total",
            r#"mark="7",family="ipv6""#,
            40.0,
        ),
        ("pointsman_service_active_connections", web, 12.0),
        ("pointsman_service_servers", web, 2.0),
        ("pointsman_service_ready_servers", web, 1.0),
        ("pointsman_server_out_bytes_total", &one, 5.0),
        ("pointsman_server_inactive_connections", &one, 7.0),
        ("pointsman_server_persistent_connections", &one, 8.0),
        ("pointsman_server_weight", &one, 3.0),
        ("pointsman_server_overloaded", &one, 0.0),
        ("pointsman_server_overloaded", &two, 1.0),
        ("pointsman_server_next_hop_known", &two, 1.0),
    ] {
        assert_eq!(value(name, labels), expected, "{name}{{{labels}}}");
    }
    let router = r#"instance="VI_1",interface="eth0",vrid="51""#;
    for (name, expected) in [
        ("pointsman_vrrp_master", 1.0),
        ("pointsman_vrrp_priority", 150.0),
        ("pointsman_vrrp_became_master_total", 3.0),
        ("pointsman_vrrp_contested", 1.0),
    ] {
        assert_eq!(value(name, router), expected, "{name}");
    }
    let service = r#"service="[10.0.0.1]:tcp:80""#;
    let server = format!(r#"{service},server="[10.1.0.1]:tcp:80""#);
    assert_eq!(value("pointsman_checked_quorum", service), 1.0);
    assert_eq!(value("pointsman_checked_server_up", &server), 0.0);
    let rejected = format!(r#"{router},reason="password""#);
    let name = "pointsman_vrrp_rejected_adverts_total";
    assert_eq!(value(name, &rejected), 7.0);
    let info = format!(r#"{one},method="tunnel""#);
    assert_eq!(value("pointsman_server_info", &info), 1.0);
    let info = format!(r#"{web},scheduler="wlc""#);
    assert_eq!(value("pointsman_service_info", &info), 1.0);
}

#[test]
fn a_director_without_services_is_well_formed() {
    let mut empty = metrics();
    empty.census.services.clear();
    empty.routers.clear();
    empty.health.clear();
    let read = exposition::read(&text(&empty));
    assert!(read["pointsman_server_weight"].values.is_empty());
    assert_eq!(read["pointsman_services"].values[""], 0.0);
    assert!(!read.contains_key("pointsman_vrrp_master"));
}

#[test]
fn every_metric_is_documented_with_its_kind() {
    let document = include_str!("../../METRICS.md");
    let documented: Vec<(&str, &str)> = document
        .lines()
        .filter_map(|line| line.strip_prefix("| `pointsman_"))
        .map(|row| {
            let (name, rest) = row.split_once("` | ").expect(row);
            (name, rest.split_once(" | ").expect(row).0)
        })
        .collect();
    let read = exposition::read(&text(&metrics()));
    let written: Vec<(&str, &str)> = read
        .iter()
        .map(|(name, samples)| {
            let name = name.strip_prefix("pointsman_").expect("the prefix");
            (name, samples.kind.as_str())
        })
        .collect();
    let mut sorted = documented.clone();
    sorted.sort_unstable();
    assert_eq!(sorted, written, "METRICS.md names each, and no other");
}

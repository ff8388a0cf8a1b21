//! The API in front of a data plane in memory, spoken to by the client that programs use.

mod memory;

use std::{
    io::{Read, Write},
    os::unix::net::UnixStream,
    path::PathBuf,
    sync::{Arc, Mutex},
    time::Instant,
};

use pointsman_director::{
    control::{Capacity, Director, address_words},
    model::{
        Change, ControlError, ForwardingMethod, Protocol, RealServer, ServiceId, TunnelType,
        VirtualService,
    },
    record::{ConnectionRecord, FlowKey, Settings, settings_flag},
    setting::Setting,
    tcp::state,
};
use tokio::net::UnixListener;

use super::{Facts, Shell, router};
use crate::{
    balancer::Balancer,
    client::Client,
    settings::{Given, RunningSettings},
};
use memory::Memory;

struct Server {
    shell: Arc<Shell<Memory>>,
    path: PathBuf,
    _directory: tempfile::TempDir,
    _runtime: tokio::runtime::Runtime,
}

impl Server {
    fn start(plane: Memory) -> Self {
        let capacity = Capacity {
            services: 1000,
            servers: 200_000,
            slot_lines: 1 << 20,
            table_lines: 1 << 16,
        };
        let director = Director::new(capacity, Settings::DEFAULT);
        let shell = Arc::new(Shell {
            balancer: Balancer::new(director, RunningSettings::default(), plane),
            facts: Facts {
                started: Instant::now(),
                origin: "fresh",
                pin_dir: "/sys/fs/bpf/test".to_owned(),
                interfaces: Vec::new(),
                connection_room: 1024,
            },
            answers: Mutex::default(),
            rounds: Default::default(),
            state: Mutex::default(),
            routers: Default::default(),
            wards: Default::default(),
            sync: Default::default(),
            sessions: Default::default(),
        });
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("api.sock");
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let listener = {
            let _inside = runtime.enter();
            UnixListener::bind(&path).unwrap()
        };
        let routes = router(Arc::clone(&shell));
        runtime.spawn(async { axum::serve(listener, routes).await.unwrap() });
        Self {
            shell,
            path,
            _directory: directory,
            _runtime: runtime,
        }
    }

    fn client(&self) -> Client {
        Client::connect(&self.path).unwrap()
    }

    /// Sends bytes and reads status and body until the server closes.
    fn raw(&self, request: &str) -> (u16, String) {
        let mut stream = UnixStream::connect(&self.path).unwrap();
        stream
            .set_read_timeout(Some(std::time::Duration::from_secs(20)))
            .unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let status = answer.split(' ').nth(1).unwrap().parse().unwrap();
        let body = answer.split_once("\r\n\r\n").unwrap().1.to_owned();
        (status, body)
    }

    fn post(&self, path: &str, body: &str) -> (u16, String) {
        let length = body.len();
        self.raw(&format!(
            "POST {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}"
        ))
    }
}

fn id(port: u16) -> ServiceId {
    ServiceId::Address {
        protocol: Protocol::Tcp,
        address: "10.0.0.1".parse().unwrap(),
        port,
    }
}

fn add_service(port: u16) -> Change {
    Change::AddService {
        service: VirtualService {
            id: id(port),
            scheduler: "rr".to_owned(),
            flags: Default::default(),
            persistence: None,
            one_packet: false,
            engine: None,
        },
    }
}

fn add_server(port: u16, number: u32) -> Change {
    Change::AddServer {
        id: id(port),
        server: RealServer {
            address: std::net::Ipv4Addr::from_bits(0x0a01_0000 + number).into(),
            port,
            method: ForwardingMethod::Direct,
            weight: 1,
            upper: 0,
            lower: 0,
            tunnel: TunnelType::Ipip,
        },
    }
}

#[test]
fn changes_are_applied_and_listed() {
    let server = Server::start(Memory::default());
    let mut client = server.client();
    let changes = [add_service(80), add_server(80, 2), add_server(80, 3)];
    assert_eq!(client.apply(&changes).unwrap(), []);
    let services = client.services().unwrap();
    assert_eq!(services.len(), 1);
    assert_eq!(services[0].service.id, id(80));
    let addresses: Vec<String> = services[0]
        .servers
        .iter()
        .map(|server| server.server.address.to_string())
        .collect();
    assert_eq!(addresses, ["10.1.0.3", "10.1.0.2"], "newest first");
    assert_eq!(services[0].servers[0].next_hop, "not looked up yet");
    let set = Change::SetTimeouts {
        tcp: 1,
        tcp_fin: 0,
        udp: 3,
    };
    client.apply(&[set]).unwrap();
    let timeouts = client.timeouts().unwrap();
    assert_eq!((timeouts.tcp, timeouts.tcp_fin, timeouts.udp), (1, 120, 3));
    let status = client.status().unwrap();
    assert_eq!(
        (status.connections.capacity, status.connections.used),
        (1024, 0)
    );
}

#[test]
fn collected_refusals_do_not_stop_the_rest() {
    let server = Server::start(Memory::default());
    let mut client = server.client();
    let changes = [
        add_service(80),
        add_service(80),
        add_server(81, 1),
        add_service(82),
    ];
    let refusals = client.apply(&changes).unwrap();
    let seen: Vec<_> = refusals
        .iter()
        .map(|r| (r.index, r.cause.clone()))
        .collect();
    assert_eq!(
        seen,
        [
            (1, ControlError::ServiceExists),
            (2, ControlError::ServiceNotDefined)
        ]
    );
    assert_eq!(refusals[0].error, "Service already exists");
    assert_eq!(client.services().unwrap().len(), 2);
}

#[test]
fn without_collecting_the_first_refusal_stops() {
    let server = Server::start(Memory::default());
    let changes = [add_service(80), add_service(80), add_service(82)];
    let body = serde_json::to_string(&changes).unwrap();
    let (status, body) = server.post("/v1/changes", &body);
    assert_eq!(status, 409);
    assert_eq!(
        body,
        r#"{"error":"Service already exists","index":1,"cause":{"error":"service-exists"}}"#
    );
    assert_eq!(server.client().services().unwrap().len(), 1);
}

#[test]
fn what_makes_no_sense_gets_an_error_with_words() {
    let server = Server::start(Memory::default());
    for (path, body, expected, words) in [
        (
            "/v1/changes",
            "[{\"change\":\"fly\"}]",
            400,
            "unknown variant `fly`",
        ),
        ("/v1/changes", "", 400, "not a list of changes"),
        ("/v1/changes", "{}", 400, "not a list of changes"),
        ("/v1/changes?refusals=ignore", "[]", 400, "refusals"),
        ("/v1/changes?dry=1", "[]", 400, "dry"),
        ("/v1/nothing", "", 404, "/v1/nothing"),
        ("/v1/settings", "[]", 400, "not settings by name"),
        (
            "/v1/settings",
            "{\"drop_entry\": -1}",
            400,
            "not settings by name",
        ),
        ("/v1/settings", "{\"drop_entry\": 4}", 422, "from 0 to 3"),
        ("/v1/settings", "{\"fly\": 1}", 404, "no setting \"fly\""),
        ("/v1/status", "", 405, "does not take POST"),
    ] {
        let (status, answer) = server.post(path, body);
        assert_eq!(status, expected, "{path} {body}: {answer}");
        let answer: serde_json::Value = serde_json::from_str(&answer).unwrap();
        let error = answer["error"].as_str().unwrap();
        assert!(error.contains(words), "{error}");
    }
    let (status, _) = server.raw(
        "POST /v1/changes HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: 999999999999\r\n\r\n",
    );
    assert_eq!(status, 413);
}

#[test]
fn a_hundred_thousand_changes_go_in_one_request() {
    let server = Server::start(Memory::default());
    let mut changes = Vec::new();
    for port in 1..=500 {
        changes.push(add_service(port));
        changes.extend((0..200).map(|number| add_server(port, number)));
    }
    let mut client = server.client();
    assert_eq!(client.apply(&changes).unwrap(), []);
    let services = client.services().unwrap();
    let servers: usize = services.iter().map(|service| service.servers.len()).sum();
    assert_eq!((services.len(), servers), (500, 100_000));
}

#[test]
fn metrics_of_a_hundred_thousand_servers_are_complete() {
    let server = Server::start(Memory::default());
    let mut changes = Vec::new();
    for port in 1..=500 {
        changes.push(add_service(port));
        changes.extend((0..200).map(|number| add_server(port, number)));
    }
    assert_eq!(server.client().apply(&changes).unwrap(), []);
    // Version 1.0 has the body as it is.
    let (status, text) = server.raw("GET /metrics HTTP/1.0\r\nhost: x\r\n\r\n");
    assert_eq!(status, 200);
    let weights = text.matches("\npointsman_server_weight{").count();
    assert_eq!(weights, 100_000);
    assert!(text.ends_with("server=\"10.1.0.0\",server_port=\"500\"} 0\n"));
    let (status, _) = server.post("/metrics", "");
    assert_eq!(status, 405);
}

/// A plane with connections to real server 0.
fn plane_with(connections: u32) -> Memory {
    let plane = Memory::default();
    for number in 0..connections {
        let key = FlowKey {
            source: address_words(std::net::Ipv4Addr::from_bits(number).into()),
            destination: address_words("10.0.0.1".parse().unwrap()),
            destination_port: 80_u16.to_be(),
            protocol: 6,
            ..FlowKey::default()
        };
        let record = ConnectionRecord::default();
        record.expires.store(u64::MAX);
        record.word.store(u32::from(state::ESTABLISHED));
        plane.add_connection(key, record);
    }
    plane
}

#[test]
fn a_reader_that_stalls_locks_nobody_out() {
    let server = Server::start(plane_with(20_000));
    let mut client = server.client();
    client.apply(&[add_service(80), add_server(80, 2)]).unwrap();
    let mut connections = client.connections().unwrap();
    connections.next().unwrap().unwrap();
    // The list is longer than what fits between here and there, and nobody reads it.
    let deadline = Instant::now() + std::time::Duration::from_secs(20);
    while server.shell.balancer.try_plane_mut(|_| ()).is_none() {
        assert!(Instant::now() < deadline, "the data plane is locked");
        std::thread::yield_now();
    }
    assert_eq!(connections.map(Result::unwrap).count(), 19_999);
}

#[test]
fn connections_come_as_lines_from_several_parts() {
    let plane = plane_with(5000);
    let server = Server::start(plane);
    let mut client = server.client();
    client.apply(&[add_service(80), add_server(80, 2)]).unwrap();
    let all: Vec<_> = client
        .connections()
        .unwrap()
        .map(|connection| connection.unwrap())
        .collect();
    assert_eq!(all.len(), 5000);
    assert_eq!(all[7].client.to_string(), "0.0.0.7");
    assert_eq!(all[7].server.to_string(), "10.1.0.2");
    assert_eq!(all[7].state, "ESTABLISHED");
    // The same connection goes on to serve.
    assert_eq!(client.services().unwrap().len(), 1);
}

#[test]
fn settings_are_set_together_or_not_at_all() {
    let server = Server::start(Memory::default());
    let mut client = server.client();
    let value = |views: &[crate::settings::SettingView], name: &str| {
        let found = views.iter().find(|view| view.name == name);
        found.map(|view| (view.value, view.default))
    };
    let given = Given::from([(Setting::SloppyTcp, 1), (Setting::PmtuDisc, 0)]);
    let views = client.set(&given).unwrap();
    assert_eq!(views.len(), Setting::ALL.len());
    assert_eq!(value(&views, "sloppy_tcp"), Some((1, 0)));
    assert_eq!(value(&views, "pmtu_disc"), Some((0, 1)));
    let (status, _) = server.post("/v1/settings", "{\"amemthresh\": 5, \"drop_entry\": 9}");
    assert_eq!(status, 422);
    assert_eq!(client.settings().unwrap(), views);
}

#[test]
fn drop_entry_follows_memory_and_back() {
    let capacity = Capacity {
        services: 1,
        servers: 1,
        slot_lines: 1,
        table_lines: 1,
    };
    let director = Director::new(capacity, Settings::DEFAULT);
    let balancer = Balancer::new(director, RunningSettings::default(), Memory::default());
    let at_work = || balancer.settings().flags & settings_flag::DROP_ENTRY != 0;
    assert_eq!(balancer.follow_memory(true), Ok(None), "not asked for");
    for (mode, short, news, after, works) in [
        (1, false, None, 1, false),
        (1, true, Some(true), 2, true),
        (2, true, None, 2, true),
        (2, false, Some(false), 1, false),
        (3, false, None, 3, true),
    ] {
        balancer
            .set(&Given::from([(Setting::DropEntry, mode)]))
            .unwrap();
        assert_eq!(balancer.follow_memory(short), Ok(news));
        assert_eq!(balancer.setting(Setting::DropEntry), after);
        assert_eq!(at_work(), works, "mode {mode}, short {short}");
    }
}

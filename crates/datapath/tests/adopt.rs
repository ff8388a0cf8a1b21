//! Connections of another director, taken by the program into the tables that packets use.

use std::{
    net::{IpAddr, Ipv4Addr},
    path::PathBuf,
    time::Instant,
};

use pointsman_datapath::{ConnectionsPosition, Datapath, Options};
use pointsman_director::{
    adopt::Adopted,
    control::{Capacity, Director},
    model::{
        Change, ForwardingMethod, Protocol, RealServer, SchedulerFlags, ServiceId, TunnelType,
        VirtualService,
    },
    record::{ConnectionRecord, FlowKey, Settings},
};
use pointsman_wire::sync::SyncConnection;

/// A data plane pinned for one test.
struct Pinned {
    datapath: Datapath,
    director: Director,
    directory: PathBuf,
}

impl Drop for Pinned {
    fn drop(&mut self) {
        let _ = Datapath::detach(&self.directory);
    }
}

fn open(name: &str, connections: u32) -> Pinned {
    let pid = std::process::id();
    let directory = PathBuf::from(format!("/sys/fs/bpf/pointsman-adopt-{name}-{pid}"));
    let options = Options {
        pin_dir: directory.clone(),
        connections,
        capacity: Capacity {
            services: 8,
            servers: 64,
            slot_lines: 64,
            table_lines: 1024,
        },
    };
    let (datapath, _) = Datapath::open(&options).expect("the programs load");
    let mut pinned = Pinned {
        director: Director::new(datapath.capacity(), Settings::DEFAULT),
        datapath,
        directory,
    };
    for (address, server, method) in [
        ("192.0.2.1", "10.0.0.1", ForwardingMethod::Direct),
        ("192.0.2.2", "10.0.0.1", ForwardingMethod::Masquerade),
        ("2001:db8::1", "fd00::1", ForwardingMethod::Tunnel),
    ] {
        let id = ServiceId::Address {
            protocol: Protocol::Tcp,
            address: address.parse().unwrap(),
            port: 80,
        };
        let service = VirtualService {
            id,
            scheduler: "rr".to_owned(),
            flags: SchedulerFlags::default(),
            persistence: None,
            one_packet: false,
            engine: None,
        };
        let server = RealServer {
            address: server.parse().unwrap(),
            port: 80,
            method,
            weight: 1,
            upper: 0,
            lower: 0,
            tunnel: TunnelType::Ipip,
        };
        for change in [
            Change::AddService { service },
            Change::AddServer { id, server },
        ] {
            let mut mirror = pinned.datapath.mirror();
            pinned.director.apply(&change, &mut mirror).expect("valid");
        }
    }
    pinned
}

fn told(client: IpAddr, port: u16, address: &str, server: &str) -> SyncConnection {
    SyncConnection {
        protocol: 6,
        flags: 0x83,
        state: 1,
        client,
        client_port: port,
        address: address.parse().unwrap(),
        port: 80,
        server: server.parse().unwrap(),
        server_port: 80,
        mark: 0,
        timeout: 900,
        sequences: None,
        engine: Vec::new(),
        engine_data: Vec::new(),
    }
}

impl Pinned {
    fn records(&self, told: &[SyncConnection]) -> Vec<(FlowKey, ConnectionRecord)> {
        let taken = told.iter().map(|one| self.director.take_told(one));
        taken
            .collect::<Result<_, _>>()
            .expect("each has its server")
    }

    fn adopt(&self, told: &[SyncConnection]) -> Vec<Adopted> {
        self.datapath
            .adopt(&self.records(told))
            .expect("the program runs")
    }

    /// Active, inactive and persistent of each server.
    fn counts(&self) -> Vec<(u32, u32, u32)> {
        let mut servers: Vec<u32> = self.director.hops().map(|hop| hop.server).collect();
        servers.sort_unstable();
        let counts = self.datapath.all_counts(&servers).expect("readable");
        let each = servers.iter().map(|index| &counts[*index as usize]);
        each.map(|c| (c.active.load(), c.inactive.load(), c.persistent.load()))
            .collect()
    }

    fn read(&self) -> Vec<(FlowKey, ConnectionRecord)> {
        let mut position = ConnectionsPosition::default();
        let mut all = Vec::new();
        loop {
            let some = self
                .datapath
                .read_connections(&mut position)
                .expect("readable");
            if some.is_empty() {
                return all;
            }
            all.extend(some);
        }
    }
}

#[test]
fn the_program_takes_what_the_director_would() {
    let plane = open("each", 1024);
    let client: IpAddr = "198.51.100.1".parse().unwrap();
    let six: IpAddr = "2001:db8::99".parse().unwrap();
    let direct = told(client, 1000, "192.0.2.1", "10.0.0.1");
    let mut all = vec![
        direct.clone(),
        told(client, 1000, "192.0.2.2", "10.0.0.1"),
        told(six, 1000, "2001:db8::1", "fd00::1"),
        SyncConnection {
            flags: 0x1183,
            client_port: 0,
            ..direct.clone()
        },
    ];
    assert_eq!(plane.adopt(&all), [Adopted::Added; 4]);
    let mut counts = plane.counts();
    counts.sort_unstable();
    assert_eq!(counts, [(1, 0, 0), (1, 0, 0), (1, 0, 1)]);
    let before = plane.datapath.now().expect("the clock");
    assert_eq!(plane.adopt(&all), [Adopted::Updated; 4]);
    for (key, record) in plane.read() {
        let left = record.expires.load() - before;
        let seconds = 899 * 1_000_000_000..=910 * 1_000_000_000;
        assert!(seconds.contains(&left), "{key:?} ends in {left} ns");
        assert_eq!(u32::from(record.state()), 1);
    }
    all.truncate(3);
    for one in &mut all {
        (one.flags, one.state, one.timeout) = (0x183, 6, 0);
    }
    // A message without a timeout means the state's: CLOSE, ten seconds.
    assert_eq!(plane.adopt(&all), [Adopted::Updated; 3]);
    counts = plane.counts();
    counts.sort_unstable();
    assert_eq!(counts, [(0, 1, 0), (0, 1, 0), (0, 1, 1)]);
    assert_eq!(plane.read().len(), 4);
    let other = SyncConnection {
        flags: 0x83,
        server_port: 81,
        ..direct
    };
    let mut replacing = plane.records(&[told(client, 1000, "192.0.2.1", "10.0.0.1")]);
    replacing[0].1.server_port = other.server_port.to_be();
    assert_eq!(plane.datapath.adopt(&replacing).unwrap(), [Adopted::Added]);
    counts = plane.counts();
    counts.sort_unstable();
    assert_eq!(counts, [(0, 1, 0), (0, 1, 0), (1, 0, 1)]);
}

#[test]
fn a_hundred_thousand_are_taken_and_read() {
    let plane = open("many", 1 << 17);
    let many: Vec<_> = (0..100_000_u32)
        .map(|number| {
            let client = Ipv4Addr::from(0x0b00_0000 + number / 20_000);
            let port = 1024 + (number % 20_000) as u16;
            told(client.into(), port, "192.0.2.1", "10.0.0.1")
        })
        .collect();
    let records = plane.records(&many);
    let start = Instant::now();
    let adopted = plane.datapath.adopt(&records).expect("the program runs");
    let taking = start.elapsed();
    assert!(adopted.iter().all(|one| *one == Adopted::Added));
    let start = Instant::now();
    assert_eq!(plane.read().len(), many.len());
    let reading = start.elapsed();
    println!("100 000 connections: {taking:?} to take, {reading:?} to read");
    let active: u32 = plane.counts().iter().map(|counts| counts.0).sum();
    assert_eq!(active, 100_000);
}

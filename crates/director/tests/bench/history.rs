//! Random changes over a small world, valid and not.
#![allow(dead_code, reason = "every test file uses another part")]

use pointsman_director::{
    control::{Capacity, Director},
    model::{Change, ForwardingMethod, Protocol, RealServer, ServiceId, VirtualService},
    native::NativeTables,
    record::{ServerRecord, Settings, settings_flag},
};
use proptest::prelude::*;

use crate::bench::{Bench, VIP, VIP6, id, real, rs, rs6, service};

pub fn ids() -> [ServiceId; 5] {
    [
        id(Protocol::Tcp, VIP, 80),
        id(Protocol::Tcp, VIP, 0),
        id(Protocol::Udp, VIP, 53),
        id(Protocol::Tcp, VIP6, 80),
        id(Protocol::Udp, VIP6, 53),
    ]
}

fn any_id() -> impl Strategy<Value = ServiceId> {
    prop::sample::select(ids().to_vec())
}

fn any_service() -> impl Strategy<Value = VirtualService> {
    let schedulers = [
        "rr",
        "wrr",
        "lc",
        "wlc",
        "sh",
        "sh port",
        "sh fallback",
        "mh",
        "mh port fallback",
        "fo",
        "xyz",
    ];
    (any_id(), prop::sample::select(schedulers.to_vec())).prop_map(|(id, name)| service(id, name))
}

fn any_server() -> impl Strategy<Value = RealServer> {
    let methods = vec![
        ForwardingMethod::Direct,
        ForwardingMethod::Tunnel,
        ForwardingMethod::Masquerade,
    ];
    let method = prop::sample::select(methods);
    let port = prop::sample::select(vec![80, 8080]);
    (
        1..5u8,
        any::<bool>(),
        port,
        method,
        -1..5i32,
        0..4u32,
        0..3u32,
    )
        .prop_map(
            |(number, ipv6, port, method, weight, upper, lower)| RealServer {
                upper,
                lower: lower.min(upper + u32::from(weight == 4)),
                ..real(
                    if ipv6 { rs6(number) } else { rs(number) },
                    port,
                    method,
                    weight,
                )
            },
        )
}

pub fn change() -> impl Strategy<Value = Change> {
    let server = || (any_id(), any_server());
    let add = |(id, server)| Change::AddServer { id, server };
    let edit = |(id, server)| Change::EditServer { id, server };
    let delete = |(id, server): (ServiceId, RealServer)| Change::DeleteServer {
        id,
        address: server.address,
        port: server.port,
    };
    prop_oneof![
        6 => any_service().prop_map(|service| Change::AddService { service }),
        3 => any_service().prop_map(|service| Change::EditService { service }),
        1 => any_id().prop_map(|id| Change::DeleteService { id }),
        16 => server().prop_map(add),
        8 => server().prop_map(edit),
        6 => server().prop_map(delete),
        1 => Just(Change::Clear),
        1 => prop::option::of(any_id()).prop_map(|id| Change::Zero { id }),
        1 => (0..3u32, 0..3u32, 0..3u32)
            .prop_map(|(tcp, tcp_fin, udp)| Change::SetTimeouts { tcp, tcp_fin, udp }),
    ]
}

/// The settings without what is only a hint.
fn settings(settings: &Settings) -> Settings {
    let mut settings = *settings;
    settings.flags &= !(settings_flag::ANY_PORT
        | settings_flag::FTP
        | settings_flag::SERVES_IPV4
        | settings_flag::SERVES_IPV6);
    settings
}

/// What is configured and removed, as an operator and a packet see it.
pub fn listing(director: &Director) -> String {
    let services: Vec<_> = director
        .services()
        .map(|service| {
            let servers = service
                .servers()
                .map(|s| (s.config(), s.index(), *s.record()));
            (
                service.config(),
                *service.record(),
                servers.collect::<Vec<_>>(),
            )
        })
        .collect();
    let mut removed: Vec<_> = director.removed().collect();
    removed.sort();
    format!(
        "{services:#?} {removed:?} {:?}",
        settings(director.settings())
    )
}

/// What packets find in the tables: services, and what lies behind them.
pub fn tables(tables: &NativeTables) -> String {
    use pointsman_director::tables::Tables;
    let records = tables.records();
    let mut text = format!("{:?} {:?}\n", records.services, settings(&records.settings));
    for (_, service) in &records.services {
        for line in service.slots..service.slots + service.slot_lines {
            text += &format!("{:?}\n", tables.slots(line));
        }
        for line in service.table..service.table + service.table_lines {
            text += &format!("{:?}\n", tables.table(line));
        }
    }
    let servers: Vec<(u32, ServerRecord)> = records.servers;
    text + &format!("{servers:#?}")
}

/// An empty bench with other room.
pub fn bench_of(capacity: Capacity) -> Bench {
    let mut bench = Bench::new();
    let links = std::mem::take(&mut bench.tables.links);
    bench.tables = NativeTables::new(capacity);
    bench.tables.links = links;
    bench.director = Director::new(capacity, Settings::DEFAULT);
    bench
}

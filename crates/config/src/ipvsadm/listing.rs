//! The lists of `ipvsadm -L`, byte for byte, trailing blanks included.

use std::io::{self, Write};
use std::net::IpAddr;

use pointsman_director::model::{
    ConnectionView, ForwardingMethod, Protocol, RateView, RealServer, ServerView, ServiceId,
    ServiceView, StatsView, TimeoutsView, TunnelChecksum, TunnelType, VirtualService,
};

use super::arguments::{ListOptions, ListSubject, ListView, SyncRole};
use super::resolve::Resolve;
use super::{endpoint, flags, order};

#[cfg(test)]
mod tests;

/// A running sync daemon, as `-L --daemon` shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SyncDaemonView {
    /// Which daemon.
    pub role: SyncRole,
    /// Interface of the multicast.
    pub interface: String,
    /// Sync id.
    pub sync_id: u8,
    /// Longest message in bytes.
    pub max_length: u16,
    /// Multicast group.
    pub group: IpAddr,
    /// Multicast port, host order.
    pub port: u16,
    /// Multicast time to live.
    pub ttl: u8,
}

/// Writes virtual services and real servers.
///
/// `services` come as the kernel keeps them; they are sorted here unless `options` say otherwise.
/// `table_size`, the number of connection buckets, is in the first line, which a list of one
/// service does not have.
pub fn services(
    out: &mut impl Write,
    services: &[ServiceView],
    table_size: u32,
    options: &ListOptions,
    names: &impl Resolve,
) -> io::Result<()> {
    if !matches!(options.subject, ListSubject::Service(_)) {
        writeln!(out, "IP Virtual Server version 1.2.1 (size={table_size})")?;
    }
    out.write_all(headers(options.view).as_bytes())?;
    let list = match options.unsorted {
        true => services.iter().collect(),
        false => order::services(services),
    };
    let names = (!options.numeric).then_some(names);
    for service in list {
        write_service(out, service, options, names)?;
        let servers = match options.unsorted {
            true => service.servers.iter().collect(),
            false => order::servers(&service.servers),
        };
        for server in servers {
            write_server(out, server, &service.service.id, options, names)?;
        }
    }
    Ok(())
}

/// Writes connections in the order in which they come.
pub fn connections(
    out: &mut impl Write,
    connections: impl IntoIterator<Item = ConnectionView>,
    options: &ListOptions,
    names: &impl Resolve,
) -> io::Result<()> {
    let names = (!options.numeric).then_some(names);
    // Columns of persistence engines: there are none yet, but ipvsadm names them.
    let engine = match options.view {
        ListView::PersistentConnections => "        pe name          pe_data",
        _ => "",
    };
    writeln!(
        out,
        "IPVS connection entries\n\
         pro expire state       source             virtual            destination{engine}"
    )?;
    for connection in connections {
        let protocol = Protocol::from_number(connection.protocol);
        let end = |address, port| endpoint::text(address, port, protocol, names);
        let source = end(connection.client, connection.client_port);
        let target = end(connection.address, connection.port);
        let server = end(connection.server, connection.server_port);
        let expires = format!(
            "{:02}:{:02}",
            connection.expires / 60,
            connection.expires % 60
        );
        writeln!(
            out,
            "{:<3} {expires:<6} {:<11} {source:<18} {target:<18} {server}",
            protocol_name(connection.protocol),
            connection.state,
        )?;
    }
    Ok(())
}

/// Writes the timeouts of `--set`.
pub fn timeouts(out: &mut impl Write, timeouts: &TimeoutsView) -> io::Result<()> {
    let TimeoutsView { tcp, tcp_fin, udp } = timeouts;
    writeln!(out, "Timeout (tcp tcpfin udp): {tcp} {tcp_fin} {udp}")
}

/// Writes the sync daemons, masters first.
pub fn daemons(out: &mut impl Write, daemons: &[SyncDaemonView]) -> io::Result<()> {
    for (role, word) in [(SyncRole::Master, "master"), (SyncRole::Backup, "backup")] {
        for daemon in daemons.iter().filter(|daemon| daemon.role == role) {
            let SyncDaemonView {
                interface,
                sync_id,
                max_length,
                group,
                port,
                ttl,
                ..
            } = daemon;
            writeln!(
                out,
                "{word} sync daemon (mcast={interface}, syncid={sync_id}, maxlen={max_length}, \
                 group={group}, port={port}, ttl={ttl})"
            )?;
        }
    }
    Ok(())
}

/// Name of an IP protocol as the kernel prints it in its table of connections.
fn protocol_name(number: u8) -> String {
    match number {
        0 => "IP".to_owned(),
        1 => "ICMP".to_owned(),
        6 => "TCP".to_owned(),
        17 => "UDP".to_owned(),
        58 => "ICMPv6".to_owned(),
        132 => "SCTP".to_owned(),
        other => format!("IP_{other}"),
    }
}

const fn headers(view: ListView) -> &'static str {
    match view {
        ListView::Plain => {
            "Prot LocalAddress:Port Scheduler Flags\n  \
             -> RemoteAddress:Port           Forward Weight ActiveConn InActConn\n"
        }
        ListView::TunnelInfo => {
            "Prot LocalAddress:Port Scheduler Flags\n  \
             -> RemoteAddress:Port           Forward TunnelInfo    Weight ActiveConn InActConn\n"
        }
        ListView::Thresholds => {
            "Prot LocalAddress:Port            Uthreshold Lthreshold ActiveConn InActConn \n  \
             -> RemoteAddress:Port\n"
        }
        ListView::PersistentConnections => {
            "Prot LocalAddress:Port            Weight    PersistConn ActiveConn InActConn \n  \
             -> RemoteAddress:Port\n"
        }
        ListView::Stats => {
            "Prot LocalAddress:Port               Conns   InPkts  OutPkts  InBytes OutBytes\n  \
             -> RemoteAddress:Port\n"
        }
        ListView::Rate => {
            "Prot LocalAddress:Port                 CPS    InPPS   OutPPS    InBPS   OutBPS\n  \
             -> RemoteAddress:Port\n"
        }
    }
}

fn write_service(
    out: &mut impl Write,
    view: &ServiceView,
    options: &ListOptions,
    names: Option<&impl Resolve>,
) -> io::Result<()> {
    let service = &view.service;
    let name = service_name(&service.id, names);
    match options.view {
        ListView::Stats => {
            write!(out, "{name:<33}")?;
            let stats = stats_columns(&view.stats);
            stats
                .into_iter()
                .try_for_each(|value| write_large(out, value, options.exact))?;
        }
        ListView::Rate => {
            write!(out, "{name:<33}")?;
            let rate = rate_columns(&view.rate);
            rate.into_iter()
                .try_for_each(|value| write_large(out, value, options.exact))?;
        }
        _ => write_settings(out, &name, service)?,
    }
    writeln!(out)
}

fn write_settings(out: &mut impl Write, name: &str, service: &VirtualService) -> io::Result<()> {
    write!(out, "{name} {}", service.scheduler)?;
    if let Some(flags) = flags::text(service.flags, &service.scheduler) {
        write!(out, " ({flags})")?;
    }
    if let Some(persistence) = service.persistence {
        write!(out, " persistent {}", persistence.timeout)?;
        if let Some(mask) = super::save::mask_text(&service.id, persistence) {
            write!(out, " mask {mask}")?;
        }
        if let Some(engine) = &service.engine {
            write!(out, " pe {engine}")?;
        }
    }
    if service.one_packet {
        write!(out, " ops")?;
    }
    Ok(())
}

fn write_server(
    out: &mut impl Write,
    view: &ServerView,
    service: &ServiceId,
    options: &ListOptions,
    names: Option<&impl Resolve>,
) -> io::Result<()> {
    let RealServer {
        address,
        port,
        method,
        weight,
        upper,
        lower,
        tunnel,
    } = view.server;
    let ServerView {
        active,
        inactive,
        persistent,
        ..
    } = view;
    let name = clipped_name(address, port, service_protocol(service), names);
    write!(out, "  -> {name:<28}")?;
    match options.view {
        ListView::Plain => {
            let method = method_name(method);
            writeln!(out, " {method:<7} {weight:<6} {active:<10} {inactive:<10}")
        }
        ListView::TunnelInfo => {
            let info = tunnel_info(method, tunnel);
            let method = method_name(method);
            writeln!(
                out,
                " {method:<7} {info:<13} {weight:<6} {active:<10} {inactive:<10}"
            )
        }
        ListView::Thresholds => {
            writeln!(out, " {upper:<10} {lower:<10} {active:<10} {inactive:<10}")
        }
        ListView::PersistentConnections => {
            writeln!(
                out,
                " {weight:<9} {persistent:<11} {active:<10} {inactive:<10}"
            )
        }
        ListView::Stats => {
            let stats = stats_columns(&view.stats);
            stats
                .into_iter()
                .try_for_each(|value| write_large(out, value, options.exact))?;
            writeln!(out)
        }
        ListView::Rate => {
            let [connections, in_packets, out_packets, bytes @ ..] = rate_columns(&view.rate);
            // Real servers have the packet rates in full, whatever their length.
            write!(out, " {connections:>8} {in_packets:>8} {out_packets:>8}")?;
            bytes
                .into_iter()
                .try_for_each(|value| write_large(out, value, options.exact))?;
            writeln!(out)
        }
    }
}

const fn stats_columns(stats: &StatsView) -> [u64; 5] {
    let StatsView {
        connections,
        in_packets,
        out_packets,
        in_bytes,
        out_bytes,
    } = *stats;
    [connections, in_packets, out_packets, in_bytes, out_bytes]
}

const fn rate_columns(rate: &RateView) -> [u64; 5] {
    let RateView {
        connections,
        in_packets,
        out_packets,
        in_bytes,
        out_bytes,
    } = *rate;
    [connections, in_packets, out_packets, in_bytes, out_bytes]
}

/// Writes a number in nine columns: with a unit when it is long, or in full when `exact`.
fn write_large(out: &mut impl Write, value: u64, exact: bool) -> io::Result<()> {
    let digits = value.checked_ilog10().unwrap_or_default() as usize + 1;
    match value {
        _ if exact => write!(out, "{value:>width$}", width = 9.max(digits + 1)),
        0..100_000_000 => write!(out, "{value:>9}"),
        100_000_000..1_000_000_000 => write!(out, "{:>8}K", value / 1_000),
        1_000_000_000..100_000_000_000 => write!(out, "{:>8}M", value / 1_000_000),
        100_000_000_000..100_000_000_000_000 => write!(out, "{:>8}G", value / 1_000_000_000),
        _ => write!(out, "{:>8}T", value / 1_000_000_000_000),
    }
}

const fn service_protocol(id: &ServiceId) -> Option<Protocol> {
    match id {
        ServiceId::Address { protocol, .. } => Some(*protocol),
        ServiceId::Mark { .. } => None,
    }
}

fn service_name(id: &ServiceId, names: Option<&impl Resolve>) -> String {
    match *id {
        ServiceId::Address {
            protocol,
            address,
            port,
        } => {
            format!(
                "{protocol:<4} {}",
                clipped_name(address, port, Some(protocol), names)
            )
        }
        // ipvsadm prints marks as signed numbers.
        ServiceId::Mark { mark, ipv6 } => {
            format!("FWM  {}{}", mark as i32, if ipv6 { " IPv6" } else { "" })
        }
    }
}

/// An endpoint for a column: IPv4 ones are cut at 28 characters, IPv6 ones never.
fn clipped_name(
    address: IpAddr,
    port: u16,
    protocol: Option<Protocol>,
    names: Option<&impl Resolve>,
) -> String {
    let mut name = endpoint::text(address, port, protocol, names);
    if address.is_ipv4() {
        name.truncate(name.floor_char_boundary(28));
    }
    name
}

const fn method_name(method: ForwardingMethod) -> &'static str {
    match method {
        ForwardingMethod::Masquerade => "Masq",
        ForwardingMethod::Tunnel => "Tunnel",
        ForwardingMethod::Direct => "Route",
    }
}

fn tunnel_info(method: ForwardingMethod, tunnel: TunnelType) -> String {
    let checksum = |checksum| match checksum {
        TunnelChecksum::None => "-c",
        TunnelChecksum::Full => "+c",
        TunnelChecksum::Remote => "r+c",
    };
    match (method, tunnel) {
        (ForwardingMethod::Tunnel, TunnelType::Ipip) => "ipip".to_owned(),
        (
            ForwardingMethod::Tunnel,
            TunnelType::Gue {
                port,
                checksum: sum,
            },
        ) => {
            format!("gue:{port}:{}", checksum(sum))
        }
        (ForwardingMethod::Tunnel, TunnelType::Gre { checksum: sum }) => {
            format!("gre:{}", checksum(sum))
        }
        (ForwardingMethod::Masquerade | ForwardingMethod::Direct, _) => "n/a".to_owned(),
    }
}

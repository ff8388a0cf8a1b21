//! Metrics as Prometheus reads them: the text exposition format, version 0.0.4.
//!
//! Written by hand: a library would own the numbers, while here they lie in the data plane; and the
//! format wants every metric's samples together, so that each real server's labels are needed a dozen
//! times and are better made once. `METRICS.md` says what each metric means.

mod family;
mod health;
mod routers;
mod sessions;
mod sync;
#[cfg(test)]
mod tests;

use std::{
    fmt::Write as _,
    io::{self, Write},
    time::SystemTime,
};

use pointsman_director::model::{Protocol, ServiceId};

use crate::{
    answers::AnswerCounts,
    balancer::census::{Census, ServerCensus, ServiceCensus},
    bfd::BfdStatus,
    health::HealthStatus,
    rounds::Entry,
    status::InterfaceStatus,
    sync::SyncStatus,
    vrrp::RouterStatus,
};
use family::{SERVER, SERVICE, action_name, method_name};

/// What a client is told about the text.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// What metrics are made of.
#[derive(Debug)]
pub struct Metrics {
    /// Version of the daemon.
    pub version: &'static str,
    /// When it started.
    pub started: SystemTime,
    /// Attached interfaces.
    pub interfaces: Vec<InterfaceStatus>,
    /// What the data plane counts.
    pub census: Census,
    /// Room for connections of each family.
    pub connection_room: u32,
    /// Rounds that ended connections.
    pub sweeps: Entry,
    /// Rounds that estimated rates.
    pub estimates: Entry,
    /// Whether rates are estimated.
    pub estimating: bool,
    /// ICMP answers.
    pub answers: AnswerCounts,
    /// Virtual routers.
    pub routers: Vec<RouterStatus>,
    /// Virtual services whose real servers are checked.
    pub health: Vec<HealthStatus>,
    /// Sync daemons that run.
    pub sync: Vec<SyncStatus>,
    /// BFD sessions.
    pub bfd: BfdStatus,
}

/// Writes all metrics.
///
/// # Errors
///
/// When `out` takes no more.
pub fn write(out: &mut impl Write, metrics: &Metrics) -> io::Result<()> {
    write_daemon(out, metrics)?;
    routers::write(out, &metrics.routers)?;
    health::write(out, &metrics.health)?;
    sync::write(out, &metrics.sync)?;
    sessions::write(out, &metrics.bfd)?;
    let services = &metrics.census.services;
    let labels: Vec<String> = services.iter().map(|service| labels(&service.id)).collect();
    write_services(out, services, &labels)?;
    // Made once, for they take longer than the numbers.
    let mut servers: Vec<(String, &ServerCensus)> = Vec::new();
    for (service, labels) in services.iter().zip(&labels) {
        for server in &service.servers {
            let mut labels = labels.clone();
            let _ = write!(
                labels,
                ",server=\"{}\",server_port=\"{}\"",
                server.address, server.port
            );
            servers.push((labels, server));
        }
    }
    write_servers(out, &servers)
}

fn write_daemon(out: &mut impl Write, metrics: &Metrics) -> io::Result<()> {
    family::BUILD_INFO.head(out)?;
    let version = metrics.version;
    writeln!(out, "pointsman_build_info{{version=\"{version}\"}} 1")?;
    family::START_TIME.one(out, seconds(metrics.started))?;
    family::INTERFACE_INFO.head(out)?;
    for InterfaceStatus { name, hook, .. } in &metrics.interfaces {
        let name = escaped(name);
        writeln!(
            out,
            "pointsman_interface_info{{interface=\"{name}\",hook=\"{hook}\"}} 1"
        )?;
    }
    family::VERDICTS.head(out)?;
    for (reason, count) in &metrics.census.verdicts {
        writeln!(
            out,
            "pointsman_verdicts_total{{action=\"{}\",reason=\"{}\"}} {count}",
            action_name(reason.action()),
            reason.name()
        )?;
    }
    let census = &metrics.census;
    family::CONNECTIONS.one(out, census.connections)?;
    family::CONNECTION_ROOM.one(out, metrics.connection_room)?;
    family::SERVICES.one(out, census.services.len())?;
    let servers = census.services.iter().map(|service| service.servers.len());
    family::SERVERS.one(out, servers.sum::<usize>())?;
    let Entry {
        rounds,
        done,
        last,
        took,
    } = metrics.sweeps;
    family::SWEEPS.one(out, rounds)?;
    family::SWEPT.one(out, done)?;
    family::SWEEP_LAST.one(out, last.map_or(0.0, seconds))?;
    family::SWEEP_DURATION.one(out, took.as_secs_f64())?;
    family::ESTIMATING.one(out, u8::from(metrics.estimating))?;
    let Entry {
        rounds, last, took, ..
    } = metrics.estimates;
    family::ESTIMATES.one(out, rounds)?;
    family::ESTIMATE_LAST.one(out, last.map_or(0.0, seconds))?;
    family::ESTIMATE_DURATION.one(out, took.as_secs_f64())?;
    family::ANSWERS.head(out)?;
    let AnswerCounts {
        sent,
        limited,
        silent,
        failed,
        fragmented,
        unfragmented,
    } = metrics.answers;
    for (outcome, count) in [
        ("sent", sent),
        ("limited", limited),
        ("silent", silent),
        ("failed", failed),
    ] {
        writeln!(
            out,
            "pointsman_icmp_errors_total{{outcome=\"{outcome}\"}} {count}"
        )?;
    }
    family::FRAGMENTED.head(out)?;
    for (outcome, count) in [("sent", fragmented), ("dropped", unfragmented)] {
        writeln!(
            out,
            "pointsman_fragmented_packets_total{{outcome=\"{outcome}\"}} {count}"
        )?;
    }
    Ok(())
}

fn write_services(
    out: &mut impl Write,
    services: &[ServiceCensus],
    labels: &[String],
) -> io::Result<()> {
    family::SERVICE_INFO.head(out)?;
    for (service, labels) in services.iter().zip(labels) {
        let scheduler = escaped(&service.scheduler);
        writeln!(
            out,
            "pointsman_service_info{{{labels},scheduler=\"{scheduler}\"}} 1"
        )?;
    }
    for (family, value) in SERVICE {
        family.head(out)?;
        for (service, labels) in services.iter().zip(labels) {
            writeln!(out, "{}{{{labels}}} {}", family.name, value(service))?;
        }
    }
    Ok(())
}

fn write_servers(out: &mut impl Write, servers: &[(String, &ServerCensus)]) -> io::Result<()> {
    family::SERVER_INFO.head(out)?;
    for (labels, server) in servers {
        let method = method_name(server.method);
        writeln!(
            out,
            "pointsman_server_info{{{labels},method=\"{method}\"}} 1"
        )?;
    }
    for (family, value) in SERVER {
        family.head(out)?;
        for (labels, server) in servers {
            writeln!(out, "{}{{{labels}}} {}", family.name, value(server))?;
        }
    }
    Ok(())
}

/// What a virtual service is known by, as labels.
fn labels(id: &ServiceId) -> String {
    match id {
        ServiceId::Address {
            protocol,
            address,
            port,
        } => {
            let protocol = match protocol {
                Protocol::Tcp => "tcp",
                Protocol::Udp => "udp",
                Protocol::Sctp => "sctp",
            };
            format!("protocol=\"{protocol}\",address=\"{address}\",port=\"{port}\"")
        }
        ServiceId::Mark { mark, ipv6 } => {
            let family = if *ipv6 { "ipv6" } else { "ipv4" };
            format!("mark=\"{mark}\",family=\"{family}\"")
        }
    }
}

/// The value of a label as the format wants it.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '\\' => escaped.push_str("\\\\"),
            '"' => escaped.push_str("\\\""),
            '\n' => escaped.push_str("\\n"),
            other => escaped.push(other),
        }
    }
    escaped
}

/// Seconds since 1970.
fn seconds(time: SystemTime) -> f64 {
    time.duration_since(SystemTime::UNIX_EPOCH)
        .map_or(0.0, |since| since.as_secs_f64())
}

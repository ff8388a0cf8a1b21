//! The metrics: names, kinds, and what they mean.

use std::{
    fmt::Display,
    io::{self, Write},
};

use pointsman_director::{Action, model::ForwardingMethod};

use crate::balancer::census::{ServerCensus, ServiceCensus};

/// A metric with its samples.
#[derive(Debug, Clone, Copy)]
pub(super) struct Family {
    pub(super) name: &'static str,
    kind: &'static str,
    help: &'static str,
}

const fn counter(name: &'static str, help: &'static str) -> Family {
    Family {
        name,
        kind: "counter",
        help,
    }
}

const fn gauge(name: &'static str, help: &'static str) -> Family {
    Family {
        name,
        kind: "gauge",
        help,
    }
}

impl Family {
    /// Writes what comes before the samples.
    pub(super) fn head(&self, out: &mut impl Write) -> io::Result<()> {
        let Self { name, kind, help } = self;
        write!(out, "# HELP {name} {help}\n# TYPE {name} {kind}\n")
    }

    /// Writes a metric that has one sample.
    pub(super) fn one(&self, out: &mut impl Write, value: impl Display) -> io::Result<()> {
        self.head(out)?;
        writeln!(out, "{} {value}", self.name)
    }
}

pub(super) const BUILD_INFO: Family = gauge("pointsman_build_info", "Version of the daemon.");
pub(super) const START_TIME: Family = gauge(
    "pointsman_start_time_seconds",
    "When the daemon started, seconds since 1970.",
);
pub(super) const INTERFACE_INFO: Family = gauge(
    "pointsman_interface_info",
    "Interfaces attached to, and by which hook.",
);
pub(super) const BFD_UP: Family = gauge(
    "pointsman_bfd_up",
    "1 while both ends of a BFD session hear each other.",
);
pub(super) const BFD_INTERVAL: Family = gauge(
    "pointsman_bfd_interval_seconds",
    "By which a BFD session sends, before chance shortens it.",
);
pub(super) const BFD_DETECTION: Family = gauge(
    "pointsman_bfd_detection_seconds",
    "How long the other end may be silent; 0 while nothing is heard.",
);
pub(super) const BFD_RECEIVED: Family = counter(
    "pointsman_bfd_received_packets_total",
    "Packets of BFD sessions that counted.",
);
pub(super) const BFD_SENT: Family = counter(
    "pointsman_bfd_sent_packets_total",
    "Packets of BFD sessions that were sent.",
);
pub(super) const BFD_UPS: Family = counter(
    "pointsman_bfd_ups_total",
    "Times that a BFD session went up.",
);
pub(super) const BFD_DOWNS: Family = counter(
    "pointsman_bfd_downs_total",
    "Times that a BFD session went down.",
);
pub(super) const BFD_PAUSES: Family = counter(
    "pointsman_bfd_pauses_total",
    "Times that the host must have been paused, as a BFD session saw it.",
);
pub(super) const BFD_REJECTED: Family = counter(
    "pointsman_bfd_rejected_packets_total",
    "Packets to the port of BFD that did not count; without a session, those for none.",
);
pub(super) const VERDICTS: Family = counter(
    "pointsman_verdicts_total",
    "Packets by what was done with them and why.",
);
pub(super) const CONNECTIONS: Family = gauge(
    "pointsman_connections",
    "Connections in the table, of both address families, those of removed real servers included.",
);
pub(super) const CONNECTION_ROOM: Family = gauge(
    "pointsman_connection_room",
    "Room for connections, of each address family.",
);
pub(super) const SERVICES: Family = gauge("pointsman_services", "Virtual services.");
pub(super) const SERVERS: Family = gauge("pointsman_servers", "Real servers of all services.");
pub(super) const SWEEPS: Family = counter(
    "pointsman_sweeps_total",
    "Rounds that ended connections whose time was over.",
);
pub(super) const SWEPT: Family = counter(
    "pointsman_swept_connections_total",
    "Connections ended because their time was over.",
);
pub(super) const SWEEP_LAST: Family = gauge(
    "pointsman_sweep_last_timestamp_seconds",
    "End of the last sweep, seconds since 1970; 0 before the first.",
);
pub(super) const SWEEP_DURATION: Family = gauge(
    "pointsman_sweep_duration_seconds",
    "How long the last sweep took.",
);
pub(super) const ESTIMATING: Family = gauge(
    "pointsman_estimating",
    "1 when rates are estimated (setting run_estimation).",
);
pub(super) const ESTIMATES: Family = counter(
    "pointsman_estimates_total",
    "Rounds that estimated the rates of all services and real servers.",
);
pub(super) const ESTIMATE_LAST: Family = gauge(
    "pointsman_estimate_last_timestamp_seconds",
    "End of the last estimate, seconds since 1970; 0 before the first.",
);
pub(super) const ESTIMATE_DURATION: Family = gauge(
    "pointsman_estimate_duration_seconds",
    "How long the last estimate took.",
);
pub(super) const ANSWERS: Family = counter(
    "pointsman_icmp_errors_total",
    "Packets that called for an ICMP error, by what became of it.",
);
pub(super) const FRAGMENTED: Family = counter(
    "pointsman_fragmented_packets_total",
    "Packets too big for the path behind the director, by what became of them.",
);
pub(super) const CHECKED_QUORUM: Family = gauge(
    "pointsman_checked_quorum",
    "1 when live real servers of the checked service have the weight of its quorum.",
);
pub(super) const CHECKED_SERVER_UP: Family = gauge(
    "pointsman_checked_server_up",
    "1 when no check of the real server is failed.",
);
pub(super) const ROUTER_MASTER: Family = gauge(
    "pointsman_vrrp_master",
    "1 when the virtual router is master.",
);
pub(super) const ROUTER_PRIORITY: Family = gauge(
    "pointsman_vrrp_priority",
    "Priority of the virtual router, tracking included.",
);
pub(super) const ROUTER_BECAME_MASTER: Family = counter(
    "pointsman_vrrp_became_master_total",
    "Times the virtual router became master.",
);
pub(super) const ROUTER_CONTESTED: Family = gauge(
    "pointsman_vrrp_contested",
    "1 when another router goes on as master while this one is.",
);
pub(super) const ROUTER_REJECTED: Family = counter(
    "pointsman_vrrp_rejected_adverts_total",
    "Advertisements that did not count, by reason.",
);
pub(super) const SYNC_MESSAGES: Family = counter(
    "pointsman_sync_messages_total",
    "Messages of sync daemons, by what became of them.",
);
pub(super) const SYNC_CONNECTIONS: Family = counter(
    "pointsman_sync_connections_total",
    "Connections told to or by other directors, by what became of them.",
);
pub(super) const SYNC_WAITING: Family = gauge(
    "pointsman_sync_waiting_connections",
    "Connections told by other directors whose real server is not there.",
);
pub(super) const SYNC_LOOK: Family = gauge(
    "pointsman_sync_look_seconds",
    "How long the latest look at all connections took.",
);
pub(super) const SERVICE_INFO: Family = gauge(
    "pointsman_service_info",
    "Virtual services with their schedulers.",
);
pub(super) const SERVER_INFO: Family = gauge(
    "pointsman_server_info",
    "Real servers with their forwarding methods.",
);

/// A metric, and where its values come from.
type Taken<T, V> = (Family, fn(&T) -> V);

/// The metrics of a virtual service.
pub(super) const SERVICE: &[Taken<ServiceCensus, u64>] = &[
    (
        counter(
            "pointsman_service_connections_total",
            "Connections scheduled.",
        ),
        |service| service.stats.connections,
    ),
    (
        counter(
            "pointsman_service_in_packets_total",
            "Packets from clients.",
        ),
        |service| service.stats.in_packets,
    ),
    (
        counter(
            "pointsman_service_in_bytes_total",
            "Bytes from clients, from the IP header on.",
        ),
        |service| service.stats.in_bytes,
    ),
    (
        counter(
            "pointsman_service_out_packets_total",
            "Packets to clients that passed the director (masquerade only).",
        ),
        |service| service.stats.out_packets,
    ),
    (
        counter(
            "pointsman_service_out_bytes_total",
            "Bytes to clients that passed the director (masquerade only), from the IP header on.",
        ),
        |service| service.stats.out_bytes,
    ),
    (
        gauge(
            "pointsman_service_active_connections",
            "Active connections of its real servers.",
        ),
        |service| each(service, |server| server.active),
    ),
    (
        gauge(
            "pointsman_service_inactive_connections",
            "Inactive connections of its real servers.",
        ),
        |service| each(service, |server| server.inactive),
    ),
    (
        gauge(
            "pointsman_service_persistent_connections",
            "Persistence templates of its real servers.",
        ),
        |service| each(service, |server| server.persistent),
    ),
    (
        gauge("pointsman_service_servers", "Its real servers."),
        |service| service.servers.len() as u64,
    ),
    (
        gauge(
            "pointsman_service_ready_servers",
            "Its real servers that take new connections: weight above 0, next hop known, not overloaded.",
        ),
        |service| each(service, |server| u32::from(server.is_ready())),
    ),
];

/// The metrics of a real server.
pub(super) const SERVER: &[Taken<ServerCensus, i64>] = &[
    (
        counter(
            "pointsman_server_connections_total",
            "Connections scheduled.",
        ),
        |server| server.stats.connections.cast_signed(),
    ),
    (
        counter("pointsman_server_in_packets_total", "Packets from clients."),
        |server| server.stats.in_packets.cast_signed(),
    ),
    (
        counter(
            "pointsman_server_in_bytes_total",
            "Bytes from clients, from the IP header on.",
        ),
        |server| server.stats.in_bytes.cast_signed(),
    ),
    (
        counter(
            "pointsman_server_out_packets_total",
            "Packets to clients that passed the director (masquerade only).",
        ),
        |server| server.stats.out_packets.cast_signed(),
    ),
    (
        counter(
            "pointsman_server_out_bytes_total",
            "Bytes to clients that passed the director (masquerade only), from the IP header on.",
        ),
        |server| server.stats.out_bytes.cast_signed(),
    ),
    (
        gauge("pointsman_server_active_connections", "Active connections."),
        |server| i64::from(server.active),
    ),
    (
        gauge(
            "pointsman_server_inactive_connections",
            "Inactive connections.",
        ),
        |server| i64::from(server.inactive),
    ),
    (
        gauge(
            "pointsman_server_persistent_connections",
            "Persistence templates.",
        ),
        |server| i64::from(server.persistent),
    ),
    (
        gauge(
            "pointsman_server_weight",
            "Weight; 0 takes no new connections.",
        ),
        |server| i64::from(server.weight),
    ),
    (
        gauge(
            "pointsman_server_overloaded",
            "1 when its upper threshold was reached and it takes no new connections.",
        ),
        |server| i64::from(server.overloaded),
    ),
    (
        gauge(
            "pointsman_server_next_hop_known",
            "1 when frames to it have somewhere to go.",
        ),
        |server| i64::from(server.reachable),
    ),
];

fn each(service: &ServiceCensus, value: impl Fn(&ServerCensus) -> u32) -> u64 {
    let values = service
        .servers
        .iter()
        .map(|server| u64::from(value(server)));
    values.sum()
}

impl ServerCensus {
    fn is_ready(&self) -> bool {
        self.weight > 0 && self.reachable && !self.overloaded
    }
}

/// An action in a word.
pub(super) const fn action_name(action: Action) -> &'static str {
    match action {
        Action::Pass => "pass",
        Action::Forward => "forward",
        Action::Drop => "drop",
    }
}

/// A forwarding method in a word.
pub(super) const fn method_name(method: ForwardingMethod) -> &'static str {
    match method {
        ForwardingMethod::Masquerade => "masquerade",
        ForwardingMethod::Tunnel => "tunnel",
        ForwardingMethod::Direct => "direct",
    }
}

//! `virtual_server`, `real_server`, `SSL`.

use super::Arguments::{Block as Opens, Named, Nothing, OneOf, Script, Seconds, Switch, Whole};
use super::Arguments::{Several, Word, Words};
use super::Block::{self, Server, Service, Tls};
use super::{Keyword, idle, no, yes};

const INT: i64 = i32::MAX as i64;
const FOREVER: u64 = u32::MAX as u64;
const AGES: u64 = u64::MAX - 1;
const NO_PASSWORD: &str = "keys with a password are not read; store the key without one";
const NO_VERIFICATION: &str =
    "as in keepalived, a check asks whether the server works, not who it is";

/// Schedulers that keepalived knows.
pub(in crate::keepalived) const SCHEDULERS: &[&str] = &[
    "rr", "wrr", "lc", "wlc", "lblc", "sh", "mh", "dh", "fo", "ovf", "lblcr", "sed", "nq", "twos",
];

/// `virtual_server`.
pub(super) const SERVICE: &[Keyword] = &[
    yes(Service, "lvs_sched", OneOf(SCHEDULERS), "wlc"),
    yes(Service, "lb_algo", OneOf(SCHEDULERS), "wlc"),
    yes(Service, "lvs_method", Several, "NAT"),
    yes(Service, "lb_kind", Several, "NAT"),
    yes(Service, "flag-1", Nothing, "off"),
    yes(Service, "flag-2", Nothing, "off"),
    yes(Service, "flag-3", Nothing, "off"),
    yes(Service, "sh-port", Nothing, "off"),
    yes(Service, "sh-fallback", Nothing, "off"),
    yes(Service, "mh-port", Nothing, "off"),
    yes(Service, "mh-fallback", Nothing, "off"),
    yes(Service, "ops", Nothing, "off"),
    idle(Service, "hashed", Nothing, "every service is found by hash"),
    yes(
        Service,
        "persistence_timeout",
        Words,
        "off; 360 s without a number",
    ),
    yes(Service, "persistence_granularity", Word, "one address"),
    yes(Service, "persistence_engine", Word, "none"),
    yes(Service, "protocol", OneOf(&["TCP", "UDP", "SCTP"]), "UDP"),
    yes(
        Service,
        "ip_family",
        OneOf(&["inet", "inet6"]),
        "the real servers'",
    ),
    yes(Service, "delay_loop", Seconds(1, AGES), "60 s"),
    yes(Service, "connect_timeout", Seconds(1, FOREVER), "5 s"),
    yes(Service, "retry", Whole(1, u32::MAX as i64), "the checker's"),
    yes(
        Service,
        "delay_before_retry",
        Seconds(0, AGES),
        "the checker's",
    ),
    yes(Service, "warmup", Seconds(0, AGES), "delay_loop"),
    yes(Service, "alpha", Nothing, "off"),
    yes(Service, "omega", Nothing, "off"),
    yes(Service, "quorum", Whole(1, u32::MAX as i64), "1"),
    yes(Service, "hysteresis", Whole(0, u32::MAX as i64), "0"),
    yes(Service, "quorum_up", Script, ""),
    yes(Service, "quorum_down", Script, ""),
    yes(Service, "ha_suspend", Nothing, "off"),
    yes(Service, "smtp_alert", Switch, "smtp_alert_checker"),
    yes(Service, "virtualhost", Word, ""),
    idle(Service, "snmp_name", Word, "there is no SNMP"),
    yes(Service, "weight", Whole(1, INT), "1"),
    yes(Service, "inhibit_on_failure", Nothing, "off"),
    yes(Service, "sorry_server", Several, ""),
    yes(Service, "sorry_server_inhibit", Nothing, "off"),
    yes(Service, "sorry_server_lvs_method", Several, "lvs_method"),
    yes(Service, "real_server", Named(Server), ""),
];

/// `real_server` and `SSL`.
pub(super) const SERVER: &[Keyword] = &[
    yes(Server, "weight", Whole(0, INT), "1"),
    yes(Server, "lvs_method", Several, "the service's"),
    yes(Server, "uthreshold", Whole(0, u32::MAX as i64), "0"),
    yes(Server, "lthreshold", Whole(0, u32::MAX as i64), "0"),
    yes(Server, "inhibit_on_failure", Switch, "the service's"),
    yes(Server, "notify_up", Script, ""),
    yes(Server, "notify_down", Script, ""),
    yes(Server, "alpha", Switch, "the service's"),
    yes(
        Server,
        "connect_timeout",
        Seconds(1, FOREVER),
        "the service's",
    ),
    yes(Server, "retry", Whole(1, u32::MAX as i64), "the service's"),
    yes(
        Server,
        "delay_before_retry",
        Seconds(0, AGES),
        "the service's",
    ),
    yes(Server, "warmup", Seconds(0, AGES), "the service's"),
    yes(Server, "delay_loop", Seconds(1, AGES), "the service's"),
    yes(Server, "smtp_alert", Switch, "smtp_alert_checker"),
    yes(Server, "virtualhost", Word, "the service's"),
    idle(Server, "snmp_name", Word, "there is no SNMP"),
    yes(Server, "TCP_CHECK", Opens(Block::Tcp), ""),
    yes(Server, "HTTP_GET", Opens(Block::Http), ""),
    yes(Server, "SSL_GET", Opens(Block::Https), ""),
    yes(Server, "SMTP_CHECK", Opens(Block::Smtp), ""),
    yes(Server, "DNS_CHECK", Opens(Block::Dns), ""),
    yes(Server, "MISC_CHECK", Opens(Block::Misc), ""),
    yes(Server, "UDP_CHECK", Opens(Block::Udp), ""),
    yes(Server, "PING_CHECK", Opens(Block::Ping), ""),
    yes(Server, "FILE_CHECK", Opens(Block::File), ""),
    yes(Server, "BFD_CHECK", Opens(Block::BfdCheck), ""),
    no(Tls, "password", Word, NO_PASSWORD),
    idle(Tls, "ca", Word, NO_VERIFICATION),
    yes(Tls, "certificate", Word, "none"),
    yes(Tls, "key", Word, "none"),
];

//! A keepalived.conf as it is meant: who has which virtual addresses, who serves, what is checked.
//!
//! What a keyword leaves open has keepalived's default here; what depends on the host (addresses of an
//! interface, the host's name) stays open. Two configurations that mean the same are equal, wherever their
//! words stand.

mod bfd;
mod checker;
mod global;
mod host;
mod instance;
mod mail;
mod service;

pub use bfd::BfdInstance;
pub use checker::{
    Binding, Check, Checker, HttpCheck, HttpProtocol, Probe, StatusCodes, Timing, UrlCheck,
};
pub use global::{Announce, Fifo, Firewall, Global, Synchronisation};
pub use host::{
    Hop, Id, MADE_BY_KEEPALIVED, MAIN_TABLE, Metric, Route, RouteKind, Rule, RuleAction, Statics,
    TrackGroup, Tracking,
};
pub use instance::{
    Authentication, Instance, Notify, Peer, SyncGroup, Track, Tracked, Verification,
    VirtualAddress, VirtualMac,
};
pub use mail::Mail;
pub use service::{Members, Method, Server, Service, ServiceGroup, ServiceKey, Sorry, Target};

use std::time::Duration;

use super::document::Place;

/// What a keepalived.conf means.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Configuration {
    /// `global_defs`.
    pub global: Global,
    /// `static_ipaddress`, `static_routes`, `static_rules`.
    pub statics: Statics,
    /// `track_group`, in order.
    pub track_groups: Vec<TrackGroup>,
    /// `vrrp_instance`, in order.
    pub instances: Vec<Instance>,
    /// `vrrp_sync_group`, in order.
    pub sync_groups: Vec<SyncGroup>,
    /// `vrrp_script`, in order.
    pub scripts: Vec<TrackScript>,
    /// `track_file`, in order.
    pub track_files: Vec<TrackFile>,
    /// `vrrp_track_process`, in order.
    pub track_processes: Vec<TrackProcess>,
    /// `bfd_instance`, in order.
    pub bfd_instances: Vec<BfdInstance>,
    /// `SSL`: who this host is to those whom `SSL_GET` asks.
    pub tls: Option<TlsIdentity>,
    /// `garp_group`, in order.
    pub garp_groups: Vec<GarpGroup>,
    /// `virtual_server_group`, in order.
    pub service_groups: Vec<ServiceGroup>,
    /// `virtual_server`, in order.
    pub services: Vec<Service>,
}

/// Where the keywords of something stand; any two are equal, for places mean nothing.
#[derive(Debug, Clone, Default)]
pub struct Places {
    begin: Place,
    keywords: Vec<(&'static str, Place)>,
}

impl PartialEq for Places {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Places {}

impl Places {
    pub(super) fn new(begin: Place) -> Self {
        Self {
            begin,
            keywords: Vec::new(),
        }
    }

    pub(super) fn note(&mut self, keyword: &'static str, place: Place) {
        self.keywords.push((keyword, place));
    }

    /// Where the block begins.
    pub fn begin(&self) -> Place {
        self.begin
    }

    /// Where a keyword stands, none if it was not written.
    pub fn of(&self, keyword: &str) -> Option<Place> {
        let found = self.keywords.iter().rev().find(|(k, _)| *k == keyword);
        found.map(|(_, place)| *place)
    }

    /// Where a keyword stands, else where the block begins.
    pub fn near(&self, keyword: &str) -> Place {
        self.of(keyword).unwrap_or(self.begin)
    }
}

/// A command as written; its words are divided when it runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Command {
    /// Program and arguments.
    pub line: String,
    /// Who runs it; none is `script_user`.
    pub user: Option<User>,
}

/// A user and a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// The user's name.
    pub name: String,
    /// The group's name; none is the user's own.
    pub group: Option<String>,
}

/// `vrrp_script`: a command whose success counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrackScript {
    /// Its name.
    pub name: String,
    /// Where it stands.
    pub places: Places,
    /// What is run.
    pub command: Command,
    /// Time between two runs.
    pub interval: Duration,
    /// Time after which a run has failed.
    pub timeout: Duration,
    /// Weight where the tracker names none.
    pub weight: Weight,
    /// Successes until it is up.
    pub rise: u32,
    /// Failures until it is down.
    pub fall: u32,
    /// True when it is down until it succeeds.
    pub init_fail: bool,
}

/// `track_file`: a file that holds a number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrackFile {
    /// Its name.
    pub name: String,
    /// Where it stands.
    pub places: Places,
    /// The file's path.
    pub path: String,
    /// Weight where the tracker names none.
    pub weight: Weight,
    /// The number that it gets at the start, and whether it replaces another.
    pub initial: Option<(i64, bool)>,
}

/// `vrrp_track_process`: how many processes run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrackProcess {
    /// Its name.
    pub name: String,
    /// Where it stands.
    pub places: Places,
    /// The process's name, then its parameters.
    pub command: Vec<String>,
    /// How parameters match: `initial`, `partial`, or exactly.
    pub matching: Option<String>,
    /// Weight where the tracker names none.
    pub weight: Weight,
    /// Fewer processes are too few.
    pub least: u32,
    /// More processes are too many, if there is an end.
    pub most: Option<u32>,
    /// How long enough processes run before they count.
    pub rise_delay: Duration,
    /// How long they may be too few before it counts.
    pub fall_delay: Duration,
    /// True when the whole command line is compared.
    pub full_command: bool,
}

/// `SSL`: a certificate and its key, files in PEM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsIdentity {
    /// The certificate, and those between it and its authority.
    pub certificate: String,
    /// Its key.
    pub key: String,
}

/// `garp_group`: how fast announcements leave by interfaces.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GarpGroup {
    /// Where it stands.
    pub places: Places,
    /// Time between gratuitous ARPs, if it has one.
    pub garp_interval: Option<Duration>,
    /// Time between unsolicited neighbor advertisements, if it has one.
    pub gna_interval: Option<Duration>,
    /// The interfaces.
    pub interfaces: Vec<String>,
}

/// How much something tracked weighs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Weight {
    /// The number; 0 is fault or no fault.
    pub weight: i32,
    /// Turned around.
    pub reverse: bool,
}

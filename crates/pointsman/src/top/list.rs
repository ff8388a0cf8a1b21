//! What `pointsman top` lists: services with their real servers, the busiest first.

use std::{cmp::Ordering, net::IpAddr};

use pointsman_daemon::status::Status;
use pointsman_director::model::{RateView, ServerView, ServiceView};

/// What the list is sorted by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Sorting {
    #[default]
    Traffic,
    Connections,
    Packets,
    Active,
    Inactive,
    Name,
}

impl Sorting {
    const ALL: [Self; 6] = [
        Self::Traffic,
        Self::Connections,
        Self::Packets,
        Self::Active,
        Self::Inactive,
        Self::Name,
    ];

    pub(super) const fn words(self) -> &'static str {
        match self {
            Self::Traffic => "bytes a second",
            Self::Connections => "connections a second",
            Self::Packets => "packets a second",
            Self::Active => "active connections",
            Self::Inactive => "inactive connections",
            Self::Name => "name",
        }
    }

    /// The one `steps` behind this one, in a circle.
    pub(super) fn turned(self, steps: usize) -> Self {
        let at = Self::ALL.iter().position(|sorting| *sorting == self);
        Self::ALL[(at.unwrap_or_default() + steps) % Self::ALL.len()]
    }

    pub(super) fn previous(self) -> Self {
        self.turned(Self::ALL.len() - 1)
    }

    fn weight(self, load: &Load) -> u64 {
        let rate = &load.rate;
        match self {
            Self::Traffic => rate.in_bytes.saturating_add(rate.out_bytes),
            Self::Connections => rate.connections,
            Self::Packets => rate.in_packets.saturating_add(rate.out_packets),
            Self::Active => load.active,
            Self::Inactive => load.inactive,
            Self::Name => 0,
        }
    }
}

/// What a service or a real server has to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Load {
    pub(super) rate: RateView,
    pub(super) active: u64,
    pub(super) inactive: u64,
}

impl Load {
    fn of_server(view: &ServerView) -> Self {
        Self {
            rate: view.rate,
            active: view.active.into(),
            inactive: view.inactive.into(),
        }
    }

    fn of_service(view: &ServiceView) -> Self {
        let servers = || view.servers.iter();
        Self {
            rate: view.rate,
            active: servers().map(|server| u64::from(server.active)).sum(),
            inactive: servers().map(|server| u64::from(server.inactive)).sum(),
        }
    }

    fn add(&mut self, other: &Self) {
        self.rate.connections += other.rate.connections;
        self.rate.in_packets += other.rate.in_packets;
        self.rate.out_packets += other.rate.out_packets;
        self.rate.in_bytes += other.rate.in_bytes;
        self.rate.out_bytes += other.rate.out_bytes;
        self.active += other.active;
        self.inactive += other.inactive;
    }
}

/// A row of the list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Row {
    /// A service's row, not a real server's.
    pub(super) is_service: bool,
    pub(super) name: String,
    pub(super) load: Load,
    /// Weight of a real server.
    pub(super) weight: Option<i32>,
    /// Scheduler of a service, next hop of a real server.
    pub(super) note: String,
    /// Nothing can be sent to it.
    pub(super) is_stuck: bool,
}

/// What the daemon said at one moment.
#[derive(Debug)]
pub(super) struct Picture {
    pub(super) status: Status,
    /// Rates are estimated.
    pub(super) estimating: bool,
    services: Vec<ServiceView>,
    loads: Vec<Load>,
    pub(super) total: Load,
    pub(super) servers: usize,
    /// Positions in `services`, and in the servers of each; in the order of the list.
    rows: Vec<(usize, Option<usize>)>,
}

impl Picture {
    pub(super) fn new(
        status: Status,
        estimating: bool,
        services: Vec<ServiceView>,
        sorting: Sorting,
    ) -> Self {
        let loads: Vec<Load> = services.iter().map(Load::of_service).collect();
        let mut total = Load::default();
        loads.iter().for_each(|load| total.add(load));
        let mut picture = Self {
            status,
            estimating,
            servers: services.iter().map(|service| service.servers.len()).sum(),
            services,
            loads,
            total,
            rows: Vec::new(),
        };
        picture.sort(sorting);
        picture
    }

    /// Puts services, and the real servers of each, in order.
    pub(super) fn sort(&mut self, sorting: Sorting) {
        let Self {
            services,
            loads,
            rows,
            ..
        } = self;
        let heavier = |a: &Load, b: &Load| sorting.weight(b).cmp(&sorting.weight(a));
        let mut order: Vec<usize> = (0..services.len()).collect();
        order.sort_by(|a, b| {
            heavier(&loads[*a], &loads[*b])
                .then_with(|| services[*a].service.id.cmp(&services[*b].service.id))
        });
        rows.clear();
        for at in order {
            let servers = &services[at].servers;
            let mut inner: Vec<usize> = (0..servers.len()).collect();
            inner.sort_by(|a, b| {
                let (a, b) = (&servers[*a], &servers[*b]);
                heavier(&Load::of_server(a), &Load::of_server(b)).then_with(|| by_address(a, b))
            });
            rows.push((at, None));
            rows.extend(inner.into_iter().map(|server| (at, Some(server))));
        }
    }

    pub(super) fn services(&self) -> usize {
        self.services.len()
    }

    /// Rows of the list.
    pub(super) fn len(&self) -> usize {
        self.rows.len()
    }

    /// Rows from `first` on.
    pub(super) fn rows(&self, first: usize) -> impl Iterator<Item = Row> {
        let rows = self.rows.iter().skip(first);
        rows.map(|(service, server)| {
            let view = &self.services[*service];
            match server {
                Some(server) => server_row(&view.servers[*server]),
                None => service_row(view, self.loads[*service]),
            }
        })
    }

    /// The first service's row behind `row`, if there is one.
    pub(super) fn service_behind(&self, row: usize) -> Option<usize> {
        (row + 1..self.rows.len()).find(|row| self.rows[*row].1.is_none())
    }

    /// The last service's row before `row`, if there is one.
    pub(super) fn service_before(&self, row: usize) -> Option<usize> {
        let row = row.min(self.rows.len());
        (0..row).rev().find(|row| self.rows[*row].1.is_none())
    }
}

fn by_address(a: &ServerView, b: &ServerView) -> Ordering {
    let key = |view: &ServerView| (view.server.address, view.server.port);
    key(a).cmp(&key(b))
}

fn service_row(view: &ServiceView, load: Load) -> Row {
    Row {
        is_service: true,
        name: view.service.id.to_string(),
        load,
        weight: None,
        note: view.service.scheduler.clone(),
        is_stuck: false,
    }
}

fn server_row(view: &ServerView) -> Row {
    let server = &view.server;
    let name = match server.address {
        IpAddr::V4(address) => format!("  -> {address}:{}", server.port),
        IpAddr::V6(address) => format!("  -> [{address}]:{}", server.port),
    };
    Row {
        is_service: false,
        name,
        load: Load::of_server(view),
        weight: Some(server.weight),
        note: view.next_hop.clone(),
        // What the daemon says of next hops that it has not found.
        is_stuck: ["unresolved", "not looked up"]
            .iter()
            .any(|words| view.next_hop.starts_with(words)),
    }
}

/// A number in four digits and a unit at most: `0`, `9999`, `12.3k`, `1234k`, `12.3M`.
pub(super) fn short(number: u64) -> String {
    if number < 10_000 {
        return number.to_string();
    }
    let mut rest = number;
    let mut tenths = 0;
    for unit in ["k", "M", "G", "T", "P", "E"] {
        tenths = rest % 1000 / 100;
        rest /= 1000;
        if rest < 100 {
            return format!("{rest}.{tenths}{unit}");
        }
        if rest < 10_000 {
            return format!("{rest}{unit}");
        }
    }
    format!("{rest}.{tenths}E")
}

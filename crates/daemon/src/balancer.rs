//! The director and its data plane, shared by everything in the daemon.
//!
//! Two locks: one around the director's configuration, held for short pieces of work; one around
//! the data plane, which nearly everybody only reads. Who needs both takes the configuration first.

pub mod census;

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard},
};

use pointsman_director::{
    Reason,
    adopt::Adopted,
    control::{Director, HopRequest, MirrorError, Untaken, address_words, sum},
    model::{
        Change, ControlError, MarkRuleView, RealServer, ServerView, ServiceId, ServiceView,
        TimeoutsView, VirtualService,
    },
    record::{ServerCounts, ServerRecord, Settings, server_flag, settings_flag},
    setting::{Setting, SettingError},
    tcp::state,
};
use pointsman_wire::{Mac, sync::SyncConnection};
use tokio::sync::Notify;

use crate::{
    connections::Names,
    defence::next_mode,
    hops::Way,
    plane::{Flow, Plane, PlaneError},
    settings::{Given, RunningSettings},
    state::{SavedService, SavedState},
};

/// Changes applied before somebody else gets a turn.
const TURN: usize = 256;

/// A change that was refused.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Refusal {
    /// Which of the changes, from 0.
    pub index: usize,
    /// Why, in words.
    pub error: String,
    /// Why.
    pub cause: ControlError,
}

/// Why settings were not set.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SetError {
    /// A value is out of range.
    #[error(transparent)]
    Setting(#[from] SettingError),
    /// The programs could not be told.
    #[error(transparent)]
    Mirror(#[from] MirrorError),
}

/// Whether the changes behind a refused one are carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnRefusal {
    /// They are not.
    Stop,
    /// They are.
    GoOn,
}

/// Where frames to a real server go, in words too.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedWay {
    /// Index of the real server.
    pub server: u32,
    /// Its address, to know it is still the same.
    pub address: IpAddr,
    /// For its record.
    pub way: Way,
    /// For people.
    pub text: String,
}

#[derive(Debug)]
struct State {
    director: Director,
    settings: RunningSettings,
    /// Next hops in words, by index of the real server.
    hops: HashMap<u32, (IpAddr, String)>,
}

/// The director and its data plane.
#[derive(Debug)]
pub struct Balancer<P> {
    state: Mutex<State>,
    plane: RwLock<P>,
    /// Something about real servers changed, so next hops have to be looked at.
    pub changed: Notify,
    /// Something changed that outlives the daemon.
    pub unsaved: Notify,
}

impl<P: Plane> Balancer<P> {
    /// Puts both together; the director's record already follows `settings`.
    pub fn new(director: Director, settings: RunningSettings, plane: P) -> Self {
        Self {
            state: Mutex::new(State {
                director,
                settings,
                hops: HashMap::new(),
            }),
            plane: RwLock::new(plane),
            changed: Notify::new(),
            unsaved: Notify::new(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The data plane, to read.
    pub fn plane(&self) -> RwLockReadGuard<'_, P> {
        self.plane.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does `work` on the data plane alone, unless somebody reads it at the moment.
    ///
    /// Waiting would let every reader behind wait too, for as long as a sweep takes.
    pub fn try_plane_mut<T>(&self, work: impl FnOnce(&mut P) -> T) -> Option<T> {
        self.plane
            .try_write()
            .ok()
            .map(|mut plane| work(&mut plane))
    }

    /// Carries changes out in their order; returns the refused ones.
    pub fn apply(&self, changes: &[Change], on_refusal: OnRefusal) -> Vec<Refusal> {
        let mut refusals = Vec::new();
        let mut first = 0;
        for turn in changes.chunks(TURN) {
            let mut state = self.state();
            let plane = self.plane();
            let mut stopped = false;
            let refused = |offset, cause: ControlError| {
                refusals.push(Refusal {
                    index: first + offset,
                    error: cause.to_string(),
                    cause,
                });
                stopped = on_refusal == OnRefusal::Stop;
                !stopped
            };
            let director = &mut state.director;
            director.apply_all(turn, &mut plane.mirror(), refused);
            if stopped {
                break;
            }
            first += turn.len();
        }
        if !changes.is_empty() {
            self.changed.notify_one();
            self.unsaved.notify_one();
        }
        refusals
    }

    /// Services and real servers with what they are doing.
    pub fn services(&self) -> Result<Vec<ServiceView>, PlaneError> {
        let state = self.state();
        let indices = configured(&state.director);
        let (counts, stats) = {
            let plane = self.plane();
            (plane.all_counts(&indices)?, plane.all_stats(&indices)?)
        };
        let none = ServerCounts::default();
        let mut views = Vec::new();
        for service in state.director.services() {
            let mut total = service.past();
            let mut servers = Vec::new();
            for server in service.servers() {
                let index = server.index() as usize;
                let counts = counts.get(index).unwrap_or(&none);
                let stats = server.since_zero(stats.get(index).copied().unwrap_or_default());
                total = sum(total, stats);
                let address = server.config().address;
                let next_hop = match state.hops.get(&server.index()) {
                    Some((of, text)) if *of == address => text.clone(),
                    _ => "not looked up yet".to_owned(),
                };
                servers.push(ServerView {
                    server: server.config().clone(),
                    active: counts.active.load(),
                    inactive: counts.inactive.load(),
                    persistent: counts.persistent.load(),
                    stats: stats.into(),
                    rate: server.rate(),
                    next_hop,
                });
            }
            views.push(ServiceView {
                service: service.config().clone(),
                stats: total.into(),
                rate: service.rate(),
                servers,
            });
        }
        Ok(views)
    }

    /// The services there are.
    pub fn ids(&self) -> Vec<ServiceId> {
        let state = self.state();
        let services = state.director.services();
        services.map(|service| service.config().id).collect()
    }

    /// A service as configured, and its real servers.
    pub fn service(&self, id: ServiceId) -> Option<(VirtualService, Vec<RealServer>)> {
        let state = self.state();
        let service = state.director.service(&id)?;
        let servers = service.servers().map(|server| server.config().clone());
        Some((service.config().clone(), servers.collect()))
    }

    /// One step of every rate, [`pointsman_director::estimate::PERIOD`] after the last; all begin
    /// anew when that is not so.
    pub fn estimate(&self, anew: bool) -> Result<(), PlaneError> {
        let mut state = self.state();
        let stats = self.plane().all_stats(&configured(&state.director))?;
        match anew {
            true => state.director.begin_estimates(&stats),
            false => state.director.estimate(&stats),
        }
        Ok(())
    }

    /// The timeouts of `--set`.
    pub fn timeouts(&self) -> TimeoutsView {
        timeouts(self.state().director.settings())
    }

    /// The rules that make firewall marks.
    pub fn mark_rules(&self) -> Vec<MarkRuleView> {
        self.state().director.mark_rule_views()
    }

    /// Tells which interfaces exist, with their indices: mark rules that name them follow.
    pub fn set_interfaces(&self, interfaces: HashMap<String, u32>) -> Result<(), MirrorError> {
        let mut state = self.state();
        let plane = self.plane();
        state
            .director
            .set_interfaces(interfaces, &mut plane.mirror())
    }

    /// How often each verdict was given.
    pub fn verdicts(&self) -> Result<Vec<(Reason, u64)>, PlaneError> {
        self.plane().verdicts()
    }

    /// Connections that real servers have, removed ones included.
    pub fn connections_used(&self) -> Result<u64, PlaneError> {
        let indices = with_removed(&self.state().director);
        let counts = self.plane().all_counts(&indices)?;
        Ok(connections(&indices, &counts))
    }

    /// The addresses of real servers by index, for [`Balancer::each_connection`].
    pub fn names(&self) -> Result<Names, PlaneError> {
        let mut names = Names::default();
        let any_removed = {
            let state = self.state();
            for service in state.director.services() {
                for server in service.servers() {
                    names.insert(server.index(), server.config().address);
                }
            }
            state.director.removed().next().is_some()
        };
        if any_removed {
            for (index, record) in self.plane().records()?.servers {
                let ipv6 = record.flags & server_flag::IPV6 != 0;
                let address = pointsman_director::control::words_address(&record.address, ipv6);
                names.insert(index, address);
            }
        }
        Ok(names)
    }

    /// Gives each connection to `take` until that returns false; nothing is locked meanwhile.
    ///
    /// # Errors
    ///
    /// When connections can't be read.
    pub fn each_connection(&self, mut take: impl FnMut(Flow) -> bool) -> Result<(), PlaneError> {
        let mut position = P::Position::default();
        loop {
            let some = self.plane().read_connections(&mut position)?;
            if some.is_empty() {
                return Ok(());
            }
            for flow in some {
                if !take(flow) {
                    return Ok(());
                }
            }
        }
    }

    /// Takes connections that another director told of into the table, as if `packets` of their clients had
    /// passed here; what became of each.
    pub fn adopt(
        &self,
        told: &[SyncConnection],
        packets: u32,
    ) -> Result<Vec<Result<Adopted, Untaken>>, PlaneError> {
        // Held throughout: a real server's index means the same until the end.
        let state = self.state();
        let taken = told.iter().map(|one| state.director.take_told(one));
        let taken: Vec<Result<Flow, Untaken>> = taken.collect();
        let flows: Vec<Flow> = taken.iter().flatten().cloned().collect();
        for (_, record) in &flows {
            record.packets.store(packets);
        }
        let mut adopted = self.plane().adopt(&flows)?.into_iter();
        let each = taken
            .into_iter()
            .map(|taken| taken.map(|_| adopted.next().unwrap_or(Adopted::Contended)));
        Ok(each.collect())
    }

    /// True when the real server of a connection that another director told of is there.
    pub fn has_server_told(&self, told: &SyncConnection) -> bool {
        self.state().director.take_told(told) != Err(Untaken::Unbound)
    }

    /// Has real servers of another family than their service refused, or no longer; false when there are
    /// some.
    pub fn forbid_mixed(&self, forbidden: bool) -> bool {
        self.state().director.forbid_mixed(forbidden)
    }

    /// Ends connections whose time is over, with `dropping` also those that `drop_entry` may end; returns
    /// how many.
    pub fn sweep(&self, dropping: bool) -> Result<u32, PlaneError> {
        self.plane().sweep(dropping)
    }

    /// The time by the programs' clock, nanoseconds.
    pub fn now(&self) -> Result<u64, PlaneError> {
        self.plane().now()
    }

    /// Gives back what removed servers held, once no connection refers to them.
    pub fn collect_removed(&self) -> Result<(), MirrorError> {
        let mut state = self.state();
        let plane = self.plane();
        state.director.collect_removed(&mut plane.mirror())
    }

    /// Forgets what caches of destinations have held unused for long; returns how many entries. To be
    /// called every [`LOCALITY_INTERVAL`](pointsman_director::control::LOCALITY_INTERVAL) seconds.
    pub fn expire_localities(&self) -> Result<usize, MirrorError> {
        let mut state = self.state();
        let plane = self.plane();
        let now = plane.now().map_err(|error| MirrorError(error.0))?;
        state.director.expire_localities(now, &mut plane.mirror())
    }

    /// The real servers whose next hops have to be known.
    pub fn hop_requests(&self) -> Vec<HopRequest> {
        self.state().director.hops().collect()
    }

    /// Writes the ways that differ from the records, and raises the epoch if told; returns how many
    /// records were written.
    pub fn set_ways(&self, ways: Vec<NamedWay>, new_epoch: bool) -> Result<usize, MirrorError> {
        let mut state = self.state();
        let plane = self.plane();
        let mut mirror = plane.mirror();
        let ways: HashMap<u32, NamedWay> = ways.into_iter().map(|way| (way.server, way)).collect();
        let mut differing = Vec::new();
        let mut hops = HashMap::with_capacity(ways.len());
        for service in state.director.services() {
            for server in service.servers() {
                // A server that took the index over meanwhile is looked at in the next round.
                let Some(named) = ways
                    .get(&server.index())
                    .filter(|named| named.address == server.config().address)
                else {
                    continue;
                };
                let (way, record) = (&named.way, server.record());
                let gateway_ipv6 = record.flags & server_flag::GATEWAY_IPV6 != 0;
                if record.hop != way.hop
                    || record.gateway != address_words(way.gateway)
                    || gateway_ipv6 != way.gateway.is_ipv6()
                    || record.tunnel_source != way.source.map(address_words).unwrap_or_default()
                {
                    differing.push((server.index(), *way));
                }
                hops.insert(server.index(), (named.address, named.text.clone()));
            }
        }
        let count = differing.len();
        for (index, way) in differing {
            let Way {
                hop,
                gateway,
                source,
                ..
            } = way;
            state
                .director
                .set_hop(index, hop, gateway, source, &mut mirror)?;
        }
        state.hops = hops;
        if new_epoch {
            let mut settings = *state.director.settings();
            // 0 means "never looked up" in the programs.
            settings.epoch = settings.epoch.checked_add(1).unwrap_or(1);
            state.director.set_settings(settings, &mut mirror)?;
        }
        Ok(count)
    }

    /// What holds for every service.
    pub fn settings(&self) -> Settings {
        *self.state().director.settings()
    }

    /// The value of a setting.
    pub fn setting(&self, setting: Setting) -> u32 {
        self.state().settings.values().get(setting)
    }

    /// All settings.
    pub fn running_settings(&self) -> RunningSettings {
        self.state().settings.clone()
    }

    /// Sets all of `given`, or none; returns the settings after that.
    pub fn set(&self, given: &Given) -> Result<RunningSettings, SetError> {
        let mut state = self.state();
        let settings = state.settings.with(given)?;
        self.follow(&mut state, settings)?;
        self.unsaved.notify_one();
        Ok(state.settings.clone())
    }

    /// What outlives the daemon, but for the data plane that it belongs to.
    pub fn saved_state(&self) -> SavedState {
        let state = self.state();
        let services = state.director.services().map(|service| {
            let newest_first = service.servers().map(|server| server.config().clone());
            let mut servers: Vec<_> = newest_first.collect();
            servers.reverse();
            SavedService {
                service: service.config().clone(),
                servers,
            }
        });
        SavedState {
            timeouts: Some(timeouts(state.director.settings())),
            settings: state.settings.given().clone(),
            mark_rules: state.director.mark_rules().to_vec(),
            services: services.collect(),
            sync: Vec::new(),
            plane: None,
            ledger: state.director.ledger(),
        }
    }

    /// Has `drop_entry` follow memory that is short or not; what is news.
    pub fn follow_memory(&self, short: bool) -> Result<Option<bool>, SetError> {
        let mut state = self.state();
        let mode = state.settings.values().get(Setting::DropEntry);
        let next = next_mode(mode, short);
        if next == mode {
            return Ok(None);
        }
        let settings = state.settings.following(Setting::DropEntry, next)?;
        self.follow(&mut state, settings)?;
        Ok(Some(short))
    }

    fn follow(&self, state: &mut State, settings: RunningSettings) -> Result<(), MirrorError> {
        let record = settings.values().apply(*state.director.settings());
        if record != *state.director.settings() {
            let plane = self.plane();
            state.director.set_settings(record, &mut plane.mirror())?;
        }
        state.settings = settings;
        Ok(())
    }

    /// The record of a real server, and what holds for every service; none when it is gone.
    pub fn server(&self, index: u32) -> Option<(ServerRecord, Settings)> {
        let state = self.state();
        let record = *state.director.server(index)?.record();
        Some((record, *state.director.settings()))
    }

    /// Tells the programs whether the connection table is full; true when that is news.
    pub fn set_table_full(&self, full: bool) -> Result<bool, MirrorError> {
        let mut state = self.state();
        let mut settings = *state.director.settings();
        let is_set = settings.flags & settings_flag::TABLE_FULL != 0;
        if is_set == full {
            return Ok(false);
        }
        settings.flags ^= settings_flag::TABLE_FULL;
        let plane = self.plane();
        state.director.set_settings(settings, &mut plane.mirror())?;
        Ok(true)
    }

    /// Tells the programs the address of an attached device.
    pub fn set_link(&self, ifindex: u32, mac: Mac) -> Result<(), PlaneError> {
        self.plane().set_link(ifindex, mac)
    }

    /// True when `address` is that of a virtual service.
    pub fn is_virtual(&self, address: IpAddr) -> bool {
        use pointsman_director::model::ServiceId;
        let state = self.state();
        state.director.is_marked(address)
            || state.director.services().any(|service| {
                let id = &service.config().id;
                matches!(id, ServiceId::Address { address: of, .. } if *of == address)
            })
    }
}

fn timeouts(settings: &Settings) -> TimeoutsView {
    TimeoutsView {
        tcp: settings.tcp_timeouts[usize::from(state::ESTABLISHED)],
        tcp_fin: settings.tcp_timeouts[usize::from(state::FIN_WAIT)],
        udp: settings.udp_timeout,
    }
}

/// The indices of configured real servers, rising.
fn configured(director: &Director) -> Vec<u32> {
    let servers = director.services().flat_map(|service| service.servers());
    let mut indices: Vec<u32> = servers.map(|server| server.index()).collect();
    indices.sort_unstable();
    indices
}

/// The same, and those of removed ones that still have connections.
fn with_removed(director: &Director) -> Vec<u32> {
    let mut indices = configured(director);
    indices.extend(director.removed().map(|(_, index)| index));
    indices.sort_unstable();
    indices
}

/// Connections of these real servers together.
fn connections(servers: &[u32], counts: &[ServerCounts]) -> u64 {
    let each = servers
        .iter()
        .filter_map(|index| counts.get(*index as usize))
        .map(|counts| u64::from(counts.active.load()) + u64::from(counts.inactive.load()));
    each.sum()
}

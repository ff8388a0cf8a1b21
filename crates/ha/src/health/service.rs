//! One virtual service: its real servers, its quorum, its sorry server.

use std::collections::VecDeque;

use super::notice::{HealthNotice, Occasion, Standing};

/// A virtual service to be minded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceConfig {
    /// As keepalived names it in FIFOs: `[192.168.201.15]:tcp:80`.
    pub name: String,
    /// Weight of live real servers that is enough; more than all have counts as what all have.
    pub quorum: u32,
    /// How far beyond the quorum the weight has to rise or fall before it counts; as much as the
    /// quorum or more counts as one less than it.
    pub hysteresis: u32,
    /// True when notices of what goes down are sent at the end, too; `omega`.
    pub omega: bool,
    /// True when there is a real server for the time without quorum.
    pub sorry_server: bool,
    /// True when the sorry server stays with weight 0 while it is not needed; `sorry_server_inhibit`.
    pub sorry_inhibit: bool,
    /// The real servers.
    pub servers: Vec<ServerConfig>,
}

/// How a service stood that was minded before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Stood {
    /// There were enough real servers.
    pub enough: bool,
    /// The sorry server served.
    pub sorry: bool,
}

/// A real server to be minded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerConfig {
    /// As keepalived names it in FIFOs: `[1.2.3.4]:tcp:80`.
    pub name: String,
    /// Its weight while it is up.
    pub weight: u32,
    /// True when it stays with weight 0 while it is down; `inhibit_on_failure`.
    pub inhibit: bool,
    /// For each of its checkers whether it is up from the start; false is `alpha`.
    pub checkers: Vec<bool>,
}

/// A real server that is added, edited or removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Target {
    /// The one at this position of [`ServiceConfig::servers`].
    Server(usize),
    /// The sorry server.
    Sorry,
}

/// What a virtual service's health wants done, in this order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HealthOutput {
    /// Add a real server.
    Add(Target, u32),
    /// Give a real server this weight; 0 takes no new connections.
    Weigh(Target, u32),
    /// Remove a real server.
    Remove(Target),
    /// Tell scripts and FIFOs.
    Notify(HealthNotice),
}

#[derive(Debug)]
struct Server {
    checkers: Vec<bool>,
    /// What checks add to or take from the configured weight.
    dynamic: i64,
    up: bool,
    /// The weight it has in the service, none while it is not there.
    placed: Option<u32>,
}

/// One virtual service.
#[derive(Debug)]
pub struct ServiceHealth {
    config: ServiceConfig,
    servers: Vec<Server>,
    quorum: u64,
    hysteresis: u64,
    /// True while there are enough.
    enough: bool,
    /// True while the sorry server serves.
    sorry: bool,
    /// What notices follow from now.
    occasion: Occasion,
    outputs: VecDeque<HealthOutput>,
}

impl ServiceHealth {
    /// A virtual service that was just made, without real servers; the first outputs add them.
    pub fn new(config: ServiceConfig) -> Self {
        Self::resume(config, &[], Stood::default())
    }

    /// The same for a service that was minded before: what checks have added to real servers' weights, by
    /// position, and how it stood. Nobody is told what has been told.
    pub fn resume(config: ServiceConfig, dynamic: &[i64], stood: Stood) -> Self {
        let total: u64 = config.servers.iter().map(|s| u64::from(s.weight)).sum();
        let quorum = u64::from(config.quorum).min(total).max(1);
        let servers = config
            .servers
            .iter()
            .enumerate()
            .map(|(at, server)| Server {
                checkers: server.checkers.clone(),
                dynamic: dynamic.get(at).copied().unwrap_or(0),
                up: server.checkers.iter().all(|up| *up),
                placed: None,
            });
        let mut service = Self {
            servers: servers.collect(),
            quorum,
            hysteresis: u64::from(config.hysteresis).min(quorum - 1),
            enough: stood.enough,
            sorry: stood.sorry && !stood.enough && config.sorry_server,
            occasion: Occasion::Begin,
            outputs: VecDeque::new(),
            config,
        };
        service.begin();
        service
    }

    /// True while live real servers have the weight of the quorum.
    pub fn has_quorum(&self) -> bool {
        self.enough
    }

    /// True while the sorry server serves.
    pub fn is_sorry(&self) -> bool {
        self.sorry
    }

    /// True when no checker of the real server at this position is failed.
    pub fn is_up(&self, server: usize) -> bool {
        self.servers.get(server).is_some_and(|server| server.up)
    }

    /// The weight of live real servers.
    pub fn live_weight(&self) -> u64 {
        let all = 0..self.servers.len();
        let live = all.filter(|at| self.servers[*at].up);
        live.map(|at| u64::from(self.weight(at))).sum()
    }

    /// Tells that a real server is up, if it is (`rs_init_notifies`).
    pub fn tell_up(&mut self, server: usize) {
        if self.is_up(server) {
            self.notify_server(server, true);
        }
    }

    /// The next thing to do.
    pub fn poll_output(&mut self) -> Option<HealthOutput> {
        self.outputs.pop_front()
    }

    /// Tells that a checker of a real server is up or failed.
    pub fn handle_checker(&mut self, server: usize, checker: usize, up: bool) {
        self.occasion = Occasion::Change;
        let Some(state) = self.servers.get_mut(server) else {
            return;
        };
        if let Some(slot) = state.checkers.get_mut(checker) {
            *slot = up;
        }
        let up = state.checkers.iter().all(|up| *up);
        if std::mem::replace(&mut state.up, up) == up {
            return;
        }
        if !self.sorry {
            self.place(server, up);
        }
        self.notify_server(server, up);
        self.settle();
    }

    /// Tells what dynamic checks and files of a real server add to its weight; at 0 and below it takes
    /// no new connections.
    pub fn handle_weight(&mut self, server: usize, dynamic: i64) {
        self.occasion = Occasion::Change;
        let Some(state) = self.servers.get_mut(server) else {
            return;
        };
        state.dynamic = dynamic;
        if state.up && !self.sorry {
            self.place(server, true);
        }
        self.settle();
    }

    /// Ends: with `omega`, what is up is told to be down. Removing the service is somebody else's.
    pub fn stop(&mut self) {
        if !self.config.omega {
            return;
        }
        self.occasion = Occasion::End;
        for server in 0..self.servers.len() {
            if std::mem::take(&mut self.servers[server].up) {
                self.notify_server(server, false);
            }
        }
        if std::mem::take(&mut self.enough) {
            self.notify_quorum(false);
        }
    }

    /// Who does not serve now is not there for a moment either.
    fn begin(&mut self) {
        self.sorry |= self.config.sorry_server && self.live_weight() < self.lost_below();
        if self.sorry || self.config.sorry_server && self.config.sorry_inhibit {
            let weight = self.sorry.into();
            let add = HealthOutput::Add(Target::Sorry, weight);
            self.outputs.push_back(add);
        }
        for server in 0..self.servers.len() {
            self.place(server, self.servers[server].up && !self.sorry);
        }
        self.settle();
    }

    /// Where the weight stands: gained at quorum and hysteresis, lost below quorum without it.
    fn settle(&mut self) {
        let live = self.live_weight();
        if !self.enough && live >= self.quorum + self.hysteresis {
            self.enough = true;
            self.dismiss_sorry();
            self.notify_quorum(true);
        } else if live < self.lost_below() {
            // Also where there never were enough: nobody else serves.
            self.call_sorry();
            if std::mem::take(&mut self.enough) {
                self.notify_quorum(false);
            }
        }
    }

    fn lost_below(&self) -> u64 {
        (self.quorum - self.hysteresis).max(1)
    }

    /// First the sorry server comes, then the others go, so that somebody is always there.
    fn call_sorry(&mut self) {
        if !self.config.sorry_server || self.sorry {
            return;
        }
        self.sorry = true;
        self.outputs.push_back(if self.config.sorry_inhibit {
            HealthOutput::Weigh(Target::Sorry, 1)
        } else {
            HealthOutput::Add(Target::Sorry, 1)
        });
        for server in 0..self.servers.len() {
            self.place(server, false);
        }
    }

    fn dismiss_sorry(&mut self) {
        if !std::mem::take(&mut self.sorry) {
            return;
        }
        for server in 0..self.servers.len() {
            self.place(server, self.servers[server].up);
        }
        self.outputs.push_back(if self.config.sorry_inhibit {
            HealthOutput::Weigh(Target::Sorry, 0)
        } else {
            HealthOutput::Remove(Target::Sorry)
        });
    }

    /// Makes the service have a real server as one that serves or not.
    fn place(&mut self, server: usize, serves: bool) {
        let wanted = if serves {
            Some(self.weight(server))
        } else {
            self.config.servers[server].inhibit.then_some(0)
        };
        let target = Target::Server(server);
        let before = std::mem::replace(&mut self.servers[server].placed, wanted);
        let output = match (before, wanted) {
            (before, wanted) if before == wanted => return,
            (None, Some(weight)) => HealthOutput::Add(target, weight),
            (Some(_), Some(weight)) => HealthOutput::Weigh(target, weight),
            (_, None) => HealthOutput::Remove(target),
        };
        self.outputs.push_back(output);
    }

    fn weight(&self, server: usize) -> u32 {
        let weight = i64::from(self.config.servers[server].weight);
        let weight = weight.saturating_add(self.servers[server].dynamic);
        weight.clamp(0, i64::from(i32::MAX)) as u32
    }

    fn notify_server(&mut self, server: usize, up: bool) {
        let name = self.config.servers[server].name.clone();
        self.notify(Some(name), up);
    }

    fn notify_quorum(&mut self, up: bool) {
        self.notify(None, up);
    }

    fn notify(&mut self, server: Option<String>, up: bool) {
        let standing = server.is_none().then(|| Standing {
            quorum: self.quorum,
            hysteresis: self.hysteresis,
            live: self.live_weight(),
        });
        self.outputs.push_back(HealthOutput::Notify(HealthNotice {
            service: self.config.name.clone(),
            server,
            up,
            occasion: self.occasion,
            standing,
        }));
    }
}

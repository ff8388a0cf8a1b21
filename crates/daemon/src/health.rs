//! How virtual services are that are minded, for people and monitors.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};

use crate::minding::{Minded, TimedCheck};

/// The virtual services that are minded now, by what they are known by.
#[derive(Debug, Default)]
pub struct Wards(Mutex<BTreeMap<String, Minded>>);

/// A virtual service that is minded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HealthStatus {
    /// As keepalived's FIFOs name it: `[192.0.2.10]:tcp:80`.
    pub service: String,
    /// Whether live real servers have the weight of the quorum.
    pub quorum: bool,
    /// Whether the sorry server serves.
    pub sorry: bool,
    /// Real servers.
    pub servers: Vec<ServerHealth>,
}

/// A real server of one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerHealth {
    /// As keepalived's FIFOs name it: `[192.0.2.21]:tcp:80`.
    pub server: String,
    /// Whether no check is failed.
    pub up: bool,
    /// Its checks.
    pub checks: Vec<CheckHealth>,
}

/// A check of one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckHealth {
    /// What keepalived.conf calls it: `HTTP_GET`.
    pub check: String,
    /// False when it is failed.
    pub up: bool,
    /// Whether it was made at all.
    pub tried: bool,
    /// Why it failed the last time, if it did; while it is up, failures do not count yet.
    pub failure: Option<String>,
}

impl Wards {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Minded>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// These are minded from now on, and no others.
    pub fn replace(&self, minded: impl Iterator<Item = (String, Minded)>) {
        *self.lock() = minded.collect();
    }

    /// How each is now.
    pub fn status(&self) -> Vec<HealthStatus> {
        self.lock().values().map(status).collect()
    }
}

fn status(minded: &Minded) -> HealthStatus {
    let known = minded.known();
    let none: &[TimedCheck] = &[];
    let servers = minded
        .service
        .servers
        .iter()
        .enumerate()
        .map(|(at, server)| {
            let made = minded.checks.get(at).map_or(none, |checks| checks);
            let known = known.servers.get(&server.name);
            let checks = made.iter().zip(known.into_iter().flatten());
            let checks: Vec<CheckHealth> = checks
                .map(|(made, known)| CheckHealth {
                    check: made.check.keyword().to_owned(),
                    up: known.up,
                    tried: known.tried,
                    failure: known.failure.clone(),
                })
                .collect();
            ServerHealth {
                server: server.name.clone(),
                up: checks.iter().all(|check| check.up),
                checks,
            }
        });
    HealthStatus {
        service: minded.service.name.clone(),
        quorum: known.enough,
        sorry: known.sorry,
        servers: servers.collect(),
    }
}

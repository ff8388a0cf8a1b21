//! BFD sessions of a configuration.

use std::collections::BTreeSet;
use std::sync::Arc;

use anyhow::Result;
use pointsman_config::keepalived::Configuration;
use pointsman_config::keepalived::model::Tracked;
use pointsman_ha::bfd::SessionConfig;
use tokio::task::block_in_place;

use super::Plan;
use super::work::Availability;
use crate::bfd::{Bfd, BfdTracker, LeftSessions};
use crate::plane::Plane;

/// The sessions.
pub(super) fn sessions(configuration: &Configuration) -> Vec<SessionConfig> {
    let all = configuration.bfd_instances.iter();
    all.map(|one| SessionConfig {
        name: one.name.clone(),
        neighbor: one.neighbor,
        source: one.source,
        min_rx: one.min_rx,
        min_tx: one.min_tx,
        idle_tx: one.idle_tx,
        multiplier: one.multiplier,
        passive: one.passive,
        hop_limit: one.hop_limit,
        max_hops: one.max_hops,
    })
    .collect()
}

/// Sessions that some virtual router tracks.
pub(super) fn tracked(configuration: &Configuration) -> Vec<BfdTracker> {
    let instances = configuration.instances.iter().flat_map(|one| &one.tracked);
    let groups = configuration.sync_groups.iter();
    let all = instances.chain(groups.flat_map(|one| &one.tracked));
    let named: BTreeSet<(String, String)> = all
        .filter(|track| track.kind == Tracked::Bfd)
        .map(|track| (track.reading(), track.name.clone()))
        .collect();
    let named = named.into_iter();
    named
        .map(|(name, session)| BfdTracker { name, session })
        .collect()
}

/// Sessions that a reload began before it counts, where there were none.
pub(super) struct Fresh(Option<Bfd>);

impl<P: Plane + Send + Sync + 'static> Availability<P> {
    /// Opens what the sessions of a plan need.
    pub(super) fn prepare_sessions(&self, plan: &Plan) -> Result<Fresh> {
        let sessions = &plan.sessions;
        match &self.bfd {
            Some(bfd) => block_in_place(|| bfd.prepare(sessions)).map(|()| Fresh(None)),
            None if sessions.is_empty() => Ok(Fresh(None)),
            None => {
                let left = (&LeftSessions::new(), 0.0);
                let board = Arc::clone(&self.shell.sessions);
                let bfd = Bfd::start(sessions, left, self.levels.clone(), board)?;
                Ok(Fresh(Some(bfd)))
            }
        }
    }

    /// Goes back to the sessions that there are.
    pub(super) fn undo_sessions(&self, fresh: Fresh) {
        block_in_place(|| {
            drop(fresh);
            if let Some(bfd) = &self.bfd {
                bfd.set_config(&self.plan.sessions);
            }
        });
    }

    /// Takes the sessions of the plan, for which all is prepared.
    pub(super) fn reload_sessions(&mut self, fresh: Fresh) {
        if let Some(bfd) = fresh.0 {
            self.bfd = Some(bfd);
            return;
        }
        block_in_place(|| {
            if self.plan.sessions.is_empty() {
                self.bfd = None;
            } else if let Some(bfd) = &self.bfd {
                bfd.set_config(&self.plan.sessions);
            }
        });
    }
}

//! What virtual routers would leave if the daemon died, told whenever it changes.

use std::collections::BTreeMap;
use std::net::IpAddr;

use pointsman_ha::vrrp::{Reading, State, VrrpRouter};
use tokio::sync::mpsc::UnboundedSender;

use super::{Holding, Left};

/// Whom to tell, and what he was told last.
#[derive(Debug, Default)]
pub(super) struct Will {
    heir: Option<UnboundedSender<Left>>,
    told: Option<Told>,
}

/// What is compared, because it is what a next daemon and `pointsman detach` need.
#[derive(Debug)]
struct Told {
    /// Which routers are master, by position.
    masters: Vec<bool>,
    held: BTreeMap<(u32, IpAddr), Holding>,
    /// How often the other things of the host were changed.
    changes: u64,
    readings: BTreeMap<String, Reading>,
}

impl Will {
    /// Tells `heir` from now on.
    pub(super) fn new(heir: UnboundedSender<Left>) -> Self {
        Self {
            heir: Some(heir),
            told: None,
        }
    }

    /// Positions mean something else from now on.
    pub(super) fn forget(&mut self) {
        self.told = None;
    }

    /// Whether something is to be told, which then counts as told.
    pub(super) fn is_due(
        &mut self,
        router: &VrrpRouter,
        held: &BTreeMap<(u32, IpAddr), Holding>,
        changes: u64,
    ) -> bool {
        if self.heir.is_none() {
            return false;
        }
        let masters = router.routers().iter();
        let masters = masters.map(|router| router.state() == State::Master);
        let is_same = self.told.as_ref().is_some_and(|told| {
            masters.clone().eq(told.masters.iter().copied())
                && *held == told.held
                && changes == told.changes
                && *router.readings() == told.readings
        });
        if !is_same {
            self.told = Some(Told {
                masters: masters.collect(),
                held: held.clone(),
                changes,
                readings: router.readings().clone(),
            });
        }
        !is_same
    }

    /// Tells it.
    pub(super) fn tell(&self, left: Left) {
        if let Some(heir) = &self.heir {
            // Without a listener nobody needs it any more.
            let _ = heir.send(left);
        }
    }
}

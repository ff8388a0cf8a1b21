//! What a sync group does with its members.

use std::time::Duration;

use super::super::notice::Notice;
use super::super::output::Output;
use super::super::tracker::Effect;
use super::{State, VirtualRouter};

impl VirtualRouter {
    pub(in crate::vrrp) fn set_grouped(&mut self, weighted: bool) {
        self.grouped = true;
        self.weighted = weighted;
    }

    /// It is in a group, where weights count or not, or in none; what follows is settled later.
    pub(in crate::vrrp) fn set_group(&mut self, weighted: Option<bool>) {
        self.grouped = weighted.is_some();
        self.weighted = weighted.unwrap_or(true);
    }

    /// True when it is or would be master.
    pub(in crate::vrrp) fn is_ready(&self) -> bool {
        self.ready || self.state == State::Master
    }

    /// True when it can't take part, its group aside.
    pub(in crate::vrrp) fn is_faulty(&self) -> bool {
        let trackers = self.config.trackers.iter().zip(&self.readings);
        self.told && self.interface.is_none()
            || trackers
                .map(|(tracker, reading)| tracker.effect(*reading))
                .any(|effect| matches!(effect, Effect::Fault))
    }

    pub(in crate::vrrp) fn set_group_fault(&mut self, fault: bool, now: Duration) {
        if self.group_fault != fault {
            self.group_fault = fault;
            self.settle(now);
        }
    }

    pub(in crate::vrrp) fn join_master(&mut self, now: Duration) {
        if self.state == State::Backup {
            self.become_master(now);
        }
    }

    pub(in crate::vrrp) fn join_backup(&mut self, now: Duration) {
        if self.state == State::Master {
            self.give_back();
            self.become_backup(now);
        }
    }

    pub(in crate::vrrp) fn has_heard_lower(&self) -> bool {
        self.heard_lower
    }

    /// Announces because another member heard a lower priority.
    pub(in crate::vrrp) fn join_announcement(&mut self, now: Duration) {
        let announced = std::mem::take(&mut self.heard_lower);
        if self.state == State::Master && !announced {
            self.announce_after_lower(now);
        }
    }

    pub(in crate::vrrp) fn push_notice(&mut self, notice: Notice) {
        self.outputs.push_back(Output::Notify(notice));
    }
}

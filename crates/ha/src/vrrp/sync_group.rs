//! Virtual routers that are master together or not at all.

use std::time::Duration;

use super::notice::{Event, Notice, Scope};
use super::virtual_router::{State, VirtualRouter};

/// A sync group: it becomes master when every member would, backup when one yields, and is in fault
/// while one is.
#[derive(Debug, Clone)]
pub struct SyncGroup {
    name: String,
    /// Positions of the members among the host's virtual routers.
    members: Vec<usize>,
    /// True when members' weighted trackers count (`sync_group_tracking_weight`).
    tracking_weight: bool,
    state: State,
}

impl SyncGroup {
    /// A group of the virtual routers at these positions.
    pub fn new(name: &str, members: &[usize], tracking_weight: bool) -> Self {
        Self {
            name: name.to_owned(),
            members: members.to_vec(),
            tracking_weight,
            state: State::Initialize,
        }
    }

    /// The same, for routers that have been at work: it is what they are, and nobody is told.
    pub(super) fn join(&mut self, routers: &[VirtualRouter]) {
        self.state = self.common_state(routers);
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What it is.
    pub fn state(&self) -> State {
        self.state
    }

    pub(super) fn members(&self) -> &[usize] {
        &self.members
    }

    pub(super) fn tracking_weight(&self) -> bool {
        self.tracking_weight
    }

    /// Brings the members together after something happened to one of them.
    pub(super) fn settle(&mut self, routers: &mut [VirtualRouter], now: Duration) {
        let fault = self.any(routers, |router| router.is_faulty());
        self.each(routers, |router| router.set_group_fault(fault, now));
        if self.state == State::Master && self.any(routers, |r| r.state() != State::Master) {
            self.each(routers, |router| router.join_backup(now));
        } else if !self.any(routers, |router| !router.is_ready()) {
            self.each(routers, |router| router.join_master(now));
        }
        if self.any(routers, |router| router.has_heard_lower()) {
            self.each(routers, |router| router.join_announcement(now));
        }
        let state = self.common_state(routers);
        if state != self.state {
            self.state = state;
            let event = match state {
                State::Master => Event::Master,
                State::Backup => Event::Backup,
                State::Fault => Event::Fault,
                State::Initialize => Event::Stop,
            };
            let notice = Notice {
                scope: Scope::Group,
                name: self.name.clone(),
                event,
                priority: 0,
            };
            if let Some(router) = self.members.last().and_then(|at| routers.get_mut(*at)) {
                router.push_notice(notice);
            }
        }
    }

    /// The state in which all members are; the one before while they differ.
    fn common_state(&self, routers: &[VirtualRouter]) -> State {
        let mut states = self.members.iter().filter_map(|at| routers.get(*at));
        let Some(first) = states.next().map(VirtualRouter::state) else {
            return self.state;
        };
        if states.all(|router| router.state() == first) {
            first
        } else {
            self.state
        }
    }

    /// Asks every member, so that questions which take something take it from each.
    fn any(
        &self,
        routers: &mut [VirtualRouter],
        mut question: impl FnMut(&mut VirtualRouter) -> bool,
    ) -> bool {
        let mut any = false;
        for at in &self.members {
            if let Some(router) = routers.get_mut(*at) {
                any |= question(router);
            }
        }
        any
    }

    fn each(&self, routers: &mut [VirtualRouter], mut tell: impl FnMut(&mut VirtualRouter)) {
        for at in &self.members {
            if let Some(router) = routers.get_mut(*at) {
                tell(router);
            }
        }
    }
}

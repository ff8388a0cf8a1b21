//! Virtual routers that go on where a daemon before left them.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::Result;
use pointsman_ha::vrrp::Notice;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use super::Plan;
use super::memory::Memory;
use crate::bfd::{Bfd, BfdBoard, LeftSessions, LevelSender};
use crate::vrrp::{Board, Instance, Vrrp};

/// For how long a virtual router that preempts takes up what it was, whoever is master meanwhile.
const LATE: f64 = 30.0;

/// What a daemon before left, taken up. Dropped before it is used, it gives everything back.
#[derive(Debug, Default)]
pub struct Resumption {
    pub(super) memory: Option<Memory>,
    /// Virtual routers at work, and what they said so far.
    pub(super) routers: Option<(Vrrp, UnboundedReceiver<Notice>)>,
    /// Where the virtual routers say how they are.
    pub board: Board,
    /// BFD sessions at work.
    pub(super) bfd: Option<Bfd>,
    /// Where they tell who is up.
    pub(super) levels: LevelSender,
    /// Where they say how they are.
    pub bfd_board: BfdBoard,
}

impl Resumption {
    /// Takes up what the file `left` tells. While a data plane forwards, virtual routers that were master
    /// are so at once, for others wait for their advertisements.
    pub fn new(plan: &Plan, left: &Path, forwards: bool) -> Result<Self> {
        let mut this = Self {
            memory: Memory::take(left),
            ..Self::default()
        };
        // Neighbors wait even less than other virtual routers.
        let left = this.memory.as_ref().map(|memory| &memory.sessions);
        if forwards && left.is_some_and(|left| !left.is_empty()) {
            this.bfd = this.begin_sessions(plan)?;
        }
        let resume = this.masters(plan);
        if forwards && !resume.is_empty() {
            this.routers = Some(this.begin(plan, &resume)?);
        }
        Ok(this)
    }

    /// The virtual routers at work: those that were resumed, or all from the start.
    pub(super) fn routers(&mut self, plan: &Plan) -> Result<(Vrrp, UnboundedReceiver<Notice>)> {
        match self.routers.take() {
            Some(routers) => Ok(routers),
            None => self.begin(plan, &self.masters(plan)),
        }
    }

    /// The BFD sessions at work: those that were resumed, or all from the start.
    pub(super) fn sessions(&mut self, plan: &Plan) -> Result<Option<Bfd>> {
        match self.bfd.take() {
            Some(bfd) => Ok(Some(bfd)),
            None => self.begin_sessions(plan),
        }
    }

    fn begin_sessions(&self, plan: &Plan) -> Result<Option<Bfd>> {
        if plan.sessions.is_empty() {
            return Ok(None);
        }
        let none = LeftSessions::new();
        let memory = self.memory.as_ref();
        let left = memory.map_or((&none, 0.0), |memory| (&memory.sessions, memory.age()));
        let (levels, board) = (self.levels.clone(), self.bfd_board.clone());
        Ok(Some(Bfd::start(&plan.sessions, left, levels, board)?))
    }

    fn begin(
        &self,
        plan: &Plan,
        resume: &BTreeSet<String>,
    ) -> Result<(Vrrp, UnboundedReceiver<Notice>)> {
        let (notices, heard) = unbounded_channel::<Notice>();
        let vrrp = Vrrp::start(&plan.vrrp, resume, notices, self.board.clone())?;
        // What they track need not be waited for.
        let found = self.memory.iter().flat_map(|memory| &memory.left.readings);
        for (tracker, found) in found {
            vrrp.remote().read(tracker, (*found).into());
        }
        if let Some(memory) = &self.memory {
            vrrp.remote().inherit(&memory.left.changed);
        }
        Ok((vrrp, heard))
    }

    /// Who was master and may go on so.
    fn masters(&self, plan: &Plan) -> BTreeSet<String> {
        let Some(memory) = &self.memory else {
            return BTreeSet::new();
        };
        let instances = plan.vrrp.instances.iter();
        instances
            .filter(|instance| {
                memory.left.masters.contains(&instance.router.name)
                    && may_resume(instance, memory.age())
            })
            .map(|instance| instance.router.name.clone())
            .collect()
    }
}

/// Whether a master may go on so many seconds later: before somebody else takes it for down or is about to;
/// or, if it would take over anyway, without the time that it would wait for that.
fn may_resume(instance: &Instance, ago: f64) -> bool {
    let router = &instance.router;
    let interval = router.interval.as_secs_f64();
    let unnoticed = interval * (f64::from(router.down_adverts) - 0.5);
    ago < unnoticed || router.preempt && router.preempt_delay.is_zero() && ago < LATE
}

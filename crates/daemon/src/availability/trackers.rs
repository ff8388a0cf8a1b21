//! Scripts, files and processes that virtual routers track, at work.

use std::collections::HashMap;

use tokio::task::JoinHandle;

use super::Plan;
use crate::bfd::{BfdTracker, Levels};
use crate::vrrp::Remote;
use crate::vrrp::process::ProcessTracker;
use crate::vrrp::track::{FileTracker, ScriptTracker};

/// What is tracked.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Tracker {
    Script(ScriptTracker),
    File(FileTracker),
    Process(ProcessTracker),
    Bfd(BfdTracker),
}

/// Trackers at work, ended when dropped.
#[derive(Debug, Default)]
pub(super) struct Trackers(HashMap<String, (Tracker, JoinHandle<()>)>);

impl Trackers {
    /// Tracks what the plan says; what is tracked already goes on.
    pub(super) fn follow(&mut self, plan: &Plan, remote: Option<&Remote>, levels: &Levels) {
        let mut before = std::mem::take(&mut self.0);
        let scripts = plan.scripts.iter().cloned().map(Tracker::Script);
        let files = plan.files.iter().cloned().map(Tracker::File);
        let processes = plan.processes.iter().cloned().map(Tracker::Process);
        let sessions = plan.tracked_sessions.iter().cloned().map(Tracker::Bfd);
        for tracker in scripts.chain(files).chain(processes).chain(sessions) {
            let Some(remote) = remote.cloned() else {
                continue;
            };
            let name = match &tracker {
                Tracker::Script(script) => script.name.clone(),
                Tracker::File(file) => file.name.clone(),
                Tracker::Process(process) => process.name.clone(),
                Tracker::Bfd(session) => session.name.clone(),
            };
            let kept = before.remove(&name).filter(|(known, task)| {
                let stays = *known == tracker;
                if !stays {
                    task.abort();
                }
                stays
            });
            let kept = kept.unwrap_or_else(|| {
                let task = match tracker.clone() {
                    Tracker::Script(script) => tokio::spawn(script.keep(remote)),
                    Tracker::File(file) => tokio::spawn(file.keep(remote)),
                    Tracker::Process(process) => tokio::spawn(process.keep(remote)),
                    Tracker::Bfd(session) => tokio::spawn(session.keep(levels.clone(), remote)),
                };
                (tracker, task)
            });
            self.0.insert(name, kept);
        }
        for (_, task) in before.into_values() {
            task.abort();
        }
    }

    /// Ends them all.
    pub(super) fn end(&mut self) {
        for (_, task) in std::mem::take(&mut self.0).into_values() {
            task.abort();
        }
    }
}

impl Drop for Trackers {
    fn drop(&mut self) {
        self.end();
    }
}

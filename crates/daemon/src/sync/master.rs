//! The master: looks at all connections about once a second and tells others what is news.

use std::{
    collections::HashSet,
    hash::{BuildHasher, RandomState},
    sync::Arc,
    time::{Duration, Instant},
};

use pointsman_director::{
    control::tell,
    record::{ConnectionRecord, FlowKey, connection_flag, control},
    setting::Setting,
};
use pointsman_ha::sync::{Master, Policy, Seen};
use tokio::{net::UdpSocket, sync::watch, task::block_in_place, time::sleep};

use super::{Shared, SyncStatus};
use crate::{
    api::Shell,
    balancer::Balancer,
    connections::Names,
    plane::{Flow, Plane, PlaneError},
};

/// Between two looks.
const STEP: Duration = Duration::from_secs(1);
/// One part in this many of a processor's time, at most, goes into looking.
const SHARE: u32 = 10;
/// Messages sent in a row; more at once would overrun the other's socket.
const BURST: usize = 16;
/// Between two of them.
const BREATH: Duration = Duration::from_millis(5);

/// Tells until it is stopped.
pub(super) async fn run<P: Plane>(
    shell: Arc<Shell<P>>,
    status: SyncStatus,
    socket: UdpSocket,
    shared: Arc<Shared>,
    mut stopped: watch::Receiver<()>,
) {
    let mut teller = Teller {
        master: Master::new(status.sync_id, usize::from(status.max_length)),
        ids: RandomState::new(),
        failing: false,
    };
    let mut pause = STEP;
    loop {
        tokio::select! {
            _ = stopped.changed() => break,
            () = sleep(pause) => {}
        }
        pause = block_in_place(|| teller.look(&shell.balancer, &shared));
        teller.send(&socket, &shared).await;
    }
    // Who takes over knows what was news until now.
    block_in_place(|| teller.look(&shell.balancer, &shared));
    teller.send(&socket, &shared).await;
}

struct Teller {
    master: Master,
    ids: RandomState,
    /// The latest message could not be sent.
    failing: bool,
}

impl Teller {
    /// One look; returns how long to wait for the next.
    fn look<P: Plane>(&mut self, balancer: &Balancer<P>, shared: &Shared) -> Duration {
        let start = Instant::now();
        match self.try_look(balancer) {
            Ok((looked, told)) => shared.count(|counts| {
                counts.looked = looked;
                counts.connections += told;
                counts.look_us = u64::try_from(start.elapsed().as_micros()).unwrap_or(u64::MAX);
            }),
            Err(error) => tracing::error!(%error, "can't look at connections to synchronise"),
        }
        STEP.max(start.elapsed() * SHARE)
    }

    /// Connections looked at, and those of them that are told.
    fn try_look<P: Plane>(&mut self, balancer: &Balancer<P>) -> Result<(u64, u64), PlaneError> {
        let policy = policy(balancer);
        let names = balancer.names()?;
        let now = Duration::from_nanos(balancer.now()?);
        let (mut looked, mut told) = (0, 0);
        let mut templates: Vec<Flow> = Vec::new();
        // Numbers of templates whose connections had packets.
        let mut used: HashSet<u32> = HashSet::new();
        balancer.each_connection(|(key, record)| {
            if !is_there(&record, now) {
                return true;
            }
            looked += 1;
            if record.is_template() {
                templates.push((key, record));
                return true;
            }
            let seen = self.seen(&key, &record);
            if seen.controlled && self.master.has_moved(&seen) {
                used.insert(record.template);
            }
            told += self.tell(&policy, &seen, &(key, record), &names, now);
            true
        })?;
        for flow in templates {
            let (key, record) = &flow;
            // Those that were set aside hold nobody any more.
            if key.source_port == 0 {
                let mut seen = self.seen(key, record);
                seen.template = Some(used.contains(&record.template));
                told += self.tell(&policy, &seen, &flow, &names, now);
            }
        }
        self.master.end_round();
        Ok((looked, told))
    }

    /// Looks at one, and tells it if that is due; how many were told.
    fn tell(
        &mut self,
        policy: &Policy,
        seen: &Seen,
        (key, record): &Flow,
        names: &Names,
        now: Duration,
    ) -> u64 {
        if !self.master.look(policy, seen, now) {
            return 0;
        }
        let Some(server) = names.get(&record.server) else {
            return 0;
        };
        self.master.tell(&tell(key, record, *server));
        1
    }

    fn seen(&self, key: &FlowKey, record: &ConnectionRecord) -> Seen {
        Seen {
            id: self.ids.hash_one(key),
            protocol: key.protocol,
            state: record.state(),
            packets: record.packets.load(),
            timeout: Duration::from_secs(record.timeout.load().into()),
            ends: Duration::from_nanos(record.expires.load()),
            template: None,
            controlled: record.control != control::NONE,
            synced: record.word.load() & connection_flag::SYNC != 0,
        }
    }

    async fn send(&mut self, socket: &UdpSocket, shared: &Shared) {
        let mut sent = 0;
        while let Some(message) = self.master.poll_message() {
            match socket.send(&message).await {
                Ok(_) => {
                    shared.count(|counts| counts.messages += 1);
                    self.failing = false;
                }
                Err(error) => {
                    shared.count(|counts| counts.errors += 1);
                    if !std::mem::replace(&mut self.failing, true) {
                        tracing::warn!(%error, "can't send connections to other directors");
                    }
                }
            }
            sent += 1;
            if sent % BURST == 0 {
                sleep(BREATH).await;
            }
        }
    }
}

/// A template with connections outlives its time.
fn is_there(record: &ConnectionRecord, now: Duration) -> bool {
    let now = u64::try_from(now.as_nanos()).unwrap_or(u64::MAX);
    !record.is_over(now)
        || (record.is_template()
            && record.word.load() & connection_flag::DEAD == 0
            && record.members.load() != 0)
}

/// What the settings say.
fn policy<P: Plane>(balancer: &Balancer<P>) -> Policy {
    let settings = balancer.running_settings();
    let value = |setting| settings.values().get(setting);
    Policy {
        threshold: value(Setting::SyncThreshold),
        period: value(Setting::SyncPeriod),
        refresh: value(Setting::SyncRefreshPeriod),
        retries: value(Setting::SyncRetries),
        templates_only: value(Setting::SyncPersistMode) != 0,
    }
}

//! The backup: takes what others tell into the table.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use pointsman_director::{
    adopt::Adopted,
    control::Untaken,
    model::{ConnectionView, Protocol},
    sctp,
    setting::Setting,
    tcp,
};
use pointsman_ha::sync::Backup;
use pointsman_wire::sync::SyncConnection;
use tokio::{
    net::UdpSocket,
    sync::watch,
    task::block_in_place,
    time::{MissedTickBehavior, interval},
};

use super::{Shared, SyncStatus, locked};
use crate::{api::Shell, balancer::Balancer, plane::Plane};

/// How often those that wait are looked at.
const STEP: Duration = Duration::from_secs(1);
/// Messages taken in a row.
const BURST: usize = 64;

/// Takes until it is stopped.
pub(super) async fn run<P: Plane>(
    shell: Arc<Shell<P>>,
    status: SyncStatus,
    socket: UdpSocket,
    shared: Arc<Shared>,
    mut stopped: watch::Receiver<()>,
) {
    let mut taker = Taker {
        backup: Backup::new(status.sync_id),
        start: Instant::now(),
        failing: false,
    };
    let mut steps = interval(STEP);
    steps.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut buffer = vec![0; usize::from(u16::MAX)];
    loop {
        tokio::select! {
            _ = stopped.changed() => break,
            _ = steps.tick() => block_in_place(|| taker.retry(&shell.balancer, &shared)),
            ready = socket.readable() => {
                if let Err(error) = ready {
                    tracing::error!(%error, "can't hear other directors");
                    break;
                }
                for _ in 0..BURST {
                    match socket.try_recv(&mut buffer) {
                        Ok(length) => block_in_place(|| {
                            taker.hear(&buffer[..length], &shell.balancer, &shared);
                        }),
                        Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => break,
                        // E.g. the interface is down; the next message tells.
                        Err(error) => {
                            tracing::debug!(%error, "hearing other directors");
                            break;
                        }
                    }
                }
            }
        }
    }
    locked(&shared.waiting).clear();
}

struct Taker {
    backup: Backup,
    start: Instant,
    /// The latest connections could not be taken.
    failing: bool,
}

impl Taker {
    fn hear<P: Plane>(&mut self, bytes: &[u8], balancer: &Balancer<P>, shared: &Shared) {
        let told = self.backup.handle_message(bytes);
        let counts = self.backup.counts();
        shared.count(|all| {
            all.messages = counts.messages;
            all.foreign = counts.foreign;
            all.errors = counts.faulty;
            all.connections = counts.connections;
        });
        self.take(told, balancer, shared);
    }

    /// Has connections taken; those without a real server wait.
    fn take<P: Plane>(
        &mut self,
        told: Vec<SyncConnection>,
        balancer: &Balancer<P>,
        shared: &Shared,
    ) {
        if told.is_empty() {
            return;
        }
        // As if as many packets had passed here: the next ones count from there.
        let packets = balancer.setting(Setting::SyncThreshold);
        let taken = match balancer.adopt(&told, packets) {
            Ok(taken) => taken,
            Err(error) => {
                if !std::mem::replace(&mut self.failing, true) {
                    tracing::error!(%error, "can't take connections of other directors");
                }
                return;
            }
        };
        self.failing = false;
        let now = self.start.elapsed();
        let mut unbound = false;
        for (connection, outcome) in told.into_iter().zip(taken) {
            match outcome {
                Ok(Adopted::NoServer) | Err(Untaken::Unbound) => {
                    unbound = true;
                    if !self.backup.wait(connection, now) {
                        shared.count(|counts| counts.full += 1);
                    }
                    continue;
                }
                Ok(Adopted::Added) => shared.count(|counts| counts.added += 1),
                Ok(Adopted::Updated) => shared.count(|counts| counts.updated += 1),
                Ok(Adopted::Full) => shared.count(|counts| counts.full += 1),
                Ok(Adopted::Ignored | Adopted::Contended) | Err(Untaken::Unknown) => {
                    shared.count(|counts| counts.ignored += 1);
                }
            }
            self.backup.forget(&connection);
        }
        if unbound {
            self.show(shared);
        }
    }

    /// Has those taken that waited for a real server that is there now.
    fn retry<P: Plane>(&mut self, balancer: &Balancer<P>, shared: &Shared) {
        let now = self.start.elapsed();
        if self.backup.waiting(now).next().is_some() {
            let bound = self
                .backup
                .take_bound(now, |one| balancer.has_server_told(one));
            self.take(bound, balancer, shared);
        }
        self.show(shared);
    }

    fn show(&self, shared: &Shared) {
        let now = self.start.elapsed();
        let waiting = self.backup.waiting(now);
        let views: Vec<_> = waiting.map(|(one, left)| view(one, left)).collect();
        shared.count(|counts| counts.waiting = views.len() as u64);
        *locked(&shared.waiting) = views;
    }
}

/// A connection without a real server, for people.
fn view(one: &SyncConnection, left: Duration) -> ConnectionView {
    let at = usize::from(one.state);
    let state = match Protocol::from_number(one.protocol) {
        _ if one.is_template() => Some(if at == 1 { "ASSURED" } else { "NONE" }),
        Some(Protocol::Tcp) => tcp::NAMES.get(at).copied(),
        Some(Protocol::Udp) => Some("UDP"),
        Some(Protocol::Sctp) => sctp::NAMES.get(at).copied(),
        None => None,
    };
    ConnectionView {
        protocol: one.protocol,
        expires: u32::try_from(left.as_secs()).unwrap_or(u32::MAX),
        state: state.unwrap_or("NONE").to_owned(),
        client: one.client,
        client_port: one.client_port,
        address: one.address,
        port: one.port,
        server: one.server,
        server_port: one.server_port,
    }
}

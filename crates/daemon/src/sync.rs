//! Sync daemons: a master tells others of connections, a backup takes those of others.
//!
//! As in the kernel at most one of each runs. Who asked for it may be the operator (kept over a restart)
//! or the configuration file, whose virtual routers say which of them runs.

mod backup;
mod master;
#[cfg(test)]
mod tests;

use std::{
    io,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use pointsman_director::model::ConnectionView;
use pointsman_linux::{
    group_socket,
    netlink::{Link, Netlink},
};
use pointsman_wire::sync::{GROUP_V4, PORT};
use serde::{Deserialize, Serialize};
use tokio::{net::UdpSocket, sync::watch, task::JoinHandle};

use crate::{api::Shell, plane::Plane};

/// Bytes of a UDP header.
const UDP: u32 = 8;
/// The least room for a message at a backup, bytes.
const LEAST_ROOM: u16 = 1024;
/// Bytes that a frame has that goes everywhere.
const COMMON_MTU: u32 = 1500;
/// Room for messages that wait to be read, bytes: as many as a burst of a hundred thousand connections.
const RECEIVE_ROOM: usize = 8 << 20;

/// Which sync daemon.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Sends connections.
    Master,
    /// Receives connections.
    Backup,
}

impl Role {
    /// As `ipvsadm` writes it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Master => "master",
            Self::Backup => "backup",
        }
    }
}

/// A sync daemon as asked for; what is not given has the kernel's default.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Request {
    /// Which.
    pub role: Role,
    /// Interface of the multicast.
    pub interface: String,
    /// Tells this group of directors from others; a backup with 0 hears all.
    #[serde(default)]
    pub sync_id: u8,
    /// Longest message, bytes.
    #[serde(default)]
    pub max_length: Option<u16>,
    /// Multicast group.
    #[serde(default)]
    pub group: Option<IpAddr>,
    /// Port, host order.
    #[serde(default)]
    pub port: Option<u16>,
    /// Time to live.
    #[serde(default)]
    pub ttl: Option<u8>,
}

/// A sync daemon that runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SyncStatus {
    /// Which.
    pub role: Role,
    /// Interface of the multicast.
    pub interface: String,
    /// Sync id.
    pub sync_id: u8,
    /// Longest message, bytes.
    pub max_length: u16,
    /// Multicast group.
    pub group: IpAddr,
    /// Port, host order.
    pub port: u16,
    /// Time to live.
    pub ttl: u8,
    /// What it has done.
    pub counts: SyncCounts,
}

/// What a sync daemon has done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct SyncCounts {
    /// Messages sent, or heard and of the right sync id.
    pub messages: u64,
    /// Connections in them.
    pub connections: u64,
    /// Messages that could not be sent, or not be read to their end.
    pub errors: u64,
    /// Backup: messages of another sync id.
    pub foreign: u64,
    /// Backup: connections that were new.
    pub added: u64,
    /// Backup: connections that were known.
    pub updated: u64,
    /// Backup: connections not taken: of another protocol, or with less right than the known one.
    pub ignored: u64,
    /// Backup: connections for which there was no room.
    pub full: u64,
    /// Backup: connections that wait for their real server now.
    pub waiting: u64,
    /// Master: connections and templates at the latest look.
    pub looked: u64,
    /// Master: microseconds that the latest look took.
    pub look_us: u64,
}

/// Why a sync daemon was not started or stopped; the words are ipvsadm's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SyncError {
    /// There is no such interface.
    #[error("No such device")]
    NoDevice,
    /// There is one already.
    #[error("Daemon has already run")]
    Runs,
    /// There is none.
    #[error("No daemon is running")]
    Stopped,
    /// A real server is of another family than its service, which messages can't tell.
    #[error("Invalid operation.  Possibly wrong module version, address not unicast, ...")]
    Mixed,
    /// The socket failed.
    #[error("{0}")]
    Socket(String),
}

/// Who asked for a daemon.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owner {
    /// The operator, by the API.
    Operator,
    /// The configuration file.
    Configuration,
}

struct Running {
    request: Request,
    status: SyncStatus,
    owner: Owner,
    shared: Arc<Shared>,
    /// Dropped, it ends the task.
    stop: watch::Sender<()>,
    task: JoinHandle<()>,
}

/// What a task tells.
#[derive(Debug, Default)]
struct Shared {
    counts: Mutex<SyncCounts>,
    /// Connections without a real server.
    waiting: Mutex<Vec<ConnectionView>>,
}

impl Shared {
    fn count(&self, change: impl FnOnce(&mut SyncCounts)) {
        change(&mut locked(&self.counts));
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The sync daemons of a director.
#[derive(Default)]
pub struct Synchronisation {
    running: Mutex<Vec<Running>>,
    /// What the operator had asked for when the director stopped.
    last: Mutex<Vec<Request>>,
}

impl std::fmt::Debug for Synchronisation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.status()).finish()
    }
}

impl Synchronisation {
    /// Those that run, the master first.
    pub fn status(&self) -> Vec<SyncStatus> {
        let each = locked(&self.running);
        let mut all: Vec<SyncStatus> = each
            .iter()
            .map(|one| SyncStatus {
                counts: *locked(&one.shared.counts),
                ..one.status.clone()
            })
            .collect();
        all.sort_by_key(|status| status.role);
        all
    }

    /// What the operator asked for and runs, or ran when the director stopped.
    pub fn requests(&self) -> Vec<Request> {
        let each = locked(&self.running);
        let asked = each.iter().filter(|one| one.owner == Owner::Operator);
        let mut asked: Vec<Request> = asked.map(|one| one.request.clone()).collect();
        asked.extend(locked(&self.last).iter().cloned());
        asked.sort_by_key(|request| request.role);
        asked
    }

    /// Connections that wait for their real server.
    pub fn waiting(&self) -> Vec<ConnectionView> {
        let each = locked(&self.running);
        let lists = each.iter().map(|one| locked(&one.shared.waiting).clone());
        lists.flatten().collect()
    }

    fn take(&self, role: Role, owner: Option<Owner>) -> Option<Running> {
        let mut each = locked(&self.running);
        let at = each
            .iter()
            .position(|one| one.status.role == role && owner.is_none_or(|o| o == one.owner))?;
        Some(each.swap_remove(at))
    }
}

/// Starts a sync daemon.
///
/// # Errors
///
/// In the order in which the kernel looks: no such interface, one runs already, real servers of another
/// family, sockets.
pub fn start<P: Plane>(
    shell: &Arc<Shell<P>>,
    request: Request,
    owner: Owner,
) -> Result<(), SyncError> {
    let link = Netlink::new()
        .and_then(|mut netlink| netlink.link_by_name(&request.interface))
        .map_err(|_| SyncError::NoDevice)?;
    let mut running = locked(&shell.sync.running);
    let role = request.role;
    if running.iter().any(|one| one.status.role == role) {
        return Err(SyncError::Runs);
    }
    let status = resolve(&request, link.mtu);
    let socket = open(&status, &link).map_err(|error| SyncError::Socket(plain(&error)))?;
    if !shell.balancer.forbid_mixed(true) {
        return Err(SyncError::Mixed);
    }
    let shared = Arc::new(Shared::default());
    let (stop, stopped) = watch::channel(());
    let (of, told) = (Arc::clone(shell), Arc::clone(&shared));
    let task = match role {
        Role::Master => tokio::spawn(master::run(of, status.clone(), socket, told, stopped)),
        Role::Backup => tokio::spawn(backup::run(of, status.clone(), socket, told, stopped)),
    };
    tracing::info!(
        interface = status.interface,
        sync_id = status.sync_id,
        "{} sync daemon started",
        role.name()
    );
    running.push(Running {
        request,
        status,
        owner,
        shared,
        stop,
        task,
    });
    drop(running);
    shell.balancer.unsaved.notify_one();
    Ok(())
}

/// Stops a sync daemon, with `owner` only one that was asked for by it; connections that were taken stay.
///
/// # Errors
///
/// When there is none.
pub async fn stop<P: Plane>(
    shell: &Shell<P>,
    role: Role,
    owner: Option<Owner>,
) -> Result<(), SyncError> {
    let one = shell.sync.take(role, owner).ok_or(SyncError::Stopped)?;
    drop(one.stop);
    let _ = one.task.await;
    if locked(&shell.sync.running).is_empty() {
        shell.balancer.forbid_mixed(false);
    }
    tracing::info!("{} sync daemon stopped", role.name());
    shell.balancer.unsaved.notify_one();
    Ok(())
}

/// Stops all of them, for the director stops.
pub async fn stop_all<P: Plane>(shell: &Shell<P>) {
    let all = {
        let mut running = locked(&shell.sync.running);
        let asked = running.iter().filter(|one| one.owner == Owner::Operator);
        *locked(&shell.sync.last) = asked.map(|one| one.request.clone()).collect();
        std::mem::take(&mut *running)
    };
    for one in all {
        drop(one.stop);
        let _ = one.task.await;
    }
}

/// Fills in the kernel's defaults, for an interface of this MTU.
fn resolve(request: &Request, mtu: u32) -> SyncStatus {
    let group = request.group.unwrap_or(IpAddr::from(GROUP_V4));
    let header = UDP + if group.is_ipv6() { 40 } else { 20 };
    let most = u32::from(u16::MAX) - header;
    let max_length = match (request.max_length.map(u32::from), request.role) {
        (None | Some(0), Role::Master) => COMMON_MTU - header,
        (None | Some(0), Role::Backup) => mtu.clamp(COMMON_MTU, u32::from(u16::MAX)) - header,
        (Some(given), Role::Master) => given.min(most),
        (Some(given), Role::Backup) => given.clamp(LEAST_ROOM.into(), most),
    };
    SyncStatus {
        role: request.role,
        interface: request.interface.clone(),
        sync_id: request.sync_id,
        max_length: u16::try_from(max_length).unwrap_or(u16::MAX),
        group,
        port: request.port.filter(|port| *port != 0).unwrap_or(PORT),
        ttl: request.ttl.filter(|ttl| *ttl != 0).unwrap_or(1),
        counts: SyncCounts::default(),
    }
}

fn open(status: &SyncStatus, link: &Link) -> io::Result<UdpSocket> {
    let group = SocketAddr::new(status.group, status.port);
    let socket = match status.role {
        Role::Master => group_socket::sender(&link.name, link.index, group, status.ttl)?,
        Role::Backup => group_socket::receiver(&link.name, link.index, group, RECEIVE_ROOM)?,
    };
    UdpSocket::from_std(socket)
}

/// An error in the C library's words alone.
fn plain(error: &io::Error) -> String {
    let text = error.to_string();
    match text.split_once(" (os error") {
        Some((words, _)) => words.to_owned(),
        None => text,
    }
}

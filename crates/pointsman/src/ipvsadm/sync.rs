//! Sync daemons: ipvsadm's words and the daemon's.

use pointsman_config::ipvsadm::{
    arguments::{StartDaemon, SyncRole},
    listing::SyncDaemonView,
};
use pointsman_daemon::sync::{Request, Role, SyncStatus};

/// Which is meant.
pub(super) fn role(role: SyncRole) -> Role {
    match role {
        SyncRole::Master => Role::Master,
        SyncRole::Backup => Role::Backup,
    }
}

/// What `--start-daemon` asks for.
pub(super) fn request(asked: StartDaemon) -> Request {
    Request {
        role: role(asked.role),
        interface: asked.interface,
        sync_id: asked.sync_id,
        max_length: asked.max_length,
        group: asked.group,
        port: asked.port,
        ttl: asked.ttl,
    }
}

/// One that runs, as `-L --daemon` shows it.
pub(super) fn view(status: SyncStatus) -> SyncDaemonView {
    SyncDaemonView {
        role: match status.role {
            Role::Master => SyncRole::Master,
            Role::Backup => SyncRole::Backup,
        },
        interface: status.interface,
        sync_id: status.sync_id,
        max_length: status.max_length,
        group: status.group,
        port: status.port,
        ttl: status.ttl,
    }
}

//! Metrics of sync daemons: 0 while they do not run.

use std::io::{self, Write};

use super::family;
use crate::sync::{Role, SyncCounts, SyncStatus};

pub(super) fn write(out: &mut impl Write, running: &[SyncStatus]) -> io::Result<()> {
    let of = |role| {
        let one = running.iter().find(|status| status.role == role);
        one.map_or_else(SyncCounts::default, |status| status.counts)
    };
    let (master, backup) = (of(Role::Master), of(Role::Backup));
    family::SYNC_MESSAGES.head(out)?;
    for (outcome, count) in [
        ("sent", master.messages),
        ("unsent", master.errors),
        ("heard", backup.messages),
        ("foreign", backup.foreign),
        ("faulty", backup.errors),
    ] {
        writeln!(
            out,
            "pointsman_sync_messages_total{{outcome=\"{outcome}\"}} {count}"
        )?;
    }
    family::SYNC_CONNECTIONS.head(out)?;
    for (outcome, count) in [
        ("told", master.connections),
        ("added", backup.added),
        ("updated", backup.updated),
        ("ignored", backup.ignored),
        ("full", backup.full),
    ] {
        writeln!(
            out,
            "pointsman_sync_connections_total{{outcome=\"{outcome}\"}} {count}"
        )?;
    }
    family::SYNC_WAITING.one(out, backup.waiting)?;
    let took = std::time::Duration::from_micros(master.look_us);
    family::SYNC_LOOK.one(out, took.as_secs_f64())
}

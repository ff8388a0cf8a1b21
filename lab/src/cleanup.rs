//! Labs of this process that must not outlive it, and the signals that end it.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, Once, PoisonError};
use std::thread;

use tokio::signal::unix::{SignalKind, signal};

use crate::namespace;

static LIVE: Mutex<BTreeMap<String, Vec<String>>> = Mutex::new(BTreeMap::new());
static WATCH: Once = Once::new();

fn live() -> MutexGuard<'static, BTreeMap<String, Vec<String>>> {
    LIVE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Remembers the namespaces of a lab for the case of a signal.
pub(crate) fn register(tag: &str, namespaces: Vec<String>) {
    live().insert(tag.to_owned(), namespaces);
    WATCH.call_once(watch);
}

/// Forgets a lab that is down or shall stay.
pub(crate) fn forget(tag: &str) {
    live().remove(tag);
}

/// Starts the thread that takes all labs down on SIGINT, SIGTERM or SIGHUP and then exits with
/// 128 plus the signal's number, as a shell would report it.
fn watch() {
    let started = thread::Builder::new()
        .name("lab-signals".to_owned())
        .spawn(|| {
            let Ok(runtime) = tokio::runtime::Builder::new_current_thread()
                .enable_io()
                .build()
            else {
                return;
            };
            let number = runtime.block_on(async {
                let mut interrupt = signal(SignalKind::interrupt()).ok()?;
                let mut terminate = signal(SignalKind::terminate()).ok()?;
                let mut hangup = signal(SignalKind::hangup()).ok()?;
                tokio::select! {
                    _ = interrupt.recv() => Some(2),
                    _ = terminate.recv() => Some(15),
                    _ = hangup.recv() => Some(1),
                }
            });
            if let Some(number) = number {
                // The lock is kept: no lab may come up any more.
                let labs = live();
                for namespaces in labs.values() {
                    if let Err(error) = namespace::delete(namespaces) {
                        eprintln!("pointsman-lab: {error}");
                    }
                }
                std::process::exit(128 + number);
            }
        });
    if let Err(error) = started {
        eprintln!("pointsman-lab: labs will stay after a signal: {error}");
    }
}

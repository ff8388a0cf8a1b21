//! Labs of this process that must not outlive it, and the signals that end it.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, Once, PoisonError, mpsc};
use std::thread;

use tokio::signal::unix::{SignalKind, signal};

use crate::namespace;

static LIVE: Mutex<BTreeMap<String, Vec<String>>> = Mutex::new(BTreeMap::new());
static WATCH: Once = Once::new();

/// What must be done before the namespaces of a lab go, by a key of its own.
static ENDS: Mutex<BTreeMap<String, End>> = Mutex::new(BTreeMap::new());

type End = Box<dyn FnOnce() + Send>;

/// Has `end` done before labs are taken down by a signal.
pub(crate) fn before_end(key: &str, end: End) {
    let mut ends = ENDS.lock().unwrap_or_else(PoisonError::into_inner);
    ends.insert(key.to_owned(), end);
}

/// Forgets what [`before_end`] was told.
pub(crate) fn forget_end(key: &str) {
    let mut ends = ENDS.lock().unwrap_or_else(PoisonError::into_inner);
    ends.remove(key);
}

fn live() -> MutexGuard<'static, BTreeMap<String, Vec<String>>> {
    LIVE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Remembers the namespaces of a lab for the case of a signal, and makes them.
///
/// Both under one lock, which the end of the process keeps: nothing is made any more then.
pub(crate) fn register<E>(
    tag: &str,
    namespaces: Vec<String>,
    make: impl FnOnce(&[String]) -> Result<(), E>,
) -> Result<(), E> {
    WATCH.call_once(watch);
    let mut live = live();
    let names = live.entry(tag.to_owned()).or_insert(namespaces);
    make(names)
}

/// Forgets a lab that is down or shall stay.
pub(crate) fn forget(tag: &str) {
    live().remove(tag);
}

/// Starts the thread that takes all labs down on SIGINT, SIGTERM or SIGHUP and then exits with
/// 128 plus the signal's number, as a shell would report it; returns when it listens.
fn watch() {
    let (ready, wait) = mpsc::channel();
    let started = thread::Builder::new()
        .name("lab-signals".to_owned())
        .spawn(move || {
            let Some(number) = next_signal(&ready) else {
                return;
            };
            let labs = live();
            let mut ends = ENDS.lock().unwrap_or_else(PoisonError::into_inner);
            for end in std::mem::take(&mut *ends).into_values() {
                end();
            }
            for namespaces in labs.values() {
                if let Err(error) = namespace::delete(namespaces) {
                    eprintln!("pointsman-lab: {error}");
                }
            }
            std::process::exit(128 + number);
        });
    match started {
        // An error means that the thread gave up, and that its sender is gone.
        Ok(_) if wait.recv().is_ok() => {}
        _ => eprintln!("pointsman-lab: cannot listen for signals; they will leave labs behind"),
    }
}

/// Says when it listens, then waits for a signal and returns its number.
fn next_signal(ready: &mpsc::Sender<()>) -> Option<i32> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .build()
        .ok()?;
    runtime.block_on(async {
        let mut interrupt = signal(SignalKind::interrupt()).ok()?;
        let mut terminate = signal(SignalKind::terminate()).ok()?;
        let mut hangup = signal(SignalKind::hangup()).ok()?;
        ready.send(()).ok()?;
        tokio::select! {
            _ = interrupt.recv() => Some(2),
            _ = terminate.recv() => Some(15),
            _ = hangup.recv() => Some(1),
        }
    })
}

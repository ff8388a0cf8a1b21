//! Which addresses this host has: checks of a virtual service may rest while it has none of its.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context, Result};
use pointsman_linux::netlink::{Event, Monitor, Netlink};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::watch;
use tokio::task::{JoinHandle, block_in_place};

/// The addresses of this host, as they come and go.
#[derive(Debug)]
pub struct Presence {
    here: watch::Receiver<BTreeSet<IpAddr>>,
    task: JoinHandle<()>,
}

/// True while this host has one of some addresses.
#[derive(Debug, Clone)]
pub struct Awake {
    here: watch::Receiver<BTreeSet<IpAddr>>,
    any_of: Vec<IpAddr>,
}

impl Presence {
    /// Begins to watch, in the calling thread's network namespace.
    pub fn start() -> Result<Self> {
        // Watch first: what changes while it is read is seen.
        let monitor = Monitor::new().context("watching addresses")?;
        let (tell, here) = watch::channel(read()?);
        // SAFETY: the monitor keeps its descriptor for as long as it lives.
        let monitor = unsafe { AsyncFd::register_with_interest(monitor, Interest::READABLE) };
        let monitor = monitor.context("watching addresses")?;
        Ok(Self {
            here,
            task: tokio::spawn(keep(monitor, tell)),
        })
    }

    /// Sleeps while the host has none of these.
    pub fn awake(&self, any_of: Vec<IpAddr>) -> Awake {
        Awake {
            here: self.here.clone(),
            any_of,
        }
    }
}

impl Drop for Presence {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Awake {
    /// Waits until it is awake; false when nobody will tell any more.
    pub async fn wait(&mut self) -> bool {
        let any_of = &self.any_of;
        let is_here = |here: &BTreeSet<IpAddr>| any_of.iter().any(|one| here.contains(one));
        self.here.wait_for(is_here).await.is_ok()
    }
}

async fn keep(mut monitor: AsyncFd<Monitor>, tell: watch::Sender<BTreeSet<IpAddr>>) {
    loop {
        match monitor.readable_mut().await {
            Ok(mut ready) => ready.clear_ready(),
            Err(error) => return tracing::error!(%error, "can't watch addresses"),
        }
        let mut changed = false;
        loop {
            match monitor.get_mut().next(Duration::ZERO) {
                Ok(Some(Event::Address { .. } | Event::Lost)) => changed = true,
                Ok(Some(_)) => {}
                Ok(None) => break,
                Err(error) => {
                    tracing::error!(%error, "can't watch addresses");
                    break;
                }
            }
        }
        if !changed {
            continue;
        }
        match block_in_place(read) {
            Ok(here) => {
                tell.send_if_modified(|known| {
                    let differs = *known != here;
                    *known = here;
                    differs
                });
            }
            Err(error) => tracing::error!("can't read addresses: {error:#}"),
        }
    }
}

fn read() -> Result<BTreeSet<IpAddr>> {
    let addresses = Netlink::new()?.addresses().context("reading addresses")?;
    Ok(addresses.into_iter().map(|one| one.address).collect())
}

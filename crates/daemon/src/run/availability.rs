//! Virtual routers and checks during the daemon's life: begun, and reloaded at SIGHUP.

use std::fs::{File, remove_file};
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, Result};
use pointsman_datapath::Datapath;
use tokio::signal::unix::Signal;
use tokio::sync::mpsc;
use tokio::task::block_in_place;

use super::pulse::{self, Pulse};
use crate::api::{Ask, Shell};
use crate::availability::{Availability, Plan, Resumption, Source};
use crate::config::Config;

/// Reads the configuration and plans it.
pub(super) fn plan(source: &Source) -> Result<Plan> {
    let configuration = (source.read)()?;
    Plan::new(&configuration).with_context(|| source.name.clone())
}

/// Begins, if there is a plan.
pub(super) async fn begin(
    plan: Option<Plan>,
    shell: Arc<Shell<Datapath>>,
    left: PathBuf,
    resumed: Resumption,
) -> Result<Option<Availability<Datapath>>> {
    match plan {
        Some(plan) => Ok(Some(Availability::start(plan, shell, left, resumed).await?)),
        None => Ok(None),
    }
}

/// Reloads at each SIGHUP, and whenever asked through the API, until `stop` completes; then gives everything
/// back. Meanwhile the service manager hears that all is at work.
pub(super) async fn obey(
    config: &Config,
    mut work: Option<Availability<Datapath>>,
    (mut hangup, mut asks): (Signal, mpsc::Receiver<Ask>),
    mut pulse: Pulse<Datapath>,
    stop: impl Future<Output = &'static str>,
) -> (&'static str, Option<Availability<Datapath>>) {
    tokio::pin!(stop);
    let mut hears = true;
    loop {
        let routers = work.as_ref().and_then(Availability::remote);
        let ask = tokio::select! {
            signal = &mut stop => return (signal, work),
            () = pulse.due() => {
                pulse.beat(routers.as_ref()).await;
                continue;
            }
            heard = hangup.recv(), if hears => if heard.is_none() {
                hears = false;
                continue;
            } else {
                None
            },
            Some(ask) = asks.recv() => Some(ask),
        };
        pulse::reloading();
        let reloading = reload(config, work.as_mut());
        tokio::pin!(reloading);
        let reloaded = loop {
            tokio::select! {
                reloaded = &mut reloading => break reloaded,
                () = pulse.due() => pulse.beat(routers.as_ref()).await,
            }
        };
        let (Ok(status) | Err(status)) = &reloaded;
        pulse::ready(status);
        if let Some(ask) = ask {
            // Who asked may have gone.
            let _ = ask.send(reloaded);
        }
    }
}

/// A file that is empty while the configuration is read, and goes then (`reload_file`).
struct Sign(PathBuf);

impl Sign {
    fn show(path: PathBuf) -> Self {
        if let Err(error) = File::create(&path) {
            tracing::warn!(%error, path = %path.display(), "can't make the reload_file");
        }
        Self(path)
    }
}

impl Drop for Sign {
    fn drop(&mut self) {
        let _ = remove_file(&self.0);
    }
}

/// Reads the configuration again and takes it, or leaves everything as it is; says what happened.
async fn reload(
    config: &Config,
    work: Option<&mut Availability<Datapath>>,
) -> Result<String, String> {
    let (Some(source), Some(work)) = (&config.availability, work) else {
        let status = "there is no configuration to be read again (run --keepalived)";
        tracing::info!("{status}");
        return Ok(status.to_owned());
    };
    let file = work.reload_file();
    let reading = || {
        let _sign = file.map(Sign::show);
        plan(source)
    };
    let reloaded = match block_in_place(reading) {
        Ok(plan) => work.reload(plan).await,
        Err(error) => Err(error),
    };
    match reloaded {
        Ok(done) => {
            let status = format!("read {} again: {done}", source.name);
            tracing::info!("{status}");
            Ok(status)
        }
        Err(error) => {
            let status = format!("{} was not taken, nothing changed: {error:#}", source.name);
            tracing::error!("{status}");
            Err(status)
        }
    }
}

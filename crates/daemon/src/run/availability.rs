//! Virtual routers and checks during the daemon's life: begun, and reloaded at SIGHUP.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, Result};
use pointsman_datapath::Datapath;
use tokio::signal::unix::Signal;

use crate::api::Shell;
use crate::availability::{Availability, Plan, Source};
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
) -> Result<Option<Availability<Datapath>>> {
    match plan {
        Some(plan) => Ok(Some(Availability::start(plan, shell, left).await?)),
        None => Ok(None),
    }
}

/// Reloads at each SIGHUP until `stop` completes; then gives everything back.
pub(super) async fn obey(
    config: &Config,
    mut work: Option<Availability<Datapath>>,
    mut hangup: Signal,
    stop: impl Future<Output = &'static str>,
) -> (&'static str, Option<Availability<Datapath>>) {
    tokio::pin!(stop);
    loop {
        tokio::select! {
            signal = &mut stop => return (signal, work),
            heard = hangup.recv() => if heard.is_none() {
                return (stop.await, work);
            },
        }
        let (Some(source), Some(work)) = (&config.availability, &mut work) else {
            tracing::info!("SIGHUP: there is no configuration to be read again");
            continue;
        };
        let reloaded = match plan(source) {
            Ok(plan) => work.reload(plan).await,
            Err(error) => Err(error),
        };
        match reloaded {
            Ok(done) => tracing::info!(?done, "read {} again", source.name),
            Err(error) => tracing::error!("nothing changed: {error:#}"),
        }
    }
}

//! Metrics on TCP, for those who are told nothing else.

use std::{net::SocketAddr, sync::Arc};

use anyhow::{Context, Result};
use tokio::{net::TcpListener, sync::watch};

use super::ended;
use crate::{
    api::{Shell, metrics_router},
    plane::Plane,
};

/// Listens where asked.
pub(super) async fn listen(address: Option<SocketAddr>) -> Result<Option<TcpListener>> {
    let Some(address) = address else {
        return Ok(None);
    };
    let listener = TcpListener::bind(address)
        .await
        .with_context(|| format!("listening for --metrics on {address}"))?;
    Ok(Some(listener))
}

/// Answers until the daemon stops.
pub(super) async fn serve<P: Plane>(
    listener: TcpListener,
    shell: Arc<Shell<P>>,
    stopped: watch::Receiver<()>,
) {
    tokio::select! {
        served = async { axum::serve(listener, metrics_router(shell)).await } => {
            if let Err(error) = served {
                tracing::error!(%error, "metrics on TCP stopped");
            }
        }
        () = ended(stopped) => {}
    }
}

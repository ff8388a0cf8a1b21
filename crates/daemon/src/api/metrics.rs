//! `GET /metrics`, on the API's socket and on one of its own.

use std::{
    io::{self, Write},
    sync::{Arc, PoisonError},
    time::{Duration, Instant, SystemTime},
};

use axum::{
    Router,
    body::{Body, Bytes},
    extract::State,
    http::header,
    response::{IntoResponse, Response},
    routing::get,
};
use pointsman_director::setting::Setting;
use tokio::{
    runtime::Handle,
    sync::{Semaphore, mpsc::Sender},
    task::spawn_blocking,
    time::timeout_at,
};

use super::{ApiError, Shared, Shell, error, lines};
use crate::{
    metrics::{self, CONTENT_TYPE, Metrics},
    plane::Plane,
};

/// How long a client may take to read all metrics.
const PATIENCE: Duration = Duration::from_secs(60);
/// Each takes memory for every real server: not as many at once as somebody likes to ask.
static READERS: Semaphore = Semaphore::const_new(4);
/// Bytes of a part.
const PART: usize = 64 << 10;

/// The routes for those who may read metrics and nothing else.
pub fn metrics_router<P: Plane>(shell: Arc<Shell<P>>) -> Router {
    Router::new()
        .route("/metrics", get(metrics::<P>))
        .fallback(error::not_found)
        .method_not_allowed_fallback(error::wrong_method)
        .with_state(shell)
}

/// Answers with all metrics, made while they are sent.
pub(super) async fn metrics<P: Plane>(State(shell): Shared<P>) -> Result<Response, ApiError> {
    let permit = READERS.acquire().await.map_err(ApiError::internal)?;
    let (metrics, permit) = super::blocking(move || Ok((collect(&shell)?, permit))).await?;
    let (sender, body) = lines::channel();
    spawn_blocking(move || {
        let mut parts = Parts {
            sender,
            part: Vec::with_capacity(PART),
            deadline: Instant::now() + PATIENCE,
        };
        // A client that goes or stalls is none of ours any more; one that stays sees the end missing.
        let written = metrics::write(&mut parts, &metrics).and_then(|()| parts.flush());
        if let Err(error) = written {
            let _ = parts.sender.try_send(Err(error));
        }
        drop(permit);
    });
    Ok(([(header::CONTENT_TYPE, CONTENT_TYPE)], Body::new(body)).into_response())
}

fn collect<P: Plane>(shell: &Shell<P>) -> Result<Metrics, ApiError> {
    let facts = &shell.facts;
    let started = SystemTime::now().checked_sub(facts.started.elapsed());
    Ok(Metrics {
        version: env!("CARGO_PKG_VERSION"),
        started: started.unwrap_or(SystemTime::UNIX_EPOCH),
        interfaces: facts.interfaces.clone(),
        census: shell.balancer.census()?,
        connection_room: facts.connection_room,
        sweeps: shell.rounds.sweeps.entry(),
        estimates: shell.rounds.estimates.entry(),
        estimating: shell.balancer.setting(Setting::RunEstimation) != 0,
        sync: shell.sync.status(),
        bfd: shell
            .sessions
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone(),
        answers: *shell.answers.lock().unwrap_or_else(PoisonError::into_inner),
        health: shell.wards.status(),
        routers: shell
            .routers
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone(),
    })
}

/// A writer whose parts go to a body.
struct Parts {
    sender: Sender<Result<Bytes, io::Error>>,
    part: Vec<u8>,
    deadline: Instant,
}

impl Write for Parts {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.part.extend_from_slice(bytes);
        if self.part.len() >= PART {
            self.flush()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.part.is_empty() {
            return Ok(());
        }
        let part = std::mem::replace(&mut self.part, Vec::with_capacity(PART + 512));
        let sent = self.sender.send(Ok(part.into()));
        match Handle::current().block_on(timeout_at(self.deadline.into(), sent)) {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(io::ErrorKind::BrokenPipe.into()),
            Err(_) => Err(io::ErrorKind::TimedOut.into()),
        }
    }
}

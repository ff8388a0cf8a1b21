//! The API: JSON over HTTP/1 on a unix socket; `API.md` shows requests and answers.
//!
//! ```text
//! GET  /v1/services      virtual services, real servers, counters, next hops
//! POST /v1/changes       a list of changes, in order; stops at the first refused one
//!                        (?refusals=collect: goes on, and answers with all that were refused)
//! GET  /v1/connections   connections, one JSON object a line
//! GET  /v1/mark-rules    rules that make firewall marks
//! GET  /v1/timeouts      timeouts of --set
//! GET  /v1/settings      settings of net.ipv4.vs.*, with what they mean
//! POST /v1/settings      {"name": value, ...}: sets all or none
//! GET  /v1/sync          sync daemons that run
//! POST /v1/sync          {"role": "master", "interface": ...}: starts one
//! POST /v1/sync/stop     {"role": "master"}: stops one
//! GET  /v1/verdicts      packets by what became of them and why
//! GET  /v1/status        version, interfaces, sizes, uptime
//! POST /v1/reload        reads the configuration again, as at SIGHUP
//! GET  /metrics          all counters, for Prometheus
//! ```
//!
//! What fails answers with `{"error": "..."}` and a fitting status.

mod error;
mod lines;
mod metrics;
mod reload;
#[cfg(test)]
mod tests;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};

use axum::{
    Json, Router,
    body::{Body, Bytes},
    extract::{DefaultBodyLimit, FromRequest, Query, Request, State},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use pointsman_director::{
    Action,
    model::{Change, MarkRuleView, ServiceView, TimeoutsView},
    setting::SettingError,
};
use serde::{Deserialize, Serialize};
use tokio::task::spawn_blocking;

pub use error::{ApiError, ErrorBody};
pub use metrics::metrics_router;
pub use reload::{Ask, Reloaded, reload_router};

use crate::{
    answers::AnswerCounts,
    balancer::{Balancer, OnRefusal, Refusal},
    bfd::BfdBoard,
    health::Wards,
    plane::Plane,
    rounds::Rounds,
    settings::{Given, SettingView},
    status::{InterfaceStatus, StateReport, Status, TableStatus, VerdictCount},
    sync::{self, Owner, Request as SyncRequest, Role, SyncStatus, Synchronisation},
    vrrp::Board,
};

/// Bytes of a request's body: room for some hundred thousand changes.
const BODY_LIMIT: usize = 256 << 20;

/// What does not change while the daemon runs.
#[derive(Debug, Clone)]
pub struct Facts {
    /// When it started.
    pub started: Instant,
    /// `fresh` or `taken-over`.
    pub origin: &'static str,
    /// Directory of pins.
    pub pin_dir: String,
    /// Attached interfaces.
    pub interfaces: Vec<InterfaceStatus>,
    /// Room for connections of each family.
    pub connection_room: u32,
}

/// What the API speaks for.
#[derive(Debug)]
pub struct Shell<P> {
    /// The director and its data plane.
    pub balancer: Balancer<P>,
    /// What does not change.
    pub facts: Facts,
    /// How ICMP answers went.
    pub answers: Mutex<AnswerCounts>,
    /// How regular work goes.
    pub rounds: Rounds,
    /// How things are with the state file.
    pub state: Mutex<StateReport>,
    /// How virtual routers are.
    pub routers: Board,
    /// How services are that are minded.
    pub wards: Wards,
    /// Sync daemons.
    pub sync: Synchronisation,
    /// How BFD sessions are.
    pub sessions: BfdBoard,
}

/// What became of `POST /v1/changes`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Applied {
    /// Changes carried out.
    pub applied: usize,
    /// Changes refused, with `?refusals=collect`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub refusals: Vec<Refusal>,
}

/// The query of `POST /v1/changes`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ChangesQuery {
    refusals: Option<Refusals>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Refusals {
    Collect,
}

type Shared<P> = State<Arc<Shell<P>>>;

/// The routes.
pub fn router<P: Plane>(shell: Arc<Shell<P>>) -> Router {
    Router::new()
        .route("/v1/services", get(services::<P>))
        .route("/v1/changes", post(changes::<P>))
        .route("/v1/connections", get(connections::<P>))
        .route("/v1/mark-rules", get(mark_rules::<P>))
        .route("/v1/timeouts", get(timeouts::<P>))
        .route("/v1/settings", get(settings::<P>).post(set::<P>))
        .route("/v1/sync", get(sync_daemons::<P>).post(start_sync::<P>))
        .route("/v1/sync/stop", post(stop_sync::<P>))
        .route("/v1/verdicts", get(verdicts::<P>))
        .route("/v1/status", get(status::<P>))
        .route("/metrics", get(metrics::metrics::<P>))
        .fallback(error::not_found)
        .method_not_allowed_fallback(error::wrong_method)
        .layer(DefaultBodyLimit::max(BODY_LIMIT))
        .with_state(shell)
}

/// Runs `work` where it may block.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ApiError> + Send + 'static,
) -> Result<T, ApiError> {
    match spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(ApiError::internal(error)),
    }
}

async fn services<P: Plane>(State(shell): Shared<P>) -> Result<Json<Vec<ServiceView>>, ApiError> {
    blocking(move || Ok(Json(shell.balancer.services()?))).await
}

async fn changes<P: Plane>(
    State(shell): Shared<P>,
    query: Result<Query<ChangesQuery>, axum::extract::rejection::QueryRejection>,
    request: Request,
) -> Result<Json<Applied>, ApiError> {
    let Query(query) = query.map_err(|error| ApiError::bad_request(error.body_text()))?;
    let body = read_body(request).await?;
    blocking(move || {
        let changes: Vec<Change> = serde_json::from_slice(&body)
            .map_err(|error| ApiError::bad_request(format!("not a list of changes: {error}")))?;
        let on_refusal = match query.refusals {
            Some(Refusals::Collect) => OnRefusal::GoOn,
            None => OnRefusal::Stop,
        };
        let refusals = shell.balancer.apply(&changes, on_refusal);
        match (on_refusal, refusals.first()) {
            (OnRefusal::Stop, Some(refusal)) => Err(ApiError::refused(refusal.clone())),
            _ => Ok(Json(Applied {
                applied: changes.len() - refusals.len(),
                refusals,
            })),
        }
    })
    .await
}

/// Reads a body, unless it is too large by its own account.
async fn read_body(request: Request) -> Result<Bytes, ApiError> {
    let told = request.headers().get(header::CONTENT_LENGTH);
    let length = told.and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    if length.is_some_and(|length| length > BODY_LIMIT as u64) {
        let text = format!("more than {BODY_LIMIT} bytes; send changes in several requests");
        return Err(ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, text));
    }
    Bytes::from_request(request, &())
        .await
        .map_err(|error| ApiError::new(error.status(), error.body_text()))
}

async fn connections<P: Plane>(State(shell): Shared<P>) -> Result<Response, ApiError> {
    let (sender, body) = lines::channel();
    spawn_blocking(move || lines::send_connections(&shell, &sender));
    let kind = [(header::CONTENT_TYPE, "application/x-ndjson")];
    Ok((StatusCode::OK, kind, Body::new(body)).into_response())
}

async fn mark_rules<P: Plane>(State(shell): Shared<P>) -> Json<Vec<MarkRuleView>> {
    Json(shell.balancer.mark_rules())
}

async fn timeouts<P: Plane>(State(shell): Shared<P>) -> Json<TimeoutsView> {
    Json(shell.balancer.timeouts())
}

async fn settings<P: Plane>(State(shell): Shared<P>) -> Json<Vec<SettingView>> {
    Json(shell.balancer.running_settings().views())
}

async fn set<P: Plane>(
    State(shell): Shared<P>,
    request: Request,
) -> Result<Json<Vec<SettingView>>, ApiError> {
    let body = read_body(request).await?;
    blocking(move || {
        let named: BTreeMap<String, u32> = serde_json::from_slice(&body)
            .map_err(|error| ApiError::bad_request(format!("not settings by name: {error}")))?;
        let given: Given = named
            .into_iter()
            .map(|(name, value)| Ok((name.parse()?, value)))
            .collect::<Result<_, SettingError>>()?;
        Ok(Json(shell.balancer.set(&given)?.views()))
    })
    .await
}

async fn sync_daemons<P: Plane>(State(shell): Shared<P>) -> Json<Vec<SyncStatus>> {
    Json(shell.sync.status())
}

async fn start_sync<P: Plane>(
    State(shell): Shared<P>,
    request: Request,
) -> Result<Json<Vec<SyncStatus>>, ApiError> {
    let body = read_body(request).await?;
    blocking(move || {
        let asked: SyncRequest = serde_json::from_slice(&body)
            .map_err(|error| ApiError::bad_request(format!("not a sync daemon: {error}")))?;
        sync::start(&shell, asked, Owner::Operator)?;
        Ok(Json(shell.sync.status()))
    })
    .await
}

/// What `POST /v1/sync/stop` stops.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StopSync {
    /// Which.
    pub role: Role,
}

async fn stop_sync<P: Plane>(
    State(shell): Shared<P>,
    request: Request,
) -> Result<Json<Vec<SyncStatus>>, ApiError> {
    let body = read_body(request).await?;
    let StopSync { role } = serde_json::from_slice(&body)
        .map_err(|error| ApiError::bad_request(format!("not a sync daemon: {error}")))?;
    sync::stop(&shell, role, None).await?;
    Ok(Json(shell.sync.status()))
}

async fn verdicts<P: Plane>(State(shell): Shared<P>) -> Result<Json<Vec<VerdictCount>>, ApiError> {
    blocking(move || {
        let all = shell.balancer.verdicts()?;
        let counts = all.into_iter().map(|(reason, count)| VerdictCount {
            reason: reason.name().to_owned(),
            action: match reason.action() {
                Action::Pass => "pass",
                Action::Forward => "forward",
                Action::Drop => "drop",
            }
            .to_owned(),
            count,
            explanation: reason.explanation().to_owned(),
        });
        Ok(Json(counts.collect()))
    })
    .await
}

async fn status<P: Plane>(State(shell): Shared<P>) -> Result<Json<Status>, ApiError> {
    blocking(move || {
        let facts = &shell.facts;
        let state = shell.state.lock();
        let state = state.unwrap_or_else(PoisonError::into_inner).view();
        let answers = *shell.answers.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(Json(Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            uptime: facts.started.elapsed().as_secs(),
            origin: facts.origin.to_owned(),
            pin_dir: facts.pin_dir.clone(),
            interfaces: facts.interfaces.clone(),
            connections: TableStatus {
                capacity: facts.connection_room,
                used: shell.balancer.connections_used()?,
            },
            answers,
            state,
            routers: shell
                .routers
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .clone(),
            bfd: shell
                .sessions
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .clone(),
            health: shell.wards.status(),
        }))
    })
    .await
}

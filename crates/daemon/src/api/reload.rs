//! `POST /v1/reload`: what SIGHUP does, with an answer.

use axum::{Json, Router, extract::State, http::StatusCode, routing::post};
use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, oneshot};

use super::ApiError;

/// Somebody who wants the configuration read again, and to hear what became of it: what changed, or why
/// nothing did.
pub type Ask = oneshot::Sender<Result<String, String>>;

/// What became of `POST /v1/reload`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reloaded {
    /// What changed, in words.
    pub status: String,
}

/// The route, to whoever reloads.
pub fn reload_router(asks: mpsc::Sender<Ask>) -> Router {
    Router::new()
        .route("/v1/reload", post(reload))
        .with_state(asks)
}

async fn reload(State(asks): State<mpsc::Sender<Ask>>) -> Result<Json<Reloaded>, ApiError> {
    let early = || {
        let text = "the daemon is about to begin or to end";
        ApiError::new(StatusCode::SERVICE_UNAVAILABLE, text)
    };
    let (ask, answer) = oneshot::channel();
    asks.send(ask).await.map_err(|_| early())?;
    match answer.await.map_err(|_| early())? {
        Ok(status) => Ok(Json(Reloaded { status })),
        Err(why) => Err(ApiError::new(StatusCode::CONFLICT, why)),
    }
}

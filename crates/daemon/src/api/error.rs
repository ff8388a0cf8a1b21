//! What the API answers when something is wrong.

use std::fmt::Display;

use axum::{
    Json,
    http::{Method, StatusCode, Uri},
    response::{IntoResponse, Response},
};
use pointsman_director::{model::ControlError, setting::SettingError};
use serde::{Deserialize, Serialize};

use crate::{
    balancer::{Refusal, SetError},
    plane::PlaneError,
    sync::SyncError,
};

/// An answer that says what is wrong.
#[derive(Debug)]
pub struct ApiError {
    status: StatusCode,
    body: ErrorBody,
}

/// Its body.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorBody {
    /// In words.
    pub error: String,
    /// Which change was refused, from 0; those before it are carried out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub index: Option<usize>,
    /// Why it was refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<ControlError>,
}

impl ApiError {
    /// An error with a status and words.
    pub fn new(status: StatusCode, error: impl Display) -> Self {
        Self {
            status,
            body: ErrorBody {
                error: error.to_string(),
                index: None,
                cause: None,
            },
        }
    }

    /// The request can't be understood.
    pub fn bad_request(error: impl Display) -> Self {
        Self::new(StatusCode::BAD_REQUEST, error)
    }

    /// The daemon is at fault.
    pub fn internal(error: impl Display) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, error)
    }

    /// A change was refused.
    pub fn refused(refusal: Refusal) -> Self {
        Self {
            status: status_of(&refusal.cause),
            body: ErrorBody {
                error: refusal.error,
                index: Some(refusal.index),
                cause: Some(refusal.cause),
            },
        }
    }
}

impl From<PlaneError> for ApiError {
    fn from(error: PlaneError) -> Self {
        Self::internal(error)
    }
}

impl From<SettingError> for ApiError {
    fn from(error: SettingError) -> Self {
        let status = match error {
            SettingError::Unknown(_) => StatusCode::NOT_FOUND,
            SettingError::Range { .. } => StatusCode::UNPROCESSABLE_ENTITY,
        };
        Self::new(status, error)
    }
}

impl From<SetError> for ApiError {
    fn from(error: SetError) -> Self {
        match error {
            SetError::Setting(error) => error.into(),
            SetError::Mirror(error) => Self::internal(error),
        }
    }
}

impl From<SyncError> for ApiError {
    fn from(error: SyncError) -> Self {
        let status = match error {
            SyncError::NoDevice | SyncError::Stopped => StatusCode::NOT_FOUND,
            SyncError::Runs => StatusCode::CONFLICT,
            SyncError::Mixed => StatusCode::UNPROCESSABLE_ENTITY,
            SyncError::Socket(_) => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Self::new(status, error)
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        (self.status, Json(self.body)).into_response()
    }
}

fn status_of(cause: &ControlError) -> StatusCode {
    match cause {
        ControlError::ServiceExists | ControlError::DestinationExists => StatusCode::CONFLICT,
        ControlError::NoSuchService
        | ControlError::ServiceNotDefined
        | ControlError::NoSuchDestination => StatusCode::NOT_FOUND,
        ControlError::SchedulerNotFound
        | ControlError::Invalid
        | ControlError::Range
        | ControlError::MarkRule(_) => StatusCode::UNPROCESSABLE_ENTITY,
        ControlError::NoMemory(_) => StatusCode::INSUFFICIENT_STORAGE,
        ControlError::NotYet(_) => StatusCode::NOT_IMPLEMENTED,
        ControlError::DataPlane(_) => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

pub(super) async fn not_found(uri: Uri) -> ApiError {
    ApiError::new(
        StatusCode::NOT_FOUND,
        format!("there is nothing at {}", uri.path()),
    )
}

pub(super) async fn wrong_method(method: Method, uri: Uri) -> ApiError {
    let text = format!("{} does not take {method}", uri.path());
    ApiError::new(StatusCode::METHOD_NOT_ALLOWED, text)
}

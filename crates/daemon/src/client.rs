//! How other programs talk to the daemon: one connection, one request at a time, blocking.

use std::{
    io,
    path::{Path, PathBuf},
};

use axum::body::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{
    Method, Request, Response,
    body::Incoming,
    client::conn::http1::{SendRequest, handshake},
    header,
};
use hyper_util::rt::TokioIo;
use pointsman_director::model::{Change, ConnectionView, MarkRuleView, ServiceView, TimeoutsView};
use serde::{Serialize, de::DeserializeOwned};
use tokio::{
    net::UnixStream,
    runtime::{Builder, Runtime},
};

use crate::{
    api::{Applied, ErrorBody, Reloaded, StopSync},
    balancer::Refusal,
    settings::{Given, SettingView},
    status::{Status, VerdictCount},
    sync::{self, SyncStatus},
};

/// Why the daemon did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody answers on the socket.
    #[error("can't reach the daemon on {path}: {source}")]
    Connect {
        /// The socket.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The conversation broke off.
    #[error("the daemon broke off: {0}")]
    Http(#[from] hyper::Error),
    /// The daemon says what is wrong.
    #[error("{0}")]
    Refused(String),
    /// The answer makes no sense: another version, or no daemon of ours.
    #[error("the daemon's answer to {request} can't be read: {source}")]
    Unreadable {
        /// The request.
        request: String,
        /// Why.
        source: serde_json::Error,
    },
}

/// A connection to the daemon.
#[derive(Debug)]
pub struct Client {
    runtime: Runtime,
    sender: SendRequest<Full<Bytes>>,
}

impl Client {
    /// Connects.
    pub fn connect(path: &Path) -> Result<Self, ClientError> {
        let failed = |source| ClientError::Connect {
            path: path.to_owned(),
            source,
        };
        let runtime = Builder::new_current_thread()
            .enable_io()
            .build()
            .map_err(failed)?;
        let sender = runtime.block_on(async {
            let stream = UnixStream::connect(path).await.map_err(failed)?;
            let (sender, connection) = handshake(TokioIo::new(stream)).await?;
            tokio::spawn(connection);
            Ok::<_, ClientError>(sender)
        })?;
        Ok(Self { runtime, sender })
    }

    /// Virtual services with real servers.
    pub fn services(&mut self) -> Result<Vec<ServiceView>, ClientError> {
        self.get("/v1/services")
    }

    /// Rules that make firewall marks.
    pub fn mark_rules(&mut self) -> Result<Vec<MarkRuleView>, ClientError> {
        self.get("/v1/mark-rules")
    }

    /// Timeouts.
    pub fn timeouts(&mut self) -> Result<TimeoutsView, ClientError> {
        self.get("/v1/timeouts")
    }

    /// Settings.
    pub fn settings(&mut self) -> Result<Vec<SettingView>, ClientError> {
        self.get("/v1/settings")
    }

    /// Sets all of `given`, or none; returns all settings.
    pub fn set(&mut self, given: &Given) -> Result<Vec<SettingView>, ClientError> {
        self.post("/v1/settings", given)
    }

    /// Sync daemons that run.
    pub fn sync_daemons(&mut self) -> Result<Vec<SyncStatus>, ClientError> {
        self.get("/v1/sync")
    }

    /// Starts a sync daemon; returns those that run then.
    pub fn start_sync(&mut self, request: &sync::Request) -> Result<Vec<SyncStatus>, ClientError> {
        self.post("/v1/sync", request)
    }

    /// Stops a sync daemon; returns those that run then.
    pub fn stop_sync(&mut self, role: sync::Role) -> Result<Vec<SyncStatus>, ClientError> {
        self.post("/v1/sync/stop", &StopSync { role })
    }

    /// Has the configuration read again; says what changed.
    pub fn reload(&mut self) -> Result<String, ClientError> {
        let reloaded: Reloaded = self.exchange(Method::POST, "/v1/reload", Bytes::new())?;
        Ok(reloaded.status)
    }

    /// Verdicts by reason.
    pub fn verdicts(&mut self) -> Result<Vec<VerdictCount>, ClientError> {
        self.get("/v1/verdicts")
    }

    /// How the daemon is.
    pub fn status(&mut self) -> Result<Status, ClientError> {
        self.get("/v1/status")
    }

    /// Has changes carried out in order; returns those that were refused.
    pub fn apply(&mut self, changes: &[Change]) -> Result<Vec<Refusal>, ClientError> {
        let path = "/v1/changes?refusals=collect";
        let unreadable = |source| ClientError::Unreadable {
            request: path.to_owned(),
            source,
        };
        let body = serde_json::to_vec(changes).map_err(unreadable)?;
        let applied: Applied = self.exchange(Method::POST, path, body.into())?;
        Ok(applied.refusals)
    }

    /// Connections, read as they are asked for.
    pub fn connections(&mut self) -> Result<Connections<'_>, ClientError> {
        let response = self.send(Method::GET, "/v1/connections", Bytes::new())?;
        Ok(Connections {
            runtime: &self.runtime,
            body: response.into_body(),
            buffer: Vec::new(),
            start: 0,
        })
    }

    fn post<T: DeserializeOwned>(
        &mut self,
        path: &str,
        what: &impl Serialize,
    ) -> Result<T, ClientError> {
        let body = serde_json::to_vec(what).map_err(|source| ClientError::Unreadable {
            request: path.to_owned(),
            source,
        })?;
        self.exchange(Method::POST, path, body.into())
    }

    fn get<T: DeserializeOwned>(&mut self, path: &str) -> Result<T, ClientError> {
        self.exchange(Method::GET, path, Bytes::new())
    }

    fn exchange<T: DeserializeOwned>(
        &mut self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<T, ClientError> {
        let response = self.send(method, path, body)?;
        let body = self.read(response)?;
        serde_json::from_slice(&body).map_err(|source| ClientError::Unreadable {
            request: path.to_owned(),
            source,
        })
    }

    fn send(
        &mut self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<Response<Incoming>, ClientError> {
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = method;
        // Paths here are our own and always valid.
        *request.uri_mut() = path.parse().unwrap_or_default();
        let headers = request.headers_mut();
        headers.insert(header::HOST, header::HeaderValue::from_static("pointsman"));
        let json = header::HeaderValue::from_static("application/json");
        headers.insert(header::CONTENT_TYPE, json);
        let sender = &mut self.sender;
        let response = self.runtime.block_on(async {
            sender.ready().await?;
            sender.send_request(request).await
        })?;
        if response.status().is_success() {
            return Ok(response);
        }
        let status = response.status();
        let body = self.read(response)?;
        let error = serde_json::from_slice::<ErrorBody>(&body)
            .map_or_else(|_| format!("{status} to {path}"), |body| body.error);
        Err(ClientError::Refused(error))
    }

    fn read(&self, response: Response<Incoming>) -> Result<Bytes, ClientError> {
        let body = self.runtime.block_on(response.into_body().collect())?;
        Ok(body.to_bytes())
    }
}

/// Connections as they come from the daemon.
#[derive(Debug)]
pub struct Connections<'a> {
    runtime: &'a Runtime,
    body: Incoming,
    buffer: Vec<u8>,
    /// Where the next line starts in `buffer`.
    start: usize,
}

impl Iterator for Connections<'_> {
    type Item = Result<ConnectionView, ClientError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let rest = &self.buffer[self.start..];
            if let Some(length) = rest.iter().position(|byte| *byte == b'\n') {
                let view = serde_json::from_slice(&rest[..length]);
                self.start += length + 1;
                return Some(view.map_err(|source| ClientError::Unreadable {
                    request: "/v1/connections".to_owned(),
                    source,
                }));
            }
            self.buffer.drain(..self.start);
            self.start = 0;
            match self.runtime.block_on(self.body.frame())? {
                Ok(frame) => {
                    if let Ok(data) = frame.into_data() {
                        self.buffer.extend_from_slice(&data);
                    }
                }
                Err(error) => return Some(Err(error.into())),
            }
        }
    }
}

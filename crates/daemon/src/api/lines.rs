//! A body of JSON lines, made while it is sent.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
    time::Instant,
};

use axum::body::Bytes;
use hyper::body::{Body, Frame};
use tokio::sync::mpsc::{Receiver, Sender, channel as bounded, error::TrySendError};

use super::PATIENCE;
use crate::{balancer::Balancer, connections, plane::Plane};

/// Bytes of a part.
const PART: usize = 32 << 10;

type Part = Result<Bytes, io::Error>;

/// The sending end makes parts, the body passes them on.
pub(super) fn channel() -> (Sender<Part>, Lines) {
    let (sender, parts) = bounded(4);
    (sender, Lines { parts })
}

/// A body whose parts come from a channel.
pub(super) struct Lines {
    parts: Receiver<Part>,
}

impl Body for Lines {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        let part = self.parts.poll_recv(context);
        part.map(|part| part.map(|part| part.map(Frame::data)))
    }
}

/// Sends every connection as a line; gives up when the client goes or stalls.
pub(super) fn send_connections<P: Plane>(balancer: &Balancer<P>, sender: &Sender<Part>) {
    let names = match balancer.names() {
        Ok(names) => names,
        Err(error) => {
            pass_on(sender, Err(io::Error::other(error)));
            return;
        }
    };
    let now = match balancer.now() {
        Ok(now) => now,
        Err(error) => {
            pass_on(sender, Err(io::Error::other(error)));
            return;
        }
    };
    let mut part = Vec::with_capacity(PART + 512);
    let mut open = true;
    balancer.each_connection(|flow| {
        let (key, record) = match flow {
            Ok(flow) => flow,
            Err(error) => {
                open = false;
                pass_on(sender, Err(io::Error::other(error)));
                return false;
            }
        };
        if let Some(view) = connections::view(&key, &record, &names, now) {
            if serde_json::to_writer(&mut part, &view).is_err() {
                return true;
            }
            part.push(b'\n');
        }
        if part.len() >= PART {
            open = pass_on(sender, Ok(std::mem::take(&mut part).into()));
        }
        open
    });
    if open && !part.is_empty() {
        pass_on(sender, Ok(part.into()));
    }
}

/// Hands a part to the body; false when nobody takes it.
///
/// The data plane is being read meanwhile, so a client that stalls must not hold it for ever.
fn pass_on(sender: &Sender<Part>, part: Part) -> bool {
    let deadline = Instant::now() + PATIENCE;
    let mut part = part;
    loop {
        match sender.try_send(part) {
            Ok(()) => return true,
            Err(TrySendError::Closed(_)) => return false,
            Err(TrySendError::Full(_)) if Instant::now() >= deadline => return false,
            Err(TrySendError::Full(back)) => part = back,
        }
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
}

//! A body of JSON lines, made while it is sent.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

use axum::body::Bytes;
use hyper::body::{Body, Frame};
use tokio::sync::mpsc::{Receiver, Sender, channel as bounded};

use super::Shell;
use crate::{
    connections,
    plane::{Plane, PlaneError},
};

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

/// Sends every connection as a line, as slowly as the client takes them; gives up when it goes.
pub(super) fn send_connections<P: Plane>(shell: &Shell<P>, sender: &Sender<Part>) {
    if let Err(error) = try_send_connections(shell, sender) {
        let _ = sender.blocking_send(Err(io::Error::other(error)));
    }
}

fn try_send_connections<P: Plane>(
    shell: &Shell<P>,
    sender: &Sender<Part>,
) -> Result<(), PlaneError> {
    let balancer = &shell.balancer;
    let names = balancer.names()?;
    let now = balancer.now()?;
    let mut part = Vec::with_capacity(PART + 512);
    let mut open = true;
    balancer.each_connection(|(key, record)| {
        if let Some(view) = connections::view(&key, &record, &names, now) {
            if serde_json::to_writer(&mut part, &view).is_err() {
                return true;
            }
            part.push(b'\n');
        }
        if part.len() >= PART {
            // Fails when nobody is there to take it.
            open = sender
                .blocking_send(Ok(std::mem::take(&mut part).into()))
                .is_ok();
        }
        open
    })?;
    for view in shell.sync.waiting() {
        if serde_json::to_writer(&mut part, &view).is_ok() {
            part.push(b'\n');
        }
    }
    if open && !part.is_empty() {
        let _ = sender.blocking_send(Ok(part.into()));
    }
    Ok(())
}

//! Metrics on TCP, for those who are told nothing else.

use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context as TaskContext, Poll},
};

use anyhow::{Context, Result};
use axum::serve::Listener;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore, watch},
};

use super::ended;
use crate::{
    api::{Shell, metrics_router},
    plane::Plane,
};

/// Connections at once; others wait. Anybody may connect, and the API needs descriptors, too.
const CONNECTIONS: usize = 64;

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
    let listener = Limited {
        listener,
        room: Arc::new(Semaphore::new(CONNECTIONS)),
    };
    tokio::select! {
        served = async { axum::serve(listener, metrics_router(shell)).await } => {
            if let Err(error) = served {
                tracing::error!(%error, "metrics on TCP stopped");
            }
        }
        () = ended(stopped) => {}
    }
}

/// A listener that accepts so many connections and no more.
struct Limited {
    listener: TcpListener,
    room: Arc<Semaphore>,
}

impl Listener for Limited {
    type Io = Connection;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Connection, SocketAddr) {
        // Nobody closes it, so there is always a permit in the end.
        let permit = Arc::clone(&self.room).acquire_owned().await.ok();
        let (stream, address) = Listener::accept(&mut self.listener).await;
        let connection = Connection {
            stream,
            _permit: permit,
        };
        (connection, address)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// A connection that gives its place back when it ends.
struct Connection {
    stream: TcpStream,
    _permit: Option<OwnedSemaphorePermit>,
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut TaskContext<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut TaskContext<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut TaskContext<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(
        mut self: Pin<&mut Self>,
        context: &mut TaskContext<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_full_house_waits_for_a_place() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut limited = Limited {
            listener,
            room: Arc::new(Semaphore::new(2)),
        };
        let mut clients = Vec::new();
        for _ in 0..3 {
            clients.push(TcpStream::connect(address).await.unwrap());
        }
        let (first, _) = Listener::accept(&mut limited).await;
        let (_second, _) = Listener::accept(&mut limited).await;
        assert_eq!(limited.room.available_permits(), 0);
        let third = Listener::accept(&mut limited);
        tokio::pin!(third);
        let mut context = TaskContext::from_waker(std::task::Waker::noop());
        assert!(third.as_mut().poll(&mut context).is_pending());
        drop(first);
        let (_third, from) = third.await;
        assert_eq!(from, clients[2].local_addr().unwrap());
    }
}

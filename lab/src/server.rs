//! A real server of the lab: HTTP/1.1 over TCP on `[::]:port`, and a UDP responder on the same port.
//!
//! | request | answer |
//! |---|---|
//! | `GET /` | the server's name and a newline |
//! | `GET /peer` | the connection's two ends as the server sees them |
//! | `GET /bytes/N` | N bytes of [`crate::pattern`] |
//! | `POST /echo` | the body, as it arrives |
//! | a datagram | the name, a newline and the datagram, from the address it was sent to |

use std::convert::Infallible;
use std::io::Write;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::pin::Pin;
use std::task::{Context, Poll};

use http_body_util::{BodyExt, Full, combinators::BoxBody};
use hyper::body::{Body, Bytes, Frame, Incoming, SizeHint};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};

use crate::error::{LabError, Result};
use crate::{pattern, responder};

/// Most bytes that one `GET /bytes/N` gives.
const MAX_BYTES: u64 = 1 << 32;

const CHUNK: u64 = 64 * 1024;

type Answer = Response<BoxBody<Bytes, hyper::Error>>;

/// How a server may be wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Manner {
    /// Listens for TCP on this address alone.
    pub only: Option<IpAddr>,
    /// Lets the kernel choose the source of answers by UDP.
    pub careless: bool,
}

/// Serves for ever; prints `ready NAME` when all ports are open.
pub fn serve(name: &str, ports: &[u16], manner: Manner) -> Result<()> {
    if ports.is_empty() {
        return Err(LabError::Usage(
            "a server needs at least one port".to_owned(),
        ));
    }
    for port in ports {
        match manner.careless {
            true => responder::start_careless(name, *port)?,
            false => responder::start(name, *port)?,
        }
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(LabError::io("cannot start the server's runtime"))?;
    let only = manner.only.unwrap_or(IpAddr::V6(Ipv6Addr::UNSPECIFIED));
    runtime.block_on(listen(name, only, ports))
}

async fn listen(name: &str, only: IpAddr, ports: &[u16]) -> Result<()> {
    let name: &'static str = Box::leak(name.to_owned().into_boxed_str());
    let mut tasks = Vec::new();
    for port in ports {
        let address = SocketAddr::new(only, *port);
        let listener = TcpListener::bind(address)
            .await
            .map_err(LabError::io(format!(
                "{name} cannot listen on TCP {address}"
            )))?;
        tasks.push(tokio::spawn(accept(name, listener)));
    }
    println!("ready {name}");
    std::io::stdout()
        .flush()
        .map_err(LabError::io("cannot say that the server is ready"))?;
    for task in tasks {
        task.await
            .map_err(|error| LabError::Answer(format!("{name} stopped: {error}")))?;
    }
    Ok(())
}

async fn accept(name: &'static str, listener: TcpListener) {
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => {
                tokio::spawn(converse(name, stream, peer));
            }
            // The connection went away before it was accepted, or files ran out for a moment.
            Err(error) => {
                eprintln!("{name}: accept: {error}");
                tokio::task::yield_now().await;
            }
        }
    }
}

async fn converse(name: &'static str, stream: TcpStream, peer: SocketAddr) {
    let ends = match stream.local_addr() {
        Ok(local) => format!("{} > {}\n", plain(peer), plain(local)),
        Err(error) => format!("{error}\n"),
    };
    let _ = stream.set_nodelay(true);
    let service = service_fn(move |request| {
        let answer = answer(name, &ends, request);
        async move { Ok::<_, Infallible>(answer) }
    });
    let connection =
        hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
    // The client closing early is its own affair.
    let _ = connection.await;
}

fn answer(name: &str, ends: &str, request: Request<Incoming>) -> Answer {
    let path = request.uri().path();
    if request.method() == Method::POST {
        return match path {
            "/echo" => Response::new(request.into_body().boxed()),
            _ => refusal(StatusCode::NOT_FOUND, "POST to /echo\n"),
        };
    }
    if let Some(number) = path.strip_prefix("/bytes/") {
        return match number.parse::<u64>() {
            Ok(length) if length <= MAX_BYTES => Response::new(
                Pattern { at: 0, end: length }
                    .map_err(|never| match never {})
                    .boxed(),
            ),
            _ => refusal(
                StatusCode::BAD_REQUEST,
                "/bytes/N with N up to 4294967296\n",
            ),
        };
    }
    match path {
        "/" => text(StatusCode::OK, format!("{name}\n")),
        "/peer" => text(StatusCode::OK, ends.to_owned()),
        _ => refusal(
            StatusCode::NOT_FOUND,
            "GET / or /peer or /bytes/N, POST /echo\n",
        ),
    }
}

fn text(status: StatusCode, text: String) -> Answer {
    let body = Full::new(Bytes::from(text))
        .map_err(|never| match never {})
        .boxed();
    let mut answer = Response::new(body);
    *answer.status_mut() = status;
    answer
}

fn refusal(status: StatusCode, hint: &str) -> Answer {
    text(status, hint.to_owned())
}

/// An IPv4 address that came through a dual-stack socket, written as IPv4.
fn plain(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

/// The body of `/bytes/N`, made as it is sent.
struct Pattern {
    at: u64,
    end: u64,
}

impl Body for Pattern {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<std::result::Result<Frame<Bytes>, Infallible>>> {
        let length = CHUNK.min(self.end - self.at);
        if length == 0 {
            return Poll::Ready(None);
        }
        let chunk = pattern::bytes(self.at, length as usize);
        self.at += length;
        Poll::Ready(Some(Ok(Frame::data(Bytes::from(chunk)))))
    }

    fn is_end_stream(&self) -> bool {
        self.at == self.end
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.end - self.at)
    }
}

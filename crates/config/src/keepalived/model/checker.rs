//! What is checked, and when.

use std::net::IpAddr;
use std::time::Duration;

use super::{Command, Places, Weight};

/// One checker of a real server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checker {
    /// Where its keywords stand.
    pub places: Places,
    /// When.
    pub timing: Timing,
    /// What.
    pub check: Check,
}

/// When a check is made, and how many failures count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timing {
    /// Time between two checks.
    pub delay_loop: Duration,
    /// Tries more after a failure.
    pub retry: u32,
    /// Time before such a try.
    pub delay_before_retry: Duration,
    /// First checks are spread over this time.
    pub warmup: Duration,
    /// True when it is failed until it succeeds.
    pub alpha: bool,
    /// True when each failure is logged.
    pub log_all_failures: bool,
}

/// What is checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Check {
    /// `TCP_CHECK`: a connection can be made.
    Tcp(Binding),
    /// `HTTP_GET`, `SSL_GET`.
    Http(HttpCheck),
    /// `SMTP_CHECK`: a mail server greets; the second is the name in `HELO`.
    Smtp(Binding, String),
    /// `DNS_CHECK`: a name server answers to type and name.
    Dns(Binding, String, String),
    /// `UDP_CHECK`.
    Udp(Binding, Probe),
    /// `PING_CHECK`: an echo comes back.
    Ping(Binding),
    /// `MISC_CHECK`: a command succeeds.
    Misc {
        /// What is run.
        command: Command,
        /// How long it may take; none is until the next is due.
        timeout: Option<Duration>,
        /// True when its exit code says the weight.
        dynamic: bool,
    },
    /// `BFD_CHECK`: the session of this name is up.
    Bfd(String),
    /// `FILE_CHECK`: the number in a `track_file`, and what it weighs.
    File {
        /// The file's name in this configuration.
        file: String,
        /// Its weight; none is the file's.
        weight: Option<Weight>,
    },
}

impl Check {
    /// Where it connects, if it does.
    pub fn binding(&self) -> Option<&Binding> {
        match self {
            Self::Tcp(binding)
            | Self::Smtp(binding, _)
            | Self::Dns(binding, ..)
            | Self::Udp(binding, _)
            | Self::Ping(binding) => Some(binding),
            Self::Http(http) => Some(&http.binding),
            Self::Misc { .. } | Self::Bfd(_) | Self::File { .. } => None,
        }
    }
}

/// Where a check connects, and from where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Binding {
    /// The address.
    pub address: IpAddr,
    /// The port.
    pub port: u16,
    /// The address from which.
    pub source: Option<IpAddr>,
    /// The port from which.
    pub source_port: Option<u16>,
    /// The interface by which.
    pub interface: Option<String>,
    /// How long it may take.
    pub timeout: Duration,
    /// Firewall mark of its packets, 0 for none.
    pub mark: u32,
    /// True when it goes to the virtual address, the way that clients' packets go (`vip_check`).
    pub vip_check: bool,
}

/// `HTTP_GET` and `SSL_GET`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpCheck {
    /// Where.
    pub binding: Binding,
    /// True for `SSL_GET`.
    pub tls: bool,
    /// The protocol's version.
    pub protocol: HttpProtocol,
    /// True when the name is told in the TLS handshake.
    pub sni: bool,
    /// True when all URLs are tried at once after a failure.
    pub fast_recovery: bool,
    /// What is asked for, in order.
    pub urls: Vec<UrlCheck>,
}

/// Version of HTTP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum HttpProtocol {
    /// 1.0.
    #[default]
    V1,
    /// 1.0 that says that it closes.
    V1Close,
    /// 1.1.
    V1_1,
}

/// `url`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UrlCheck {
    /// The path.
    pub path: String,
    /// The name of the host: its own, the checker's, the real server's or the service's.
    pub host: Option<String>,
    /// MD5 of the body.
    pub digest: Option<[u8; 16]>,
    /// Status codes that are good.
    pub status: StatusCodes,
    /// A pattern, and the names of its options.
    pub regex: Option<(String, Vec<String>)>,
    /// True when the pattern must not match.
    pub no_match: bool,
    /// The least offset at which the pattern is looked for.
    pub least_offset: u32,
    /// The greatest offset, if there is one.
    pub most_offset: Option<u32>,
}

/// Ranges of status codes, ends included.
pub type StatusCodes = Vec<(u16, u16)>;

/// `UDP_CHECK`: what is sent and what has to come back.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Probe {
    /// What is sent; none is some bytes by chance.
    pub payload: Option<Vec<u8>>,
    /// What has to come: bytes, and the bits of them that count; empty for anything; none for no matter.
    pub reply: Option<Vec<(u8, u8)>>,
    /// The least length of a reply.
    pub least: u16,
    /// The greatest length of a reply.
    pub most: u16,
}

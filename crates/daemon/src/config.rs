//! What the daemon is told at its start.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
};

use pointsman_datapath::{HookChoice, Options};

use crate::{availability::Source, settings::Given};

/// Where the API's socket is unless told.
pub const DEFAULT_SOCKET: &str = "/run/pointsman/api.sock";

/// Everything the daemon is told at its start.
#[derive(Debug, Clone)]
pub struct Config {
    /// Interfaces to attach to; every Ethernet interface that is up when empty.
    pub interfaces: Vec<String>,
    /// How to attach.
    pub hook: HookChoice,
    /// Sizes and pins.
    pub datapath: Options,
    /// The API's socket.
    pub socket: PathBuf,
    /// Where metrics are asked for by TCP, if anywhere.
    pub metrics: Option<SocketAddr>,
    /// Leave programs, maps and neighbours in place when stopped.
    pub keep: bool,
    /// The state file, if state is kept.
    pub state: Option<PathBuf>,
    /// A keepalived.conf that says what to do, if there is one.
    pub availability: Option<Source>,
    /// Settings of the command line, which win over those that an earlier run was given.
    pub settings: Given,
}

/// Where managed neighbours are remembered: beside the socket.
pub fn neighbours_file(socket: &Path) -> PathBuf {
    socket.with_extension("neighbours")
}

/// Where virtual routers are remembered that were left for the next daemon: beside the socket.
pub fn routers_file(socket: &Path) -> PathBuf {
    socket.with_extension("vrrp")
}

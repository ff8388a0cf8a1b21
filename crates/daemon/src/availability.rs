//! What a keepalived.conf has this host do: virtual routers, virtual services and their checks.
//!
//! [`Plan`] is the configuration in the words of the machines that run it; [`Availability`] is those
//! machines at work. A reload runs the difference: what means the same goes on as it is.

mod command;
mod hand;
mod host_items;
mod mails;
mod memory;
mod preparation;
mod quorums;
mod reload;
mod resumption;
mod routers;
mod services;
mod sessions;
mod synchronisation;
mod trackers;
mod work;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, bail};
use pointsman_config::keepalived::Configuration;

use pointsman_ha::bfd::SessionConfig;

use crate::bfd::BfdTracker;
use crate::child::Script;
use crate::fifo::Fifo;
use crate::mail::MailConfig;
use crate::vrrp::VrrpConfig;
use crate::vrrp::hooks::HooksConfig;
use crate::vrrp::process::ProcessTracker;
use crate::vrrp::track::{FileTracker, ScriptTracker};

pub use memory::{note_sudden_end, release};
pub use reload::Reloaded;
pub use resumption::Resumption;
pub use services::{Placed, PlannedService, ServiceScripts};
pub use synchronisation::Synchronised;
pub use work::Availability;

/// Where the configuration comes from, at the start and at each reload.
#[derive(Clone)]
pub struct Source {
    /// The file's name, for people.
    pub name: String,
    /// Reads it anew; the error says everything that keeps it from being used.
    pub read: Arc<dyn Fn() -> Result<Configuration> + Send + Sync>,
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Source")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

/// A configuration as the machines want it.
#[derive(Debug, Clone)]
pub struct Plan {
    /// What it was made of.
    pub configuration: Configuration,
    /// The virtual routers and their groups.
    pub vrrp: VrrpConfig,
    /// Whom they tell.
    pub hooks: HooksConfig,
    /// Where mails go, if there are any.
    pub mail: Option<MailConfig>,
    /// Scripts that they track.
    pub scripts: Vec<ScriptTracker>,
    /// Files that they track.
    pub files: Vec<FileTracker>,
    /// Processes that they track.
    pub processes: Vec<ProcessTracker>,
    /// BFD sessions.
    pub sessions: Vec<SessionConfig>,
    /// Those that virtual routers track.
    pub tracked_sessions: Vec<BfdTracker>,
    /// The virtual services.
    pub services: Vec<PlannedService>,
    /// FIFOs that are told of services.
    pub service_fifos: Vec<Fifo>,
    /// True when FIFOs are told at each reload what virtual routers are.
    pub tell_states: bool,
    /// Seconds of established TCP, TCP after FIN, and UDP; 0 leaves them.
    pub timeouts: [u32; 3],
    /// Who is told of connections, and as what.
    pub synchronisation: Option<Synchronised>,
    /// True when services that are there already are removed first.
    pub flush: bool,
    /// Run before anything else, and how long it may take.
    pub startup: Option<(Script, Duration)>,
    /// Run after everything else, and how long it may take.
    pub shutdown: Option<(Script, Duration)>,
}

impl Plan {
    /// The plan of a configuration, or everything that can't be done here.
    pub fn new(configuration: &Configuration) -> Result<Self> {
        let mut faults = Vec::new();
        let commands = command::Commands::new(&configuration.global, &mut faults);
        let plan = Self {
            configuration: configuration.clone(),
            vrrp: routers::vrrp(configuration, &mut faults),
            hooks: routers::hooks(configuration, &commands, &mut faults),
            mail: mails::config(configuration),
            scripts: routers::scripts(configuration, &commands, &mut faults),
            files: routers::files(configuration),
            processes: routers::processes(configuration),
            sessions: sessions::sessions(configuration),
            tracked_sessions: sessions::tracked(configuration),
            services: services::plan(configuration, &commands, &mut faults),
            service_fifos: [&configuration.global.fifo, &configuration.global.lvs_fifo]
                .into_iter()
                .filter_map(|fifo| commands.fifo(fifo, &mut faults))
                .collect(),
            tell_states: configuration.global.fifo_on_reload,
            timeouts: configuration.global.timeouts.map(Option::unwrap_or_default),
            synchronisation: Synchronised::new(configuration),
            flush: configuration.global.flush,
            startup: commands.timed(configuration.global.startup.as_ref(), &mut faults),
            shutdown: commands.timed(configuration.global.shutdown.as_ref(), &mut faults),
        };
        if !faults.is_empty() {
            bail!("{}", faults.join("\n"));
        }
        Ok(plan)
    }

    /// All FIFOs, some perhaps twice.
    fn fifos(&self) -> impl Iterator<Item = &Fifo> {
        self.hooks.fifos.iter().chain(&self.service_fifos)
    }
}

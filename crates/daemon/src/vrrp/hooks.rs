//! Scripts, FIFOs and people that are told what becomes of virtual routers.

use std::collections::BTreeMap;

use pointsman_ha::mail::{Alert, Told};
use pointsman_ha::vrrp::{Event, Notice, Scope};
use tokio::sync::mpsc::UnboundedReceiver;

use crate::child::Script;
use crate::fifo::{Fifo, Fifos};
use crate::mail::Mailer;

/// Who is told of what.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HooksConfig {
    /// The scripts of virtual routers.
    pub instances: BTreeMap<String, Scripts>,
    /// The scripts of sync groups.
    pub groups: BTreeMap<String, Scripts>,
    /// FIFOs that get a line for every notice.
    pub fifos: Vec<Fifo>,
}

/// Scripts for what may become of a virtual router or sync group.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Scripts {
    /// `notify_master`.
    pub master: Option<Script>,
    /// `notify_backup`.
    pub backup: Option<Script>,
    /// `notify_fault`.
    pub fault: Option<Script>,
    /// `notify_stop`.
    pub stop: Option<Script>,
    /// `notify_deleted`.
    pub deleted: Option<Script>,
    /// True when what is no longer configured is told to be deleted, not in fault (`notify_deleted`).
    pub tells_deletion: bool,
    /// `notify_master_rx_lower_pri`.
    pub master_rx_lower_pri: Option<Script>,
    /// `notify`: any state, told as arguments.
    pub any: Option<Script>,
    /// True when mails tell of it (`smtp_alert`).
    pub mails: bool,
}

impl Scripts {
    /// What is run for an event: the script for it, then the one for all.
    fn for_event(&self, event: Event) -> [Option<&Script>; 2] {
        let (one, state) = match event {
            Event::Master => (&self.master, true),
            Event::Backup => (&self.backup, true),
            Event::Fault => (&self.fault, true),
            Event::Stop => (&self.stop, true),
            Event::Deleted => (&self.deleted, true),
            Event::MasterRxLowerPri => (&self.master_rx_lower_pri, false),
            Event::MasterPriority | Event::BackupPriority => (&None, false),
        };
        [one.as_ref(), self.any.as_ref().filter(|_| state)]
    }
}

/// Who is told, at work.
#[derive(Debug)]
pub struct Hooks {
    config: HooksConfig,
    fifos: Fifos,
    mailer: Mailer,
}

impl Hooks {
    /// Tells scripts and FIFOs, of which those that are configured are written to.
    pub fn new(config: HooksConfig, fifos: &Fifos, mailer: &Mailer) -> Self {
        Self {
            fifos: fifos.only(&config.fifos),
            mailer: mailer.clone(),
            config,
        }
    }

    /// Tells everybody, until nobody sends notices any more.
    pub async fn keep(self, mut notices: UnboundedReceiver<Notice>) {
        while let Some(mut notice) = notices.recv().await {
            let scripts = match notice.scope {
                Scope::Instance => self.config.instances.get(&notice.name),
                Scope::Group => self.config.groups.get(&notice.name),
            };
            if notice.event == Event::Deleted && !scripts.is_some_and(|s| s.tells_deletion) {
                notice.event = Event::Fault;
            }
            self.fifos.write(&format!("{notice}\n"));
            let Some(scripts) = scripts else { continue };
            if scripts.mails {
                let is_wanted = |faults| faults || notice.event != Event::Fault;
                self.mailer.post(
                    |config| is_wanted(config.faults),
                    || Alert::new(Told::Router(&notice)),
                );
            }
            let [one, any] = scripts.for_event(notice.event);
            Script::begin_and_forget(one, &[]);
            Script::begin_and_forget(any, &notice.arguments());
        }
    }
}

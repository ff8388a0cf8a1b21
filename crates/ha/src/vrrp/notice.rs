//! What scripts and FIFOs are told, in keepalived's words.

use std::fmt;

/// Something that happened to a virtual router or a sync group.
///
/// It prints as a line of keepalived's FIFO: `INSTANCE "VI_1" MASTER 150`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    /// Whom it is about.
    pub scope: Scope,
    /// Name of the router or group.
    pub name: String,
    /// What happened.
    pub event: Event,
    /// The router's priority; 0 for groups.
    pub priority: u8,
}

/// Whom a notice is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Scope {
    /// A virtual router.
    Instance,
    /// A sync group.
    Group,
}

/// What a notice says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Event {
    /// It is master.
    Master,
    /// It is backup.
    Backup,
    /// It can't take part.
    Fault,
    /// It stopped with the daemon.
    Stop,
    /// It is gone from the configuration.
    Deleted,
    /// The master heard an advertisement of lower priority: whoever moves addresses by an interface
    /// of the cloud moves them again.
    MasterRxLowerPri,
    /// The master's priority changed.
    MasterPriority,
    /// The backup's priority changed.
    BackupPriority,
}

impl Notice {
    /// The arguments that keepalived appends to a `notify` script.
    pub fn arguments(&self) -> [String; 4] {
        [
            self.scope.to_string(),
            self.name.clone(),
            self.event.to_string(),
            self.priority.to_string(),
        ]
    }
}

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            scope,
            name,
            event,
            priority,
        } = self;
        write!(f, "{scope} \"{name}\" {event} {priority}")
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Instance => "INSTANCE",
            Self::Group => "GROUP",
        })
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Master => "MASTER",
            Self::Backup => "BACKUP",
            Self::Fault => "FAULT",
            Self::Stop => "STOP",
            Self::Deleted => "DELETED",
            Self::MasterRxLowerPri => "MASTER_RX_LOWER_PRI",
            Self::MasterPriority => "MASTER_PRIORITY",
            Self::BackupPriority => "BACKUP_PRIORITY",
        })
    }
}

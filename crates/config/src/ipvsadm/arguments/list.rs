//! What `-L` is asked to show.

use pointsman_director::model::ServiceId;

use super::UsageError;
use super::acceptance::GivenSet;
use super::option::Given;

/// What `-L` lists and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ListOptions {
    /// What is listed.
    pub subject: ListSubject,
    /// Which columns services and real servers have.
    pub view: ListView,
    /// Print numbers, not names.
    pub numeric: bool,
    /// Print long numbers in full.
    pub exact: bool,
    /// Keep the order of the tables.
    pub unsorted: bool,
}

/// What `-L` lists.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ListSubject {
    /// Every service and its real servers.
    #[default]
    Services,
    /// One service and its real servers.
    Service(ServiceId),
    /// Connections, `-c`.
    Connections,
    /// The timeouts of `--set`.
    Timeouts,
    /// The sync daemons.
    Daemons,
}

/// The columns of a list of services; when several are asked for, the first one here counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ListView {
    /// `--stats`
    Stats,
    /// `--rate`
    Rate,
    /// `--thresholds`
    Thresholds,
    /// `--persistent-conn`
    PersistentConnections,
    /// `--tun-info`
    TunnelInfo,
    /// None of these: forwarding, weight and connections.
    #[default]
    Plain,
}

impl ListOptions {
    /// Reads the options that passed the acceptance table.
    pub(super) fn from_given(
        given: GivenSet,
        service: Option<ServiceId>,
    ) -> Result<Self, UsageError> {
        let settings = given.has_any(&[Given::Timeout, Given::Daemon]);
        let views = given.has_any(&[Given::Stats, Given::Rate, Given::Thresholds]);
        // `--persistent-conn` may stand with `-c`, where it adds two columns.
        if views && (settings || given.has(Given::Connection))
            || settings && given.has(Given::PersistentConn)
        {
            return Err(UsageError::new("options conflicts in the list command"));
        }
        let subject = match service {
            Some(id) => ListSubject::Service(id),
            None if given.has(Given::Connection) => ListSubject::Connections,
            None if given.has(Given::Timeout) => ListSubject::Timeouts,
            None if given.has(Given::Daemon) => ListSubject::Daemons,
            None => ListSubject::Services,
        };
        let view = [
            (Given::Stats, ListView::Stats),
            (Given::Rate, ListView::Rate),
            (Given::Thresholds, ListView::Thresholds),
            (Given::PersistentConn, ListView::PersistentConnections),
            (Given::TunInfo, ListView::TunnelInfo),
        ];
        let view = view.into_iter().find(|(option, _)| given.has(*option));
        Ok(Self {
            subject,
            view: view.map_or(ListView::Plain, |(_, view)| view),
            numeric: given.has(Given::Numeric),
            exact: given.has(Given::Exact),
            unsorted: given.has(Given::NoSort),
        })
    }
}

//! The data plane as the shell sees it, so that tests can do without a kernel.

use pointsman_datapath::{ConnectionsPosition, Datapath};
use pointsman_director::{
    Reason,
    adopt::Adopted,
    control::{Mirror, Records},
    record::{ConnectionRecord, FlowKey, ServerCounts, ServerStats},
};
use pointsman_wire::Mac;

/// What the data plane could not do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct PlaneError(pub String);

impl From<pointsman_datapath::Error> for PlaneError {
    fn from(error: pointsman_datapath::Error) -> Self {
        Self(error.to_string())
    }
}

/// A connection and what it is known by.
pub type Flow = (FlowKey, ConnectionRecord);

/// A data plane: [`Datapath`], or tables in memory.
pub trait Plane: Send + Sync + 'static {
    /// Where the director's records go.
    type Mirror<'a>: Mirror
    where
        Self: 'a;

    /// Where reading connections has come to.
    type Position: Default;

    /// Where the director's records go.
    fn mirror(&self) -> Self::Mirror<'_>;
    /// The records as they are.
    fn records(&self) -> Result<Records, PlaneError>;
    /// Counts of many real servers' connections by index; `servers` rise.
    fn all_counts(&self, servers: &[u32]) -> Result<Vec<ServerCounts>, PlaneError>;
    /// Counters of many real servers by index; `servers` rise.
    fn all_stats(&self, servers: &[u32]) -> Result<Vec<ServerStats>, PlaneError>;
    /// How often each verdict was given.
    fn verdicts(&self) -> Result<Vec<(Reason, u64)>, PlaneError>;
    /// The connections behind `position`, some at a time and none at the end.
    fn read_connections(&self, position: &mut Self::Position) -> Result<Vec<Flow>, PlaneError>;
    /// Takes connections of another director into the tables; what became of each.
    fn adopt(&self, told: &[Flow]) -> Result<Vec<Adopted>, PlaneError>;
    /// Ends connections whose time is over, with `dropping` also those that `drop_entry` may end; returns
    /// how many.
    fn sweep(&self, dropping: bool) -> Result<u32, PlaneError>;
    /// The time by the programs' clock, nanoseconds.
    fn now(&self) -> Result<u64, PlaneError>;
    /// Tells the address of an attached device.
    fn set_link(&self, ifindex: u32, mac: Mac) -> Result<(), PlaneError>;
}

impl Plane for Datapath {
    type Mirror<'a> = pointsman_datapath::MapMirror<'a>;
    type Position = ConnectionsPosition;

    fn mirror(&self) -> Self::Mirror<'_> {
        Self::mirror(self)
    }

    fn records(&self) -> Result<Records, PlaneError> {
        Ok(Self::records(self)?)
    }

    fn all_counts(&self, servers: &[u32]) -> Result<Vec<ServerCounts>, PlaneError> {
        Ok(Self::all_counts(self, servers)?)
    }

    fn all_stats(&self, servers: &[u32]) -> Result<Vec<ServerStats>, PlaneError> {
        Ok(Self::all_stats(self, servers)?)
    }

    fn verdicts(&self) -> Result<Vec<(Reason, u64)>, PlaneError> {
        Ok(Self::verdicts(self)?)
    }

    fn read_connections(&self, position: &mut Self::Position) -> Result<Vec<Flow>, PlaneError> {
        Ok(Self::read_connections(self, position)?)
    }

    fn adopt(&self, told: &[Flow]) -> Result<Vec<Adopted>, PlaneError> {
        Ok(Self::adopt(self, told)?)
    }

    fn sweep(&self, dropping: bool) -> Result<u32, PlaneError> {
        Ok(Self::sweep(self, dropping)?)
    }

    fn now(&self) -> Result<u64, PlaneError> {
        Ok(Self::now(self)?)
    }

    fn set_link(&self, ifindex: u32, mac: Mac) -> Result<(), PlaneError> {
        Ok(Self::set_link(self, ifindex, mac)?)
    }
}

//! The frames that a role must send and receive at a guest's port, and those that its filter is there
//! to stop.
//!
//! A [`Scene`] says who takes part; [`kinds`] makes a list of [`Kind`]s of it, each with the bytes of an
//! example. Judged over this list, two rulesets can be compared: what a role lacks, and what a change
//! newly permits.

mod attack;
mod craft;
mod director;
mod resolution;
mod scene;
mod server;
mod vrrp;

pub use scene::{Cast, Known, RealServer, Scene, Station, Vip};

use std::fmt;

use crate::connection::Connections;
use crate::frame::{Frame, FrameError};
use crate::judge::{Judgement, judge};
use crate::model::Ruleset;
use crate::route::{Direction, Host, Port};

/// What the guest is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// It takes clients' packets and hands them to real servers.
    Director,
    /// It serves what a director hands it.
    RealServer,
    /// It has the virtual address while it is master, and serves it itself.
    Vrrp,
}

impl Role {
    /// As people write it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Director => "director",
            Self::RealServer => "realserver",
            Self::Vrrp => "vrrp",
        }
    }
}

/// How a director hands packets to real servers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Method {
    /// Only link-layer addresses change.
    Direct,
    /// In another IP header.
    Tunnel,
    /// The destination is translated, and the source of the reply.
    Masquerade,
}

impl Method {
    /// As people write it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Direct => "dr",
            Self::Tunnel => "tun",
            Self::Masquerade => "nat",
        }
    }
}

/// Transport of a virtual service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

impl Protocol {
    /// As people write it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        }
    }
}

/// Whether a frame should pass; what is needed most is first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Need {
    /// Without it the role does not work.
    Must,
    /// Without it the role works, but not always or not well.
    Should,
    /// It does not matter.
    Free,
    /// It is what filters are there to stop.
    MustNot,
}

impl fmt::Display for Need {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Must => "must pass",
            Self::Should => "should pass",
            Self::Free => "may pass",
            Self::MustNot => "should not pass",
        })
    }
}

/// Which part of the catalogue a kind is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Part {
    /// What the role does.
    Work,
    /// What a guest could do to others.
    Attack,
}

/// A kind of frame, with an example.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kind {
    /// A stable name, `arp-reply-vip-out`; kinds that differ only by address share it.
    pub id: &'static str,
    /// [`Direction::Out`] from the guest, or [`Direction::In`].
    pub direction: Direction,
    /// Whether it should pass.
    pub need: Need,
    /// Which part it is in.
    pub part: Part,
    /// What it is, in words, with its addresses.
    pub words: String,
    /// Frames of the same conversation that passed this port before, for connection tracking.
    pub before: Vec<Vec<u8>>,
    /// The example.
    pub frame: Vec<u8>,
}

impl Kind {
    /// Judges the example at a port, after what came before it. Connections of `host` are not asked:
    /// the conversation is one that nobody has seen before.
    pub fn judge(
        &self,
        port: Port<'_>,
        rules: &Ruleset,
        host: &Host<'_>,
    ) -> Result<Judgement, FrameError> {
        let mut connections = Connections::new();
        for frame in &self.before {
            connections.confirm(&Frame::parse(frame)?);
        }
        let host = Host {
            connections: Some(&connections),
            ..*host
        };
        judge(&self.frame, port, self.direction, rules, &host)
    }
}

/// All kinds of a scene: first what its roles do, then what they must not do.
pub fn kinds(scene: &Scene) -> Vec<Kind> {
    let mut craft = craft::Craft::new(scene);
    for cast in &scene.casts {
        resolution::own(&mut craft, cast);
        for &role in &scene.roles {
            match role {
                Role::Director => director::kinds(&mut craft, cast),
                Role::RealServer => server::kinds(&mut craft, cast),
                Role::Vrrp => vrrp::kinds(&mut craft, cast),
            }
        }
    }
    for cast in &scene.casts {
        attack::kinds(&mut craft, cast);
    }
    craft.finish()
}

#[cfg(test)]
mod tests;

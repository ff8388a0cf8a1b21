//! VRRP: which of several hosts has the virtual addresses.
//!
//! Version 2 (RFC 3768) and 3 (RFC 9568), with keepalived's habits where the RFCs leave room, so that
//! both share a segment.
//!
//! # [`VrrpRouter`]
//!
//! All virtual routers of this host. Gives each what came for it, and holds sync groups together.
//!
//! # [`VirtualRouter`]
//!
//! One virtual router: in [`State::Backup`] it waits for the master's silence, in [`State::Master`] it
//! sends advertisements and holds the addresses.
//!
//! # [`Rejection`]
//!
//! Why an advertisement does not count. What is rejected does not keep a backup waiting.
//!
//! # [`Tracker`]
//!
//! Something outside that moves the priority or forbids to be master: an interface, a script, a file,
//! a process, a virtual service's quorum.
//!
//! # [`SyncGroup`]
//!
//! Virtual routers that are master together or not at all.
//!
//! # [`AnnounceConfig`]
//!
//! How often the segment is told where the addresses are, by gratuitous ARP or unsolicited neighbor
//! advertisements.
//!
//! # [`Verifier`]
//!
//! Asks the segment whether it believes that a master has its addresses.
//!
//! # [`Notice`]
//!
//! A change of state in the words in which keepalived tells scripts and FIFOs.

mod announcer;
mod config;
mod notice;
mod output;
mod reception;
mod rival;
mod sync_group;
mod tracker;
mod verifier;
mod virtual_router;
mod vrrp_router;

pub use announcer::AnnounceConfig;
pub use config::{AddressCheck, ConfigError, OldChecksum, Peer, Peers, RouterConfig, Version};
pub use notice::{Event, Notice, Scope};
pub use output::{Datagram, Interface, Output};
pub use reception::Rejection;
pub use sync_group::SyncGroup;
pub use tracker::{Reading, Tracker};
pub use verifier::{Belief, Verifier, VerifyConfig, VerifyOutput};
pub use virtual_router::{RouterStats, State, VirtualRouter};
pub use vrrp_router::VrrpRouter;

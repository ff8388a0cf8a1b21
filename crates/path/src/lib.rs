//! The doctor's reasoning: what was read of hosts, what is wrong in it, and how it is mended.
//!
//! A [`snapshot::Snapshot`] is what was read of one host, guest or network namespace; a
//! [`bundle::Bundle`] holds those of several. Faults have names in the [`catalogue`]; a
//! [`finding::Finding`] says that one is there, why, and what mends it.
//!
//! An [`observation::Observation`] is a frame that was seen somewhere; a [`ladder::Ladder`] joins those
//! of many places into packets on their way.
//!
//! The crate is pure: it opens no file, socket or clock and runs no program. [`question`] says which
//! programs to ask, [`reading`] makes a snapshot of their answers.
#![forbid(unsafe_code)]

pub mod bundle;
pub mod capture_file;
pub mod capture_filter;
pub mod catalogue;
pub mod diagnosis;
pub mod finding;
pub mod injection;
pub mod ladder;
pub mod lint;
pub mod observation;
pub mod pcapng;
pub mod question;
pub mod reading;
pub mod redact;
pub mod remote;
pub mod report;
pub mod snapshot;
pub mod topology;
pub mod twin;
pub mod vrrp;

mod json;
mod page;
mod records;

//! What happens to a packet.
//!
//! [`process::process`] takes a frame, tables, time and routes through traits and returns a
//! verdict. The same code runs in the kernel under XDP and tcx, and natively in tests, fuzzers and
//! `pointsman explain`: there is no second implementation to drift.
//!
//! The data plane's half is `no_std`, allocates nothing and never panics. With the feature `std`
//! come the operator's [`model`], the [`control`] plane that turns changes to it into records, and
//! [`native`] tables.
#![cfg_attr(not(feature = "std"), no_std)]
#![cfg_attr(target_arch = "bpf", feature(asm_experimental_arch))]
#![deny(unsafe_code)]

pub mod adopt;
pub mod atomic;
pub mod begin;
pub mod connection;
pub mod expiry;
pub mod forward;
pub mod headers;
pub mod mark;
pub mod persistence;
pub mod process;
pub mod reason;
pub mod record;
pub mod recording;
pub mod related;
pub mod schedule;
pub mod sctp;
pub mod segment;
pub mod service;
pub mod tables;
pub mod tcp;

#[cfg(feature = "std")]
pub mod control;
#[cfg(feature = "std")]
pub mod estimate;
#[cfg(feature = "std")]
pub mod model;
#[cfg(feature = "std")]
pub mod native;
#[cfg(feature = "std")]
pub mod setting;

pub use process::{Scratch, process};
pub use reason::{Action, Reason, Verdict};

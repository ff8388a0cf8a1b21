//! The language of `ipvsadm` 1.31: its command line, its lists and its save files.
//!
//! Wherever ipvsadm has a habit that scripts can see (order of checks, wording, padding, exit
//! codes), this module has the same one. Known differences are listed in [`arguments::parse`].

pub mod arguments;
pub mod endpoint;
pub mod flags;
pub mod listing;
pub(crate) mod number;
mod order;
pub mod resolve;
pub mod save;
pub mod usage;

pub use resolve::{Numeric, Resolve};

/// Scheduler of a service that names none.
pub const DEFAULT_SCHEDULER: &str = "wlc";

/// Seconds of a bare `-p`; the manual's 300 is wrong.
pub const DEFAULT_PERSISTENCE: u32 = 360;

/// Longest timeout that can be written, seconds: 31 days.
pub const MAX_TIMEOUT: u32 = 31 * 24 * 60 * 60;

//! Health: which real servers of a virtual service are there, and whether they are enough.
//!
//! Checks themselves (connecting, asking, reading) are done elsewhere; here is when they are due and
//! what follows from their outcomes, as in keepalived.
//!
//! # [`Checker`]
//!
//! One check of one real server: when it is due, how many failures count.
//!
//! # [`ServiceHealth`]
//!
//! One virtual service: adds and removes real servers, minds the quorum, calls the sorry server.
//!
//! # [`RiseFall`]
//!
//! A script's outcomes: so many successes to rise, so many failures to fall.
//!
//! # [`Lasting`]
//!
//! A condition that counts only after a while.
//!
//! # [`HealthNotice`]
//!
//! A change in the words in which keepalived tells FIFOs.

mod checker;
mod lasting;
mod notice;
mod rise_fall;
mod service;

pub use checker::{Checker, CheckerConfig};
pub use lasting::Lasting;
pub use notice::{HealthNotice, Occasion, Standing};
pub use rise_fall::RiseFall;
pub use service::{HealthOutput, ServerConfig, ServiceConfig, ServiceHealth, Stood, Target};

//! The shell around the director: it wires the data plane, the kernel and people together.
//!
//! [`run()`] is the daemon. [`client`] is how other programs talk to it, [`api`] what it answers.
//! Everything that decides is pure and elsewhere: the director, [`hops::plan`], [`answers::answer`].

pub mod answers;
pub mod api;
pub mod availability;
pub mod balancer;
pub mod bfd;
mod chance;
pub mod checks;
pub mod child;
pub mod client;
pub mod config;
pub mod connections;
pub mod defence;
mod ear;
pub mod fifo;
pub mod health;
pub mod hops;
pub mod mail;
pub mod metrics;
pub mod minding;
pub mod plane;
pub mod presence;
pub mod rounds;
pub mod run;
pub mod settings;
pub mod socket;
pub mod state;
pub mod status;
pub mod sync;
pub mod vrrp;

pub use config::Config;
pub use run::{Detached, detach, give_back_addresses, note_sudden_end, run};

//! The oracle: scenarios replayed against a director, and compared with what the kernel's IPVS did.
//!
//! A [`scenario`] is a list of steps; a [`recording`] is what happened in them. [`replay`] carries
//! a scenario out in a [`site`] of its own (client, director, real servers), whose director is a
//! [`balancer`]: Pointsman, or the kernel's IPVS with the real `ipvsadm`. [`compare`] finds the
//! deviations of one recording from another, [`generate`] makes scenarios by chance, and [`folder`] does all that with whole folders. The
//! format is described in `lab/scenarios/README.md`.

pub mod balancer;
mod client;
pub mod compare;
pub mod exceptions;
pub mod folder;
pub mod generate;
mod listing;
pub mod recording;
pub mod replay;
pub mod scenario;
mod servers;
pub mod site;
pub mod step;

//! Everything people write, read into the models of `pointsman-director`, and printed back.
//!
//! The crate is pure: it opens no file, socket or clock. What it must ask the host, host and port
//! names, it asks through [`ipvsadm::Resolve`].
#![forbid(unsafe_code)]

pub mod ipvsadm;
pub mod keepalived;
pub mod marks;

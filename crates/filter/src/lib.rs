//! Packet-filter rules of every dialect in one model, and what they do to a frame.
//!
//! Readers turn what people and programs print (`ebtables-save`, `ebtables -L`, `iptables-save`,
//! `nft -j list ruleset`) into a [`model::Ruleset`]; [`nwfilter`] reads libvirt's filters and compiles
//! them as libvirt does. [`judge::judge`] walks a frame through the rules in the kernel's order and says
//! which rule decides. What a reader does not understand stays in the model as an opaque test, and a
//! verdict that depends on one is "unknown", never a silent pass.
//!
//! The crate is pure: it opens no file, socket or clock.
#![forbid(unsafe_code)]

mod append;
pub mod attribute;
pub mod catalogue;
pub mod connection;
pub mod diagnostic;
pub mod dump;
pub mod ebtables;
pub mod explain;
pub mod field;
pub mod frame;
pub mod hookup;
pub mod iptables;
pub mod judge;
pub mod mend;
pub mod model;
pub mod nft;
pub mod nwfilter;
pub mod owner;
pub mod pins;
pub mod route;
pub mod same;
pub mod test;

mod address;
mod names;
mod words;

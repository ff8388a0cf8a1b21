//! The laboratory: network-namespace topologies as code, real clients and servers, and the ladder
//! that shows one connection at every hop.

pub mod address;
pub mod bpf;
mod cleanup;
pub mod client;
pub mod command;
pub mod decapsulate;
pub mod encapsulator;
pub mod error;
pub mod lab;
pub mod ladder;
pub mod ladder_text;
pub mod namespace;
pub mod outer;
pub mod pattern;
mod plan;
pub mod process;
pub mod recorder;
mod responder;
pub mod server;
pub mod topology;
pub mod vnet_socket;

//! The laboratory: network-namespace topologies as code, real clients and servers, and the ladder
//! that shows one connection at every hop.
//!
//! ```no_run
//! use pointsman_lab::director::Director;
//! use pointsman_lab::lab::Program;
//! use pointsman_lab::topology::{Kind, Options, Topology};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let lab = Topology::build(Kind::TwoBridge, &Options::default())?;
//! lab.start_servers(&Program::new("target/debug/pointsman-lab"), &[80])?;
//! let director = Director::start(&lab, &[])?;
//! director.ipvsadm("-A -t 192.168.7.33:80 -s rr")?;
//! for server in ["192.168.88.11", "192.168.88.12", "192.168.88.13"] {
//!     director.ipvsadm(&format!("-a -t 192.168.7.33:80 -r {server}"))?;
//! }
//! director.wait_resolved()?;
//! let spread = lab.client().spread("192.168.7.33:80".parse()?, 30)?;
//! assert_eq!(spread.answers.len(), 3);
//! director.stop()?;
//! # Ok(())
//! # }
//! ```
//!
//! ```text
//! two-bridge   client -- br_e -- director -- br_lvs -- rs1..n, whose second leg is on br_e
//! one-leg      client, director and rs1..n on br_e
//! tunnel       client, director and router on br_e; router -- br_rs -- rs1..n
//! nat          client -- br_e -- director -- br_lvs -- rs1..n, whose gateway is the director
//! ```
//!
//! Offloads stay as the kernel sets them: senders on veth leave checksums and segmentation to
//! devices that do not exist, just as guests of a hypervisor do, and a data plane that cannot cope
//! with it must fail here. The one exception, for native XDP, is
//! [`topology::WirePort::complete_checksums`], which says why it is none.
//!
//! A lab is deleted on drop, on panic, and on SIGINT, SIGTERM and SIGHUP. After SIGKILL its
//! namespaces stay; [`tag::stale_tags`] finds them.

pub mod address;
pub mod bpf;
mod cleanup;
pub mod client;
pub mod command;
mod construction;
pub mod decapsulate;
pub mod demo;
pub mod director;
pub mod encapsulator;
pub mod error;
pub mod fault;
pub mod lab;
pub mod ladder;
pub mod libvirt;
pub mod namespace;
pub mod oracle;
pub mod outer;
pub mod pattern;
mod plan;
pub mod process;
pub mod recorder;
mod responder;
pub mod server;
pub mod tag;
pub mod topology;
pub mod vnet_socket;

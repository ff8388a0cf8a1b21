//! Small typed functions around the Linux kernel, without policy.
//!
//! Everything here is synchronous. What can wait takes a timeout; what a caller may want to poll
//! from an async loop exposes its file descriptor. Sockets belong to the network namespace their
//! thread was in when they were opened, wherever they are used later.

pub mod bpffs;
pub mod group_socket;
pub mod held_port;
pub mod memory;
pub mod netlink;
pub mod netns;
pub mod nft;
pub mod offload;
pub mod packet;
pub mod raw_ip;
pub mod sysctl;
pub mod tun;
pub mod urgency;

mod deadline;
mod socket_option;

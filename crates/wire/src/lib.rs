//! Header views, checksums and their display.
//!
//! Views are `#[repr(C)]` structs without padding and with alignment 1 that lie over the bytes of
//! a frame: `Ethernet::ref_from_prefix(bytes)` natively, a bounds-checked pointer cast in the
//! kernel. A view promises only that its bytes exist; what the fields mean (a header length, a
//! total length) is for the reader to check.
//!
//! Numbers in views are [`Be16`] and [`Be32`]: `get` and `set` speak host order, `raw` and
//! `set_raw` the untouched network-order word, which is what keys and checksums want.
#![cfg_attr(not(feature = "std"), no_std)]
#![deny(unsafe_code)]

mod bytes;
pub mod checksum;
pub mod ethernet;
pub mod icmp;
pub mod ipv4;
pub mod ipv6;
pub mod tcp;
pub mod udp;

pub use bytes::{Be16, Be32, Mac, Wire};
pub use ethernet::{Ethernet, VlanTag};
pub use icmp::Icmp;
pub use ipv4::Ipv4;
pub use ipv6::{Ipv6, Ipv6Extension, Ipv6Fragment};
pub use tcp::Tcp;
pub use udp::Udp;

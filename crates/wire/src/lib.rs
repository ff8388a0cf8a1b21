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

#[cfg(feature = "std")]
mod address;
#[cfg(feature = "std")]
pub mod advert;
pub mod arp;
pub mod bfd;
#[cfg(feature = "std")]
pub mod build;
mod bytes;
pub mod checksum;
#[cfg(feature = "std")]
pub mod control;
pub mod ethernet;
pub mod gre;
pub mod gue;
pub mod icmp;
#[cfg(feature = "std")]
mod ip_part;
pub mod ipv4;
pub mod ipv6;
#[cfg(feature = "std")]
mod layers;
#[cfg(feature = "std")]
mod link_frame;
#[cfg(feature = "std")]
mod mac;
pub mod protocol;
pub mod sctp;
#[cfg(feature = "std")]
mod segment;
#[cfg(feature = "std")]
pub mod summary;
#[cfg(feature = "std")]
pub mod sync;
pub mod tcp;
#[cfg(feature = "std")]
pub mod text;
pub mod udp;
#[cfg(feature = "std")]
mod verify;
pub mod vrrp;

#[cfg(feature = "std")]
pub use address::{ipv6_address, ipv6_words};
#[cfg(feature = "std")]
pub use advert::Advert;
pub use arp::Arp;
pub use bfd::Bfd;
#[cfg(feature = "std")]
pub use build::Frame;
pub use bytes::{Be16, Be32, Mac, Wire};
#[cfg(feature = "std")]
pub use control::Control;
pub use ethernet::{Ethernet, VlanTag};
pub use gre::{Gre, GreChecksum};
pub use gue::Gue;
pub use icmp::Icmp;
pub use ipv4::Ipv4;
pub use ipv6::{Ipv6, Ipv6Extension, Ipv6Fragment};
#[cfg(feature = "std")]
pub use mac::MacError;
pub use sctp::{Sctp, SctpChunk};
#[cfg(feature = "std")]
pub use summary::{Flow, Summary};
pub use tcp::Tcp;
#[cfg(feature = "std")]
pub use text::Line;
pub use udp::Udp;
#[cfg(feature = "std")]
pub use verify::{ChecksumError, Checksummed, verify_checksums, verify_packet_checksums};
pub use vrrp::Vrrp;

//! Loads, pins and attaches the eBPF programs; mirrors changes into maps; reads back.

/// The eBPF object.
pub static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/director.o"));

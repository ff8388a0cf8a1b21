//! What the programs tell of each frame while somebody records: how it came, and how it goes.

#[cfg(feature = "std")]
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Most bytes that are told of a frame.
pub const FRAME_BYTES: usize = 2048;

/// Whether frames are recorded, and which. Who records renews it, so that it ends by itself with
/// them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "std", derive(FromBytes, IntoBytes, KnownLayout, Immutable))]
#[repr(C)]
pub struct RecordingRecord {
    /// Nanoseconds of the monotonic clock at which it ends; 0 when nobody records.
    pub until: u64,
    /// 1 when only frames are wanted that have one of the wanted addresses outermost, as they come
    /// or as they go.
    pub filter: u32,
    /// Bytes of each frame that are wanted, at most [`FRAME_BYTES`].
    pub bytes: u32,
}

/// Bits of [`FrameRecord::flags`].
pub mod frame_flag {
    /// The frame as it goes; else as it came.
    pub const SENT: u8 = 1;
    /// There is a VLAN tag apart from the frame.
    pub const TAGGED: u8 = 2;
    /// The frame stands for several (GSO).
    pub const SUPER_FRAME: u8 = 4;
    /// Seen by tcx, not by XDP.
    pub const TCX: u8 = 8;
    /// The kernel finds the link-layer address, and sends.
    pub const UNRESOLVED: u8 = 16;
}

/// A frame before or after the director decided about it. Told without the end of `data`.
#[derive(Clone, Copy)]
#[cfg_attr(feature = "std", derive(FromBytes, IntoBytes, KnownLayout, Immutable))]
#[repr(C)]
pub struct FrameRecord {
    /// Nanoseconds of the kernel's international atomic time.
    pub time: u64,
    /// Device it came in by.
    pub ingress: u32,
    /// Device it goes out by; 0 when it goes nowhere, or up to the kernel.
    pub egress: u32,
    /// Bytes of the frame.
    pub length: u32,
    /// Bytes of it in `data`.
    pub captured: u32,
    /// Protocol of a tag apart from the frame, network order.
    pub vlan_protocol: u16,
    /// That tag, host order.
    pub vlan: u16,
    /// [`crate::Reason`] as a number.
    pub reason: u8,
    /// [`frame_flag`]s.
    pub flags: u8,
    /// Zero.
    pub pad: u16,
    /// The frame from its Ethernet header on.
    pub data: [u8; FRAME_BYTES],
}

/// Bytes of a [`FrameRecord`] in front of `data`.
pub const FRAME_HEAD: usize = size_of::<FrameRecord>() - FRAME_BYTES;

const _: () = {
    assert!(FRAME_HEAD == 32 && size_of::<RecordingRecord>() == 16);
};

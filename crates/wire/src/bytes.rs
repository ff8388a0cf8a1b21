//! Integers and addresses as they lie in a frame: network byte order, alignment 1.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// What may be viewed in place in a frame: any bytes are a value, alignment 1, no padding.
pub trait Wire: FromBytes + IntoBytes + KnownLayout + Immutable + Unaligned {}
impl<T: FromBytes + IntoBytes + KnownLayout + Immutable + Unaligned> Wire for T {}

macro_rules! big_endian {
    ($name:ident, $int:ty, $bytes:literal, $doc:literal) => {
        #[doc = $doc]
        #[derive(
            Clone,
            Copy,
            PartialEq,
            Eq,
            Default,
            FromBytes,
            IntoBytes,
            KnownLayout,
            Immutable,
            Unaligned,
        )]
        #[repr(transparent)]
        pub struct $name([u8; $bytes]);

        impl $name {
            /// Wraps a host-order number.
            #[inline(always)]
            pub const fn new(host: $int) -> Self {
                Self(host.to_be_bytes())
            }

            /// Wraps a network-order word.
            #[inline(always)]
            pub const fn from_raw(raw: $int) -> Self {
                Self(raw.to_ne_bytes())
            }

            /// The number, host order.
            #[inline(always)]
            pub fn get(&self) -> $int {
                <$int>::from_be(self.raw())
            }

            /// Stores a host-order number.
            #[inline(always)]
            pub fn set(&mut self, host: $int) {
                self.set_raw(host.to_be());
            }

            /// The word as it lies in memory, network order.
            #[cfg(not(target_arch = "bpf"))]
            #[inline(always)]
            pub fn raw(&self) -> $int {
                <$int>::from_ne_bytes(self.0)
            }

            /// Stores a network-order word.
            #[cfg(not(target_arch = "bpf"))]
            #[inline(always)]
            pub fn set_raw(&mut self, raw: $int) {
                self.0 = raw.to_ne_bytes();
            }

            /// The word as it lies in memory, network order.
            #[cfg(target_arch = "bpf")]
            #[allow(unsafe_code)]
            #[inline(always)]
            pub fn raw(&self) -> $int {
                // SAFETY: the bytes are readable; BPF on every kernel we load on allows unaligned
                // packet loads, and one load instead of byte loads saves a quarter of the program.
                unsafe { *self.0.as_ptr().cast::<$int>() }
            }

            /// Stores a network-order word.
            #[cfg(target_arch = "bpf")]
            #[allow(unsafe_code)]
            #[inline(always)]
            pub fn set_raw(&mut self, raw: $int) {
                // SAFETY: as in `raw`, and the bytes are exclusively borrowed.
                unsafe { *self.0.as_mut_ptr().cast::<$int>() = raw };
            }
        }

        #[cfg(feature = "std")]
        impl core::fmt::Debug for $name {
            fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
                core::fmt::Debug::fmt(&self.get(), f)
            }
        }
    };
}

big_endian!(Be16, u16, 2, "A 16-bit number in network byte order.");
big_endian!(Be32, u32, 4, "A 32-bit number in network byte order.");

/// A link-layer address.
#[derive(
    Clone, Copy, PartialEq, Eq, Default, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned,
)]
#[cfg_attr(feature = "std", derive(Hash, PartialOrd, Ord))]
#[repr(transparent)]
pub struct Mac(pub [u8; 6]);

impl Mac {
    /// ff:ff:ff:ff:ff:ff
    pub const BROADCAST: Self = Self([0xff; 6]);

    /// True when the group bit is set: multicast or broadcast.
    #[inline(always)]
    pub const fn is_group(&self) -> bool {
        self.0[0] & 1 != 0
    }

    /// Takes the value of `other`.
    #[cfg(not(target_arch = "bpf"))]
    #[inline(always)]
    pub fn set(&mut self, other: &Self) {
        *self = *other;
    }

    /// True when both are the same address.
    #[cfg(not(target_arch = "bpf"))]
    #[inline(always)]
    pub fn is(&self, other: &Self) -> bool {
        self == other
    }

    /// Takes the value of `other`.
    #[cfg(target_arch = "bpf")]
    #[allow(unsafe_code)]
    #[inline(always)]
    pub fn set(&mut self, other: &Self) {
        let (from, to) = (other.0.as_ptr(), self.0.as_mut_ptr());
        // SAFETY: six readable and six writable bytes; unaligned access as in `Be32::raw`. Two
        // stores instead of six.
        unsafe {
            *to.cast::<u32>() = *from.cast::<u32>();
            *to.add(4).cast::<u16>() = *from.add(4).cast::<u16>();
        }
    }

    /// True when both are the same address.
    #[cfg(target_arch = "bpf")]
    #[allow(unsafe_code)]
    #[inline(always)]
    pub fn is(&self, other: &Self) -> bool {
        let (a, b) = (self.0.as_ptr(), other.0.as_ptr());
        // SAFETY: six readable bytes each; unaligned access as in `Be32::raw`.
        unsafe {
            *a.cast::<u32>() == *b.cast::<u32>()
                && *a.add(4).cast::<u16>() == *b.add(4).cast::<u16>()
        }
    }
}

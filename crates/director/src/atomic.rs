//! Words that several processors change at once, without ordering between them.
//!
//! The BPF target has no atomics in `core`, and LLVM 22 compiles a relaxed `fetch_add` whose result
//! is used into a plain add that returns its own operand (llvm-project #210280). So on BPF these
//! are the kernel's own instructions, written out; natively they are `core`'s.

#[cfg(not(target_arch = "bpf"))]
mod native {
    use core::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

    macro_rules! word {
        ($name:ident, $atomic:ty, $int:ty, $doc:literal) => {
            #[doc = $doc]
            #[cfg_attr(
                feature = "std",
                derive(zerocopy::FromBytes, zerocopy::IntoBytes, zerocopy::KnownLayout)
            )]
            #[derive(Debug, Default)]
            #[repr(transparent)]
            pub struct $name($atomic);

            impl $name {
                /// Wraps a value.
                pub const fn new(value: $int) -> Self {
                    Self(<$atomic>::new(value))
                }

                /// The value now.
                #[inline(always)]
                pub fn load(&self) -> $int {
                    self.0.load(Relaxed)
                }

                /// Replaces the value.
                #[inline(always)]
                pub fn store(&self, value: $int) {
                    self.0.store(value, Relaxed);
                }

                /// Adds, wrapping; returns the value before.
                #[inline(always)]
                pub fn fetch_add(&self, value: $int) -> $int {
                    self.0.fetch_add(value, Relaxed)
                }

                /// Replaces `current` by `new`; false when it was not `current`.
                #[inline(always)]
                pub fn replace(&self, current: $int, new: $int) -> bool {
                    self.0
                        .compare_exchange(current, new, Relaxed, Relaxed)
                        .is_ok()
                }
            }

            impl Clone for $name {
                fn clone(&self) -> Self {
                    Self::new(self.load())
                }
            }

            impl PartialEq for $name {
                fn eq(&self, other: &Self) -> bool {
                    self.load() == other.load()
                }
            }

            impl Eq for $name {}
        };
    }

    word!(Word32, AtomicU32, u32, "A shared 32-bit word.");
    word!(Word64, AtomicU64, u64, "A shared 64-bit word.");
}

#[cfg(target_arch = "bpf")]
#[allow(unsafe_code)]
mod kernel {
    use core::{arch::asm, cell::UnsafeCell, ptr};

    /// A shared 32-bit word.
    #[repr(transparent)]
    pub struct Word32(UnsafeCell<u32>);

    /// A shared 64-bit word.
    #[repr(transparent)]
    pub struct Word64(UnsafeCell<u64>);

    // SAFETY: every access is one load, store or atomic instruction of the word's own size.
    unsafe impl Sync for Word32 {}
    // SAFETY: as above.
    unsafe impl Sync for Word64 {}

    macro_rules! plain {
        ($name:ident, $int:ty) => {
            /// Wraps a value.
            #[inline(always)]
            pub const fn new(value: $int) -> Self {
                Self(UnsafeCell::new(value))
            }

            /// The value now.
            #[inline(always)]
            pub fn load(&self) -> $int {
                // SAFETY: the cell is valid and aligned; a torn read cannot happen at this size.
                unsafe { ptr::read_volatile(self.0.get()) }
            }

            /// Replaces the value.
            #[inline(always)]
            pub fn store(&self, value: $int) {
                // SAFETY: as in `load`.
                unsafe { ptr::write_volatile(self.0.get(), value) }
            }
        };
    }

    impl Word32 {
        plain!(Word32, u32);

        /// Adds, wrapping; returns the value before.
        #[inline(always)]
        pub fn fetch_add(&self, value: u32) -> u32 {
            let mut old = value;
            // SAFETY: the cell is valid for an atomic read-modify-write of four bytes.
            unsafe {
                asm!(
                    "{v} = atomic_fetch_add((u32 *)({p} + 0), {v})",
                    p = in(reg) self.0.get(),
                    v = inout(wreg) old,
                );
            }
            old
        }

        /// Replaces `current` by `new`; false when it was not `current`.
        #[inline(always)]
        pub fn replace(&self, current: u32, new: u32) -> bool {
            let mut seen = current;
            // SAFETY: as in `fetch_add`; the instruction compares with w0.
            unsafe {
                asm!(
                    "w0 = cmpxchg32_32({p} + 0, w0, {n})",
                    p = in(reg) self.0.get(),
                    n = in(wreg) new,
                    inout("w0") seen,
                );
            }
            seen == current
        }
    }

    impl Word64 {
        plain!(Word64, u64);

        /// Adds, wrapping; returns the value before.
        #[inline(always)]
        pub fn fetch_add(&self, value: u64) -> u64 {
            let mut old = value;
            // SAFETY: the cell is valid for an atomic read-modify-write of eight bytes.
            unsafe {
                asm!(
                    "{v} = atomic_fetch_add((u64 *)({p} + 0), {v})",
                    p = in(reg) self.0.get(),
                    v = inout(reg) old,
                );
            }
            old
        }

        /// Replaces `current` by `new`; false when it was not `current`.
        #[inline(always)]
        pub fn replace(&self, current: u64, new: u64) -> bool {
            let mut seen = current;
            // SAFETY: as in `fetch_add`; the instruction compares with r0.
            unsafe {
                asm!(
                    "r0 = cmpxchg_64({p} + 0, r0, {n})",
                    p = in(reg) self.0.get(),
                    n = in(reg) new,
                    inout("r0") seen,
                );
            }
            seen == current
        }
    }
}

#[cfg(target_arch = "bpf")]
pub use kernel::{Word32, Word64};
#[cfg(not(target_arch = "bpf"))]
pub use native::{Word32, Word64};

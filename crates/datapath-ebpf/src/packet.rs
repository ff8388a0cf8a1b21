//! Pointers into packets that the verifier can follow.

use core::{arch::asm, ffi::c_void, hint::assert_unchecked, intrinsics::is_val_statically_known};

use pointsman_wire::Wire;

/// Headers are looked for below this offset; the verifier wants a bound.
pub const MAX_OFFSET: u32 = 1023;

/// The word at byte `OFFSET` of a context, as the 64-bit packet pointer it stands for.
///
/// Both contexts declare `data` and `data_end` as 32-bit numbers; a compiler that believes it moves
/// them through 32-bit registers, and the verifier then sees no pointer any more.
///
/// # Safety
///
/// `context` is a program's own context, and `OFFSET` that of `data` or `data_end`.
#[inline(always)]
pub unsafe fn packet_bound<const OFFSET: usize>(context: *mut c_void) -> usize {
    let bound: usize;
    // SAFETY: the caller's; not `pure`, since helpers move the packet.
    unsafe {
        asm!(
            "{bound} = *(u32 *)({context} + {offset})",
            bound = out(reg) bound,
            context = in(reg) context,
            offset = const OFFSET,
        );
    }
    bound
}

/// A pointer to a `T` at `offset`, if it lies between `data` and `end`.
#[inline(always)]
pub fn packet_pointer<T: Wire>(data: usize, end: usize, offset: u32) -> Option<*mut T> {
    let mut offset = offset as usize;
    if !is_val_statically_known(offset) {
        // The very register that is added has to be compared: of a sum the compiler compares the
        // summand, which tells kernel 6.1 nothing about the sum.
        // SAFETY: moves a register to itself.
        unsafe { asm!("{0} = {0}", inout(reg) offset, options(pure, nomem)) };
    }
    if offset > MAX_OFFSET as usize {
        return None;
    }
    let start = data + offset;
    if start + size_of::<T>() > end {
        return None;
    }
    // SAFETY: a packet lies nowhere near address 0. Without this every use would ask again, for an
    // optional reference is a pointer that may be null.
    unsafe { assert_unchecked(start != 0) };
    Some(start as *mut T)
}

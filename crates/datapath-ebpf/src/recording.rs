//! Tells of frames while somebody records them.
//!
//! Nothing else sees what XDP sends on or drops. `*_came` and `*_goes` are global functions: the
//! verifier looks at them once, they have their own place on the stack, and cost nothing while nobody
//! records.

use core::{arch::asm, ffi::c_void};

use aya_ebpf::{
    bindings::{__sk_buff, xdp_md},
    helpers::generated::{
        bpf_ktime_get_coarse_ns, bpf_ktime_get_tai_ns, bpf_ringbuf_output, bpf_skb_load_bytes,
        bpf_xdp_get_buff_len, bpf_xdp_load_bytes,
    },
};
use pointsman_director::{
    Reason, Verdict,
    record::LINKS,
    recording::{FRAME_BYTES, FRAME_HEAD, FrameRecord, frame_flag},
};

use crate::maps::{LOST, RECORDING, RECORDS, SIDES, WANTED};

/// Bytes that are kept of a frame that may only be wanted by how it goes.
const HEADERS: u32 = 192;

/// Wanted by how it came. This flag and the next are only for the two functions.
const WANTED_BEFORE: u8 = 32;
/// Not yet gone.
const HERE: u8 = 64;

/// True while somebody records, and a little longer.
#[inline(always)]
pub fn is_on() -> bool {
    match RECORDING.get(0) {
        Some(recording) => recording.until != 0,
        None => false,
    }
}

/// What a hook knows of a frame.
trait Side: Copy {
    /// Fills in what lies apart from the frame, and its length.
    fn describe(self, record: &mut FrameRecord);
    /// Copies `length` bytes from the start of the frame; `length` is 1..=FRAME_BYTES.
    unsafe fn copy(self, to: *mut c_void, length: u32);
}

impl Side for *mut xdp_md {
    #[inline(always)]
    fn describe(self, record: &mut FrameRecord) {
        // SAFETY: the context is the program's own.
        unsafe {
            record.ingress = (*self).ingress_ifindex;
            record.length = bpf_xdp_get_buff_len(self) as u32;
        }
    }

    #[inline(always)]
    unsafe fn copy(self, to: *mut c_void, length: u32) {
        // SAFETY: the caller's.
        unsafe { bpf_xdp_load_bytes(self, 0, to, length) };
    }
}

impl Side for *mut __sk_buff {
    #[inline(always)]
    fn describe(self, record: &mut FrameRecord) {
        // SAFETY: the context is the program's own.
        let skb = unsafe { &*self };
        record.ingress = skb.ifindex;
        record.length = skb.len;
        record.flags |= frame_flag::TCX;
        if skb.vlan_present != 0 {
            record.flags |= frame_flag::TAGGED;
            record.vlan_protocol = skb.vlan_proto as u16;
            record.vlan = skb.vlan_tci as u16;
        }
        if skb.gso_size != 0 {
            record.flags |= frame_flag::SUPER_FRAME;
        }
    }

    #[inline(always)]
    unsafe fn copy(self, to: *mut c_void, length: u32) {
        // SAFETY: the caller's.
        unsafe { bpf_skb_load_bytes(self.cast(), 0, to, length) };
    }
}

/// Keeps a frame of XDP as it came.
///
/// # Safety
///
/// The context is the program's own.
#[unsafe(no_mangle)]
#[inline(never)]
pub unsafe extern "C" fn xdp_came(context: *mut xdp_md) -> u32 {
    came(context)
}

/// The same of tcx.
///
/// # Safety
///
/// The context is the program's own.
#[unsafe(no_mangle)]
#[inline(never)]
pub unsafe extern "C" fn tcx_came(context: *mut __sk_buff) -> u32 {
    came(context)
}

/// Tells of a frame of XDP as it came, and as it goes.
///
/// # Safety
///
/// The context is the program's own.
#[unsafe(no_mangle)]
#[inline(never)]
pub unsafe extern "C" fn xdp_goes(context: *mut xdp_md, egress: u32, why: u32) -> u32 {
    goes(context, egress, why)
}

/// The same of tcx.
///
/// # Safety
///
/// The context is the program's own.
#[unsafe(no_mangle)]
#[inline(never)]
pub unsafe extern "C" fn tcx_goes(context: *mut __sk_buff, egress: u32, why: u32) -> u32 {
    goes(context, egress, why)
}

/// Why, for `*_goes`.
#[inline(always)]
pub fn why(verdict: Verdict) -> u32 {
    verdict.reason as u32 | (verdict.unresolved as u32) << 8
}

#[inline(always)]
fn came<S: Side>(context: S) -> u32 {
    let (Some(recording), Some(side)) = (RECORDING.get_ptr_mut(0), SIDES.get_ptr_mut(0)) else {
        return 0;
    };
    // SAFETY: the side is this processor's own; the recording is words that others write as a whole.
    let (recording, side) = unsafe { (&mut *recording, &mut *side) };
    // SAFETY: no pointers.
    if unsafe { bpf_ktime_get_coarse_ns() } > recording.until {
        // Whoever recorded is gone.
        recording.until = 0;
        return 0;
    }
    let bytes = recording.bytes;
    if recording.filter == 0 {
        fill(side, context, HERE | WANTED_BEFORE, bytes);
        side.time = now();
        return 0;
    }
    fill(side, context, HERE, HEADERS);
    if is_wanted(side) {
        let bytes = if bytes < HEADERS { HEADERS } else { bytes };
        fill(side, context, HERE | WANTED_BEFORE, bytes);
        side.time = now();
    }
    0
}

#[inline(always)]
fn goes<S: Side>(context: S, egress: u32, why: u32) -> u32 {
    let (Some(recording), Some(before), Some(after)) =
        (RECORDING.get(0), SIDES.get_ptr_mut(0), SIDES.get_ptr_mut(1))
    else {
        return 0;
    };
    // SAFETY: this processor's own copies.
    let (before, after) = unsafe { (&mut *before, &mut *after) };
    let flags = before.flags;
    before.flags = flags & !HERE;
    if flags & HERE == 0 {
        // This began in the middle of a frame.
        return 0;
    }
    let was_wanted = flags & WANTED_BEFORE != 0;
    if !was_wanted && !translates(why as u8) {
        return 0;
    }
    if egress != 0 {
        fill(after, context, frame_flag::SENT, recording.bytes);
        after.time = now();
    }
    if !was_wanted {
        if egress == 0 || !is_wanted(after) {
            return 0;
        }
        before.time = after.time;
    }
    let mut unresolved = 0;
    if why >> 8 != 0 {
        unresolved = frame_flag::UNRESOLVED;
    }
    before.egress = egress;
    before.reason = why as u8;
    before.flags |= unresolved;
    tell(before);
    if egress != 0 {
        after.egress = egress;
        after.reason = why as u8;
        after.flags |= unresolved;
        tell(after);
    }
    0
}

/// True for reasons with which the director changes addresses, so that a frame may be wanted only
/// then. A tunnel's frame comes with its service's address.
#[inline(always)]
fn translates(reason: u8) -> bool {
    reason == Reason::Masquerade as u8
        || reason == Reason::Reply as u8
        || reason == Reason::RelatedIn as u8
        || reason == Reason::RelatedOut as u8
}

#[inline(always)]
fn now() -> u64 {
    // SAFETY: no pointers.
    unsafe { bpf_ktime_get_tai_ns() }
}

/// Copies at most `most` bytes of the frame, and what is known of it.
#[inline(always)]
fn fill<S: Side>(record: &mut FrameRecord, context: S, flags: u8, most: u32) {
    record.egress = 0;
    record.vlan_protocol = 0;
    record.vlan = 0;
    record.reason = 0;
    record.flags = flags;
    record.pad = 0;
    context.describe(record);
    let length = record.length;
    let captured = bounded(if length < most { length } else { most });
    record.captured = captured;
    // SAFETY: as many bytes as there is room for.
    unsafe { context.copy(record.data.as_mut_ptr().cast(), captured) };
}

const VLAN: u16 = 0x8100u16.to_be();
const QINQ: u16 = 0x88a8u16.to_be();
const IPV4: u16 = 0x0800u16.to_be();
const IPV6: u16 = 0x86ddu16.to_be();

/// True when one of the frame's outermost addresses is wanted. Where a frame is short, bytes of one
/// before may be read: one record too many does no harm.
#[inline(always)]
fn is_wanted(record: &FrameRecord) -> bool {
    let data = &record.data;
    let first = half(data, 12);
    if first != VLAN && first != QINQ {
        return has_wanted::<14>(data, first);
    }
    let second = half(data, 16);
    if second != VLAN && second != QINQ {
        return has_wanted::<18>(data, second);
    }
    has_wanted::<22>(data, half(data, 20))
}

#[inline(always)]
fn has_wanted<const START: usize>(data: &[u8; FRAME_BYTES], ethertype: u16) -> bool {
    if ethertype == IPV4 {
        let mapped = |at: usize| [0, 0, 0xffffu32.to_be(), word(data, START + at)];
        return WANTED.get_ptr(mapped(12)).is_some() || WANTED.get_ptr(mapped(16)).is_some();
    }
    if ethertype != IPV6 {
        return false;
    }
    let address = |at: usize| {
        [
            word(data, START + at),
            word(data, START + at + 4),
            word(data, START + at + 8),
            word(data, START + at + 12),
        ]
    };
    WANTED.get_ptr(address(8)).is_some() || WANTED.get_ptr(address(24)).is_some()
}

#[inline(always)]
fn half(data: &[u8; FRAME_BYTES], at: usize) -> u16 {
    u16::from_ne_bytes([data[at], data[at + 1]])
}

#[inline(always)]
fn word(data: &[u8; FRAME_BYTES], at: usize) -> u32 {
    u32::from_ne_bytes([data[at], data[at + 1], data[at + 2], data[at + 3]])
}

/// Hands a record over; one that finds no room is counted.
#[inline(always)]
fn tell(record: &FrameRecord) {
    let length = bounded(record.captured) + FRAME_HEAD as u32;
    // SAFETY: the head and the bytes that are there.
    let failed = unsafe {
        bpf_ringbuf_output(
            (&raw const RECORDS).cast_mut().cast(),
            (&raw const *record).cast_mut().cast(),
            length as u64,
            0,
        )
    };
    if failed != 0
        && let Some(lost) = LOST.get(record.ingress % LINKS)
    {
        lost.fetch_add(1);
    }
}

/// `length` within 1..=[`FRAME_BYTES`], so that the verifier can see it.
#[inline(always)]
fn bounded(length: u32) -> u32 {
    let mut bounded = length as u64;
    // SAFETY: arithmetic on one register.
    unsafe {
        asm!(
            "{l} <<= 32",
            "{l} >>= 32",
            "if {l} < {limit} goto +1",
            "{l} = {limit}",
            "if {l} > 0 goto +1",
            "{l} = 1",
            l = inout(reg) bounded,
            limit = const FRAME_BYTES,
        );
    }
    bounded as u32
}

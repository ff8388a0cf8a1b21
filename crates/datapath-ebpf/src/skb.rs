//! A frame under tcx (or clsact): partial checksums, super-frames, tags kept apart.

use core::mem::offset_of;

use aya_ebpf::{
    bindings::__sk_buff,
    helpers::generated::{
        bpf_l4_csum_replace, bpf_skb_adjust_room, bpf_skb_pull_data, bpf_skb_vlan_pop,
        bpf_skb_vlan_push,
    },
};
use pointsman_director::tables::Frame;
use pointsman_wire::{Wire, checksum::Difference, ethernet};

use crate::packet;

/// Headers the director may look at: Ethernet, tags, IPv6 with extensions, TCP with options.
const HEADERS: u32 = 200;

const BPF_ADJ_ROOM_MAC: u32 = 1;
const BPF_F_ADJ_ROOM_FIXED_GSO: u64 = 1;
const BPF_F_ADJ_ROOM_ENCAP_L3_IPV4: u64 = 2;
const BPF_F_ADJ_ROOM_ENCAP_L3_IPV6: u64 = 4;
const BPF_F_PSEUDO_HDR: u64 = 0x10;
const BPF_F_MARK_MANGLED_0: u64 = 0x20;

/// A frame under tcx.
pub struct SkbFrame {
    context: *mut __sk_buff,
}

impl SkbFrame {
    /// Makes the headers readable in one piece.
    #[inline(always)]
    pub fn new(context: *mut __sk_buff) -> Self {
        // SAFETY: the context is the program's own.
        unsafe {
            let (data, end) = bounds(context);
            let linear = end.wrapping_sub(data) as u32;
            let length = (*context).len;
            let wanted = if length < HEADERS { length } else { HEADERS };
            if linear < wanted {
                // On failure the views fail later, and the packet is passed.
                bpf_skb_pull_data(context, wanted);
            }
        }
        Self { context }
    }

    /// Bytes of the frame.
    #[inline(always)]
    pub fn length(&self) -> u32 {
        // SAFETY: the context is the program's own.
        unsafe { (*self.context).len }
    }

    #[inline(always)]
    fn pointer<T: Wire>(&self, offset: u32) -> Option<*mut T> {
        // SAFETY: the context is the program's own.
        let (data, end) = unsafe { bounds(self.context) };
        packet::packet_pointer(data, end, offset)
    }
}

/// Where the linear part of the packet begins and ends.
#[inline(always)]
unsafe fn bounds(context: *mut __sk_buff) -> (usize, usize) {
    // SAFETY: the caller's.
    unsafe {
        (
            packet::packet_bound::<{ offset_of!(__sk_buff, data) }>(context.cast()),
            packet::packet_bound::<{ offset_of!(__sk_buff, data_end) }>(context.cast()),
        )
    }
}

impl Frame for SkbFrame {
    const TAGS_IN_FRAME: bool = false;
    const RESOLVES: bool = true;

    #[inline(always)]
    fn holds(&self, bytes: u32) -> bool {
        self.length() >= bytes
    }

    // The field `ifindex` is the device the frame is at now.
    #[allow(clippy::misnamed_getters)]
    #[inline(always)]
    fn ifindex(&self) -> u32 {
        // SAFETY: the context is the program's own.
        unsafe { (*self.context).ingress_ifindex }
    }

    #[inline(always)]
    fn segment_size(&self) -> u32 {
        // SAFETY: the context is the program's own.
        unsafe { (*self.context).gso_size }
    }

    #[inline(always)]
    fn tags_outside(&self) -> u8 {
        // SAFETY: the context is the program's own.
        unsafe { ((*self.context).vlan_present != 0) as u8 }
    }

    #[inline(always)]
    fn view<T: Wire>(&self, offset: u32) -> Option<&T> {
        // SAFETY: `packet_pointer` checked that all of it lies in the frame; alignment is 1.
        self.pointer(offset).map(|header| unsafe { &*header })
    }

    #[inline(always)]
    fn view_mut<T: Wire>(&mut self, offset: u32) -> Option<&mut T> {
        // SAFETY: as in `view`, and the frame is exclusively borrowed.
        self.pointer(offset).map(|header| unsafe { &mut *header })
    }

    #[inline(always)]
    fn fix_checksum(
        &mut self,
        offset: u32,
        addresses: Difference,
        ports: Difference,
        udp: bool,
    ) -> bool {
        // The helper knows whether the field is a checksum or, with offload pending, only the sum
        // of the pseudo header, which a port does not change.
        let flags = if udp { BPF_F_MARK_MANGLED_0 } else { 0 };
        // SAFETY: the context is the program's own; no view outlives `&mut self`.
        unsafe {
            let context = self.context;
            bpf_l4_csum_replace(context, offset, 0, ports.0 as u64, flags) == 0
                && bpf_l4_csum_replace(
                    context,
                    offset,
                    0,
                    addresses.0 as u64,
                    flags | BPF_F_PSEUDO_HDR,
                ) == 0
        }
    }

    #[inline(always)]
    fn set_vlan(&mut self, tags: u8, vlan: u16) -> bool {
        let outside = self.tags_outside();
        if tags != outside {
            return false;
        }
        // SAFETY: the context is the program's own.
        unsafe {
            if outside != 0 && bpf_skb_vlan_pop(self.context) != 0 {
                return false;
            }
            vlan == 0 || bpf_skb_vlan_push(self.context, ethernet::VLAN.to_be(), vlan & 0x0fff) == 0
        }
    }

    #[inline(always)]
    fn encapsulate(&mut self, bytes: u32, outer_ipv6: bool, _inner_ipv6: bool) -> bool {
        // Segment sizes were checked against the smaller room already: keep them.
        let flags = BPF_F_ADJ_ROOM_FIXED_GSO
            | if outer_ipv6 {
                BPF_F_ADJ_ROOM_ENCAP_L3_IPV6
            } else {
                BPF_F_ADJ_ROOM_ENCAP_L3_IPV4
            };
        // SAFETY: the context is the program's own; no view outlives `&mut self`.
        unsafe { bpf_skb_adjust_room(self.context, bytes as i32, BPF_ADJ_ROOM_MAC, flags) == 0 }
    }
}

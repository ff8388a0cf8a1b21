//! A frame under XDP.

use core::mem::offset_of;

use aya_ebpf::{
    bindings::xdp_md,
    helpers::generated::{bpf_xdp_adjust_head, bpf_xdp_get_buff_len},
    programs::XdpContext,
};
use pointsman_director::tables::Frame;
use pointsman_wire::{Be16, Be32, Ethernet, VlanTag, Wire, ethernet};

use crate::packet;

/// A frame under XDP: complete checksums, tags in the frame.
pub struct XdpFrame {
    context: *mut xdp_md,
    /// Read once: it lies two pointers behind the context.
    ifindex: u32,
}

impl XdpFrame {
    #[inline(always)]
    pub fn new(context: &XdpContext) -> Self {
        Self {
            context: context.ctx,
            // SAFETY: the context is the program's own.
            ifindex: unsafe { (*context.ctx).ingress_ifindex },
        }
    }

    /// Bytes of the frame.
    // The bench has no use for it.
    #[allow(dead_code)]
    #[inline(always)]
    pub fn length(&self) -> u32 {
        // SAFETY: the context is the program's own.
        unsafe { bpf_xdp_get_buff_len(self.context) as u32 }
    }

    #[inline(always)]
    fn bounds(&self) -> (usize, usize) {
        // SAFETY: the context is the program's own.
        unsafe {
            (
                packet::packet_bound::<{ offset_of!(xdp_md, data) }>(self.context.cast()),
                packet::packet_bound::<{ offset_of!(xdp_md, data_end) }>(self.context.cast()),
            )
        }
    }

    #[inline(always)]
    fn pointer<T: Wire>(&self, offset: u32) -> Option<*mut T> {
        let (data, end) = self.bounds();
        packet::packet_pointer(data, end, offset)
    }
}

impl Frame for XdpFrame {
    const TAGS_IN_FRAME: bool = true;
    const RESOLVES: bool = false;

    #[inline(always)]
    fn holds(&self, bytes: u32) -> bool {
        let (data, end) = self.bounds();
        // Only a frame in several buffers has more than lies between the bounds.
        // SAFETY: the context is the program's own.
        data + bytes as usize <= end
            || unsafe { bpf_xdp_get_buff_len(self.context) } as u32 >= bytes
    }

    #[inline(always)]
    fn ifindex(&self) -> u32 {
        self.ifindex
    }

    #[inline(always)]
    fn segment_size(&self) -> u32 {
        0
    }

    #[inline(always)]
    fn tags_outside(&self) -> u8 {
        0
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
    fn set_vlan(&mut self, tags: u8, vlan: u16) -> bool {
        let Some(old) = self.view::<Ethernet>(0) else {
            return false;
        };
        let (destination, source) = (old.destination, old.source);
        let had = (tags as u32 & 3) * 4;
        let Some(inner) = self.view::<Be16>(12 + had) else {
            return false;
        };
        let ethertype = inner.raw();
        let has = if vlan != 0 { 4 } else { 0 };
        if had != has && !self.move_head(had as i32 - has as i32) {
            return false;
        }
        let Some(new) = self.view_mut::<Ethernet>(0) else {
            return false;
        };
        new.destination = destination;
        new.source = source;
        if vlan == 0 {
            new.ethertype.set_raw(ethertype);
            return true;
        }
        new.ethertype.set(ethernet::VLAN);
        let Some(tag) = self.view_mut::<VlanTag>(14) else {
            return false;
        };
        tag.control.set(vlan & 0x0fff);
        tag.ethertype.set_raw(ethertype);
        true
    }

    #[inline(always)]
    fn encapsulate(&mut self, bytes: u32, _outer_ipv6: bool, _inner_ipv6: bool) -> bool {
        // Tags were set to the next hop's before: at most one is left.
        let Some(field) = self.view::<Be16>(12) else {
            return false;
        };
        let ethertype = field.raw();
        let mut tag = 0;
        if ethertype == ethernet::VLAN.to_be() {
            let Some(field) = self.view::<Be32>(14) else {
                return false;
            };
            tag = field.raw();
        }
        if !self.move_head(-(bytes as i32)) {
            return false;
        }
        let Some(field) = self.view_mut::<Be16>(12) else {
            return false;
        };
        field.set_raw(ethertype);
        if ethertype == ethernet::VLAN.to_be() {
            let Some(field) = self.view_mut::<Be32>(14) else {
                return false;
            };
            field.set_raw(tag);
        }
        true
    }
}

impl XdpFrame {
    #[inline(always)]
    fn move_head(&mut self, by: i32) -> bool {
        // SAFETY: the context is the program's own; no view outlives `&mut self`.
        unsafe { bpf_xdp_adjust_head(self.context, by) == 0 }
    }
}

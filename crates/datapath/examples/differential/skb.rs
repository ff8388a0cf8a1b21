//! A native frame with the manners of a socket buffer.

use pointsman_director::{native::NativeFrame, tables::Frame};
use pointsman_wire::{Wire, checksum::Difference};

/// A frame as the tcx program has it: the next hop's VLAN tag lies beside the frame, and a missing
/// link-layer address is the kernel's to find.
///
/// A test run does not take tags out of the frame it is given, so here, too, they are in the way.
pub struct NativeSkb {
    /// The frame without what lies beside it.
    pub frame: NativeFrame,
    /// The tag beside it, 0 for none.
    vlan: u16,
}

impl NativeSkb {
    /// A frame that came in by `ifindex`.
    pub fn new(bytes: Vec<u8>, ifindex: u32) -> Self {
        Self {
            frame: NativeFrame::new(bytes, ifindex),
            vlan: 0,
        }
    }
}

impl Frame for NativeSkb {
    const TAGS_IN_FRAME: bool = false;
    const RESOLVES: bool = true;

    fn holds(&self, bytes: u32) -> bool {
        self.frame.holds(bytes)
    }

    fn ifindex(&self) -> u32 {
        self.frame.ifindex
    }

    fn segment_size(&self) -> u32 {
        0
    }

    fn tags_outside(&self) -> u8 {
        u8::from(self.vlan != 0)
    }

    fn view<T: Wire>(&self, offset: u32) -> Option<&T> {
        self.frame.view(offset)
    }

    fn view_mut<T: Wire>(&mut self, offset: u32) -> Option<&mut T> {
        self.frame.view_mut(offset)
    }

    fn fix_checksum(
        &mut self,
        offset: u32,
        addresses: Difference,
        ports: Difference,
        udp: bool,
    ) -> bool {
        self.frame.fix_checksum(offset, addresses, ports, udp)
    }

    fn set_vlan(&mut self, tags: u8, vlan: u16) -> bool {
        if tags != self.tags_outside() {
            return false;
        }
        self.vlan = vlan;
        true
    }

    fn encapsulate(&mut self, bytes: u32, outer_ipv6: bool, inner_ipv6: bool) -> bool {
        self.frame.encapsulate(bytes, outer_ipv6, inner_ipv6)
    }
}

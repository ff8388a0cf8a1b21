//! What goes beside a datagram: where it is sent from, and how it came in.

use std::mem::size_of;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::ptr;

use super::{in_addr, in6_addr};

/// A buffer for control messages, aligned as they must be.
pub(super) struct Control([u64; 16]);

/// What the kernel said of a datagram received.
#[derive(Debug, Default)]
pub(super) struct Facts {
    /// Destination address, with IPv6.
    pub(super) destination: Option<Ipv6Addr>,
    /// Hop limit, with IPv6.
    pub(super) hop_limit: Option<u8>,
}

impl Control {
    pub(super) fn new() -> Self {
        Self([0; 16])
    }

    /// Makes the buffer that of `message`, which must not be used longer than this value.
    pub(super) fn lend_to(&mut self, message: &mut libc::msghdr) {
        message.msg_control = self.0.as_mut_ptr().cast();
        message.msg_controllen = size_of::<Self>();
    }

    /// Has `message` sent from this address, by this interface, with this time to live.
    pub(super) fn leave_v4(
        &mut self,
        source: Ipv4Addr,
        index: u32,
        hop_limit: u8,
        message: &mut libc::msghdr,
    ) {
        let from = libc::in_pktinfo {
            ipi_ifindex: index.cast_signed(),
            ipi_spec_dst: in_addr(source),
            ipi_addr: in_addr(Ipv4Addr::UNSPECIFIED),
        };
        let limit = i32::from(hop_limit);
        self.lend_to(message);
        let mut used = 0;
        used += self.put(used, (libc::IPPROTO_IP, libc::IP_PKTINFO), &from);
        used += self.put(used, (libc::IPPROTO_IP, libc::IP_TTL), &limit);
        message.msg_controllen = used;
    }

    /// Has `message` sent from this address, by this interface, with this hop limit.
    pub(super) fn leave_v6(
        &mut self,
        source: Ipv6Addr,
        index: u32,
        hop_limit: u8,
        message: &mut libc::msghdr,
    ) {
        let from = libc::in6_pktinfo {
            ipi6_addr: in6_addr(source),
            ipi6_ifindex: index,
        };
        let limit = i32::from(hop_limit);
        self.lend_to(message);
        let mut used = 0;
        used += self.put(used, (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO), &from);
        used += self.put(used, (libc::IPPROTO_IPV6, libc::IPV6_HOPLIMIT), &limit);
        message.msg_controllen = used;
    }

    /// Reads what a successful `recvmsg` left in the buffer lent to `message`.
    pub(super) fn read(&self, message: &libc::msghdr) -> Facts {
        debug_assert_eq!(message.msg_control.cast_const(), self.0.as_ptr().cast());
        let mut facts = Facts::default();
        // SAFETY: `message` holds this buffer and the length the kernel filled.
        let mut header = unsafe { libc::CMSG_FIRSTHDR(message) };
        while !header.is_null() {
            // SAFETY: a header CMSG_FIRSTHDR or CMSG_NXTHDR gives lies within the buffer.
            let (kind, data) = unsafe {
                (
                    ((*header).cmsg_level, (*header).cmsg_type),
                    libc::CMSG_DATA(header),
                )
            };
            match kind {
                (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO) => {
                    // SAFETY: the kernel writes this structure whole under this type.
                    let to: libc::in6_pktinfo = unsafe { ptr::read_unaligned(data.cast()) };
                    facts.destination = Some(to.ipi6_addr.s6_addr.into());
                }
                (libc::IPPROTO_IPV6, libc::IPV6_HOPLIMIT) => {
                    // SAFETY: as above.
                    let limit: i32 = unsafe { ptr::read_unaligned(data.cast()) };
                    facts.hop_limit = u8::try_from(limit).ok();
                }
                _ => {}
            }
            // SAFETY: as for CMSG_FIRSTHDR.
            header = unsafe { libc::CMSG_NXTHDR(message, header) };
        }
        facts
    }

    /// Writes one control message at `at` and gives the room it takes.
    fn put<T: Copy>(&mut self, at: usize, (level, kind): (i32, i32), value: &T) -> usize {
        let payload = u32::try_from(size_of::<T>()).expect("control messages are short");
        // SAFETY: both only compute.
        let (length, space) = unsafe { (libc::CMSG_LEN(payload), libc::CMSG_SPACE(payload)) };
        assert!(at + space as usize <= size_of::<Self>(), "room for all");
        let header = libc::cmsghdr {
            cmsg_len: length as usize,
            cmsg_level: level,
            cmsg_type: kind,
        };
        // SAFETY: the assertion above keeps both writes within the buffer, and nothing else refers to it.
        unsafe {
            let start = self.0.as_mut_ptr().cast::<u8>().add(at);
            ptr::write_unaligned(start.cast(), header);
            let data = libc::CMSG_DATA(start.cast());
            ptr::write_unaligned(data.cast(), *value);
        }
        space as usize
    }
}

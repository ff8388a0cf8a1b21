//! What the kernel tells about a frame beside its bytes.

use std::mem::size_of;
use std::ptr;

/// The frame is a TCP packet yet to be cut into segments (missing in older headers).
const TP_STATUS_GSO_TCP: u32 = 1 << 8;
const ETHERTYPE_VLAN: u16 = 0x8100;

/// A buffer for control messages, aligned as they must be.
pub(super) struct Ancillary([u64; 32]);

/// What the control messages said.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Facts {
    /// Length of the frame as the kernel had it, without the tag in `vlan`.
    pub(super) length: Option<usize>,
    /// Nanoseconds since 1970.
    pub(super) timestamp_ns: u64,
    /// The VLAN header that was taken out: EtherType and tag, in network byte order.
    pub(super) vlan: Option<[u8; 4]>,
    /// The checksum is left to the device.
    pub(super) checksum_pending: bool,
    /// The frame stands for several.
    pub(super) gso: bool,
}

impl Ancillary {
    pub(super) fn new() -> Self {
        Self([0; 32])
    }

    /// Makes the buffer that of `message`, which must not be used longer than this value.
    pub(super) fn lend_to(&mut self, message: &mut libc::msghdr) {
        message.msg_control = self.0.as_mut_ptr().cast();
        message.msg_controllen = size_of::<Self>();
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
                (libc::SOL_PACKET, libc::PACKET_AUXDATA) => {
                    // SAFETY: the kernel writes this structure whole under this type.
                    facts.note_frame(&unsafe { ptr::read_unaligned(data.cast()) });
                }
                (libc::SOL_SOCKET, libc::SCM_TIMESTAMPNS) => {
                    // SAFETY: as above.
                    let time: libc::timespec = unsafe { ptr::read_unaligned(data.cast()) };
                    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
                    let nanoseconds = u64::try_from(time.tv_nsec).unwrap_or(0);
                    facts.timestamp_ns = seconds * 1_000_000_000 + nanoseconds;
                }
                _ => {}
            }
            // SAFETY: as for CMSG_FIRSTHDR.
            header = unsafe { libc::CMSG_NXTHDR(message, header) };
        }
        facts
    }
}

impl Facts {
    fn note_frame(&mut self, data: &libc::tpacket_auxdata) {
        let status = data.tp_status;
        self.length = Some(data.tp_len as usize);
        self.checksum_pending = status & libc::TP_STATUS_CSUMNOTREADY != 0;
        self.gso = status & TP_STATUS_GSO_TCP != 0;
        if status & libc::TP_STATUS_VLAN_VALID != 0 {
            let protocol = match status & libc::TP_STATUS_VLAN_TPID_VALID {
                0 => ETHERTYPE_VLAN,
                _ => data.tp_vlan_tpid,
            };
            let [p0, p1] = protocol.to_be_bytes();
            let [t0, t1] = data.tp_vlan_tci.to_be_bytes();
            self.vlan = Some([p0, p1, t0, t1]);
        }
    }
}

//! A packet socket whose frames come with a virtio-net header.
//!
//! The header tells what the sender left to be done to a frame: a checksum to complete, a
//! super-frame to cut. Without it, a frame read from a veth and sent on has a wrong checksum.

use std::io;
use std::mem;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use nix::net::if_::if_nametoindex;

use crate::error::{LabError, Result};
use crate::outer::VnetHeader;

const RECEIVE_BUFFER: libc::c_int = 16 << 20;
/// Not in libc: reassemble IPv4 fragments before they are handed out.
const PACKET_FANOUT_FLAG_DEFRAG: libc::c_int = 0x8000;

/// What is known of a received frame besides its bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Received {
    /// What is left to be done; offsets count from the Ethernet header.
    pub header: VnetHeader,
    /// Bytes of the frame.
    pub length: usize,
    /// False for frames to other hosts and to all.
    pub to_this_host: bool,
}

/// A packet socket on one interface for frames of one EtherType; it sees only received ones.
#[derive(Debug)]
pub struct VnetSocket {
    socket: OwnedFd,
    interface: String,
}

impl VnetSocket {
    /// Room for the largest super-frame with its Ethernet and outer headers.
    pub const FRAME: usize = 65_536 + 14 + 128;

    /// Opens it in the calling thread's namespace.
    pub fn open(interface: &str, ethertype: libc::c_int) -> Result<Self> {
        let what = format!("cannot open a packet socket on {interface}");
        let index = if_nametoindex(interface).map_err(|errno| LabError::Io {
            what: what.clone(),
            source: errno.into(),
        })?;
        // Protocol 0 receives nothing until bound, so no frame of another interface slips in.
        let socket = raw_socket(libc::AF_PACKET, 0).map_err(LabError::io(what.clone()))?;
        let set = |level, name, value| {
            set_option(&socket, level, name, value).map_err(LabError::io(what.clone()))
        };
        set(libc::SOL_PACKET, libc::PACKET_VNET_HDR, 1)?;
        set(libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, RECEIVE_BUFFER)?;
        // SAFETY: sockaddr_ll is plain numbers, for which zeroes are values.
        let mut address: libc::sockaddr_ll = unsafe { mem::zeroed() };
        address.sll_family = libc::AF_PACKET as u16;
        address.sll_protocol = (ethertype as u16).to_be();
        address.sll_ifindex = index as i32;
        // SAFETY: the address is valid for reading with the length given.
        let bound = unsafe {
            libc::bind(
                socket.as_raw_fd(),
                (&raw const address).cast(),
                mem::size_of::<libc::sockaddr_ll>() as libc::socklen_t,
            )
        };
        if bound != 0 {
            return Err(LabError::Io {
                what,
                source: io::Error::last_os_error(),
            });
        }
        Ok(Self {
            socket,
            interface: interface.to_owned(),
        })
    }

    /// Has the kernel put IPv4 fragments together before they are seen.
    ///
    /// Only fan-out groups can ask for that, so the socket becomes the one member of a group.
    pub fn reassemble_fragments(&self) -> Result<()> {
        let kind = libc::PACKET_FANOUT_HASH as libc::c_int | PACKET_FANOUT_FLAG_DEFRAG;
        let group = 1 | (kind << 16);
        set_option(&self.socket, libc::SOL_PACKET, libc::PACKET_FANOUT, group).map_err(
            LabError::io(format!(
                "cannot have fragments reassembled on {} (does another decapsulator run?)",
                self.interface
            )),
        )
    }

    /// Waits for a frame; none when the kernel had one that it could not hand out, such as a
    /// super-frame of a kind that the virtio-net header has no word for.
    pub fn receive(&self, frame: &mut [u8]) -> Result<Option<Received>> {
        let mut header = [0; VnetHeader::LEN];
        let mut parts = [
            libc::iovec {
                iov_base: header.as_mut_ptr().cast(),
                iov_len: header.len(),
            },
            libc::iovec {
                iov_base: frame.as_mut_ptr().cast(),
                iov_len: frame.len(),
            },
        ];
        // SAFETY: both structures are plain numbers and pointers, for which zeroes are values.
        let (mut from, mut message) = unsafe {
            (
                mem::zeroed::<libc::sockaddr_ll>(),
                mem::zeroed::<libc::msghdr>(),
            )
        };
        message.msg_name = (&raw mut from).cast();
        message.msg_namelen = mem::size_of::<libc::sockaddr_ll>() as libc::socklen_t;
        message.msg_iov = parts.as_mut_ptr();
        message.msg_iovlen = parts.len();
        // SAFETY: the message points to live buffers with their true lengths.
        let length = unsafe { libc::recvmsg(self.socket.as_raw_fd(), &raw mut message, 0) };
        let Ok(length) = usize::try_from(length) else {
            let source = io::Error::last_os_error();
            return match source.raw_os_error() {
                Some(libc::EINVAL | libc::EINTR | libc::ENETDOWN) => {
                    eprintln!("a frame on {} could not be read: {source}", self.interface);
                    Ok(None)
                }
                _ => Err(self.failed("read")(source)),
            };
        };
        let header = VnetHeader::read(&header).filter(|_| length >= VnetHeader::LEN);
        Ok(header.map(|header| Received {
            header,
            length: length - VnetHeader::LEN,
            to_this_host: from.sll_pkttype == libc::PACKET_HOST,
        }))
    }

    fn failed(&self, what: &str) -> impl FnOnce(io::Error) -> LabError {
        LabError::io(format!("cannot {what} a frame on {}", self.interface))
    }
}

/// A raw socket of any family.
pub(crate) fn raw_socket(family: libc::c_int, protocol: libc::c_int) -> io::Result<OwnedFd> {
    // SAFETY: no pointers are involved.
    let fd = unsafe { libc::socket(family, libc::SOCK_RAW | libc::SOCK_CLOEXEC, protocol) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor is new and nobody else's.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn set_option(
    socket: &OwnedFd,
    level: libc::c_int,
    name: libc::c_int,
    value: libc::c_int,
) -> io::Result<()> {
    // SAFETY: the value is valid for reading with the length given.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            name,
            (&raw const value).cast(),
            mem::size_of_val(&value) as libc::socklen_t,
        )
    };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

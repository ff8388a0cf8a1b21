//! Frames sent without listening.

use std::io;
use std::mem::size_of;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use super::{Error, Interface, last_error, resolve};

/// A packet socket that only sends: the interface's traffic costs nothing more for it.
#[derive(Debug)]
pub struct Sender {
    socket: OwnedFd,
    interface: String,
    to: libc::sockaddr_ll,
}

impl Sender {
    /// Opens a socket for an interface of the calling thread's network namespace.
    pub fn open<'a>(interface: impl Into<Interface<'a>>) -> Result<Self, Error> {
        let (index, interface) = resolve(interface.into())?;
        let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
        // Protocol 0: nothing is received.
        // SAFETY: the call takes no pointers.
        let socket = unsafe { libc::socket(libc::AF_PACKET, kind, 0) };
        if socket < 0 {
            return Err(last_error("socket(AF_PACKET)", &interface));
        }
        // SAFETY: all-zero bytes are a valid value of this plain C structure.
        let mut to = unsafe { std::mem::zeroed::<libc::sockaddr_ll>() };
        to.sll_family = libc::AF_PACKET as libc::c_ushort;
        to.sll_ifindex = index.cast_signed();
        Ok(Self {
            // SAFETY: the descriptor is new and nobody else's.
            socket: unsafe { OwnedFd::from_raw_fd(socket) },
            interface,
            to,
        })
    }

    /// Sends a whole frame, Ethernet header first; what the interface has no room for is an error.
    pub fn send(&self, frame: &[u8]) -> Result<(), Error> {
        let mut to = self.to;
        if let Some(&[high, low]) = frame.get(12..14) {
            to.sll_protocol = u16::from_ne_bytes([high, low]);
        }
        loop {
            // SAFETY: the pointers and lengths are those of `frame` and `to`.
            let sent = unsafe {
                libc::sendto(
                    self.socket.as_raw_fd(),
                    frame.as_ptr().cast(),
                    frame.len(),
                    0,
                    (&raw const to).cast(),
                    size_of::<libc::sockaddr_ll>() as libc::socklen_t,
                )
            };
            if sent >= 0 {
                return Ok(());
            }
            if io::Error::last_os_error().kind() != io::ErrorKind::Interrupted {
                return Err(last_error("sendto", &self.interface));
            }
        }
    }
}

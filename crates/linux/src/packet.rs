//! Raw frames of one interface: captured in both directions, and sent.

use std::io;
use std::mem::{size_of, zeroed};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::time::Duration;

use crate::deadline::Deadline;
use crate::socket_option;
use ancillary::Ancillary;
pub use captures::Captures;
pub use sender::Sender;

mod ancillary;
mod captures;
mod sender;

/// Room for the largest frame: IPv6 "big TCP" makes packets of up to 512 KiB.
const FRAME_MAX: usize = (512 << 10) + 256;
/// How long [`Capture::send`] waits for room in the socket's buffer.
const SEND_TIMEOUT: Duration = Duration::from_secs(1);

/// Why a call on a packet socket failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no such interface in this network namespace.
    #[error("no interface {interface} in this network namespace")]
    NoSuchInterface {
        /// What was asked for.
        interface: String,
    },
    /// The interface went down or away; if it comes up again, the capture goes on.
    #[error("interface {interface} is down")]
    Down {
        /// The interface.
        interface: String,
    },
    /// A system call failed.
    #[error("{call} on interface {interface}: {source}")]
    Call {
        /// The call.
        call: &'static str,
        /// The interface.
        interface: String,
        /// What it returned.
        source: io::Error,
    },
}

impl Error {
    /// The errno behind this error.
    pub fn errno(&self) -> Option<i32> {
        match self {
            Self::NoSuchInterface { .. } => Some(libc::ENODEV),
            Self::Down { .. } => Some(libc::ENETDOWN),
            Self::Call { source, .. } => source.raw_os_error(),
        }
    }
}

/// An interface, by number or by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Interface<'a> {
    /// Its number.
    Index(u32),
    /// Its name in the calling thread's network namespace.
    Name(&'a str),
}

impl From<u32> for Interface<'_> {
    fn from(index: u32) -> Self {
        Self::Index(index)
    }
}

impl<'a> From<&'a str> for Interface<'a> {
    fn from(name: &'a str) -> Self {
        Self::Name(name)
    }
}

impl<'a> From<&'a String> for Interface<'a> {
    fn from(name: &'a String) -> Self {
        Self::Name(name)
    }
}

/// How to capture.
#[derive(Debug, Clone)]
pub struct Options {
    /// Keep only this many bytes of each frame.
    pub snaplen: Option<usize>,
    /// Also ask the device for frames to other hosts; ends with the capture.
    pub promiscuous: bool,
    /// Bytes of unread frames the kernel keeps before it drops some.
    pub buffer_bytes: usize,
    /// A classic BPF program each frame must pass; empty passes all. In force from the first
    /// frame. It sees frames without a VLAN tag the device or kernel took out.
    pub filter: Vec<libc::sock_filter>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            snaplen: None,
            promiscuous: false,
            buffer_bytes: 16 << 20,
            filter: Vec::new(),
        }
    }
}

/// Which way a frame went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// Received for this host, or as broadcast or multicast.
    In,
    /// Sent by this host.
    Out,
    /// Received though it is addressed to another host.
    OtherHost,
}

/// One captured frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// The frame from its Ethernet header on, with its VLAN tag in place.
    pub bytes: Vec<u8>,
    /// Its length before `snaplen` or the filter cut it.
    pub length: usize,
    /// When the kernel saw it, in nanoseconds since 1970.
    pub timestamp_ns: u64,
    /// Which way it went.
    pub direction: Direction,
    /// The checksum field holds only a part: the device was to complete it (`CHECKSUM_PARTIAL`).
    pub checksum_pending: bool,
    /// One TCP packet that stands for several on the wire (kernel 6.3 and later say so).
    pub gso: bool,
}

/// How many frames a capture saw and lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Statistics {
    /// Frames that passed the filter, lost ones included.
    pub received: u64,
    /// Frames lost because the buffer was full.
    pub dropped: u64,
}

/// A packet socket bound to one interface.
#[derive(Debug)]
pub struct Capture {
    socket: OwnedFd,
    interface: String,
    buffer: Vec<u8>,
    snaplen: usize,
    statistics: Statistics,
}

impl Capture {
    /// Captures whole frames with the default options.
    pub fn open<'a>(interface: impl Into<Interface<'a>>) -> Result<Self, Error> {
        Self::open_with(interface, &Options::default())
    }

    /// Captures as the options say.
    pub fn open_with<'a>(
        interface: impl Into<Interface<'a>>,
        options: &Options,
    ) -> Result<Self, Error> {
        let (index, interface) = resolve(interface.into())?;
        let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
        // Protocol 0 receives nothing until bind: no frame of another interface, none unfiltered.
        // SAFETY: the call takes no pointers.
        let socket = unsafe { libc::socket(libc::AF_PACKET, kind, 0) };
        if socket < 0 {
            return Err(last_error("socket(AF_PACKET)", &interface));
        }
        let snaplen = options.snaplen.unwrap_or(FRAME_MAX).clamp(1, FRAME_MAX);
        let capture = Self {
            // SAFETY: the descriptor is new and nobody else's.
            socket: unsafe { OwnedFd::from_raw_fd(socket) },
            interface,
            buffer: vec![0; snaplen],
            snaplen,
            statistics: Statistics::default(),
        };
        capture.set(
            libc::SOL_PACKET,
            libc::PACKET_AUXDATA,
            &1,
            "setsockopt(PACKET_AUXDATA)",
        )?;
        capture.set(
            libc::SOL_SOCKET,
            libc::SO_TIMESTAMPNS,
            &1,
            "setsockopt(SO_TIMESTAMPNS)",
        )?;
        let bytes = libc::c_int::try_from(options.buffer_bytes).unwrap_or(libc::c_int::MAX);
        let forced = capture.set(libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, &bytes, "");
        if forced.is_err() {
            capture.set(
                libc::SOL_SOCKET,
                libc::SO_RCVBUF,
                &bytes,
                "setsockopt(SO_RCVBUF)",
            )?;
        }
        capture.attach(&options.filter)?;
        capture.bind(index)?;
        if options.promiscuous {
            let request = libc::packet_mreq {
                mr_ifindex: index.cast_signed(),
                mr_type: libc::PACKET_MR_PROMISC as libc::c_ushort,
                mr_alen: 0,
                mr_address: [0; 8],
            };
            let call = "setsockopt(PACKET_ADD_MEMBERSHIP)";
            capture.set(
                libc::SOL_PACKET,
                libc::PACKET_ADD_MEMBERSHIP,
                &request,
                call,
            )?;
        }
        Ok(capture)
    }

    /// Waits for the next frame, at most `timeout`; `None` when there was none.
    pub fn next(&mut self, timeout: Duration) -> Result<Option<Frame>, Error> {
        let deadline = Deadline::after(timeout);
        loop {
            // Reading first saves a system call when frames are waiting.
            if let Some(frame) = self.receive()? {
                return Ok(Some(frame));
            }
            match deadline.wait_readable(self.socket.as_fd()) {
                Ok(true) => {}
                Ok(false) => return Ok(None),
                Err(source) => return Err(self.error("poll", source)),
            }
        }
    }

    /// Sends a whole frame, Ethernet header first; other captures on the interface see it.
    pub fn send(&self, frame: &[u8]) -> Result<(), Error> {
        let deadline = Deadline::after(SEND_TIMEOUT);
        loop {
            // SAFETY: the pointer and length are those of `frame`.
            let sent = unsafe {
                libc::send(
                    self.socket.as_raw_fd(),
                    frame.as_ptr().cast(),
                    frame.len(),
                    0,
                )
            };
            if sent >= 0 {
                return Ok(());
            }
            let source = io::Error::last_os_error();
            match source.kind() {
                io::ErrorKind::Interrupted => {}
                io::ErrorKind::WouldBlock => match deadline.wait_writable(self.socket.as_fd()) {
                    Ok(true) => {}
                    Ok(false) => return Err(self.error("send", source)),
                    Err(source) => return Err(self.error("poll", source)),
                },
                _ => return Err(self.error("send", source)),
            }
        }
    }

    /// Tells how many frames passed and were lost since the capture was opened.
    pub fn statistics(&mut self) -> Result<Statistics, Error> {
        let mut counts = libc::tpacket_stats {
            tp_packets: 0,
            tp_drops: 0,
        };
        let mut length = size_of::<libc::tpacket_stats>() as libc::socklen_t;
        // SAFETY: the kernel writes at most `length` bytes to `counts`, which is that long.
        let result = unsafe {
            libc::getsockopt(
                self.socket.as_raw_fd(),
                libc::SOL_PACKET,
                libc::PACKET_STATISTICS,
                (&raw mut counts).cast(),
                &raw mut length,
            )
        };
        if result < 0 {
            return Err(last_error("getsockopt(PACKET_STATISTICS)", &self.interface));
        }
        // The kernel starts from zero after each reading.
        self.statistics.received += u64::from(counts.tp_packets);
        self.statistics.dropped += u64::from(counts.tp_drops);
        Ok(self.statistics)
    }

    /// The name or number the capture was opened with.
    pub fn interface(&self) -> &str {
        &self.interface
    }

    /// Reads one frame if one is there.
    fn receive(&mut self) -> Result<Option<Frame>, Error> {
        let mut control = Ancillary::new();
        // SAFETY: all-zero bytes are a valid value of these plain C structures.
        let (mut from, mut message) =
            unsafe { (zeroed::<libc::sockaddr_ll>(), zeroed::<libc::msghdr>()) };
        let mut part = libc::iovec {
            iov_base: self.buffer.as_mut_ptr().cast(),
            iov_len: self.buffer.len(),
        };
        message.msg_name = (&raw mut from).cast();
        message.msg_namelen = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
        message.msg_iov = &raw mut part;
        message.msg_iovlen = 1;
        control.lend_to(&mut message);
        let length = loop {
            // SAFETY: `message` points to live buffers with their true lengths.
            let length = unsafe {
                libc::recvmsg(self.socket.as_raw_fd(), &raw mut message, libc::MSG_TRUNC)
            };
            if let Ok(length) = usize::try_from(length) {
                break length;
            }
            let source = io::Error::last_os_error();
            match source.kind() {
                io::ErrorKind::Interrupted => {}
                io::ErrorKind::WouldBlock => return Ok(None),
                _ => return Err(self.error("recvmsg", source)),
            }
        };
        let facts = control.read(&message);
        let captured = &self.buffer[..length.min(self.buffer.len())];
        let mut bytes = Vec::with_capacity(captured.len() + 4);
        let mut length = facts.length.unwrap_or(length);
        match facts.vlan {
            // The tag goes between the hardware addresses and the EtherType.
            Some(tag) if captured.len() >= 12 => {
                bytes.extend_from_slice(&captured[..12]);
                bytes.extend_from_slice(&tag);
                bytes.extend_from_slice(&captured[12..]);
                bytes.truncate(self.snaplen);
                length += tag.len();
            }
            _ => bytes.extend_from_slice(captured),
        }
        Ok(Some(Frame {
            bytes,
            length,
            timestamp_ns: facts.timestamp_ns,
            direction: match from.sll_pkttype {
                libc::PACKET_OUTGOING => Direction::Out,
                libc::PACKET_OTHERHOST => Direction::OtherHost,
                _ => Direction::In,
            },
            checksum_pending: facts.checksum_pending,
            gso: facts.gso,
        }))
    }

    fn attach(&self, filter: &[libc::sock_filter]) -> Result<(), Error> {
        if filter.is_empty() {
            return Ok(());
        }
        let call = "setsockopt(SO_ATTACH_FILTER)";
        let len = filter
            .len()
            .try_into()
            .map_err(|_| self.error(call, io::Error::from_raw_os_error(libc::EINVAL)))?;
        // The kernel only reads the program, whatever the pointer's type says.
        let program = libc::sock_fprog {
            len,
            filter: filter.as_ptr().cast_mut(),
        };
        self.set(libc::SOL_SOCKET, libc::SO_ATTACH_FILTER, &program, call)
    }

    fn bind(&self, index: u32) -> Result<(), Error> {
        // SAFETY: all-zero bytes are a valid value of this plain C structure.
        let mut address = unsafe { zeroed::<libc::sockaddr_ll>() };
        address.sll_family = libc::AF_PACKET as libc::c_ushort;
        address.sll_protocol = (libc::ETH_P_ALL as u16).to_be();
        address.sll_ifindex = index.cast_signed();
        // SAFETY: the pointer and length are those of `address`.
        let result = unsafe {
            libc::bind(
                self.socket.as_raw_fd(),
                (&raw const address).cast(),
                size_of::<libc::sockaddr_ll>() as libc::socklen_t,
            )
        };
        match result {
            0 => Ok(()),
            _ => Err(self.error("bind", io::Error::last_os_error())),
        }
    }

    fn set<T: Copy>(
        &self,
        level: i32,
        option: i32,
        value: &T,
        call: &'static str,
    ) -> Result<(), Error> {
        let set = socket_option::set(&self.socket, level, option, value);
        set.map_err(|source| self.error(call, source))
    }

    fn error(&self, call: &'static str, source: io::Error) -> Error {
        let interface = self.interface.clone();
        match source.raw_os_error() {
            Some(libc::ENETDOWN) => Error::Down { interface },
            Some(libc::ENODEV | libc::ENXIO) => Error::NoSuchInterface { interface },
            _ => Error::Call {
                call,
                interface,
                source,
            },
        }
    }
}

impl AsFd for Capture {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl AsRawFd for Capture {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}

/// Finds the number and a name for messages.
fn resolve(interface: Interface<'_>) -> Result<(u32, String), Error> {
    match interface {
        // Zero would mean all interfaces at once.
        Interface::Index(0) => Err(Error::NoSuchInterface {
            interface: "#0".to_owned(),
        }),
        Interface::Index(index) => Ok((index, format!("#{index}"))),
        Interface::Name(name) => match nix::net::if_::if_nametoindex(name) {
            Ok(index) => Ok((index, name.to_owned())),
            Err(_) => Err(Error::NoSuchInterface {
                interface: format!("{name:?}"),
            }),
        },
    }
}

fn last_error(call: &'static str, interface: &str) -> Error {
    Error::Call {
        call,
        interface: interface.to_owned(),
        source: io::Error::last_os_error(),
    }
}

//! A port that is held without being used.

use std::io;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::os::fd::AsRawFd;

use crate::socket_option;

/// A port that nobody else gets. What arrives there is thrown away by the kernel without an answer:
/// no reset, no "port unreachable".
#[derive(Debug)]
pub struct HeldPort {
    _socket: Socket,
}

#[derive(Debug)]
#[expect(dead_code, reason = "they are only held")]
enum Socket {
    Tcp(TcpListener),
    Udp(UdpSocket),
}

impl HeldPort {
    /// Holds a port of TCP of the calling thread's network namespace.
    pub fn tcp(address: SocketAddr) -> io::Result<Self> {
        let socket = TcpListener::bind(address)?;
        deafen(&socket)?;
        let _socket = Socket::Tcp(socket);
        Ok(Self { _socket })
    }

    /// Holds a port of UDP of the calling thread's network namespace.
    pub fn udp(address: SocketAddr) -> io::Result<Self> {
        let socket = UdpSocket::bind(address)?;
        deafen(&socket)?;
        let _socket = Socket::Udp(socket);
        Ok(Self { _socket })
    }
}

/// Has the kernel drop what a socket would receive.
fn deafen(socket: &impl AsRawFd) -> io::Result<()> {
    let mut nothing = libc::sock_filter {
        // BPF_RET | BPF_K: of every packet, 0 bytes.
        code: 0x06,
        jt: 0,
        jf: 0,
        k: 0,
    };
    let program = libc::sock_fprog {
        len: 1,
        filter: &raw mut nothing,
    };
    socket_option::set(socket, libc::SOL_SOCKET, libc::SO_ATTACH_FILTER, &program)
}

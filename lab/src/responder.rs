//! The UDP half of a real server: it answers from the address that it was asked at.
//!
//! A server with the VIP on `lo` that lets the kernel choose the source would answer from its own
//! address, and the client would throw the answer away. So the destination of each datagram is
//! asked for (`IPV6_RECVPKTINFO`, which on a dual-stack socket tells IPv4 destinations too, as
//! mapped addresses) and given back as the source of the answer.

use std::io::{IoSlice, IoSliceMut};
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::{AsRawFd, RawFd};
use std::thread;

use nix::sys::socket::sockopt::Ipv6RecvPacketInfo;
use nix::sys::socket::{
    ControlMessage, ControlMessageOwned, MsgFlags, SockaddrIn6, recvmsg, sendmsg, setsockopt,
};

use crate::error::{LabError, Result};

/// Opens `[::]:port` and answers on a thread of its own for ever.
pub(crate) fn start(name: &str, port: u16) -> Result<()> {
    let what = || format!("{name} cannot listen on UDP [::]:{port}");
    let socket = UdpSocket::bind(("::", port)).map_err(LabError::io(what()))?;
    setsockopt(&socket, Ipv6RecvPacketInfo, &true).map_err(|errno| LabError::Io {
        what: what(),
        source: errno.into(),
    })?;
    let name = name.to_owned();
    thread::Builder::new()
        .name(format!("udp-{port}"))
        .spawn(move || {
            let mut buffer = vec![0; 65_536];
            loop {
                let first = format!("{name}\n");
                let answered = answer_one(socket.as_raw_fd(), first.as_bytes(), &mut buffer);
                if let Err(errno) = answered {
                    // An ICMP error of an earlier answer, or one too long to send.
                    eprintln!("{name}: UDP port {port}: {errno}");
                }
            }
        })
        .map_err(LabError::io(what()))?;
    Ok(())
}

/// Opens `0.0.0.0:port` and answers for ever, from the address that the kernel chooses: what a
/// server does that was not written with virtual addresses in mind.
pub(crate) fn start_careless(name: &str, port: u16) -> Result<()> {
    let what = || format!("{name} cannot listen on UDP 0.0.0.0:{port}");
    let socket = UdpSocket::bind(("0.0.0.0", port)).map_err(LabError::io(what()))?;
    let name = name.to_owned();
    thread::Builder::new()
        .name(format!("udp-{port}"))
        .spawn(move || {
            let mut buffer = vec![0; 65_536];
            loop {
                let answered = socket.recv_from(&mut buffer).and_then(|(length, peer)| {
                    let mut answer = format!("{name}\n").into_bytes();
                    answer.extend_from_slice(&buffer[..length]);
                    socket.send_to(&answer, peer)
                });
                if let Err(error) = answered {
                    // An ICMP error of an earlier answer.
                    eprintln!("{name}: UDP port {port}: {error}");
                }
            }
        })
        .map_err(LabError::io(what()))?;
    Ok(())
}

/// A datagram that was answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Exchange {
    /// Who asked.
    pub(crate) peer: SocketAddr,
    /// Length of what was asked, bytes.
    pub(crate) length: usize,
}

/// Takes a datagram from a dual-stack socket that tells destinations, and answers it with `first`
/// and its own content; `None` if the kernel did not say who asked where.
pub(crate) fn answer_one(
    socket: RawFd,
    first: &[u8],
    buffer: &mut [u8],
) -> nix::Result<Option<Exchange>> {
    let mut space = nix::cmsg_space!(libc::in6_pktinfo);
    let mut slices = [IoSliceMut::new(buffer)];
    let got = recvmsg::<SockaddrIn6>(socket, &mut slices, Some(&mut space), MsgFlags::empty())?;
    let (length, peer) = (got.bytes, got.address);
    let asked_at = got.cmsgs()?.find_map(|message| match message {
        ControlMessageOwned::Ipv6PacketInfo(info) => Some(info.ipi6_addr),
        _ => None,
    });
    let (Some(peer), Some(address)) = (peer, asked_at) else {
        return Ok(None);
    };
    // The interface is left to routing: the answer of direct routing leaves by another leg.
    let info = libc::in6_pktinfo {
        ipi6_addr: address,
        ipi6_ifindex: 0,
    };
    let answer = [IoSlice::new(first), IoSlice::new(&buffer[..length])];
    let control = [ControlMessage::Ipv6PacketInfo(&info)];
    sendmsg(socket, &answer, &control, MsgFlags::empty(), Some(&peer))?;
    Ok(Some(Exchange {
        peer: (peer.ip(), peer.port()).into(),
        length,
    }))
}

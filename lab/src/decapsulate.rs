//! The tunnel end of a real server: takes IP-in-IP, GRE and GUE packets off an interface and hands
//! what is in them to the kernel.
//!
//! Where the kernel has the tunnel devices (ipip, sit, ip6tnl) they do it. Otherwise frames are
//! read from packet sockets and written to a TUN device. Senders on veth leave checksums partial
//! and segments uncut; both are told in a virtio-net header that packet sockets and TUN devices
//! share, so it is carried over with its offsets moved. A packet whose checksum is simply wrong
//! stays wrong and the kernel drops it, as it should.
//!
//! Where the kernel's devices are used, there is no GRE and no GUE.
//!
//! Not done here: firewalling of the outer packet, congestion marks of the outer header, outer
//! IPv6 fragments.

use std::collections::HashSet;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::mem;
use std::net::{IpAddr, UdpSocket};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;
use std::thread;

use nix::ifaddrs::getifaddrs;
use pointsman_linux::sysctl;

use crate::error::{LabError, Result};
use crate::namespace;
use crate::outer::{self, GRE, GUE_PORT, IPV4_IN_IP, IPV6_IN_IP, Skip};
use crate::vnet_socket::{VnetSocket, raw_socket};

/// Name of the TUN device of labs.
pub const TUN: &str = "decap0";

nix::ioctl_write_ptr_bad!(
    /// Turns a file of `/dev/net/tun` into a device.
    tun_set_interface, 0x4004_54ca, libc::ifreq);

/// Decapsulates for ever; prints `ready TUN` when it does.
pub fn decapsulate(interface: &str, tun: &str) -> Result<()> {
    if use_kernel_tunnels(tun)? {
        say_ready("the kernel's tunnel devices")?;
        loop {
            thread::park();
        }
    }
    let device = open_tun(tun)?;
    namespace::ip(
        &["link", "set", "dev", tun, "addrgenmode", "none", "up"],
        None,
    )?;
    // What comes out of the tunnel has a source that is routed elsewhere, and a device without
    // addresses fails even the loose check.
    sysctl::write(&format!("net/ipv4/conf/{tun}/rp_filter"), "0")?;
    // Held for ever: without a receiver the kernel would answer "protocol unreachable".
    let _claims = claim_protocols()?;
    let addresses = own_addresses()?;
    let four = VnetSocket::open(interface, libc::ETH_P_IP)?;
    four.reassemble_fragments()?;
    let six = VnetSocket::open(interface, libc::ETH_P_IPV6)?;
    say_ready(tun)?;
    thread::scope(|scope| {
        let first = scope.spawn(|| pump(&four, &device, &addresses));
        let second = pump(&six, &device, &addresses);
        first
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            .and(second)
    })
}

fn say_ready(what: &str) -> Result<()> {
    println!("ready {what}");
    io::stdout()
        .flush()
        .map_err(LabError::io("cannot say that the decapsulator is ready"))
}

/// Carries frames for ever.
fn pump(socket: &VnetSocket, mut device: &File, addresses: &HashSet<IpAddr>) -> Result<()> {
    let mut buffer = vec![0; VnetSocket::FRAME];
    loop {
        let Some(received) = socket
            .receive(&mut buffer)?
            .filter(|frame| frame.to_this_host)
        else {
            continue;
        };
        let inner = match outer::decapsulate(received.header, &buffer[..received.length]) {
            Ok(inner) if addresses.contains(&inner.outer_destination) => inner,
            Ok(_) | Err(Skip::Other) => continue,
            Err(skip) => {
                eprintln!("decapsulate: a tunnel packet is lost: {skip:?}");
                continue;
            }
        };
        let header = inner.header.bytes();
        let parts = [io::IoSlice::new(&header), io::IoSlice::new(inner.packet)];
        if let Err(error) = device.write_vectored(&parts) {
            eprintln!(
                "decapsulate: the kernel refuses a packet ({:?}): {error}",
                inner.header
            );
        }
    }
}

/// Sockets that make the tunnel protocols known to the kernel and throw every packet away.
fn claim_protocols() -> Result<Vec<OwnedFd>> {
    let mut claims = Vec::new();
    for family in [libc::AF_INET, libc::AF_INET6] {
        for protocol in [IPV4_IN_IP, IPV6_IN_IP, GRE] {
            let what = || format!("cannot claim IP protocol {protocol}");
            let socket =
                raw_socket(family, libc::c_int::from(protocol)).map_err(LabError::io(what()))?;
            drop_everything(&socket).map_err(LabError::io(what()))?;
            claims.push(socket);
        }
    }
    let what = || format!("cannot claim UDP port {GUE_PORT}");
    let socket = UdpSocket::bind(("::", GUE_PORT)).map_err(LabError::io(what()))?;
    let socket = OwnedFd::from(socket);
    drop_everything(&socket).map_err(LabError::io(what()))?;
    claims.push(socket);
    Ok(claims)
}

/// Attaches the socket filter `ret 0`.
fn drop_everything(socket: &OwnedFd) -> io::Result<()> {
    let mut program = [libc::sock_filter {
        code: 0x06,
        jt: 0,
        jf: 0,
        k: 0,
    }];
    let filter = libc::sock_fprog {
        len: 1,
        filter: program.as_mut_ptr(),
    };
    // SAFETY: the filter points to one instruction and both live through the call.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_ATTACH_FILTER,
            (&raw const filter).cast(),
            mem::size_of::<libc::sock_fprog>() as libc::socklen_t,
        )
    };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Makes the TUN device; it ends with the file.
fn open_tun(name: &str) -> Result<File> {
    let what = || format!("cannot make the TUN device {name}");
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/net/tun")
        .map_err(LabError::io(what()))?;
    // SAFETY: ifreq is plain bytes and numbers, for which zeroes are values.
    let mut request: libc::ifreq = unsafe { mem::zeroed() };
    if name.is_empty() || name.len() >= request.ifr_name.len() {
        return Err(LabError::Usage(format!(
            "{name:?} cannot name an interface"
        )));
    }
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *to = from as libc::c_char;
    }
    request.ifr_ifru.ifru_flags = (libc::IFF_TUN | libc::IFF_NO_PI | libc::IFF_VNET_HDR) as i16;
    // SAFETY: the request is valid for the call, and its name ends with a zero byte.
    unsafe { tun_set_interface(file.as_raw_fd(), &raw const request) }.map_err(|errno| {
        LabError::Io {
            what: what(),
            source: errno.into(),
        }
    })?;
    Ok(file)
}

/// All addresses of this namespace.
fn own_addresses() -> Result<HashSet<IpAddr>> {
    let interfaces = getifaddrs().map_err(|errno| LabError::Io {
        what: "cannot list addresses".to_owned(),
        source: errno.into(),
    })?;
    let address = |interface: nix::ifaddrs::InterfaceAddress| {
        let address = interface.address?;
        let four = address.as_sockaddr_in().map(|four| IpAddr::from(four.ip()));
        four.or_else(|| address.as_sockaddr_in6().map(|six| IpAddr::from(six.ip())))
    };
    Ok(interfaces.filter_map(address).collect())
}

/// Makes the kernel's own tunnel devices if it has all three kinds: IPv4 in IPv4, IPv6 in IPv4,
/// anything in IPv6, each from any sender.
///
/// They must be used where they exist, for their protocol handlers answer "unreachable" to what
/// they do not take, whoever else reads it.
fn use_kernel_tunnels(prefix: &str) -> Result<bool> {
    let kinds: [(&str, &[&str]); 3] = [
        ("4", &["ipip", "local", "0.0.0.0", "remote", "0.0.0.0"]),
        ("s", &["sit", "local", "0.0.0.0", "remote", "0.0.0.0"]),
        (
            "6",
            &["ip6tnl", "mode", "any", "local", "::", "remote", "::"],
        ),
    ];
    // The fallback device has just these parameters and comes with the namespace; a second one
    // is refused, so look for it first.
    let fallback = ["tunl0", "sit0", "ip6tnl0"];
    let mut devices = Vec::new();
    for ((suffix, words), fallback) in kinds.into_iter().zip(fallback) {
        let name = format!("{prefix}{suffix}");
        let add = [&["link", "add", "dev", &name, "type"], words].concat();
        let made = namespace::ip(&add, None).is_ok();
        if Path::new("/proc/sys/net/ipv4/conf").join(fallback).exists() {
            if made {
                namespace::ip(&["link", "delete", "dev", &name], None)?;
            }
            devices.push(fallback.to_owned());
        } else if made {
            devices.push(name);
        } else {
            for device in devices.iter().filter(|device| device.starts_with(prefix)) {
                namespace::ip(&["link", "delete", "dev", device], None)?;
            }
            return Ok(false);
        }
    }
    for device in &devices {
        sysctl::write(&format!("net/ipv4/conf/{device}/rp_filter"), "0")?;
        namespace::ip(&["link", "set", "dev", device, "up"], None)?;
    }
    Ok(true)
}

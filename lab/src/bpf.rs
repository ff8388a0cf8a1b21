//! Small hand-assembled BPF programs of the laboratory, loaded and attached without a loader.
//!
//! The lab needs few: one that passes everything, for the far end of a veth that XDP transmits
//! into, one that drops everything, and the tunnel sender of [`crate::encapsulator`].

use std::io;
use std::mem;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use nix::net::if_::if_nametoindex;

use crate::error::{LabError, Result};
use crate::lab::Lab;
use crate::topology::Role;
use crate::vnet_socket::raw_socket;

const PROG_LOAD: libc::c_int = 5;
const PROG_ATTACH: libc::c_int = 8;
const LINK_CREATE: libc::c_int = 28;
/// `BPF_F_...DRV_MODE` of `if_link.h`: in the driver, or not at all.
const XDP_DRIVER: u32 = 1 << 2;

/// Where a program is attached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hook {
    /// Native XDP.
    Xdp,
    /// The traffic-control hook for received frames (kernel 6.6 and later).
    TcxIngress,
    /// The same for frames that are sent.
    TcxEgress,
}

impl Hook {
    const fn program_type(self) -> u32 {
        match self {
            Self::Xdp => 6,
            Self::TcxIngress | Self::TcxEgress => 3,
        }
    }

    const fn attach_type(self) -> u32 {
        match self {
            Self::Xdp => 37,
            Self::TcxIngress => 46,
            Self::TcxEgress => 47,
        }
    }
}

/// One instruction: code, destination and source register, offset, immediate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct Instruction {
    code: u8,
    registers: u8,
    offset: i16,
    immediate: i32,
}

impl Instruction {
    /// An instruction of any kind; the codes are those of the kernel's instruction-set document.
    pub const fn new(code: u8, dst: u8, src: u8, offset: i16, immediate: i32) -> Self {
        Self {
            code,
            registers: src << 4 | dst,
            offset,
            immediate,
        }
    }
}

/// The program that returns a number and does nothing else.
pub const fn constant(result: i32) -> [Instruction; 2] {
    [
        Instruction::new(0xb7, 0, 0, 0, result),
        Instruction::new(0x95, 0, 0, 0, 0),
    ]
}

/// XDP program that passes every frame on.
pub const XDP_PASS: [Instruction; 2] = constant(2);
/// XDP program that drops every frame.
pub const XDP_DROP: [Instruction; 2] = constant(1);

/// Traffic-control program that takes the VLAN tag off.
pub const POP_TAG: [Instruction; 3] = tagging(
    // bpf_skb_vlan_pop
    Instruction::new(0x85, 0, 0, 0, 19),
);

/// Traffic-control program that tags a frame for a VLAN.
pub fn push_tag(vlan: u16) -> Vec<Instruction> {
    let moved = |register, value| Instruction::new(0xb7, register, 0, 0, value);
    let [call, end @ ..] = tagging(
        // bpf_skb_vlan_push
        Instruction::new(0x85, 0, 0, 0, 18),
    );
    // The protocol is in network byte order, the number in the host's.
    let protocol = i32::from(0x8100_u16.to_be());
    let mut program = vec![moved(2, protocol), moved(3, i32::from(vlan)), call];
    program.extend(end);
    program
}

/// A call, and whatever it says the frame goes on.
const fn tagging(call: Instruction) -> [Instruction; 3] {
    let [zero, exit] = constant(0);
    [call, zero, exit]
}

/// An attached program; dropping it detaches it.
#[derive(Debug)]
pub struct Attached {
    _link: OwnedFd,
}

impl Lab {
    /// Attaches a program to an interface of a node.
    pub fn attach(
        &self,
        role: Role,
        interface: &str,
        hook: Hook,
        program: &[Instruction],
    ) -> Result<Attached> {
        self.run_in(role, || attach(interface, hook, program))?
    }
}

#[repr(C)]
struct LoadAttributes {
    program_type: u32,
    count: u32,
    instructions: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log: u64,
    kernel_version: u32,
    flags: u32,
    name: [u8; 16],
    interface: u32,
    expected_attach_type: u32,
}

#[repr(C)]
struct LinkAttributes {
    program: u32,
    interface: u32,
    attach_type: u32,
    flags: u32,
    // The kernel reads what is specific to the link type from here; zeroes are the defaults.
    more: [u64; 6],
}

#[repr(C)]
struct AttachAttributes {
    interface: u32,
    program: u32,
    attach_type: u32,
    flags: u32,
    replaced: u32,
    relative: u32,
    revision: u64,
}

/// Attaches a traffic-control program in the calling thread's namespace for as long as the interface
/// lives: links would need a process to hold them.
pub(crate) fn attach_traffic_control(
    interface: &str,
    hook: Hook,
    program: &[Instruction],
) -> Result<()> {
    let what = format!("cannot attach a BPF program to {interface}");
    let interface = index_of(interface)?;
    let loaded = load(hook, program)?;
    let attach = AttachAttributes {
        interface,
        program: loaded.as_raw_fd().cast_unsigned(),
        attach_type: hook.attach_type(),
        flags: 0,
        replaced: 0,
        relative: 0,
        revision: 0,
    };
    call(PROG_ATTACH, &attach)
        .map(drop)
        .map_err(LabError::io(what))
}

/// Loads a program and attaches it in the calling thread's namespace.
fn attach(interface: &str, hook: Hook, program: &[Instruction]) -> Result<Attached> {
    let what = format!("cannot attach a BPF program to {interface}");
    let interface = index_of(interface)?;
    let loaded = load(hook, program)?;
    let link = LinkAttributes {
        program: loaded.as_raw_fd().cast_unsigned(),
        interface,
        attach_type: hook.attach_type(),
        flags: if hook == Hook::Xdp { XDP_DRIVER } else { 0 },
        more: [0; 6],
    };
    // The link keeps the program.
    let link = bpf(LINK_CREATE, &link).map_err(LabError::io(what))?;
    Ok(Attached { _link: link })
}

/// Attaches a native XDP program in the calling thread's namespace for as long as the interface
/// lives, by netlink: links would need a process to hold them.
pub(crate) fn attach_for_good(interface: &str, program: &[Instruction]) -> Result<()> {
    let what = || format!("cannot attach an XDP program to {interface}");
    let loaded = load(Hook::Xdp, program)?;
    let request = set_xdp_request(index_of(interface)?, loaded.as_raw_fd());
    let socket = raw_socket(libc::AF_NETLINK, libc::NETLINK_ROUTE).map_err(LabError::io(what()))?;
    let mut answer = [0_u8; 1024];
    // SAFETY: both buffers are live and have the lengths given.
    let length = unsafe {
        let sent = libc::send(
            socket.as_raw_fd(),
            request.as_ptr().cast(),
            request.len(),
            0,
        );
        if sent < 0 {
            -1
        } else {
            libc::recv(
                socket.as_raw_fd(),
                answer.as_mut_ptr().cast(),
                answer.len(),
                0,
            )
        }
    };
    if length < 20 {
        return Err(LabError::io(what())(io::Error::last_os_error()));
    }
    // An acknowledgement is an error message with code 0, behind the header of 16 bytes.
    let code = i32::from_ne_bytes([answer[16], answer[17], answer[18], answer[19]]);
    match code {
        0 => Ok(()),
        code => Err(LabError::io(what())(io::Error::from_raw_os_error(-code))),
    }
}

/// `RTM_SETLINK` with `IFLA_XDP { FD, FLAGS }`, acknowledged.
fn set_xdp_request(interface: u32, program: i32) -> Vec<u8> {
    const IFLA_XDP: u16 = 43;
    const IFLA_XDP_FD: u16 = 1;
    const IFLA_XDP_FLAGS: u16 = 3;
    let attribute = |kind: u16, value: [u8; 4]| {
        [&8_u16.to_ne_bytes()[..], &kind.to_ne_bytes(), &value].concat()
    };
    let nested = [
        attribute(IFLA_XDP_FD, program.to_ne_bytes()),
        attribute(IFLA_XDP_FLAGS, XDP_DRIVER.to_ne_bytes()),
    ]
    .concat();
    let flags = (libc::NLM_F_REQUEST | libc::NLM_F_ACK) as u16;
    let length = 16 + 16 + 4 + nested.len();
    let mut request = Vec::with_capacity(length);
    request.extend((length as u32).to_ne_bytes());
    request.extend(libc::RTM_SETLINK.to_ne_bytes());
    request.extend(flags.to_ne_bytes());
    // Sequence number and port.
    request.extend([0; 8]);
    // Family, padding, device type; index; flags and which of them to change.
    request.extend([0; 4]);
    request.extend(interface.to_ne_bytes());
    request.extend([0; 8]);
    request.extend((4 + nested.len() as u16).to_ne_bytes());
    request.extend((IFLA_XDP | libc::NLA_F_NESTED as u16).to_ne_bytes());
    request.extend(nested);
    request
}

fn index_of(interface: &str) -> Result<u32> {
    if_nametoindex(interface).map_err(|errno| LabError::Io {
        what: format!("no interface {interface}"),
        source: errno.into(),
    })
}

fn load(hook: Hook, program: &[Instruction]) -> Result<OwnedFd> {
    let license = c"Dual MIT/GPL";
    let mut log = vec![0_u8; 64 * 1024];
    let load = LoadAttributes {
        program_type: hook.program_type(),
        count: program.len() as u32,
        instructions: program.as_ptr().expose_provenance() as u64,
        license: license.as_ptr().expose_provenance() as u64,
        log_level: 1,
        log_size: log.len() as u32,
        log: log.as_mut_ptr().expose_provenance() as u64,
        kernel_version: 0,
        flags: 0,
        name: *b"pointsman_lab\0\0\0",
        interface: 0,
        // Plain XDP programs are loaded without; those attached by netlink must be.
        expected_attach_type: if hook == Hook::Xdp {
            0
        } else {
            hook.attach_type()
        },
    };
    bpf(PROG_LOAD, &load).map_err(|source| {
        let log = String::from_utf8_lossy(&log);
        let log = log.trim_end_matches('\0');
        LabError::Kernel {
            what: "cannot load a BPF program".to_owned(),
            message: format!("{source}\n{log}"),
        }
    })
}

fn bpf<T>(command: libc::c_int, attributes: &T) -> io::Result<OwnedFd> {
    let fd = call(command, attributes)?;
    // SAFETY: loading and linking return a new descriptor, which is nobody else's.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn call<T>(command: libc::c_int, attributes: &T) -> io::Result<i32> {
    // SAFETY: the kernel reads as many bytes as the attributes have, and the pointers in them are
    // to live buffers with the lengths given beside them.
    let answer = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            command,
            &raw const *attributes,
            mem::size_of::<T>(),
        )
    };
    if answer < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(answer as i32)
}

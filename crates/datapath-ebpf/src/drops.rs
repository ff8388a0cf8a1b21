//! The doctor's witness: packets of one address that any part of the kernel drops.
//!
//! On raw tracepoints, which all network namespaces share: `kfree_skb`; those of frames that XDP programs
//! send and devices do not take; and, where that is wanted, of packets that come in and go out. The
//! kernel's structures are read at offsets that the loader finds in the kernel's own type information.
#![cfg_attr(target_arch = "bpf", no_std, no_main)]

#[cfg(not(target_arch = "bpf"))]
fn main() {}

#[cfg(target_arch = "bpf")]
mod witness {
    use core::ffi::c_void;

    use aya_ebpf::{
        Global, btf_maps::RingBuf, helpers::generated::bpf_probe_read_kernel, macros::btf_map,
    };

    /// Bytes of a packet that are told, from its network header on.
    pub const BYTES: usize = 80;

    /// Where members lie in the kernel's structures, bytes.
    #[derive(Clone, Copy)]
    #[repr(C)]
    pub struct Layout {
        /// `sk_buff.head`.
        head: u32,
        /// `sk_buff.network_header`.
        network_header: u32,
        /// `sk_buff.protocol`.
        protocol: u32,
        /// `sk_buff.len`.
        length: u32,
        /// `sk_buff.dev`.
        device: u32,
        /// `net_device.ifindex`.
        ifindex: u32,
        /// `net_device.name`.
        name: u32,
        /// `net_device.nd_net`.
        net: u32,
        /// `net.ns.inum`.
        inode: u32,
        /// Unused.
        pad: u32,
    }

    /// The kernel let a packet go.
    const DROPPED: u16 = 0;
    /// A device did not take frames that an XDP program sent back (`XDP_TX`).
    const SENT_BACK: u16 = 1;
    /// A device did not take frames that an XDP program redirected to it.
    const REDIRECTED: u16 = 2;
    /// A packet came in.
    const RECEIVED: u16 = 3;
    /// A packet was given to a device.
    const QUEUED: u16 = 4;

    /// A packet that was dropped, or seen on its way.
    #[repr(C)]
    pub struct Drop {
        /// Nanoseconds since the machine started.
        time: u64,
        /// Where in the kernel.
        location: u64,
        /// Inode of the network namespace of its device, 0 if it has none.
        netns: u32,
        /// Number of its device.
        ifindex: u32,
        /// `enum skb_drop_reason`.
        reason: u32,
        /// Its length, bytes.
        length: u32,
        /// EtherType, network order.
        protocol: u16,
        /// What happened: one of the constants below.
        kind: u16,
        /// Errno, negative, of frames that a device did not take.
        error: i32,
        /// Name of its device.
        name: [u8; 16],
        /// Its first bytes: of dropped packets from the network header on, of others with 14 bytes of
        /// the link layer before it, whatever they are where a device has none.
        bytes: [u8; BYTES],
    }

    /// Set by the loader.
    #[unsafe(no_mangle)]
    pub static LAYOUT: Global<Layout> = Global::new(Layout {
        head: 0,
        network_header: 0,
        protocol: 0,
        length: 0,
        device: 0,
        ifindex: 0,
        name: 0,
        net: 0,
        inode: 0,
        pad: 0,
    });
    /// Where `sk_buff.sk` and `sock_common.skc_net` lie, bytes; 0 if that is not known.
    #[unsafe(no_mangle)]
    pub static SOCKET: Global<[u32; 2]> = Global::new([0; 2]);
    /// The address that is asked about, as it lies in packets; IPv4 has the first word alone.
    #[unsafe(no_mangle)]
    pub static ADDRESS: Global<[u32; 4]> = Global::new([0; 4]);
    /// 1 when the address is IPv6.
    #[unsafe(no_mangle)]
    pub static IPV6: Global<u32> = Global::new(0);

    /// What was seen.
    #[btf_map]
    pub static DROPS: RingBuf<Drop, { 1 << 20 }> = RingBuf::new();

    const IPV4: u16 = 0x0800u16.to_be();
    const ARP: u16 = 0x0806u16.to_be();
    const IPV6_TYPE: u16 = 0x86ddu16.to_be();

    /// Reads `T` at `at`; zeros where nothing can be read.
    #[inline(always)]
    fn read<T: Copy>(at: u64, zero: T) -> T {
        let mut value = zero;
        // SAFETY: the helper writes as many bytes as `T` has, or zeros, to a place of ours.
        unsafe {
            bpf_probe_read_kernel(
                (&raw mut value).cast(),
                size_of::<T>() as u32,
                at as *const c_void,
            )
        };
        value
    }

    /// True when the packet is from or to the address, or asks or tells of it by ARP.
    #[inline(always)]
    fn is_asked_about(network: u64, protocol: u16) -> bool {
        let wanted = ADDRESS.load();
        if IPV6.load() != 0 {
            if protocol != IPV6_TYPE {
                return false;
            }
            let pair: [u32; 8] = read(network + 8, [0; 8]);
            return pair[..4] == wanted || pair[4..] == wanted;
        }
        let (first, second): (u64, u64) = if protocol == IPV4 {
            (12, 16)
        } else if protocol == ARP {
            (14, 24)
        } else {
            return false;
        };
        read(network + first, 0u32) == wanted[0] || read(network + second, 0u32) == wanted[0]
    }

    /// Tells of a dropped packet.
    #[unsafe(no_mangle)]
    #[unsafe(link_section = "raw_tp/kfree_skb")]
    pub extern "C" fn dropped(context: *mut c_void) -> i32 {
        // SAFETY: the tracepoint has three arguments at least since kernel 5.17.
        let (skb, location, reason) = unsafe {
            let arguments = context.cast::<u64>();
            (*arguments, *arguments.add(1), *arguments.add(2))
        };
        packet(skb, DROPPED, location, reason as u32);
        0
    }

    /// Tells of a packet that a device received.
    #[unsafe(no_mangle)]
    #[unsafe(link_section = "raw_tp/netif_receive_skb")]
    pub extern "C" fn received(context: *mut c_void) -> i32 {
        // SAFETY: the tracepoint's one argument is the packet.
        packet(unsafe { *context.cast::<u64>() }, RECEIVED, 0, 0);
        0
    }

    /// Tells of a packet that is given to a device.
    #[unsafe(no_mangle)]
    #[unsafe(link_section = "raw_tp/net_dev_queue")]
    pub extern "C" fn queued(context: *mut c_void) -> i32 {
        // SAFETY: the tracepoint's one argument is the packet.
        packet(unsafe { *context.cast::<u64>() }, QUEUED, 0, 0);
        0
    }

    /// Tells of frames that a program sent back by a device, and that it did not take.
    #[unsafe(no_mangle)]
    #[unsafe(link_section = "raw_tp/xdp_bulk_tx")]
    pub extern "C" fn sent_back(context: *mut c_void) -> i32 {
        // SAFETY: the tracepoint's arguments are device, frames sent, frames lost, errno.
        let (device, lost, error) = unsafe {
            let arguments = context.cast::<u64>();
            (*arguments, *arguments.add(2), *arguments.add(3))
        };
        frames(device, SENT_BACK, lost as u32, error as i32);
        0
    }

    /// Tells of frames that a program redirected to a device, and that it did not take.
    #[unsafe(no_mangle)]
    #[unsafe(link_section = "raw_tp/xdp_devmap_xmit")]
    pub extern "C" fn redirected(context: *mut c_void) -> i32 {
        // SAFETY: the tracepoint's arguments are both devices, frames sent, frames lost, errno.
        let (device, lost, error) = unsafe {
            let arguments = context.cast::<u64>();
            (*arguments.add(1), *arguments.add(3), *arguments.add(4))
        };
        frames(device, REDIRECTED, lost as u32, error as i32);
        0
    }

    /// Tells of frames of unknown content that were lost at a device.
    #[inline(always)]
    fn frames(device: u64, kind: u16, lost: u32, error: i32) {
        if lost == 0 {
            return;
        }
        let layout = LAYOUT.load();
        let net = read(device + layout.net as u64, 0u64);
        let Some(mut entry) = DROPS.reserve(0) else {
            return;
        };
        let drop: *mut Drop = entry.as_mut_ptr();
        // SAFETY: the entry is ours until submitted and as large as the record; every member is written.
        unsafe {
            (*drop).time = aya_ebpf::helpers::generated::bpf_ktime_get_ns();
            (*drop).location = 0;
            (*drop).netns = read(net + layout.inode as u64, 0u32);
            (*drop).ifindex = read(device + layout.ifindex as u64, 0u32);
            (*drop).reason = 0;
            (*drop).length = lost;
            (*drop).protocol = 0;
            (*drop).kind = kind;
            (*drop).error = error;
            bpf_probe_read_kernel(
                (&raw mut (*drop).name).cast(),
                16,
                (device + layout.name as u64) as *const c_void,
            );
            (*drop).bytes = [0; BYTES];
        }
        entry.submit(0);
    }

    /// Tells of a packet, if it is about the address.
    #[inline(always)]
    fn packet(skb: u64, kind: u16, location: u64, reason: u32) {
        let layout = LAYOUT.load();
        let protocol = read(skb + layout.protocol as u64, 0u16);
        let head = read(skb + layout.head as u64, 0u64);
        let network = head + read(skb + layout.network_header as u64, 0u16) as u64;
        if !is_asked_about(network, protocol) {
            return;
        }
        let device = read(skb + layout.device as u64, 0u64);
        let start = if kind == DROPPED {
            network
        } else {
            network - 14
        };
        // What a host sends itself has no device yet, but a socket.
        let net = if device != 0 {
            read(device + layout.net as u64, 0u64)
        } else {
            let [member, net] = SOCKET.load();
            if member == 0 {
                0
            } else {
                let socket = read(skb + member as u64, 0u64);
                read(socket + net as u64, 0u64)
            }
        };
        let Some(mut entry) = DROPS.reserve(0) else {
            return;
        };
        let drop: *mut Drop = entry.as_mut_ptr();
        // SAFETY: the entry is ours until submitted and as large as the record; every member is written.
        unsafe {
            (*drop).time = aya_ebpf::helpers::generated::bpf_ktime_get_ns();
            (*drop).location = location;
            (*drop).netns = read(net + layout.inode as u64, 0u32);
            (*drop).ifindex = read(device + layout.ifindex as u64, 0u32);
            (*drop).reason = reason;
            (*drop).length = read(skb + layout.length as u64, 0u32);
            (*drop).protocol = protocol;
            (*drop).kind = kind;
            (*drop).error = 0;
            bpf_probe_read_kernel(
                (&raw mut (*drop).name).cast(),
                16,
                (device + layout.name as u64) as *const c_void,
            );
            bpf_probe_read_kernel(
                (&raw mut (*drop).bytes).cast(),
                BYTES as u32,
                start as *const c_void,
            );
        }
        entry.submit(0);
    }
}

#[cfg(target_arch = "bpf")]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    // Nothing calls this: the verifier refuses a program in which anything could.
    loop {}
}

#[cfg(target_arch = "bpf")]
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

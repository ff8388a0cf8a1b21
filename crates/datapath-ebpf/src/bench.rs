//! The director on one frame again and again: what `cargo xtask bench` times.
//!
//! `BPF_PROG_TEST_RUN` hands the next iteration what the last one left of the frame. So the program
//! puts the frame back itself, and first gives it the client address of its turn.
#![cfg_attr(
    target_arch = "bpf",
    no_std,
    no_main,
    allow(internal_features),
    feature(asm_experimental_arch, core_intrinsics)
)]

#[cfg(target_arch = "bpf")]
mod env;
#[cfg(target_arch = "bpf")]
#[allow(dead_code)]
mod event;
#[cfg(target_arch = "bpf")]
#[allow(dead_code)]
mod maps;
#[cfg(target_arch = "bpf")]
mod packet;
#[cfg(target_arch = "bpf")]
mod seldom;
#[cfg(target_arch = "bpf")]
mod sweep;
#[cfg(target_arch = "bpf")]
mod tables;
#[cfg(target_arch = "bpf")]
mod xdp;

#[cfg(not(target_arch = "bpf"))]
fn main() {}

#[cfg(target_arch = "bpf")]
mod turn {
    use aya_ebpf::{
        bindings::xdp_action,
        btf_maps::Array,
        helpers::generated::bpf_xdp_adjust_head,
        macros::{btf_map, xdp},
        programs::XdpContext,
    };
    use pointsman_director::{Reason, process, tables::Frame};
    use pointsman_wire::Be32;

    use crate::{env::Kernel, maps::SCRATCH, tables::Maps, xdp::XdpFrame};

    /// The bench's own state, shared with its driver.
    #[repr(C)]
    pub struct Bench {
        /// Turns taken.
        turn: u64,
        /// Which of the turn's bits make the client address.
        mask: u32,
        /// Where the client address (its last word) lies in the frame, 0 to leave it.
        field: u32,
        /// Bytes that a tunnel puts in front.
        outer: u32,
        /// Reason of the last verdict.
        reason: u32,
        /// The frame's first bytes.
        header: [u64; 8],
    }

    #[btf_map]
    static BENCH: Array<Bench, 1> = Array::new();

    /// Nothing: what a test run costs by itself.
    #[xdp(frags)]
    #[inline(always)]
    pub fn bench_noop(_context: XdpContext) -> u32 {
        xdp_action::XDP_PASS
    }

    /// Prepares and restores the frame without processing it.
    #[xdp(frags)]
    #[inline(always)]
    pub fn bench_restore(context: XdpContext) -> u32 {
        turn(context, false)
    }

    /// Processes the frame and restores it.
    #[xdp(frags)]
    #[inline(always)]
    pub fn bench_director(context: XdpContext) -> u32 {
        turn(context, true)
    }

    #[inline(always)]
    fn turn(context: XdpContext, run: bool) -> u32 {
        let (Some(bench), Some(scratch)) = (BENCH.get_ptr_mut(0), SCRATCH.get_ptr_mut(0)) else {
            return xdp_action::XDP_ABORTED;
        };
        // SAFETY: the driver runs one program at a time.
        let (bench, scratch) = unsafe { (&mut *bench, &mut *scratch) };
        let mut frame = XdpFrame::new(&context);
        let flow = bench.turn as u32 & bench.mask;
        bench.turn += 1;
        if bench.field != 0
            && let Some(client) = frame.view_mut::<Be32>(bench.field)
        {
            // Neighbouring flows must not lie in neighbouring buckets only because of their order.
            client.set_raw(10u32.to_be() | flow.wrapping_mul(0x9e37_79b1) << 8);
        }
        // A tunnel's header is taken off again. Without a director the room for it is opened here, so
        // that half of what that costs can be told apart.
        let mut encapsulated = bench.outer != 0;
        if run {
            let env = Kernel {
                context: context.ctx.cast(),
            };
            let verdict = process(&mut frame, &Maps, &env, scratch);
            bench.reason = verdict.reason as u32;
            encapsulated = verdict.reason == Reason::Tunnel;
        }
        if encapsulated {
            // SAFETY: the context is the program's own.
            unsafe {
                if !run {
                    bpf_xdp_adjust_head(context.ctx, -(bench.outer as i32));
                }
                bpf_xdp_adjust_head(context.ctx, bench.outer as i32);
            }
        }
        if let Some(header) = frame.view_mut::<[u8; 64]>(0) {
            // SAFETY: 64 checked bytes; the packet's alignment does not matter to the kernel.
            unsafe { *header.as_mut_ptr().cast::<[u64; 8]>() = bench.header };
        }
        xdp_action::XDP_PASS
    }
}

#[cfg(target_arch = "bpf")]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

#[cfg(target_arch = "bpf")]
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

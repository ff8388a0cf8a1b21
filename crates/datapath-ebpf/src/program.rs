//! The entry points.

use core::ffi::c_void;

use aya_ebpf::{
    bindings::{__sk_buff, xdp_action},
    helpers::generated::{bpf_redirect, bpf_redirect_neigh},
    macros::{classifier, xdp},
    programs::{TcContext, XdpContext},
};
use pointsman_director::{Action, Verdict, process, tables::Frame};

use crate::{
    env::Kernel,
    event::{self, FromSkb, FromXdp},
    maps::SCRATCH,
    recording,
    skb::SkbFrame,
    tables::Maps,
    xdp::XdpFrame,
};

const TCX_NEXT: i32 = -1;
const TC_ACT_SHOT: i32 = 2;

/// The director under XDP.
#[xdp(frags)]
#[inline(always)]
pub fn director_xdp(context: XdpContext) -> u32 {
    let Some(scratch) = SCRATCH.get_ptr_mut(0) else {
        return xdp_action::XDP_PASS;
    };
    // SAFETY: this processor's own copy; programs are not preempted by one another.
    let scratch = unsafe { &mut *scratch };
    let raw: *mut c_void = context.ctx.cast();
    if recording::is_on() {
        // SAFETY: the program's own context.
        unsafe { recording::xdp_came(context.ctx) };
    }
    let env = Kernel { context: raw };
    let mut frame = XdpFrame::new(&context);
    let ingress = frame.ifindex();
    let verdict = process(&mut frame, &Maps, &env, scratch);
    if recording::is_on() {
        // SAFETY: the program's own context.
        unsafe { recording::xdp_goes(context.ctx, verdict.ifindex, recording::why(verdict)) };
    }
    // Only what is forwarded names a device, and that is nearly all there is.
    if verdict.ifindex == ingress {
        return xdp_action::XDP_TX;
    }
    if verdict.ifindex != 0 {
        // SAFETY: no pointers.
        return unsafe { bpf_redirect(verdict.ifindex, 0) as u32 };
    }
    if verdict.reason.needs_daemon() {
        event::emit::<FromXdp>(raw, frame.length(), ingress, scratch, verdict);
    }
    match verdict.action() {
        Action::Drop => xdp_action::XDP_DROP,
        Action::Pass | Action::Forward => xdp_action::XDP_PASS,
    }
}

/// The director under tcx, or clsact on kernels before 6.6.
#[classifier]
#[inline(always)]
pub fn director_tcx(context: TcContext) -> i32 {
    let Some(scratch) = SCRATCH.get_ptr_mut(0) else {
        return TCX_NEXT;
    };
    // SAFETY: this processor's own copy; programs are not preempted by one another.
    let scratch = unsafe { &mut *scratch };
    let skb: *mut __sk_buff = context.skb.skb;
    if recording::is_on() {
        // SAFETY: the program's own context.
        unsafe { recording::tcx_came(skb) };
    }
    let env = Kernel {
        context: skb.cast(),
    };
    let mut frame = SkbFrame::new(skb);
    let ingress = frame.ifindex();
    let verdict = process(&mut frame, &Maps, &env, scratch);
    if recording::is_on() {
        // SAFETY: the program's own context.
        unsafe { recording::tcx_goes(skb, verdict.ifindex, recording::why(verdict)) };
    }
    if verdict.ifindex != 0 {
        if verdict.unresolved != 0 {
            return resolve(&verdict, scratch);
        }
        // SAFETY: no pointers.
        return unsafe { bpf_redirect(verdict.ifindex, 0) as i32 };
    }
    if verdict.reason.needs_daemon() {
        event::emit::<FromSkb>(skb.cast(), frame.length(), ingress, scratch, verdict);
    }
    match verdict.action() {
        Action::Drop => TC_ACT_SHOT,
        Action::Pass | Action::Forward => TCX_NEXT,
    }
}

/// `struct bpf_redir_neigh` of `<linux/bpf.h>`.
#[repr(C)]
struct Neighbour {
    family: u32,
    address: [u32; 4],
}

/// Lets the kernel find the link-layer address of the next hop, and send.
#[inline(always)]
fn resolve(verdict: &Verdict, scratch: &pointsman_director::Scratch) -> i32 {
    let family = if scratch.gateway_ipv6 != 0 { 10 } else { 2 };
    let mut neighbour = Neighbour {
        family,
        address: scratch.gateway,
    };
    // SAFETY: the parameters live across the call and have the size given.
    unsafe {
        bpf_redirect_neigh(
            verdict.ifindex,
            (&raw mut neighbour).cast(),
            size_of::<Neighbour>() as i32,
            0,
        ) as i32
    }
}

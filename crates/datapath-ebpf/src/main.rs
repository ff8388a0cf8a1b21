//! The programs: map definitions and three thin `impl`s around the director.
//!
//! Built for `bpfel-unknown-none` by the build script of `pointsman-datapath`; on the host this is
//! an empty program, so that the whole workspace can be checked at once.
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
mod event;
#[cfg(target_arch = "bpf")]
mod maps;
#[cfg(target_arch = "bpf")]
mod packet;
#[cfg(target_arch = "bpf")]
mod program;
#[cfg(target_arch = "bpf")]
mod recording;
#[cfg(target_arch = "bpf")]
mod seldom;
#[cfg(target_arch = "bpf")]
mod skb;
#[cfg(target_arch = "bpf")]
mod sweep;
#[cfg(target_arch = "bpf")]
mod tables;
#[cfg(target_arch = "bpf")]
mod xdp;

#[cfg(not(target_arch = "bpf"))]
fn main() {}

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

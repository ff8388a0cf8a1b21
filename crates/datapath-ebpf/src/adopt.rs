//! Takes connections of another director into the tables: run by the daemon through
//! `BPF_PROG_TEST_RUN`, once for each.
//!
//! An object of its own, loaded when the first backup sync daemon starts, so that the director's
//! programs are what they are without it. It works on their pinned maps.
#![cfg_attr(
    target_arch = "bpf",
    no_std,
    no_main,
    allow(internal_features),
    feature(asm_experimental_arch, core_intrinsics)
)]

#[cfg(target_arch = "bpf")]
#[allow(dead_code)]
mod env;
#[cfg(target_arch = "bpf")]
#[allow(dead_code)]
mod event;
#[cfg(target_arch = "bpf")]
#[allow(dead_code)]
mod maps;
#[cfg(target_arch = "bpf")]
#[allow(dead_code)]
mod seldom;
#[cfg(target_arch = "bpf")]
#[allow(dead_code)]
mod tables;

#[cfg(not(target_arch = "bpf"))]
fn main() {}

#[cfg(target_arch = "bpf")]
mod told {
    use core::{ffi::c_void, ptr};

    use aya_ebpf::{btf_maps::PerCpuArray, macros::btf_map};
    use pointsman_director::{
        adopt::{self, Adoption},
        record::{ConnectionRecord, FlowKey},
    };

    use crate::{env::Kernel, tables::Maps};

    /// One connection's working state: the stack is short.
    #[btf_map]
    static ADOPTION: PerCpuArray<Adoption, 1> = PerCpuArray::new();

    /// Words of a key and of a record.
    const WORDS: usize = size_of::<FlowKey>() / 8;

    const _: () = assert!(size_of::<FlowKey>() == 40 && size_of::<ConnectionRecord>() == 40);

    /// Takes the connection that its ten arguments are: a key, then a record. Returns what became of
    /// it, one of [`adopt::Adopted`], or 0.
    #[unsafe(no_mangle)]
    #[unsafe(link_section = "raw_tp")]
    pub extern "C" fn adopt(context: *mut c_void) -> i32 {
        let Some(room) = ADOPTION.get_ptr_mut(0) else {
            return 0;
        };
        let env = Kernel {
            context: ptr::null_mut(),
        };
        // SAFETY: this processor's own copy, and the daemon runs one at a time; it gives ten
        // arguments. Map values are aligned to 8 bytes, and so are both records' sizes.
        let room = unsafe {
            let arguments = context.cast::<u64>();
            let key = (&raw mut (*room).key).cast::<u64>();
            let record = (&raw mut (*room).record).cast::<u64>();
            key.write(arguments.read_volatile());
            key.add(1).write(arguments.add(1).read_volatile());
            key.add(2).write(arguments.add(2).read_volatile());
            key.add(3).write(arguments.add(3).read_volatile());
            key.add(4).write(arguments.add(4).read_volatile());
            record.write(arguments.add(WORDS).read_volatile());
            record
                .add(1)
                .write(arguments.add(WORDS + 1).read_volatile());
            record
                .add(2)
                .write(arguments.add(WORDS + 2).read_volatile());
            record
                .add(3)
                .write(arguments.add(WORDS + 3).read_volatile());
            record
                .add(4)
                .write(arguments.add(WORDS + 4).read_volatile());
            &mut *room
        };
        adopt::adopt(&Maps, &env, room) as i32
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

//! Time, chance, routes and loops, by kernel helpers.

use core::ffi::c_void;

use aya_ebpf::helpers::generated::{bpf_fib_lookup, bpf_get_prandom_u32, bpf_jiffies64, bpf_loop};
use pointsman_director::{
    Scratch,
    record::{Address, ConnectionRecord, FlowKey, NextHop, ServiceRecord, hop_flag},
    tables::{Env, Tables},
};
use pointsman_wire::Mac;

use crate::{
    maps::{FIB, TEST, TESTING, TICK, ZERO},
    seldom::{assure, checksum_change, choose, mark, retire, schedule},
};

const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;

/// The kernel around a program; `context` is the program's own.
pub struct Kernel {
    pub context: *mut c_void,
}

/// `struct bpf_fib_lookup` of `<linux/bpf.h>`, unions flattened.
#[repr(C)]
pub struct FibLookup {
    family: u8,
    protocol: u8,
    source_port: u16,
    destination_port: u16,
    /// In: bytes of the packet; out: MTU of the route.
    length: u16,
    ifindex: u32,
    class: u32,
    source: [u32; 4],
    destination: [u32; 4],
    vlan: [u16; 2],
    source_mac: [u8; 6],
    destination_mac: [u8; 6],
}

unsafe extern "C" fn call<F: FnMut(u32) -> bool>(index: u32, body: *mut c_void) -> i64 {
    // SAFETY: `repeat` passes its own closure, exclusively borrowed for the loop.
    let body = unsafe { &mut *body.cast::<F>() };
    if body(index) { 0 } else { 1 }
}

impl Env for Kernel {
    #[inline(always)]
    fn now(&self) -> u64 {
        if TESTING.load() != 0 {
            return TEST.get(0).copied().unwrap_or(0);
        }
        // The kernel replaces this call by a load; the coarse clock costs a function call. Both
        // move once a tick.
        // SAFETY: no arguments.
        unsafe { bpf_jiffies64() * TICK.load() }
    }

    #[inline(always)]
    fn random(&self) -> u32 {
        if TESTING.load() != 0 {
            return TEST.get(1).copied().unwrap_or(0) as u32;
        }
        // SAFETY: no arguments.
        unsafe { bpf_get_prandom_u32() }
    }

    #[inline(always)]
    fn route(
        &self,
        ipv6: bool,
        source: &Address,
        destination: &Address,
        ifindex: u32,
        hop: &mut NextHop,
    ) -> bool {
        // The stack is short, and routes are asked for seldom.
        let Some(fib) = FIB.get_ptr_mut(0) else {
            return false;
        };
        // SAFETY: this processor's own copy; programs are not preempted by one another.
        let fib = unsafe { &mut *fib };
        fib.family = if ipv6 { AF_INET6 } else { AF_INET };
        fib.protocol = 0;
        fib.source_port = 0;
        fib.destination_port = 0;
        // Not 0: then the kernel also tells the MTU.
        fib.length = 1;
        fib.ifindex = ifindex;
        fib.class = 0;
        fib.source = *source;
        fib.destination = *destination;
        fib.vlan = [0; 2];
        // SAFETY: context and parameters are valid for the call, the size is theirs.
        let result = unsafe {
            bpf_fib_lookup(
                self.context,
                (&raw mut *fib).cast(),
                size_of::<FibLookup>() as i32,
                0,
            )
        };
        if result != 0 {
            return false;
        }
        *hop = NextHop {
            ifindex: fib.ifindex,
            mtu: fib.length as u32,
            destination: Mac(fib.destination_mac),
            source: Mac(fib.source_mac),
            vlan: 0,
            flags: hop_flag::RESOLVED,
        };
        true
    }

    #[inline(always)]
    fn repeat(&self, times: u32, body: impl FnMut(u32) -> bool) {
        #[inline(always)]
        fn run<F: FnMut(u32) -> bool>(times: u32, mut body: F) {
            // SAFETY: the callback has the signature that `bpf_loop` wants and gets the closure.
            unsafe {
                bpf_loop(times, call::<F> as *mut c_void, (&raw mut body).cast(), 0);
            }
        }
        run(times, body);
    }

    #[inline(always)]
    fn opaque(&self, value: u32) -> u32 {
        value ^ ZERO.load()
    }

    #[inline(always)]
    fn choose<T: Tables>(&self, _: &T, _: &mut Scratch, now: u64) -> u32 {
        choose(now)
    }

    #[inline(always)]
    fn mark<T: Tables>(&self, _: &T, s: &mut Scratch) -> u32 {
        mark(s.ingress)
    }

    #[inline(always)]
    fn schedule<T: Tables>(&self, _: &T, service: &ServiceRecord, _: &mut Scratch) -> u32 {
        // SAFETY: a function of this program, with what it asks for.
        unsafe { schedule(service) }
    }

    #[inline(always)]
    fn retire<T: Tables>(
        &self,
        _: &T,
        key: &FlowKey,
        connection: &ConnectionRecord,
        forced: bool,
    ) -> bool {
        // SAFETY: a function of this program, with what it asks for.
        unsafe { retire(key, connection, u32::from(forced)) != 0 }
    }

    #[inline(always)]
    fn checksum_change(&self, change: u32, length: u32) -> u32 {
        checksum_change(change, length)
    }

    #[inline(always)]
    fn assure<T: Tables>(&self, _: &T, key: &FlowKey, connection: &ConnectionRecord) {
        // SAFETY: as above.
        unsafe { assure(key, connection) };
    }
}

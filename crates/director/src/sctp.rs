//! SCTP as IPVS follows it (`net/netfilter/ipvs/ip_vs_proto_sctp.c`).

use pointsman_wire::sctp;

use crate::tcp::Direction;

/// What a packet's first chunk asks for.
pub mod event {
    /// Data, and what is no step of a handshake.
    pub const DATA: u8 = 0;
    /// Initiation.
    pub const INIT: u8 = 1;
    /// Initiation acknowledged.
    pub const INIT_ACK: u8 = 2;
    /// State cookie.
    pub const COOKIE_ECHO: u8 = 3;
    /// Cookie acknowledged.
    pub const COOKIE_ACK: u8 = 4;
    /// Shutdown.
    pub const SHUTDOWN: u8 = 5;
    /// Shutdown acknowledged.
    pub const SHUTDOWN_ACK: u8 = 6;
    /// Shutdown complete.
    pub const SHUTDOWN_COMPLETE: u8 = 7;
    /// Error.
    pub const ERROR: u8 = 8;
    /// Abort.
    pub const ABORT: u8 = 9;
}

/// The state without a packet, numbered as the kernel's `IP_VS_SCTP_S_*` like the others.
pub const NONE: u8 = 0;
/// The client sent an INIT.
pub const INIT1: u8 = 1;
/// It sent another one.
pub const INIT: u8 = 2;
/// The only state that counts as active.
pub const ESTABLISHED: u8 = 8;
/// The state in which an INIT begins anew.
pub const CLOSED: u8 = 13;

/// Names of the states as the kernel prints them.
pub const NAMES: [&str; 14] = [
    "NONE",
    "INIT1",
    "INIT",
    "C-SENT",
    "C-REPLIED",
    "C-WAIT",
    "COOKIE",
    "C-ECHOED",
    "ESTABLISHED",
    "S-SENT",
    "S-RECEIVED",
    "S-ACK-SENT",
    "REJECTED",
    "CLOSED",
];

/// Timeout of each state, seconds; two unused places make it a power of two.
static TIMEOUTS: [u32; 16] = [2, 4, 61, 61, 61, 61, 61, 61, 900, 61, 61, 61, 4, 61, 61, 61];

/// The event of a packet whose first chunk has this type.
#[inline(always)]
pub const fn event_of(chunk: u8) -> u8 {
    match chunk {
        sctp::INIT => event::INIT,
        sctp::INIT_ACK => event::INIT_ACK,
        sctp::ABORT => event::ABORT,
        sctp::SHUTDOWN => event::SHUTDOWN,
        sctp::SHUTDOWN_ACK => event::SHUTDOWN_ACK,
        sctp::ERROR => event::ERROR,
        sctp::COOKIE_ECHO => event::COOKIE_ECHO,
        sctp::COOKIE_ACK => event::COOKIE_ACK,
        sctp::SHUTDOWN_COMPLETE => event::SHUTDOWN_COMPLETE,
        _ => event::DATA,
    }
}

/// States by the bits of a set.
const fn set(states: &[u8]) -> u16 {
    let mut bits = 0;
    let mut at = 0;
    while at < states.len() {
        bits |= 1 << states[at];
        at += 1;
    }
    bits
}

const NO: u8 = NONE;
const I1: u8 = INIT1;
const IN: u8 = self::INIT;
const CS: u8 = 3;
const CR: u8 = 4;
const CW: u8 = 5;
const CO: u8 = 6;
const CE: u8 = 7;
const ES: u8 = ESTABLISHED;
const SS: u8 = 9;
const SR: u8 = 10;
const SA: u8 = 11;
const RJ: u8 = 12;
const CL: u8 = CLOSED;
const ALL: u16 = 0x3fff;

/// Which states an event of a direction leads where; in all others it leads nowhere.
const STEPS: [(Direction, u8, u16, u8); 39] = {
    use Direction::{Input, InputOnly, Output};
    use event::{
        ABORT, COOKIE_ACK, COOKIE_ECHO, DATA, ERROR, INIT, INIT_ACK, SHUTDOWN, SHUTDOWN_ACK,
        SHUTDOWN_COMPLETE,
    };
    [
        (Input, DATA, set(&[NO]), ES),
        (Input, INIT, set(&[NO]), I1),
        (Input, INIT, set(&[I1, RJ, CL]), IN),
        (Input, INIT_ACK, set(&[NO, I1, IN]), CW),
        (Input, INIT_ACK, set(&[CW]), CO),
        (Input, COOKIE_ECHO, set(&[NO, CS]), CR),
        (Input, COOKIE_ECHO, set(&[I1]), IN),
        (Input, COOKIE_ACK, set(&[NO, CE]), ES),
        (Input, SHUTDOWN, set(&[NO, ES]), SR),
        (Input, SHUTDOWN_ACK, set(&[NO, SS, SA]), CL),
        (Input, SHUTDOWN_ACK, set(&[I1]), IN),
        (Input, SHUTDOWN_COMPLETE, set(&[NO, I1, IN, SA]), CL),
        (Input, ERROR, set(&[NO, CE]), CL),
        (Input, ABORT, ALL & !set(&[CW]), CL),
        (Input, ABORT, set(&[CW]), RJ),
        (Output, DATA, set(&[NO]), ES),
        (Output, INIT, ALL & !set(&[ES]), CW),
        (Output, INIT_ACK, set(&[NO, I1, IN]), CS),
        (Output, COOKIE_ECHO, set(&[NO, I1, IN, CS, CR, CW, CO]), CE),
        (
            Output,
            COOKIE_ACK,
            set(&[NO, I1, IN, CS, CR, CW, CO, CE]),
            ES,
        ),
        (
            Output,
            SHUTDOWN,
            set(&[NO, I1, IN, CS, CR, CW, CO, CE, ES]),
            SS,
        ),
        (Output, SHUTDOWN_ACK, set(&[NO, I1, IN, CS, CR, SS, SR]), SA),
        (Output, SHUTDOWN_COMPLETE, set(&[NO]), CL),
        (Output, ERROR, set(&[NO, I1, IN, CS, CR]), CL),
        (Output, ABORT, ALL & !set(&[I1]), CL),
        (Output, ABORT, set(&[I1]), RJ),
        (InputOnly, DATA, set(&[NO, CW]), ES),
        (InputOnly, INIT, set(&[NO]), I1),
        (InputOnly, INIT, set(&[I1, CS, CR, CW, RJ, CL]), IN),
        (InputOnly, INIT_ACK, set(&[NO, I1, IN, CS, CR, CW]), CE),
        (InputOnly, COOKIE_ECHO, set(&[NO, I1, IN, CS, CR, CW]), ES),
        (InputOnly, COOKIE_ACK, set(&[NO, CS, CR, CO, CE]), ES),
        (InputOnly, SHUTDOWN, set(&[NO, ES]), SR),
        (InputOnly, SHUTDOWN_ACK, set(&[NO, ES, SS, SA]), CL),
        (InputOnly, SHUTDOWN_ACK, set(&[I1]), IN),
        (
            InputOnly,
            SHUTDOWN_COMPLETE,
            set(&[NO, I1, IN, CS, CR, SR, SA]),
            CL,
        ),
        (InputOnly, ERROR, set(&[NO]), CL),
        (InputOnly, ABORT, ALL & !set(&[CW]), CL),
        (InputOnly, ABORT, set(&[CW]), RJ),
    ]
};

/// Next state by direction (256 each), event (16 each) and state; flat and padded so that an index
/// can be masked instead of checked.
static NEXT: [u8; 1024] = {
    let mut next = [0; 1024];
    let mut at = 0;
    while at < next.len() {
        next[at] = (at & 15) as u8;
        at += 1;
    }
    let mut step = 0;
    while step < STEPS.len() {
        let (direction, event, from, to) = STEPS[step];
        let mut state = 0;
        while state < 14 {
            if from & (1 << state) != 0 {
                next[index(state, event, direction)] = to;
            }
            state += 1;
        }
        step += 1;
    }
    next
};

#[inline(always)]
const fn index(state: u8, event: u8, direction: Direction) -> usize {
    (((direction as usize) << 8) | (((event & 15) as usize) << 4) | (state & 15) as usize) & 1023
}

/// The state after `event`, one of [`event`].
#[inline(always)]
pub fn next(state: u8, event: u8, direction: Direction) -> u8 {
    NEXT[index(state, event, direction)]
}

/// The timeout of `state`, seconds.
#[inline(always)]
pub fn timeout(state: u8) -> u32 {
    TIMEOUTS[(state & 15) as usize]
}

/// CRC32c's polynomial, bits reversed.
const POLYNOMIAL: u32 = 0x82f6_3b78;

/// `value` times x, modulo the polynomial; bit 31 stands for 1.
#[inline(always)]
const fn doubled(value: u32) -> u32 {
    (value >> 1) ^ (POLYNOMIAL & (value & 1).wrapping_neg())
}

/// x to the power of 8, 16, 32, ... modulo the polynomial: what bytes of a length's binary digits
/// multiply a difference by.
static POWERS: [u32; 16] = {
    let mut powers = [0; 16];
    // x^8: eight bits down from 1.
    let mut power = 0x0080_0000;
    let mut at = 0;
    while at < 16 {
        powers[at] = power;
        // Its square.
        let mut product = 0;
        let mut factor = power;
        let mut bit = 0;
        while bit < 32 {
            if power & (0x8000_0000 >> bit) != 0 {
                product ^= factor;
            }
            factor = doubled(factor);
            bit += 1;
        }
        power = product;
        at += 1;
    }
    powers
};

/// What the CRC32c of a packet of `length` bytes changes by, by exclusive or, when its first four
/// bytes (as a little-endian word) change by `change`.
#[inline(always)]
pub fn checksum_change<E: crate::tables::Env>(env: &E, change: u32, length: u32) -> u32 {
    let mut value = env.opaque(0) ^ change;
    let mut product = env.opaque(0);
    let mut factor = env.opaque(0);
    // For each binary digit of the length, a multiplication of 32 steps.
    env.repeat(16 * 32, |step| {
        let digit = (step >> 5) & 15;
        if length & (1 << digit) == 0 {
            return true;
        }
        let bit = step & 31;
        if bit == 0 {
            product = 0;
            factor = POWERS[digit as usize];
        }
        if value & (0x8000_0000_u32 >> bit) != 0 {
            product ^= factor;
        }
        factor = doubled(factor);
        if bit == 31 {
            value = product;
        }
        true
    });
    value
}

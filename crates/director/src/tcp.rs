//! TCP as IPVS follows it (`net/netfilter/ipvs/ip_vs_proto_tcp.c`).

use pointsman_wire::tcp;

/// States, numbered as the kernel's `IP_VS_TCP_S_*`.
pub mod state {
    /// Nothing seen yet.
    pub const NONE: u8 = 0;
    /// Data may flow.
    pub const ESTABLISHED: u8 = 1;
    /// A SYN came from the real server.
    pub const SYN_SENT: u8 = 2;
    /// A SYN came from the client.
    pub const SYN_RECV: u8 = 3;
    /// One side is done; direct routing and tunnels end here.
    pub const FIN_WAIT: u8 = 4;
    /// Both sides are done.
    pub const TIME_WAIT: u8 = 5;
    /// Reset.
    pub const CLOSE: u8 = 6;
    /// The client is done.
    pub const CLOSE_WAIT: u8 = 7;
    /// The real server's FIN waits for its acknowledgement.
    pub const LAST_ACK: u8 = 8;
    /// Waiting for the other side to connect (FTP data).
    pub const LISTEN: u8 = 9;
    /// SYN answered, under attack.
    pub const SYNACK: u8 = 10;
}

/// Names of the states as the kernel prints them.
pub const NAMES: [&str; 11] = [
    "NONE",
    "ESTABLISHED",
    "SYN_SENT",
    "SYN_RECV",
    "FIN_WAIT",
    "TIME_WAIT",
    "CLOSE",
    "CLOSE_WAIT",
    "LAST_ACK",
    "LISTEN",
    "SYNACK",
];

/// Which way a packet goes, and whether the other way passes here.
#[derive(Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "std", derive(Debug))]
#[repr(u8)]
pub enum Direction {
    /// From the client; replies pass here.
    Input = 0,
    /// From the real server.
    Output = 1,
    /// From the client; replies do not pass here.
    InputOnly = 2,
}

const NO: u8 = state::NONE;
const ES: u8 = state::ESTABLISHED;
const SS: u8 = state::SYN_SENT;
const SR: u8 = state::SYN_RECV;
const FW: u8 = state::FIN_WAIT;
const TW: u8 = state::TIME_WAIT;
const CL: u8 = state::CLOSE;
const CW: u8 = state::CLOSE_WAIT;
const LA: u8 = state::LAST_ACK;
const LI: u8 = state::LISTEN;
const SA: u8 = state::SYNACK;

/// Next state by direction (64 each), event (16 each: SYN, FIN, ACK, RST) and state; flat and
/// padded so that an index can be masked instead of checked.
static NEXT: [u8; 256] = {
    // Columns: NO ES SS SR FW TW CL CW LA LI SA.
    const ROWS: [[u8; 11]; 12] = [
        // Input: SYN, FIN, ACK, RST.
        [SR, ES, ES, SR, SR, SR, SR, SR, SR, SR, SR],
        [CL, CW, SS, TW, TW, TW, CL, CW, LA, LI, TW],
        [ES, ES, SS, ES, FW, TW, CL, CW, CL, LI, ES],
        [CL, CL, CL, SR, CL, CL, CL, CL, LA, LI, SR],
        // Output.
        [SS, ES, SS, SR, SS, SS, SS, SS, SS, LI, SR],
        [TW, FW, SS, TW, FW, TW, CL, TW, LA, LI, TW],
        [ES, ES, SS, ES, FW, TW, CL, CW, LA, ES, ES],
        [CL, CL, SS, CL, CL, TW, CL, CL, CL, CL, CL],
        // Input only.
        [SR, ES, ES, SR, SR, SR, SR, SR, SR, SR, SR],
        [CL, FW, SS, TW, FW, TW, CL, CW, LA, LI, TW],
        [ES, ES, SS, ES, FW, TW, CL, CW, CL, LI, ES],
        [CL, CL, CL, SR, CL, CL, CL, CL, LA, LI, CL],
    ];
    let _ = (NO, SA);
    let mut next = [CL; 256];
    let mut row = 0;
    while row < 12 {
        let mut column = 0;
        while column < 11 {
            next[row * 16 + column] = ROWS[row][column];
            column += 1;
        }
        row += 1;
    }
    next
};

/// The state after a packet with `flags`; a packet without SYN, FIN, ACK or RST closes.
#[inline(always)]
pub fn next(state: u8, flags: u8, direction: Direction) -> u8 {
    let event = if flags & tcp::RST != 0 {
        3
    } else if flags & tcp::SYN != 0 {
        0
    } else if flags & tcp::FIN != 0 {
        1
    } else if flags & tcp::ACK != 0 {
        2
    } else {
        return state::CLOSE;
    };
    let index = ((direction as usize) << 6) | (event << 4) | (state & 15) as usize;
    NEXT[index & 255]
}

/// True for the states that count as active.
#[inline(always)]
pub fn is_active(state: u8) -> bool {
    const ACTIVE: u32 = (1 << state::ESTABLISHED)
        | (1 << state::SYN_SENT)
        | (1 << state::SYN_RECV)
        | (1 << state::SYNACK);
    (ACTIVE >> (state & 15)) & 1 != 0
}

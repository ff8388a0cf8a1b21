//! The simplest tunnel sender: a tcx program that wraps every packet to one address for one server.
//!
//! It stands in for a director where the tunnel's far end is tested. The kernel's own helper makes
//! room for the outer header, so partial checksums and super-frames arrive at the far end just as
//! they do from the real data plane.

use std::net::IpAddr;

use pointsman_wire::{Frame, Mac};

use crate::bpf::Instruction;

// Codes of the instruction set; `W`, `H` are 32 and 16 bits.
const MOVE: u8 = 0xb7;
const MOVE_REGISTER: u8 = 0xbf;
const LOAD_W: u8 = 0x61;
const STORE_W: u8 = 0x62;
const STORE_H_REGISTER: u8 = 0x6b;
const ADD: u8 = 0x07;
const ADD_REGISTER: u8 = 0x0f;
const AND: u8 = 0x57;
const XOR: u8 = 0xa7;
const SHIFT_RIGHT: u8 = 0x77;
const TO_BIG_ENDIAN: u8 = 0xdc;
const JUMP_NOT_EQUAL: u8 = 0x55;
const JUMP_NOT_EQUAL_W: u8 = 0x56;
const CALL: u8 = 0x85;
const EXIT: u8 = 0x95;

const SKB_STORE_BYTES: i32 = 9;
const REDIRECT: i32 = 23;
const SKB_LOAD_BYTES: i32 = 26;
const SKB_ADJUST_ROOM: i32 = 50;

/// Room between link and network header.
const ROOM_MAC: i32 = 1;
/// The size of segments stays.
const FIXED_GSO: i32 = 1;
const ENCAP_IPV4: i32 = 1 << 1;
const ENCAP_IPV6: i32 = 1 << 2;

/// `TCX_NEXT`: not ours.
const NEXT: i32 = -1;
const FRAME_POINTER: u8 = 10;
/// Offset of `__sk_buff::protocol`; the length is at 0.
const PROTOCOL: i16 = 16;
const ETHERNET: i32 = 14;
/// Where the new headers are put together on the stack, which they fill from here up.
const HEADERS: i16 = -64;
const ADDRESS: i16 = -80;

/// A tunnel's sending end.
#[derive(Debug, Clone, Copy)]
pub struct Encapsulator {
    /// Packets to this address are wrapped.
    pub address: IpAddr,
    /// Outer source.
    pub source: IpAddr,
    /// Outer destination, of the same family.
    pub destination: IpAddr,
    /// Source and destination hardware address.
    pub macs: (Mac, Mac),
    /// Number of the interface to send by.
    pub interface: u32,
}

impl Encapsulator {
    /// The program for [`crate::bpf::Hook::TcxIngress`].
    pub fn program(&self) -> Vec<Instruction> {
        let mut program = Program(Vec::new());
        let op = Instruction::new;
        program.add(op(MOVE_REGISTER, 6, 1, 0, 0));
        self.match_address(&mut program);
        // Ethernet and outer header, without lengths and checksum.
        let inner = match self.address {
            IpAddr::V4(_) => 4,
            IpAddr::V6(_) => 41,
        };
        let (source, destination) = self.macs;
        let mut headers = Frame::ip(self.source, self.destination)
            .macs(source, destination)
            .protocol(inner)
            .build();
        let (flag, length_at) = if self.source.is_ipv4() {
            headers[16..18].fill(0);
            headers[24..26].fill(0);
            (ENCAP_IPV4, 16)
        } else {
            headers[18..20].fill(0);
            (ENCAP_IPV6, 18)
        };
        let length = headers.len() as i32;
        program.add(op(MOVE_REGISTER, 1, 6, 0, 0));
        program.add(op(MOVE, 2, 0, 0, length - ETHERNET));
        program.add(op(MOVE, 3, 0, 0, ROOM_MAC));
        program.add(op(MOVE, 4, 0, 0, FIXED_GSO | flag));
        program.add(op(CALL, 0, 0, 0, SKB_ADJUST_ROOM));
        program.leave_if(JUMP_NOT_EQUAL, 0, 0);
        program.put(&headers);
        // Length of the packet (IPv4), or of what follows the header (IPv6).
        let without = if self.source.is_ipv4() {
            ETHERNET
        } else {
            length
        };
        program.add(op(LOAD_W, 7, 6, 0, 0));
        program.add(op(ADD, 7, 0, 0, -without));
        if self.source.is_ipv4() {
            program.add(op(MOVE_REGISTER, 8, 7, 0, 0));
            program.checksum(&headers[14..], HEADERS + 24);
        }
        program.add(op(TO_BIG_ENDIAN, 7, 0, 0, 16));
        program.add(op(
            STORE_H_REGISTER,
            FRAME_POINTER,
            7,
            HEADERS + length_at,
            0,
        ));
        program.add(op(MOVE_REGISTER, 1, 6, 0, 0));
        program.add(op(MOVE, 2, 0, 0, 0));
        program.add(op(MOVE_REGISTER, 3, FRAME_POINTER, 0, 0));
        program.add(op(ADD, 3, 0, 0, i32::from(HEADERS)));
        program.add(op(MOVE, 4, 0, 0, length));
        program.add(op(MOVE, 5, 0, 0, 0));
        program.add(op(CALL, 0, 0, 0, SKB_STORE_BYTES));
        program.add(op(MOVE, 1, 0, 0, self.interface.cast_signed()));
        program.add(op(MOVE, 2, 0, 0, 0));
        program.add(op(CALL, 0, 0, 0, REDIRECT));
        program.add(op(EXIT, 0, 0, 0, 0));
        program.finish()
    }

    /// Leaves unless the packet is to the address.
    fn match_address(&self, program: &mut Program) {
        let op = Instruction::new;
        let (ethertype, at, bytes) = match self.address {
            IpAddr::V4(address) => (0x0800_u16, ETHERNET + 16, address.octets().to_vec()),
            IpAddr::V6(address) => (0x86dd, ETHERNET + 24, address.octets().to_vec()),
        };
        program.add(op(LOAD_W, 2, 6, PROTOCOL, 0));
        program.leave_if(JUMP_NOT_EQUAL, 2, i32::from(ethertype.to_be()));
        program.add(op(MOVE_REGISTER, 1, 6, 0, 0));
        program.add(op(MOVE, 2, 0, 0, at));
        program.add(op(MOVE_REGISTER, 3, FRAME_POINTER, 0, 0));
        program.add(op(ADD, 3, 0, 0, i32::from(ADDRESS)));
        program.add(op(MOVE, 4, 0, 0, bytes.len() as i32));
        program.add(op(CALL, 0, 0, 0, SKB_LOAD_BYTES));
        program.leave_if(JUMP_NOT_EQUAL, 0, 0);
        for (number, word) in bytes.chunks_exact(4).enumerate() {
            let word = i32::from_ne_bytes([word[0], word[1], word[2], word[3]]);
            program.add(op(LOAD_W, 2, FRAME_POINTER, ADDRESS + 4 * number as i16, 0));
            program.leave_if(JUMP_NOT_EQUAL_W, 2, word);
        }
    }
}

struct Program(Vec<Instruction>);

impl Program {
    fn add(&mut self, instruction: Instruction) {
        self.0.push(instruction);
    }

    /// Hands the frame on when the register compares so with the immediate.
    fn leave_if(&mut self, jump: u8, register: u8, immediate: i32) {
        // Negated by hand: over two instructions that leave.
        let equal = jump - (JUMP_NOT_EQUAL - 0x15);
        self.add(Instruction::new(equal, register, 0, 2, immediate));
        self.add(Instruction::new(MOVE, 0, 0, 0, NEXT));
        self.add(Instruction::new(EXIT, 0, 0, 0, 0));
    }

    /// Puts bytes on the stack at [`HEADERS`].
    fn put(&mut self, bytes: &[u8]) {
        for (number, word) in bytes.chunks(4).enumerate() {
            let mut whole = [0; 4];
            whole[..word.len()].copy_from_slice(word);
            let at = HEADERS + 4 * number as i16;
            let word = i32::from_ne_bytes(whole);
            self.add(Instruction::new(STORE_W, FRAME_POINTER, 0, at, word));
        }
    }

    /// Adds the IPv4 header's words to its length in register 8 and stores the checksum.
    fn checksum(&mut self, header: &[u8], at: i16) {
        let op = Instruction::new;
        let words = header
            .chunks_exact(2)
            .map(|word| i32::from(word[0]) << 8 | i32::from(word[1]));
        self.add(op(ADD, 8, 0, 0, words.sum()));
        for _ in 0..2 {
            self.add(op(MOVE_REGISTER, 9, 8, 0, 0));
            self.add(op(SHIFT_RIGHT, 9, 0, 0, 16));
            self.add(op(AND, 8, 0, 0, 0xffff));
            self.add(op(ADD_REGISTER, 8, 9, 0, 0));
        }
        self.add(op(XOR, 8, 0, 0, 0xffff));
        self.add(op(TO_BIG_ENDIAN, 8, 0, 0, 16));
        self.add(op(STORE_H_REGISTER, FRAME_POINTER, 8, at, 0));
    }

    fn finish(self) -> Vec<Instruction> {
        self.0
    }
}

//! The filter that captures run in the kernel, so that a busy host is not drowned: a classic BPF
//! program that keeps frames about a virtual service.
//!
//! It keeps what has one of the addresses at either end, in up to two VLAN tags, in IP-in-IP, GRE or
//! GUE, or quoted by an ICMP error, and ARP and neighbour discovery about it. Where it can't look, it
//! keeps: behind extension headers and in optional fields of tunnels.

use std::net::IpAddr;

use pointsman_wire::{ethernet, gue, protocol};

/// What frames are wanted.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Wanted {
    /// Ends one of which a frame must have, each with a port or all ports; none is all frames.
    pub ends: Vec<(IpAddr, Option<u16>)>,
    /// Addresses one of which must be at an end too; none is all.
    pub clients: Vec<IpAddr>,
}

/// One instruction of classic BPF: code, jump if true, jump if false, operand.
pub type Instruction = (u16, u8, u8, u32);

const LOAD_WORD: u16 = 0x20;
const LOAD_HALF: u16 = 0x28;
const LOAD_BYTE: u16 = 0x30;
const LOAD_WORD_AT_X: u16 = 0x40;
const LOAD_HALF_AT_X: u16 = 0x48;
const LOAD_BYTE_AT_X: u16 = 0x50;
const SET_X: u16 = 0x01;
const LOAD_MEMORY: u16 = 0x60;
const STORE: u16 = 0x02;
const A_TO_X: u16 = 0x07;
const X_TO_A: u16 = 0x87;
const AND: u16 = 0x54;
const SHIFT_LEFT: u16 = 0x64;
const SHIFT_RIGHT: u16 = 0x74;
const ADD: u16 = 0x04;
const ADD_X: u16 = 0x0c;
const JUMP: u16 = 0x05;
const IF_EQUAL: u16 = 0x15;
const IF_BITS: u16 = 0x45;
const RETURN: u16 = 0x06;

/// Longest program that the kernel takes.
const MOST: usize = 4096;
/// Packets in packets that are looked at.
const DEPTH: usize = 2;

/// A place to jump to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Label(usize);

#[derive(Default)]
struct Program {
    code: Vec<(Instruction, Option<Label>)>,
    labels: Vec<Option<usize>>,
}

impl Program {
    fn label(&mut self) -> Label {
        self.labels.push(None);
        Label(self.labels.len() - 1)
    }

    fn place(&mut self, label: Label) {
        self.labels[label.0] = Some(self.code.len());
    }

    fn put(&mut self, code: u16, operand: u32) {
        self.code.push(((code, 0, 0, operand), None));
    }

    fn jump(&mut self, to: Label) {
        self.code.push(((JUMP, 0, 0, 0), Some(to)));
    }

    /// Conditional jumps reach 255 instructions only; a plain one behind them reaches all.
    fn when(&mut self, code: u16, operand: u32, to: Label) {
        self.code.push(((code, 0, 1, operand), None));
        self.jump(to);
    }

    fn unless(&mut self, code: u16, operand: u32, to: Label) {
        self.code.push(((code, 1, 0, operand), None));
        self.jump(to);
    }

    fn finish(self) -> Option<Vec<Instruction>> {
        let resolve = |(at, (mut instruction, label)): (usize, (Instruction, Option<Label>))| {
            if let Some(label) = label {
                let target = self.labels[label.0]?;
                instruction.3 = u32::try_from(target.checked_sub(at + 1)?).ok()?;
            }
            Some(instruction)
        };
        let code: Option<Vec<_>> = self.code.iter().copied().enumerate().map(resolve).collect();
        code.filter(|code| code.len() <= MOST)
    }
}

impl Wanted {
    /// The program, for frames with or without a link layer; empty when everything is wanted, or when
    /// so many ends are that no program can tell them.
    pub fn program(&self, bare: bool) -> Vec<Instruction> {
        if self.ends.is_empty() && self.clients.is_empty() {
            return Vec::new();
        }
        let mut program = Program::default();
        let keep = program.label();
        let drop = program.label();
        let v4: Vec<Label> = (0..=DEPTH).map(|_| program.label()).collect();
        let v6: Vec<Label> = (0..=DEPTH).map(|_| program.label()).collect();
        if bare {
            program.put(SET_X, 0);
            program.put(LOAD_BYTE, 0);
            program.put(SHIFT_RIGHT, 4);
            program.when(IF_EQUAL, 4, v4[0]);
            program.when(IF_EQUAL, 6, v6[0]);
            program.jump(drop);
        } else {
            self.link(&mut program, (v4[0], v6[0]), keep, drop);
        }
        for depth in 0..=DEPTH {
            let next = (depth < DEPTH).then(|| (v4[depth + 1], v6[depth + 1]));
            program.place(v4[depth]);
            self.ipv4(&mut program, next, keep, drop);
            program.place(v6[depth]);
            self.ipv6(&mut program, next, keep, drop);
        }
        program.place(drop);
        program.put(RETURN, 0);
        program.place(keep);
        program.put(RETURN, u32::MAX);
        program.finish().unwrap_or_default()
    }

    /// Finds where the packet begins, and keeps ARP about an end.
    fn link(&self, program: &mut Program, ip: (Label, Label), keep: Label, drop: Label) {
        for start in [14, 18, 22] {
            let next = program.label();
            let tagged = program.label();
            program.put(SET_X, start);
            program.put(LOAD_HALF, start - 2);
            program.when(IF_EQUAL, ethernet::IPV4.into(), ip.0);
            program.when(IF_EQUAL, ethernet::IPV6.into(), ip.1);
            if start < 22 {
                program.when(IF_EQUAL, ethernet::VLAN.into(), tagged);
                program.when(IF_EQUAL, ethernet::QINQ.into(), tagged);
            }
            program.unless(IF_EQUAL, ethernet::ARP.into(), drop);
            for at in [14, 24] {
                program.put(LOAD_WORD, start + at);
                for end in self.ends.iter().map(|(end, _)| end).chain(&self.clients) {
                    if let IpAddr::V4(address) = end {
                        program.when(IF_EQUAL, (*address).into(), keep);
                    }
                }
            }
            program.jump(drop);
            program.place(tagged);
            program.jump(next);
            program.place(next);
        }
        program.jump(drop);
    }

    /// An IPv4 packet at X.
    fn ipv4(&self, program: &mut Program, next: Option<(Label, Label)>, keep: Label, drop: Label) {
        let ports = program.label();
        let inner = program.label();
        let address = |address: &IpAddr| match address {
            IpAddr::V4(address) => Some(vec![u32::from(*address)]),
            IpAddr::V6(_) => None,
        };
        // X of the packet, and X of what is in it.
        program.put(LOAD_BYTE_AT_X, 0);
        program.put(AND, 0x0f);
        program.put(SHIFT_LEFT, 2);
        program.put(ADD_X, 0);
        program.put(STORE, 0);
        program.put(LOAD_BYTE_AT_X, 9);
        program.put(STORE, 1);
        self.addresses(program, [12, 16], address, inner);
        program.put(LOAD_HALF_AT_X, 6);
        program.when(IF_BITS, 0x1fff, keep);
        program.jump(ports);
        program.place(ports);
        self.ports(program, [12, 16], address, keep, inner);
        program.place(inner);
        self.inner(program, next, keep, drop);
    }

    /// An IPv6 packet at X.
    fn ipv6(&self, program: &mut Program, next: Option<(Label, Label)>, keep: Label, drop: Label) {
        let inner = program.label();
        let target = program.label();
        let address = |address: &IpAddr| match address {
            IpAddr::V6(address) => {
                let words = address.octets();
                let words = words.chunks_exact(4);
                let words =
                    words.map(|word| u32::from_be_bytes([word[0], word[1], word[2], word[3]]));
                Some(words.collect())
            }
            IpAddr::V4(_) => None,
        };
        program.put(X_TO_A, 0);
        program.put(ADD, 40);
        program.put(STORE, 0);
        program.put(LOAD_BYTE_AT_X, 6);
        program.put(STORE, 1);
        self.addresses(program, [8, 24], address, target);
        self.ports(program, [8, 24], address, keep, target);
        // Neighbour discovery asks groups about a target.
        program.place(target);
        program.put(LOAD_MEMORY, 1);
        program.unless(IF_EQUAL, protocol::ICMPV6.into(), inner);
        for end in self.ends.iter().map(|(end, _)| end).chain(&self.clients) {
            let Some(words) = address(end) else { continue };
            let other = program.label();
            for (at, word) in words.iter().enumerate() {
                program.put(LOAD_WORD_AT_X, 48 + 4 * at as u32);
                program.unless(IF_EQUAL, *word, other);
            }
            program.jump(keep);
            program.place(other);
        }
        program.place(inner);
        self.inner(program, next, keep, drop);
    }

    /// Goes on where the addresses at X are wanted, whatever the ports, and to `other` elsewhere.
    fn addresses(
        &self,
        program: &mut Program,
        at: [u32; 2],
        words: impl Fn(&IpAddr) -> Option<Vec<u32>>,
        other: Label,
    ) {
        if self.clients.is_empty() {
            return;
        }
        let found = program.label();
        for client in &self.clients {
            for at in at {
                compare(program, words(client), at, found);
            }
        }
        program.jump(other);
        program.place(found);
    }

    /// Keeps where an end at X is wanted with its port, and goes to `other` elsewhere.
    fn ports(
        &self,
        program: &mut Program,
        at: [u32; 2],
        words: impl Fn(&IpAddr) -> Option<Vec<u32>>,
        keep: Label,
        other: Label,
    ) {
        if self.ends.is_empty() {
            program.jump(keep);
            return;
        }
        for (end, port) in &self.ends {
            for (side, at) in at.into_iter().enumerate() {
                let found = program.label();
                let next = program.label();
                let tested = program.label();
                compare(program, words(end), at, found);
                program.jump(next);
                program.place(found);
                let Some(port) = port else {
                    program.jump(keep);
                    program.place(next);
                    continue;
                };
                // What has no ports, as ICMP, tells nothing against it.
                program.put(LOAD_MEMORY, 1);
                for number in [protocol::TCP, protocol::UDP, protocol::SCTP] {
                    program.when(IF_EQUAL, number.into(), tested);
                }
                program.jump(keep);
                program.place(tested);
                program.put(X_TO_A, 0);
                program.put(STORE, 2);
                program.put(LOAD_MEMORY, 0);
                program.put(A_TO_X, 0);
                program.put(LOAD_HALF_AT_X, 2 * side as u32);
                program.when(IF_EQUAL, u32::from(*port), keep);
                program.put(LOAD_MEMORY, 2);
                program.put(A_TO_X, 0);
                program.place(next);
            }
        }
        program.jump(other);
    }

    /// Looks into what the packet carries; where it is, is in the first memory, what, in the second.
    fn inner(&self, program: &mut Program, next: Option<(Label, Label)>, keep: Label, drop: Label) {
        let Some((v4, v6)) = next else {
            program.jump(drop);
            return;
        };
        let [gre, udp, icmp, icmp6, skip] = [(); 5].map(|()| program.label());
        program.put(LOAD_MEMORY, 0);
        program.put(A_TO_X, 0);
        program.put(LOAD_MEMORY, 1);
        program.when(IF_EQUAL, protocol::IPV4.into(), v4);
        program.when(IF_EQUAL, protocol::IPV6.into(), v6);
        program.when(IF_EQUAL, protocol::GRE.into(), gre);
        program.when(IF_EQUAL, protocol::UDP.into(), udp);
        program.when(IF_EQUAL, protocol::ICMP.into(), icmp);
        program.when(IF_EQUAL, protocol::ICMPV6.into(), icmp6);
        program.jump(drop);
        // GRE with a checksum or a key is not looked into.
        program.place(gre);
        program.put(LOAD_HALF_AT_X, 0);
        program.when(IF_BITS, 0xffff, keep);
        program.put(X_TO_A, 0);
        program.put(ADD, 4);
        program.jump(skip);
        program.place(udp);
        program.put(LOAD_HALF_AT_X, 2);
        program.unless(IF_EQUAL, gue::PORT.into(), drop);
        // GUE: with optional fields it is not looked into; variant 1 has no header.
        program.put(LOAD_BYTE_AT_X, 8);
        program.when(IF_BITS, 0x1f, keep);
        program.put(X_TO_A, 0);
        program.put(ADD, 12);
        program.jump(skip);
        // Errors quote the packet behind eight bytes.
        program.place(icmp);
        program.put(LOAD_BYTE_AT_X, 0);
        let quotes = program.label();
        for kind in [3, 4, 5, 11, 12] {
            program.when(IF_EQUAL, kind, quotes);
        }
        program.jump(drop);
        program.place(icmp6);
        program.put(LOAD_BYTE_AT_X, 0);
        program.when(IF_BITS, 0x80, drop);
        program.place(quotes);
        program.put(X_TO_A, 0);
        program.put(ADD, 8);
        program.place(skip);
        program.put(A_TO_X, 0);
        program.put(LOAD_BYTE_AT_X, 0);
        program.put(SHIFT_RIGHT, 4);
        program.when(IF_EQUAL, 4, v4);
        program.when(IF_EQUAL, 6, v6);
        program.jump(drop);
    }
}

/// Runs a program on a frame as the kernel does: a load beyond the end drops the frame, and so does what is
/// no instruction of ours. No program keeps everything.
pub fn keeps(program: &[Instruction], frame: &[u8]) -> bool {
    let (mut a, mut x, mut memory, mut at) = (0_u32, 0_u32, [0_u32; 16], 0_usize);
    if program.is_empty() {
        return true;
    }
    let load = |offset: u32, bytes: usize| {
        let offset = offset as usize;
        let part = frame.get(offset..offset.checked_add(bytes)?)?;
        let number = part
            .iter()
            .fold(0, |value, byte| value << 8 | u32::from(*byte));
        Some(number)
    };
    // Programs only jump forward, so this ends.
    while let Some((code, yes, no, operand)) = program.get(at).copied() {
        at += 1;
        let there = operand.wrapping_add(x);
        let loaded = match code {
            LOAD_WORD => load(operand, 4),
            LOAD_HALF => load(operand, 2),
            LOAD_BYTE => load(operand, 1),
            LOAD_WORD_AT_X => load(there, 4),
            LOAD_HALF_AT_X => load(there, 2),
            LOAD_BYTE_AT_X => load(there, 1),
            LOAD_MEMORY => memory.get(operand as usize).copied(),
            X_TO_A => Some(x),
            AND => Some(a & operand),
            SHIFT_LEFT => Some(a << (operand & 31)),
            SHIFT_RIGHT => Some(a >> (operand & 31)),
            ADD => Some(a.wrapping_add(operand)),
            ADD_X => Some(a.wrapping_add(x)),
            _ => Some(a),
        };
        let Some(loaded) = loaded else { return false };
        a = loaded;
        match code {
            SET_X => x = operand,
            A_TO_X => x = a,
            STORE => match memory.get_mut(operand as usize) {
                Some(place) => *place = a,
                None => return false,
            },
            JUMP => at += operand as usize,
            IF_EQUAL => at += usize::from(if a == operand { yes } else { no }),
            IF_BITS => at += usize::from(if a & operand != 0 { yes } else { no }),
            RETURN => return operand != 0,
            _ => {}
        }
    }
    false
}

/// Jumps where the words at X are these; falls through elsewhere.
fn compare(program: &mut Program, words: Option<Vec<u32>>, at: u32, found: Label) {
    let Some(words) = words else { return };
    let other = program.label();
    for (number, word) in words.iter().enumerate() {
        program.put(LOAD_WORD_AT_X, at + 4 * number as u32);
        program.unless(IF_EQUAL, *word, other);
    }
    program.jump(found);
    program.place(other);
}

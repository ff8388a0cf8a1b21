//! What the kernel tells of packets that are traced: which rules they meet, and which one decides.

use std::time::Duration;

use netlink_sys::Socket;

use super::message::{Attributes, Message, Messages, string};
use super::nftables::{Layer, listen, u32_be, u64_at};
use super::{Error, receive};
use crate::deadline::Deadline;

// `linux/netfilter/nfnetlink.h` and `nf_tables.h`.
const GROUP: u32 = 9;
const TRACE: u16 = 10 << 8 | 17;
const HEADER_LEN: usize = 4;
const TABLE: u16 = 1;
const CHAIN: u16 = 2;
const HANDLE: u16 = 3;
const KIND: u16 = 4;
const VERDICT: u16 = 5;
const ID: u16 = 6;
const NETWORK_HEADER: u16 = 8;
const TRANSPORT_HEADER: u16 = 9;
const IN_DEVICE: u16 = 10;
const POLICY: u16 = 16;
const VERDICT_CODE: u16 = 1;
const DROP: u32 = 0;
const KIND_POLICY: u32 = 1;
const KIND_RULE: u32 = 3;
/// Bytes of messages that nobody has read yet.
const BUFFER_BYTES: usize = 8 << 20;

/// What decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Step {
    /// The rule with this handle.
    Rule(u64),
    /// The end of a base chain.
    Policy,
    /// Back to the calling chain.
    Return,
}

/// One step of a packet through rules.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TraceStep {
    /// Tells packets apart, within one namespace and for a while.
    pub packet: u32,
    /// The table's family.
    pub layer: Layer,
    /// The table.
    pub table: String,
    /// The chain.
    pub chain: String,
    /// Where in the chain.
    pub step: Step,
    /// True when that was the packet's end.
    pub dropped: bool,
    /// The device that it came in by, by its number.
    pub device: Option<u32>,
    /// Network and transport header, where they are told: with the first step of each base chain.
    pub headers: Vec<u8>,
}

/// A socket that hears of traced packets in one network namespace.
#[derive(Debug)]
pub struct RuleTraces {
    socket: Socket,
}

impl RuleTraces {
    /// Begins to listen in the calling thread's network namespace.
    pub fn new() -> Result<Self, Error> {
        Ok(Self {
            socket: listen(GROUP, BUFFER_BYTES)?,
        })
    }

    /// Everything that was told so far, and whether the kernel had to leave something out.
    pub fn read(&mut self) -> Result<(Vec<TraceStep>, bool), Error> {
        let (mut steps, mut lost) = (Vec::new(), false);
        loop {
            match receive(&self.socket, Deadline::after(Duration::ZERO)) {
                Ok(Some(datagram)) => steps.extend(Messages(&datagram).filter_map(|m| step(&m))),
                Ok(None) => return Ok((steps, lost)),
                Err(error) if error.errno() == Some(libc::ENOBUFS) => lost = true,
                Err(error) => return Err(error),
            }
        }
    }
}

fn step(message: &Message<'_>) -> Option<TraceStep> {
    if message.kind != TRACE {
        return None;
    }
    let layer = Layer::of(*message.payload.first()?)?;
    let find = |wanted| {
        let mut attributes = message.attributes(HEADER_LEN);
        attributes
            .find(|(kind, _)| *kind == wanted)
            .map(|(_, value)| value)
    };
    let number = |wanted| find(wanted).and_then(u32_be);
    let verdict = find(VERDICT).and_then(|verdict| {
        let mut members = Attributes(verdict);
        let (_, code) = members.find(|(kind, _)| *kind == VERDICT_CODE)?;
        u32_be(code)
    });
    let kind = number(KIND)?;
    let (step, dropped) = match kind {
        KIND_RULE => (Step::Rule(u64_at(find(HANDLE)?)?), verdict == Some(DROP)),
        KIND_POLICY => (Step::Policy, number(POLICY) == Some(DROP)),
        _ => (Step::Return, false),
    };
    let headers = [NETWORK_HEADER, TRANSPORT_HEADER].map(|kind| find(kind).unwrap_or_default());
    Some(TraceStep {
        packet: number(ID)?,
        layer,
        table: string(find(TABLE)?),
        chain: string(find(CHAIN).unwrap_or_default()),
        step,
        dropped,
        device: number(IN_DEVICE),
        headers: headers.concat(),
    })
}

#[cfg(test)]
mod tests {
    use super::super::message::Request;
    use super::*;

    fn told(kind: u32, verdict: u32, policy: Option<u32>) -> Vec<u8> {
        let mut code = 8_u16.to_ne_bytes().to_vec();
        code.extend(VERDICT_CODE.to_ne_bytes());
        code.extend(verdict.to_be_bytes());
        let request = Request::new(TRACE, 0, &[7, 0, 0, 0])
            .attribute(TABLE, b"nat\0")
            .attribute(CHAIN, b"PREROUTING\0")
            .attribute(KIND, &kind.to_be_bytes())
            .attribute(HANDLE, &64_u64.to_be_bytes())
            .attribute(VERDICT, &code)
            .attribute(ID, &9_u32.to_be_bytes());
        let request = match policy {
            Some(policy) => request.attribute(POLICY, &policy.to_be_bytes()),
            None => request,
        };
        request.finish(0)
    }

    fn read(bytes: &[u8]) -> Option<TraceStep> {
        Messages(bytes).next().and_then(|message| step(&message))
    }

    #[test]
    fn rules_and_policies_that_drop_are_told_from_others() {
        let rule = read(&told(KIND_RULE, DROP, None)).unwrap();
        assert_eq!((rule.step, rule.dropped), (Step::Rule(64), true));
        assert_eq!(
            (rule.layer, &*rule.table, rule.packet),
            (Layer::Bridge, "nat", 9)
        );
        let jump = read(&told(KIND_RULE, (-3_i32).cast_unsigned(), None)).unwrap();
        assert!(!jump.dropped);
        let policy = read(&told(KIND_POLICY, 1, Some(DROP))).unwrap();
        assert_eq!((policy.step, policy.dropped), (Step::Policy, true));
        assert!(!read(&told(KIND_POLICY, 1, Some(1))).unwrap().dropped);
    }

    #[test]
    fn what_is_cut_short_is_no_step() {
        let whole = told(KIND_RULE, DROP, None);
        for length in 0..whole.len() {
            let mut cut = whole[..length].to_vec();
            if let Some(start) = cut.get_mut(..4) {
                start.copy_from_slice(&u32::try_from(length).unwrap().to_ne_bytes());
            }
            // It may be a step that lacks its end, and must be nothing worse.
            let _ = read(&cut);
        }
        assert!(read(&whole[..40]).is_none());
    }
}

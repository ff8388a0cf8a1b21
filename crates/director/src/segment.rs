//! The maximum segment size that a SYN announces (RFC 9293, section 3.7.1), lowered on its way.

use pointsman_wire::{Tcp, checksum::Difference, tcp};

use crate::{
    headers::{Headers, TCP},
    tables::{Env, Frame},
};

/// Kind of the option.
const MSS: u8 = 2;
/// Bytes of the option.
const MSS_LENGTH: u8 = 4;
/// Most options that fit behind a TCP header: 40 bytes of "no operation".
const OPTIONS: u32 = 40;

/// Lowers the segment size that a SYN announces to `limit`; 0 is no limit. Everything else, a SYN
/// without the option included, is left alone.
#[inline(always)]
pub fn clamp<F: Frame, E: Env>(frame: &mut F, env: &E, h: &Headers, limit: u32) {
    if limit == 0 || h.flow.protocol != TCP || h.kind & tcp::SYN == 0 {
        return;
    }
    let end = h.transport() + h.transport_length as u32;
    let mut at = env.opaque(h.transport() + Tcp::LEN);
    let mut found = env.opaque(0);
    let mut announced = env.opaque(0);
    {
        let frame = &*frame;
        env.repeat(OPTIONS, |_| {
            if at + MSS_LENGTH as u32 > end {
                return false;
            }
            let Some(option) = frame.view::<[u8; 4]>(at) else {
                return false;
            };
            match option[0] {
                0 => false,
                1 => {
                    at += 1;
                    true
                }
                MSS => {
                    if option[1] == MSS_LENGTH {
                        announced = u16::from_be_bytes([option[2], option[3]]) as u32;
                        found = at;
                    }
                    false
                }
                _ => {
                    at += option[1] as u32;
                    option[1] >= 2
                }
            }
        });
    }
    if found == 0 || announced <= limit {
        return;
    }
    let limit = limit as u16;
    let Some(option) = frame.view_mut::<[u8; 4]>(found) else {
        return;
    };
    [option[2], option[3]] = limit.to_be_bytes();
    let mut old = (announced as u16).to_be();
    let mut new = limit.to_be();
    if (found - h.transport()) & 1 != 0 {
        // The number lies across two words of the sum, which then sees it turned round.
        old = old.swap_bytes();
        new = new.swap_bytes();
    }
    let change = Difference::NONE.word(old, new);
    frame.fix_checksum(
        h.transport() + Tcp::CHECKSUM,
        Difference::NONE,
        change,
        false,
    );
}

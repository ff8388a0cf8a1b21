//! Questions and answers of ARP, as far as twins need them.

use std::net::{IpAddr, Ipv4Addr};

/// The operation of a question.
pub(super) const QUESTION: u16 = 1;
/// The operation of an answer.
pub(super) const ANSWER: u16 = 2;
/// Who answers for the world around a twin.
const WORLD: [u8; 6] = [0x02, 0, 0x5e, 0x77, 0, 1];

/// Bytes of an Ethernet frame with ARP for IPv4.
const LENGTH: usize = 42;

fn is_arp(frame: &[u8]) -> bool {
    frame.len() >= LENGTH && frame[12..18] == [0x08, 0x06, 0, 1, 0x08, 0]
}

/// What an ARP frame is, if it is one.
pub(super) fn operation(frame: &[u8]) -> Option<u16> {
    is_arp(frame).then(|| u16::from_be_bytes([frame[20], frame[21]]))
}

fn address(frame: &[u8], at: usize) -> Option<IpAddr> {
    let octets: [u8; 4] = *frame.get(at..at + 4)?.first_chunk()?;
    is_arp(frame).then(|| Ipv4Addr::from(octets).into())
}

/// Who says to speak.
pub(super) fn sender(frame: &[u8]) -> Option<IpAddr> {
    address(frame, 28)
}

/// Who is spoken of.
pub(super) fn target(frame: &[u8]) -> Option<IpAddr> {
    address(frame, 38)
}

/// The world's answer to a question; nothing for those about oneself.
pub(super) fn answer(question: &[u8]) -> Option<Vec<u8>> {
    if operation(question)? != QUESTION || sender(question) == target(question) {
        return None;
    }
    let mut frame = question.get(..LENGTH)?.to_vec();
    let asker: [u8; 6] = *question.get(22..28)?.first_chunk()?;
    frame[..6].copy_from_slice(&asker);
    frame[6..12].copy_from_slice(&WORLD);
    frame[20..22].copy_from_slice(&ANSWER.to_be_bytes());
    frame[22..28].copy_from_slice(&WORLD);
    frame[28..32].copy_from_slice(&question[38..42]);
    frame[32..38].copy_from_slice(&asker);
    frame[38..42].copy_from_slice(&question[28..32]);
    Some(frame)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_is_answered_with_what_it_asks_for() {
        let mut question = vec![0xff; 6];
        question.extend([2, 0, 0, 0, 0, 9, 8, 6, 0, 1, 8, 0, 6, 4, 0, 1]);
        question.extend([
            2, 0, 0, 0, 0, 9, 192, 0, 2, 1, 0, 0, 0, 0, 0, 0, 192, 0, 2, 7,
        ]);
        let answer = answer(&question).unwrap();
        assert_eq!(operation(&answer), Some(ANSWER));
        assert_eq!(sender(&answer), target(&question));
        assert_eq!(target(&answer), sender(&question));
        assert_eq!(answer[..6], [2, 0, 0, 0, 0, 9]);
        question[38..42].copy_from_slice(&[192, 0, 2, 1]);
        assert_eq!(super::answer(&question), None);
        assert_eq!(operation(&question[..41]), None);
    }
}

//! `UDP_CHECK`: a datagram that is taken, or answered.

use tokio::time::timeout;

use super::{Failure, Target};
use crate::chance;

/// The longest datagram.
const DATAGRAM_MAX: usize = 65_535;

/// Bytes that an answer has to have: each byte's value and the bits of it that count.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Payload {
    /// The bytes.
    pub bytes: Vec<u8>,
    /// The bits of each that count; all, where there are none.
    pub mask: Vec<u8>,
}

impl Payload {
    /// True when `bytes` begin with these.
    fn matches(&self, bytes: &[u8]) -> bool {
        bytes.len() >= self.bytes.len()
            && self.bytes.iter().enumerate().all(|(at, wanted)| {
                let mask = self.mask.get(at).copied().unwrap_or(0xff);
                (bytes[at] ^ wanted) & mask == 0
            })
    }
}

/// A check by UDP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UdpCheck {
    /// Where it goes.
    pub target: Target,
    /// What is sent; some bytes by chance if none.
    pub payload: Option<Vec<u8>>,
    /// What has to come back (`require_reply`); nothing has to if none, but no error may.
    pub reply: Option<Payload>,
    /// The shortest answer, bytes (`min_reply_length`).
    pub min_length: usize,
    /// The longest answer, bytes (`max_reply_length`).
    pub max_length: usize,
}

impl UdpCheck {
    pub(super) async fn make(&self) -> Result<(), Failure> {
        let target = &self.target;
        let connected = target.datagrams().await?;
        let socket = &connected.socket;
        let chance = chance::bits().to_be_bytes();
        socket
            .send(self.payload.as_deref().unwrap_or(&chance))
            .await
            .map_err(Failure::broken("sending"))?;
        let mut answer = vec![0; DATAGRAM_MAX];
        let received = timeout(target.timeout, socket.recv(&mut answer)).await;
        let length = match (received, &self.reply) {
            (Ok(Ok(length)), _) => length,
            (Ok(Err(source)), _) if connected.ticket.is_some() => {
                return Err(target.failed(source, connected.ticket.as_ref()));
            }
            (Ok(Err(source)), _) => {
                let what = "waiting for an answer";
                return Err(Failure::Broken { what, source });
            }
            // Nobody complained.
            (Err(_), None) => return Ok(()),
            (Err(_), Some(_)) => return Err(Failure::TimedOut(target.timeout)),
        };
        let Some(wanted) = &self.reply else {
            return Ok(());
        };
        if !(self.min_length..=self.max_length).contains(&length) {
            return Err(Failure::Wrong(format!(
                "an answer of {length} bytes; {} to {} are wanted",
                self.min_length, self.max_length
            )));
        }
        if !wanted.matches(&answer[..length]) {
            return Err(Failure::Wrong("an answer with other bytes".into()));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::Payload;

    #[test]
    fn bits_that_do_not_count_may_be_anything() {
        let wanted = Payload {
            bytes: vec![0x12, 0x30],
            mask: vec![0xff, 0xf0],
        };
        assert!(wanted.matches(&[0x12, 0x3f, 0xff]));
        assert!(!wanted.matches(&[0x12, 0x4f]));
        assert!(!wanted.matches(&[0x12]));
        assert!(Payload::default().matches(&[]));
    }
}

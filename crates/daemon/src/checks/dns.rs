//! `DNS_CHECK`: a question that a name server answers (RFC 1035).

use super::{Failure, Target};

/// The types of records that can be asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u16)]
pub enum RecordType {
    /// An IPv4 address.
    A = 1,
    /// A zone's name server.
    Ns = 2,
    /// Another name.
    Cname = 5,
    /// A zone's beginning.
    Soa = 6,
    /// A mail server.
    Mx = 15,
    /// Text.
    Txt = 16,
    /// An IPv6 address.
    Aaaa = 28,
}

/// A check by DNS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DnsCheck {
    /// Where it goes.
    pub target: Target,
    /// What is asked for.
    pub record: RecordType,
    /// The name asked about; `.` is the root.
    pub name: String,
}

/// Bytes of a message's header.
const HEADER: usize = 12;
/// More of an answer is not looked at, bytes.
const ANSWER_MAX: usize = 512;
const RECURSION_DESIRED: u8 = 1;
const RESPONSE: u8 = 0x80;

impl DnsCheck {
    pub(super) async fn make(&self) -> Result<(), Failure> {
        let id: u16 = crate::chance::bits() as u16;
        let question = self.question(id)?;
        let work = async {
            let connected = self.target.datagrams().await?;
            let socket = &connected.socket;
            socket
                .send(&question)
                .await
                .map_err(Failure::broken("asking"))?;
            let mut answer = [0; ANSWER_MAX];
            loop {
                let what = "waiting for an answer";
                let length = socket
                    .recv(&mut answer)
                    .await
                    .map_err(Failure::broken(what))?;
                match verdict(&answer[..length], id) {
                    // An answer to an earlier question.
                    None => {}
                    Some(0) => return Ok(()),
                    Some(code) => {
                        return Err(Failure::Wrong(format!("the answer has error code {code}")));
                    }
                }
            }
        };
        self.target.within(work).await
    }

    fn question(&self, id: u16) -> Result<Vec<u8>, Failure> {
        let mut bytes = Vec::with_capacity(HEADER + self.name.len() + 6);
        bytes.extend(id.to_be_bytes());
        bytes.extend([RECURSION_DESIRED, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
        for label in self.name.split('.').filter(|label| !label.is_empty()) {
            let length = u8::try_from(label.len()).ok().filter(|length| *length < 64);
            let Some(length) = length else {
                return Err(Failure::Wrong(format!("{label} is too long for a label")));
            };
            bytes.push(length);
            bytes.extend(label.as_bytes());
        }
        bytes.push(0);
        bytes.extend((self.record as u16).to_be_bytes());
        bytes.extend([0, 1]);
        Ok(bytes)
    }
}

/// The error code of an answer to the question `id`; none if it is none.
fn verdict(answer: &[u8], id: u16) -> Option<u8> {
    let header: &[u8; HEADER] = answer.first_chunk()?;
    let is_answer = header[..2] == id.to_be_bytes() && header[2] & RESPONSE != 0;
    is_answer.then_some(header[3] & 0x0f)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(name: &str) -> DnsCheck {
        let to = "192.0.2.1:53".parse().expect("an address");
        DnsCheck {
            target: Target::new(to, std::time::Duration::from_secs(1)),
            record: RecordType::Soa,
            name: name.to_owned(),
        }
    }

    #[test]
    fn questions_are_as_in_the_rfc() {
        let root = check(".").question(0x1234).expect("a question");
        assert_eq!(
            root,
            [0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 6, 0, 1]
        );
        let named = check("a.example").question(1).expect("a question");
        assert_eq!(named[12..], *b"\x01a\x07example\x00\x00\x06\x00\x01");
        assert!(check(&"x".repeat(64)).question(1).is_err());
    }

    #[test]
    fn only_answers_to_the_question_count() {
        let answer = [0x12, 0x34, 0x81, 0x83, 0, 1, 0, 0, 0, 0, 0, 0];
        assert_eq!(verdict(&answer, 0x1234), Some(3));
        assert_eq!(verdict(&answer, 0x1235), None);
        assert_eq!(verdict(&answer[..11], 0x1234), None);
        let question = [0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        assert_eq!(verdict(&question, 0x1234), None);
    }
}

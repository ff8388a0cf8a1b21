//! What is said to a mail server (RFC 5321), as a client that has no time to lose.

use std::time::Duration;

use thiserror::Error;

use super::Letter;
use super::letter::{clean, envelope};

/// No more of one answer is read, in bytes.
const ANSWER: usize = 8 << 10;
/// No more of an answer is shown, in characters.
const SHOWN: usize = 120;
/// For how long at most the answer to `QUIT` is waited for.
const FAREWELL: Duration = Duration::from_secs(1);

/// A conversation with a mail server, by a connection that is there.
#[derive(Debug)]
pub struct Dialogue {
    hello: String,
    /// How long each answer may take.
    limit: Duration,
    deadline: Option<Duration>,
    step: Step,
    letter: Option<Letter>,
    refused: Vec<(String, String)>,
    line: Vec<u8>,
    /// Bytes of the answer so far.
    heard: usize,
    output: Vec<u8>,
    outcome: Option<Result<Sent, Fault>>,
}

/// A letter that was taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sent {
    /// Recipients that the server does not take, with its words.
    pub refused: Vec<(String, String)>,
}

/// Why a letter was not taken.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Fault {
    /// The server says no.
    #[error("{what} was answered with `{answer}`")]
    Refused {
        /// What it refuses.
        what: &'static str,
        /// Its words.
        answer: String,
    },
    /// It says nothing.
    #[error("no answer to {what} within {limit:?}")]
    Silent {
        /// What it leaves without an answer.
        what: &'static str,
        /// How long it had.
        limit: Duration,
    },
    /// It is gone.
    #[error("the server closed the connection instead of answering {what}")]
    Closed {
        /// What it leaves without an answer.
        what: &'static str,
    },
    /// It never stops.
    #[error("the answer to {what} has no end")]
    Endless {
        /// What it answers.
        what: &'static str,
    },
}

/// What is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    /// Its greeting.
    Greeting,
    /// The answer to `HELO`.
    Hello,
    /// A letter.
    Ready,
    /// The answer to `MAIL`.
    Sender,
    /// The answer to `RCPT` of the recipient at this position.
    Recipient(usize),
    /// The answer to `DATA`.
    Data,
    /// The answer to the text.
    Text,
    /// The answer to `QUIT`.
    Quit,
    /// Nothing.
    Over,
}

impl Step {
    /// What is answered, for people.
    fn name(self) -> &'static str {
        match self {
            Self::Greeting => "the connection",
            Self::Hello => "HELO",
            Self::Sender => "MAIL FROM",
            Self::Recipient(_) => "RCPT TO",
            Self::Data => "DATA",
            Self::Text => "the text",
            Self::Ready | Self::Quit | Self::Over => "QUIT",
        }
    }
}

impl Dialogue {
    /// A conversation that begins with the server's greeting; `hello` is this host's name, `limit` how long each answer
    /// may take.
    pub fn new(hello: &str, limit: Duration, now: Duration) -> Self {
        Self {
            hello: clean(hello),
            limit,
            deadline: Some(now + limit),
            step: Step::Greeting,
            letter: None,
            refused: Vec::new(),
            line: Vec::new(),
            heard: 0,
            output: Vec::new(),
            outcome: None,
        }
    }

    /// Hands a letter over, once the server is ready; one at a time.
    pub fn send(&mut self, letter: Letter, now: Duration) {
        self.letter = Some(letter);
        match self.step {
            Step::Ready => self.begin(now),
            Step::Quit | Step::Over => {
                self.letter = None;
                let what = Step::Sender.name();
                self.outcome = Some(Err(Fault::Closed { what }));
            }
            _ => {}
        }
    }

    /// Ends the conversation politely; a letter that is not sent is given up.
    pub fn quit(&mut self, now: Duration) {
        if !matches!(self.step, Step::Quit | Step::Over) {
            self.letter = None;
            self.say("QUIT", Step::Quit, now);
            self.deadline = Some(now + self.limit.min(FAREWELL));
        }
    }

    /// True when no more letters are taken.
    pub fn is_ending(&self) -> bool {
        matches!(self.step, Step::Quit | Step::Over)
    }

    /// True when there is nothing more to say or to hear.
    pub fn is_over(&self) -> bool {
        self.step == Step::Over
    }

    /// What is to be sent to the server, if there is something.
    pub fn poll_output(&mut self) -> Option<Vec<u8>> {
        (!self.output.is_empty()).then(|| std::mem::take(&mut self.output))
    }

    /// When [`Self::handle_timeout`] is to be called.
    pub fn poll_timeout(&self) -> Option<Duration> {
        self.deadline
    }

    /// What became of the letter, once.
    pub fn poll_outcome(&mut self) -> Option<Result<Sent, Fault>> {
        self.outcome.take()
    }

    /// Tells what the server said.
    pub fn handle_input(&mut self, bytes: &[u8], now: Duration) {
        for byte in bytes {
            if self.step == Step::Over {
                return;
            }
            self.heard += 1;
            if self.heard > ANSWER {
                let what = self.step.name();
                self.fail(Fault::Endless { what }, now);
                return self.close();
            }
            if *byte != b'\n' {
                self.line.push(*byte);
                continue;
            }
            let line = std::mem::take(&mut self.line);
            // A dash says that more lines follow.
            if line.get(3) != Some(&b'-') {
                self.heard = 0;
                let line = String::from_utf8_lossy(&line);
                self.answer(line.trim_end(), now);
            }
        }
    }

    /// Tells that the server closed the connection, or that it broke.
    pub fn handle_end(&mut self, now: Duration) {
        let what = self.step.name();
        self.fail(Fault::Closed { what }, now);
        self.close();
    }

    /// Tells the time.
    pub fn handle_timeout(&mut self, now: Duration) {
        if self.deadline.is_none_or(|deadline| now < deadline) {
            return;
        }
        let (what, limit) = (self.step.name(), self.limit);
        self.fail(Fault::Silent { what, limit }, now);
        self.close();
    }

    fn answer(&mut self, line: &str, now: Duration) {
        let wanted = match self.step {
            Step::Greeting => "220",
            Step::Data => "354",
            // 250, and 251 of a recipient elsewhere.
            Step::Hello | Step::Sender | Step::Recipient(_) | Step::Text => "25",
            // Whoever speaks unasked goes away.
            Step::Ready | Step::Quit | Step::Over => return self.close(),
        };
        let is_fine = line.starts_with(wanted);
        if let Step::Recipient(at) = self.step {
            return self.recipient(at, is_fine, line, now);
        }
        if !is_fine {
            let (what, answer) = (self.step.name(), shown(line));
            return self.fail(Fault::Refused { what, answer }, now);
        }
        match self.step {
            Step::Greeting => {
                let hello = format!("HELO {}", self.hello);
                self.say(&hello, Step::Hello, now);
            }
            Step::Hello if self.letter.is_some() => self.begin(now),
            Step::Sender => self.ask(0, now),
            Step::Data => {
                let text = self.letter.as_ref().map(Letter::text).unwrap_or_default();
                self.output.extend_from_slice(&text);
                self.step = Step::Text;
                self.deadline = Some(now + self.limit);
            }
            _ => {
                if self.step == Step::Text && self.letter.take().is_some() {
                    let refused = std::mem::take(&mut self.refused);
                    self.outcome = Some(Ok(Sent { refused }));
                }
                self.step = Step::Ready;
                self.deadline = None;
            }
        }
    }

    /// One recipient who is not taken does not keep the others from getting it.
    fn recipient(&mut self, at: usize, is_fine: bool, line: &str, now: Duration) {
        let recipients = self.letter.as_ref().map(|letter| &letter.recipients);
        let count = recipients.map_or(0, Vec::len);
        if !is_fine {
            let name = recipients.and_then(|all| all.get(at)).cloned();
            self.refused.push((name.unwrap_or_default(), shown(line)));
        }
        if at + 1 < count {
            self.ask(at + 1, now);
        } else if self.refused.len() < count {
            self.say("DATA", Step::Data, now);
        } else {
            let (what, answer) = (self.step.name(), shown(line));
            self.fail(Fault::Refused { what, answer }, now);
        }
    }

    fn begin(&mut self, now: Duration) {
        self.refused.clear();
        let sender = self.letter.as_ref().map(|letter| envelope(&letter.sender));
        let line = format!("MAIL FROM:<{}>", sender.unwrap_or_default());
        self.say(&line, Step::Sender, now);
    }

    fn ask(&mut self, at: usize, now: Duration) {
        let letter = self.letter.as_ref();
        let name = letter.and_then(|letter| letter.recipients.get(at));
        let line = format!("RCPT TO:<{}>", envelope(name.map_or("", |name| name)));
        self.say(&line, Step::Recipient(at), now);
    }

    fn say(&mut self, line: &str, next: Step, now: Duration) {
        self.output.extend_from_slice(line.as_bytes());
        self.output.extend_from_slice(b"\r\n");
        self.step = next;
        self.deadline = Some(now + self.limit);
    }

    /// The letter is lost; the server is told that nothing follows.
    fn fail(&mut self, fault: Fault, now: Duration) {
        self.deadline = None;
        if self.letter.take().is_some() {
            self.outcome = Some(Err(fault));
        }
        self.quit(now);
    }

    fn close(&mut self) {
        self.step = Step::Over;
        self.deadline = None;
        self.output.clear();
    }
}

/// An answer as it can be shown.
fn shown(line: &str) -> String {
    clean(line).chars().take(SHOWN).collect()
}

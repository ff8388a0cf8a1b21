//! `SMTP_CHECK`: a mail server that greets, and lets one go (RFC 5321).

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

use super::{Failure, Target};

/// No more of an answer is read.
const ANSWER_MAX: u64 = 64 << 10;

/// A check by SMTP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SmtpCheck {
    /// Where it goes.
    pub target: Target,
    /// The name with which it greets (`helo_name`).
    pub helo_name: String,
}

impl SmtpCheck {
    pub(super) async fn make(&self) -> Result<(), Failure> {
        let work = async {
            let connected = self.target.connect().await?;
            let _ticket = connected.ticket;
            let mut stream = BufReader::new(connected.socket);
            expect(&mut stream, "its greeting", "220").await?;
            say(&mut stream, &format!("HELO {}\r\n", self.helo_name)).await?;
            expect(&mut stream, "the answer to HELO", "250").await?;
            say(&mut stream, "QUIT\r\n").await?;
            expect(&mut stream, "the answer to QUIT", "221").await
        };
        self.target.within(work).await
    }
}

async fn say(stream: &mut BufReader<TcpStream>, text: &str) -> Result<(), Failure> {
    let sent = stream.get_mut().write_all(text.as_bytes()).await;
    sent.map_err(Failure::broken("sending"))
}

/// Reads an answer of one or several lines.
async fn expect(
    stream: &mut BufReader<TcpStream>,
    what: &'static str,
    code: &str,
) -> Result<(), Failure> {
    let mut limited = stream.take(ANSWER_MAX);
    loop {
        let mut line = Vec::new();
        let read = limited.read_until(b'\n', &mut line).await;
        if read.map_err(Failure::broken(what))? == 0 {
            return Err(Failure::Wrong(format!("{what} ends too soon")));
        }
        let line = String::from_utf8_lossy(&line);
        if !line.starts_with(code) {
            return Err(Failure::Wrong(format!(
                "{what} is {:?}, not {code}",
                line.trim_end().chars().take(80).collect::<String>()
            )));
        }
        // A dash says that more lines follow.
        if line.as_bytes().get(3) != Some(&b'-') {
            return Ok(());
        }
    }
}

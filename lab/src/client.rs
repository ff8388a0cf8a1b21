//! The client of a lab: real `curl` runs in its namespace, and UDP questions.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::process::Command;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use crate::error::{LabError, Result};
use crate::lab::Lab;
use crate::topology::Role;
use crate::{namespace, pattern};

/// Asks from a node of the lab, the client unless told otherwise.
#[derive(Debug, Clone, Copy)]
pub struct Client<'a> {
    lab: &'a Lab,
    role: Role,
    source: Option<IpAddr>,
    limit: Duration,
}

/// Which server answered how many of many connections, and what went wrong with the others.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Spread {
    /// Answers by server name.
    pub answers: BTreeMap<String, usize>,
    /// One line for each connection that failed.
    pub failures: Vec<String>,
}

impl Spread {
    /// Number of connections that were answered.
    pub fn answered(&self) -> usize {
        self.answers.values().sum()
    }
}

/// A UDP answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UdpAnswer {
    /// Name of the server.
    pub name: String,
    /// What it sent back.
    pub echo: Vec<u8>,
    /// Where the answer came from.
    pub from: SocketAddr,
}

impl Lab {
    /// The client of this lab.
    pub fn client(&self) -> Client<'_> {
        self.asking_from(Role::Client)
    }

    /// The same questions asked from another node.
    pub fn asking_from(&self, role: Role) -> Client<'_> {
        Client {
            lab: self,
            role,
            source: None,
            limit: Duration::from_secs(5),
        }
    }
}

impl Client<'_> {
    /// Asks from this address instead of the kernel's choice.
    pub fn source(self, source: IpAddr) -> Self {
        Self {
            source: Some(source),
            ..self
        }
    }

    /// Gives each transfer this long, 5 s otherwise.
    pub fn limit(self, limit: Duration) -> Self {
        Self { limit, ..self }
    }

    /// `curl` with what every call needs: no proxies, quiet, a limit.
    pub fn curl(&self) -> Command {
        let mut command = plain_curl(self.limit);
        if let Some(source) = self.source {
            command.args(["--interface", &source.to_string()]);
        }
        command
    }

    /// The body of `GET path`; an error tells curl's exit code and complaint.
    pub fn get(&self, to: SocketAddr, path: &str) -> Result<Vec<u8>> {
        let mut command = self.curl();
        self.body(command.args(["--fail", &url(to, path)]))
    }

    /// Name of the server that answers one connection.
    pub fn name(&self, to: SocketAddr) -> Result<String> {
        let body = self.get(to, "/")?;
        Ok(String::from_utf8_lossy(&body).trim().to_owned())
    }

    /// Makes `count` connections one after the other and counts who answered.
    pub fn spread(&self, to: SocketAddr, count: usize) -> Result<Spread> {
        let mut command = self.curl();
        for request in 0..count {
            if request > 0 {
                command.arg("--next");
                command.args(self.curl().get_args());
            }
            // A connection for each request: the server closes when asked to. The port is one that no
            // connection had before: of a used one the director may still know the real server, and
            // by IPVS's rules send a new connection there.
            command.args(["--header", "Connection: close"]);
            command.args(["--local-port", &fresh_port().to_string()]);
            command.args([
                "--write-out",
                "\n%{http_code} %{exitcode} %{local_port} %{errormsg}\n",
            ]);
            command.arg(url(to, "/"));
        }
        // A bad end only says that some connection failed, which the lines say better.
        let output = self.lab.output(self.role, &mut command)?;
        let spread = read_spread(&String::from_utf8_lossy(&output.stdout));
        let seen = spread.answered() + spread.failures.len();
        if seen != count {
            return Err(LabError::Answer(format!(
                "curl told of {seen} connections to {to} instead of {count}: {}",
                String::from_utf8_lossy(&output.stderr).trim()
            )));
        }
        Ok(spread)
    }

    /// Fetches `length` bytes and compares each.
    pub fn download(&self, to: SocketAddr, length: usize) -> Result<()> {
        let body = self.get(to, &format!("/bytes/{length}"))?;
        compare(&body, length, &format!("{length} bytes from {to}"))
    }

    /// Sends `length` bytes, has them sent back and compares each.
    pub fn echo(&self, to: SocketAddr, length: usize) -> Result<()> {
        let mut command = self.curl();
        // No `Expect: 100-continue`, so that the body follows at once.
        command.args([
            "--fail",
            "--header",
            "Expect:",
            "--data-binary",
            "@-",
            &url(to, "/echo"),
        ]);
        let what = format!("echo of {length} bytes from {to}");
        let input = pattern::bytes(0, length);
        let output = namespace::output_with(&self.lab.namespace(self.role), &mut command, &input)?;
        compare(&checked(&command, output)?, length, &what)
    }

    /// Asks by one datagram and waits for the answer.
    pub fn udp(&self, to: SocketAddr, question: &[u8]) -> Result<UdpAnswer> {
        self.udp_from(0, to, question)
    }

    /// The same from a port of one's choice.
    pub fn udp_from(&self, port: u16, to: SocketAddr, question: &[u8]) -> Result<UdpAnswer> {
        let any = match to {
            SocketAddr::V4(_) => IpAddr::from(Ipv4Addr::UNSPECIFIED),
            SocketAddr::V6(_) => IpAddr::from(Ipv6Addr::UNSPECIFIED),
        };
        let source = SocketAddr::new(self.source.unwrap_or(any), port);
        self.lab
            .run_in(self.role, || ask_by_udp(source, to, question, self.limit))?
    }

    /// Sends one echo request and waits for its reply.
    pub fn ping(&self, to: IpAddr) -> Result<()> {
        let mut command = Command::new("ping");
        let limit = self.limit.as_secs().max(1).to_string();
        command.args(["-n", "-q", "-c", "1", "-w", &limit, &to.to_string()]);
        self.lab.check(self.role, &mut command).map(drop)
    }

    fn body(&self, command: &mut Command) -> Result<Vec<u8>> {
        let output = self.lab.output(self.role, command)?;
        checked(command, output)
    }
}

/// `curl` without proxies and progress, with a limit.
pub(crate) fn plain_curl(limit: Duration) -> Command {
    let mut command = Command::new("curl");
    command.args([
        "--disable",
        "--silent",
        "--show-error",
        "--globoff",
        "--noproxy",
        "*",
    ]);
    command.args(["--max-time", &limit.as_secs_f32().to_string()]);
    command
}

fn checked(command: &Command, output: std::process::Output) -> Result<Vec<u8>> {
    if !output.status.success() {
        return Err(LabError::Command {
            command: namespace::command_line(command),
            status: output.status,
            stderr: String::from_utf8_lossy(&output.stderr).trim().to_owned(),
        });
    }
    Ok(output.stdout)
}

fn url(to: SocketAddr, path: &str) -> String {
    format!("http://{to}{path}")
}

fn compare(found: &[u8], length: usize, what: &str) -> Result<()> {
    match pattern::first_difference(found, length) {
        None => Ok(()),
        Some(at) => Err(LabError::Answer(format!(
            "{what}: {} came, the first wrong or missing byte is at {at}",
            found.len()
        ))),
    }
}

/// Reads what `spread` made curl say: a name, then a line about the transfer.
/// A port of a client that this process has not named before, for 22 000 times; below those that the
/// kernel chooses.
fn fresh_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    10_000 + NEXT.fetch_add(1, Ordering::Relaxed) % 22_000
}

fn read_spread(text: &str) -> Spread {
    let mut spread = Spread::default();
    let mut name = None;
    for line in text.lines().filter(|line| !line.is_empty()) {
        let mut words = line.splitn(4, ' ');
        match (words.next(), words.next(), words.next()) {
            (Some("200"), Some("0"), Some(_)) if name.is_some() => {
                *spread
                    .answers
                    .entry(name.take().unwrap_or_default())
                    .or_default() += 1;
            }
            (Some(_), Some(exit), Some(port)) => {
                let message = words.next().unwrap_or_default();
                spread
                    .failures
                    .push(format!("port {port}: curl exit code {exit} {message}"));
                name = None;
            }
            _ => name = Some(line.to_owned()),
        }
    }
    spread
}

/// Sends one datagram and waits for any answer, from wherever it comes.
pub(crate) fn ask_by_udp(
    source: SocketAddr,
    to: SocketAddr,
    question: &[u8],
    limit: Duration,
) -> Result<UdpAnswer> {
    let failed = |source: io::Error| match source.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => LabError::Deadline {
            what: format!("{to} did not answer by UDP"),
            limit,
        },
        _ => LabError::Io {
            what: format!("UDP to {to}"),
            source,
        },
    };
    let socket = UdpSocket::bind(source).map_err(failed)?;
    // Not connected: an answer from a wrong address must be seen, not lost.
    socket.send_to(question, to).map_err(failed)?;
    socket.set_read_timeout(Some(limit)).map_err(failed)?;
    let mut buffer = vec![0; 65_536];
    let (length, from) = socket.recv_from(&mut buffer).map_err(failed)?;
    buffer.truncate(length);
    let end = buffer.iter().position(|byte| *byte == b'\n');
    let Some(end) = end else {
        return Err(LabError::Answer(format!(
            "{from} answered {length} bytes without a name"
        )));
    };
    let echo = buffer.split_off(end + 1);
    buffer.truncate(end);
    Ok(UdpAnswer {
        name: String::from_utf8_lossy(&buffer).into_owned(),
        echo,
        from,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_and_failures_are_told_apart() {
        let text = "rs1\n\n200 0 40000 \nrs2\n\n200 0 40002 \n\n000 28 40004 Timed out after 5 s\n\
                    rs1\n\n200 0 40006 \n";
        let spread = read_spread(text);
        assert_eq!(
            spread.answers,
            BTreeMap::from([("rs1".into(), 2), ("rs2".into(), 1)])
        );
        assert_eq!(
            spread.failures,
            ["port 40004: curl exit code 28 Timed out after 5 s"]
        );
    }
}

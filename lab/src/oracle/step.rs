//! A step of a scenario: one line of words.

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use crate::oracle::site;

/// Longest `sleep`, so that a slip of the finger is seen.
const LONGEST_SLEEP: f64 = 3600.0;

/// One thing that is done, and what is written down about it.
#[derive(Debug, Clone, PartialEq)]
pub enum Step {
    /// `ipvsadm ARGS...`, without the first word: a change or question of the configuration.
    Ipvsadm(String),
    /// `sh COMMAND...`: a command on the director.
    Shell(String),
    /// `rs N COMMAND...`: a command on a real server.
    OnServer {
        /// Number of the real server, from 1.
        server: u8,
        /// The command.
        command: String,
    },
    /// `open ID SRC DST`: a TCP connection, kept open.
    Open(Flow),
    /// `close ID`: the client closes first.
    Close(String),
    /// `rst ID`: the client resets.
    Reset(String),
    /// `send ID`: one byte and its echo.
    Send(String),
    /// `udp ID SRC DST`: one datagram; further ones of an ID come from the same socket.
    Udp(Flow),
    /// `sleep SECONDS`.
    Sleep(Duration),
    /// `list`: services and real servers in the director's own order.
    List,
    /// `stats`: counters.
    Stats,
    /// `conns`: the connection table.
    Conns,
    /// `save`: the configuration as `ipvsadm -Sn` writes it.
    Save,
}

/// A named way from a client's address to a service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Flow {
    /// Its name in the scenario.
    pub id: String,
    /// The client's address and port.
    pub source: SocketAddr,
    /// Where it goes.
    pub destination: SocketAddr,
}

impl Step {
    /// Reads a step; the error says what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let (operation, rest) = split(text);
        let words: Vec<&str> = rest.split_whitespace().collect();
        let one = |what: &str| match words[..] {
            [word] => Ok(word.to_owned()),
            _ => Err(format!("`{operation}` takes {what} and nothing else")),
        };
        let command = |rest: &str| match rest {
            "" => Err(format!("`{operation}` without a command")),
            rest => Ok(rest.to_owned()),
        };
        Ok(match operation {
            // Without arguments ipvsadm lists.
            "ipvsadm" => Self::Ipvsadm(rest.to_owned()),
            "sh" => Self::Shell(command(rest)?),
            "rs" => {
                let (number, rest) = split(rest);
                let server = number.parse().ok().filter(site::is_server).ok_or_else(|| {
                    format!(
                        "`rs {number}`: real servers are numbered 1 to {}",
                        site::SERVERS
                    )
                })?;
                Self::OnServer {
                    server,
                    command: command(rest)?,
                }
            }
            "open" => Self::Open(flow(&words)?),
            "udp" => Self::Udp(flow(&words)?),
            "close" => Self::Close(one("an ID")?),
            "rst" => Self::Reset(one("an ID")?),
            "send" => Self::Send(one("an ID")?),
            "sleep" => {
                let seconds = one("seconds")?;
                let number = seconds
                    .parse::<f64>()
                    .ok()
                    .filter(|number| (0.0..=LONGEST_SLEEP).contains(number))
                    .ok_or_else(|| {
                        format!("`sleep {seconds}`: not 0 to {LONGEST_SLEEP} seconds")
                    })?;
                Self::Sleep(Duration::from_secs_f64(number))
            }
            "list" | "stats" | "conns" | "save" if !words.is_empty() => {
                return Err(format!("`{operation}` takes no more words"));
            }
            "list" => Self::List,
            "stats" => Self::Stats,
            "conns" => Self::Conns,
            "save" => Self::Save,
            "" => return Err("the step is empty".to_owned()),
            other => {
                return Err(format!(
                    "there is no step `{other}`; there are ipvsadm, sh, rs, open, close, rst, \
                     send, udp, sleep, list, stats, conns and save"
                ));
            }
        })
    }

    /// The word that it begins with.
    pub const fn operation(&self) -> &'static str {
        match self {
            Self::Ipvsadm(_) => "ipvsadm",
            Self::Shell(_) => "sh",
            Self::OnServer { .. } => "rs",
            Self::Open(_) => "open",
            Self::Close(_) => "close",
            Self::Reset(_) => "rst",
            Self::Send(_) => "send",
            Self::Udp(_) => "udp",
            Self::Sleep(_) => "sleep",
            Self::List => "list",
            Self::Stats => "stats",
            Self::Conns => "conns",
            Self::Save => "save",
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.operation())?;
        match self {
            Self::Ipvsadm(words) if words.is_empty() => Ok(()),
            Self::Ipvsadm(words) | Self::Shell(words) => write!(f, " {words}"),
            Self::OnServer { server, command } => write!(f, " {server} {command}"),
            Self::Open(flow) | Self::Udp(flow) => {
                write!(f, " {} {} {}", flow.id, flow.source, flow.destination)
            }
            Self::Close(id) | Self::Reset(id) | Self::Send(id) => write!(f, " {id}"),
            Self::Sleep(time) => write!(f, " {}", time.as_secs_f64()),
            Self::List | Self::Stats | Self::Conns | Self::Save => Ok(()),
        }
    }
}

/// The first word and the rest.
fn split(text: &str) -> (&str, &str) {
    let (first, rest) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
    (first, rest.trim_start())
}

fn flow(words: &[&str]) -> Result<Flow, String> {
    let [id, source, destination] = words[..] else {
        return Err("`open` and `udp` take an ID, a source and a destination".to_owned());
    };
    let address = |text: &str| {
        text.parse::<SocketAddr>()
            .ok()
            .filter(|address| address.port() != 0)
            .ok_or_else(|| format!("{text:?} is no address with a port, as 10.99.0.1:80"))
    };
    let flow = Flow {
        id: id.to_owned(),
        source: address(source)?,
        destination: address(destination)?,
    };
    if flow.source.is_ipv4() != flow.destination.is_ipv4() {
        return Err(format!("{source} and {destination} are of two families"));
    }
    Ok(flow)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_step_reads_as_it_is_written() {
        for text in [
            "ipvsadm -A -t 10.99.0.1:80 -s rr",
            "sh sysctl -qw net.ipv4.vs.expire_nodest_conn=1",
            "rs 3 ip link set eth0 down",
            "open c0 10.64.0.1:20000 10.99.0.1:80",
            "open c0 [fd00:64::1]:20000 [fd00:99::1]:80",
            "close c0",
            "rst c0",
            "send c0",
            "udp a 10.64.0.1:5001 10.99.0.1:53",
            "sleep 9",
            "sleep 0.5",
            "list",
            "stats",
            "conns",
            "save",
        ] {
            assert_eq!(Step::parse(text).unwrap().to_string(), text);
        }
        assert_eq!(
            Step::parse("  sh   echo  a b ").unwrap(),
            Step::Shell("echo  a b".to_owned())
        );
    }

    #[test]
    fn what_is_no_step_is_refused() {
        for text in [
            "",
            "fly c0",
            "opens c0 10.64.0.1:1 10.99.0.1:80",
            "open c0 10.64.0.1:1",
            "open c0 10.64.0.1 10.99.0.1:80",
            "open c0 10.64.0.1:0 10.99.0.1:80",
            "open c0 10.64.0.1:1 [fd00:99::1]:80",
            "open c0 10.64.0.1:1 10.99.0.1:80 now",
            "close",
            "close a b",
            "sleep",
            "sleep long",
            "sleep -1",
            "list all",
            "sh",
            "rs 9 true",
            "rs 0 true",
            "rs 1",
        ] {
            assert!(Step::parse(text).is_err(), "{text:?}");
        }
    }
}

//! What is done to a fault lab: commands as an operator would type them, and processes.

use std::fmt;

/// One step, in one node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Runs a command to its end, which must be good.
    Run {
        /// Where.
        node: &'static str,
        /// Program and arguments.
        words: Vec<String>,
        /// What the command reads.
        input: Option<String>,
    },
    /// Runs `pointsman` with these words beside the director.
    Director {
        /// Words after the program's name.
        words: Vec<String>,
    },
    /// Starts a helper of the lab (`serve`, `decapsulate`) that goes on, or another program.
    Start {
        /// Where.
        node: &'static str,
        /// By which it is stopped; one of each key runs at a time.
        key: &'static str,
        /// Words after `pointsman lab`.
        words: Vec<String>,
    },
    /// Starts a program that goes on.
    Spawn {
        /// Where.
        node: &'static str,
        /// By which it is stopped.
        key: &'static str,
        /// Program and arguments; `@files` stands for a directory of the lab.
        words: Vec<String>,
    },
    /// Writes a file into a directory of the lab.
    Write {
        /// Its name.
        name: &'static str,
        /// What is in it.
        text: String,
    },
    /// Ends a process.
    Stop {
        /// Its key.
        key: &'static str,
    },
    /// Halts a process, or lets it go on.
    Halt {
        /// Its key.
        key: &'static str,
        /// Halts it if true.
        halted: bool,
    },
    /// Tags frames for a VLAN, or takes their tags off, as long as the interface lives.
    Tag {
        /// Where.
        node: &'static str,
        /// The interface.
        device: &'static str,
        /// On frames that are sent; else on those received.
        sent: bool,
        /// The VLAN; none takes tags off.
        vlan: Option<u16>,
    },
    /// Attaches an XDP program that passes everything, so that frames that XDP sends into the
    /// interface's other end come out of it.
    PassXdp {
        /// Where.
        node: &'static str,
        /// The interface.
        device: &'static str,
    },
    /// Makes requests that nobody waits for; how they end does not matter.
    Ask {
        /// How many.
        times: u8,
    },
}

/// A command, split at spaces.
pub(crate) fn run(node: &'static str, command: &str) -> Action {
    Action::Run {
        node,
        words: split(command),
        input: None,
    }
}

/// The same with what it reads.
pub(crate) fn feed(node: &'static str, command: &str, input: &str) -> Action {
    Action::Run {
        node,
        words: split(command),
        input: Some(input.to_owned()),
    }
}

/// A line for a shell, whose end does not matter.
pub(crate) fn attempt(node: &'static str, line: &str) -> Action {
    Action::Run {
        node,
        words: ["sh", "-c", &format!("{line} || true")]
            .map(str::to_owned)
            .to_vec(),
        input: None,
    }
}

/// A setting of the kernel, as `sysctl` sets it.
pub(crate) fn sysctl(node: &'static str, key: &str, value: &str) -> Action {
    run(node, &format!("sysctl -q -w {key}={value}"))
}

/// `pointsman ipvsadm` with these arguments.
pub(crate) fn ipvsadm(arguments: &str) -> Action {
    director(&format!("ipvsadm {arguments}"))
}

/// `pointsman` beside the director.
pub(crate) fn director(words: &str) -> Action {
    Action::Director {
        words: split(words),
    }
}

/// Starts a helper of the lab.
pub(crate) fn start(node: &'static str, key: &'static str, words: &str) -> Action {
    Action::Start {
        node,
        key,
        words: split(words),
    }
}

/// Starts a program that goes on.
pub(crate) fn spawn(node: &'static str, key: &'static str, words: &str) -> Action {
    Action::Spawn {
        node,
        key,
        words: split(words),
    }
}

/// Ends one.
pub(crate) const fn stop(key: &'static str) -> Action {
    Action::Stop { key }
}

fn split(words: &str) -> Vec<String> {
    words.split_whitespace().map(str::to_owned).collect()
}

/// Words that begin a helper of the lab.
pub(crate) const HELPER: &str = "pointsman lab";

impl Action {
    /// The node where it is done, if it is one.
    pub fn node(&self) -> Option<&'static str> {
        match self {
            Self::Run { node, .. } | Self::Start { node, .. } | Self::Tag { node, .. } => {
                Some(node)
            }
            Self::Spawn { node, .. } | Self::PassXdp { node, .. } => Some(node),
            Self::Director { .. } => Some("director"),
            Self::Write { .. } | Self::Stop { .. } | Self::Halt { .. } | Self::Ask { .. } => None,
        }
    }
}

/// As one would type it in the node.
impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Run {
                words,
                input: Some(input),
                ..
            } => write!(f, "{} <<'END'\n{}\nEND", quote(words), input.trim_end()),
            Self::Run { words, .. } => f.write_str(&quote(words)),
            Self::Director { words } => write!(f, "pointsman {}", quote(words)),
            Self::Start { words, .. } => write!(f, "{HELPER} {} &", quote(words)),
            Self::Spawn { words, .. } => write!(f, "{} &", quote(words)),
            Self::Write { name, text } => {
                write!(f, "cat >{name} <<'END'\n{}\nEND", text.trim_end())
            }
            Self::Stop { key } => write!(f, "end the process {key}"),
            Self::Halt { key, halted: true } => write!(f, "halt the process {key} (SIGSTOP)"),
            Self::Halt { key, .. } => write!(f, "let the process {key} go on (SIGCONT)"),
            Self::Tag {
                device, sent, vlan, ..
            } => {
                let hook = if *sent { "egress" } else { "ingress" };
                match vlan {
                    Some(vlan) => write!(f, "BPF: tag VLAN {vlan} at {device} {hook}"),
                    None => write!(f, "BPF: untag at {device} {hook}"),
                }
            }
            Self::PassXdp { device, .. } => write!(f, "XDP: pass everything at {device}"),
            Self::Ask { times } => write!(f, "ask {times} times"),
        }
    }
}

/// Words for a shell.
fn quote(words: &[String]) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_=+.,:/@%".contains(&byte);
    let quoted = words.iter().map(|word| {
        if !word.is_empty() && word.bytes().all(plain) {
            word.clone()
        } else {
            format!("'{}'", word.replace('\'', r"'\''"))
        }
    });
    quoted.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn actions_read_as_typed() {
        let action = run("host1", "ebtables -t nat -D X ! -s a");
        assert_eq!(action.to_string(), "ebtables -t nat -D X '!' -s a");
        assert_eq!(action.node(), Some("host1"));
        assert_eq!(
            feed("rs1", "iptables-restore", "*raw\nCOMMIT\n").to_string(),
            "iptables-restore <<'END'\n*raw\nCOMMIT\nEND"
        );
        assert_eq!(
            ipvsadm("-D -t a:80").to_string(),
            "pointsman ipvsadm -D -t a:80"
        );
        assert_eq!(
            start("rs1", "web", "serve --port 80").to_string(),
            "pointsman lab serve --port 80 &"
        );
    }
}

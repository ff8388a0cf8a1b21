//! What is wrong, how sure that is, and how it is mended.

use std::fmt;
use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use crate::catalogue::Code;

/// A way to see a fault at work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Witness {
    /// Captures show where frames end or turn.
    Capture,
    /// A counter rose with the probes.
    Counter,
    /// The kernel told what it dropped and why.
    Kernel,
    /// A table that the probes left an entry in: neighbours, tracked connections.
    Trace,
    /// The kernel twin does the same, and does not once it is mended.
    Twin,
    /// A node told the sender that it can't: an ICMP error.
    Refusal,
    /// A kernel was asked which way it sends such packets, and told.
    Route,
    /// The kernel told which rule of its packet filter decided.
    Rule,
    /// Rules of the doctor's own, before and after everybody's, counted the packets.
    Hook,
    /// Frames put in further on were answered.
    Injection,
}

impl fmt::Display for Witness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Capture => "capture",
            Self::Counter => "counter",
            Self::Kernel => "kernel",
            Self::Trace => "trace",
            Self::Twin => "twin",
            Self::Refusal => "refusal",
            Self::Route => "route",
            Self::Rule => "rule",
            Self::Hook => "hook",
            Self::Injection => "inject",
        })
    }
}

/// A rule of a packet filter, as its node lists it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RuleName {
    /// The table as people name it: `ebtables nat`.
    pub table: String,
    /// The chain.
    pub chain: String,
    /// The rule in its dialect, or what the chain's end does in parentheses.
    pub text: String,
    /// The command that lists it.
    pub listing: String,
}

/// What becomes of a frame where nothing is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Shows {
    /// It comes out again, by another port.
    #[default]
    Passes,
    /// The node answers it, from the address that it was sent to.
    Answered,
    /// Nobody answers it: a question by ARP.
    Unanswered,
    /// The node asked this service, the frame answers from where the request went, and comes out as it
    /// went in.
    Untouched(SocketAddr),
    /// The node asks by ARP how to answer it, and not in the name of the address that it was sent to.
    AsksAsItself,
}

/// A frame that shows a fault when it is put in at a port of the node's twin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trial {
    /// The frame.
    pub frame: Vec<u8>,
    /// True for what comes in at the port, false for what is to leave by it.
    pub enters: bool,
    /// The port, if it is not the finding's.
    pub port: Option<String>,
    /// What would become of it.
    pub shows: Shows,
    /// What people try first, and what does not help.
    pub tempting: Vec<Fix>,
}

/// How a fix did in a trial: probes that came through, of how many.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tested {
    /// As it is.
    pub before: usize,
    /// With the fix.
    pub after: usize,
    /// Probes each time.
    pub of: usize,
    /// Where it was tried.
    pub by: Witness,
}

/// How sure a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Confidence {
    /// Configuration alone says so.
    Possible,
    /// One witness saw it.
    Likely,
    /// Two independent witnesses saw it.
    Proved,
}

impl fmt::Display for Confidence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Possible => "possible",
            Self::Likely => "likely",
            Self::Proved => "proved",
        })
    }
}

/// A fact that speaks for a finding.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Evidence {
    /// The fact.
    pub fact: String,
    /// The command that shows it again; empty if there is none.
    #[serde(default)]
    pub command: String,
    /// The node for the command, if it is not the finding's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// How it was seen at work; nothing for configuration.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub witness: Option<Witness>,
}

/// A command for a shell on a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// The node.
    pub node: String,
    /// The command.
    pub command: String,
}

/// Something that would mend a finding.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Fix {
    /// What it does, and what it gives up.
    pub words: String,
    /// The node for the commands, if it is not the finding's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// Commands for a shell there, in order.
    pub commands: Vec<String>,
    /// Commands that take it back.
    pub undo: Vec<String>,
    /// What makes others forget how it was, after the commands, and after the undo.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub afterwards: Vec<Step>,
    /// How it did where it was tried.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tested: Option<Tested>,
}

/// A fault, or what may be one, at a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// Which fault.
    pub code: Code,
    /// The node that it is at.
    pub node: String,
    /// The interface where frames are seen last or missed first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub link: Option<String>,
    /// The rule that does it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule: Option<RuleName>,
    /// How sure it is.
    pub confidence: Confidence,
    /// What is wrong here, in one sentence.
    pub words: String,
    /// What speaks for it.
    #[serde(default)]
    pub evidence: Vec<Evidence>,
    /// Who made it so: a libvirt filter, neutron, kube-proxy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
    /// What would mend it, the smallest first.
    #[serde(default)]
    pub fixes: Vec<Fix>,
    /// What shows it in a twin.
    #[serde(skip)]
    pub trial: Option<Trial>,
}

impl Finding {
    /// A finding that configuration alone gives.
    pub fn new(code: Code, node: &str, words: impl Into<String>) -> Self {
        Self {
            code,
            node: node.to_owned(),
            link: None,
            rule: None,
            confidence: Confidence::Possible,
            words: words.into(),
            evidence: Vec::new(),
            owner: None,
            fixes: Vec::new(),
            trial: None,
        }
    }

    /// Adds a fact and the command that shows it.
    #[must_use]
    pub fn because(mut self, fact: impl Into<String>, command: impl Into<String>) -> Self {
        self.evidence.push(Evidence {
            fact: fact.into(),
            command: command.into(),
            node: None,
            witness: None,
        });
        self
    }

    /// Adds a fact that another node knows.
    #[must_use]
    pub fn seen_at(
        mut self,
        node: &str,
        fact: impl Into<String>,
        command: impl Into<String>,
    ) -> Self {
        self.evidence.push(Evidence {
            fact: fact.into(),
            command: command.into(),
            node: Some(node.to_owned()),
            witness: None,
        });
        self
    }

    /// Adds what would mend it: commands, and those that take them back.
    #[must_use]
    pub fn mended_by<C: Into<String>, U: Into<String>>(
        mut self,
        words: impl Into<String>,
        commands: impl IntoIterator<Item = C>,
        undo: impl IntoIterator<Item = U>,
    ) -> Self {
        self.fixes.push(Fix {
            words: words.into(),
            commands: commands.into_iter().map(Into::into).collect(),
            undo: undo.into_iter().map(Into::into).collect(),
            ..Fix::default()
        });
        self
    }

    /// Says that the last fix is for another node's shell.
    #[must_use]
    pub fn typed_at(mut self, node: &str) -> Self {
        if let Some(fix) = self.fixes.last_mut() {
            fix.node = Some(node.to_owned());
        }
        self
    }

    /// Adds a command that makes a node forget how it was, to each fix that has commands.
    pub fn forgotten_by(&mut self, node: &str, command: &str) {
        for fix in self.fixes.iter_mut().filter(|fix| !fix.commands.is_empty()) {
            fix.afterwards.push(Step {
                node: node.to_owned(),
                command: command.to_owned(),
            });
        }
    }

    /// Says what shows it in a twin, if anything does.
    #[must_use]
    pub fn shown_by(mut self, trial: Option<Trial>) -> Self {
        self.trial = trial;
        self
    }

    /// Names the interface.
    #[must_use]
    pub fn at(mut self, link: &str) -> Self {
        self.link = Some(link.to_owned());
        self
    }

    /// Says who made it so.
    #[must_use]
    pub fn owned_by(mut self, owner: Option<String>) -> Self {
        self.owner = owner;
        self
    }

    /// Says how sure it is.
    #[must_use]
    pub fn with(mut self, confidence: Confidence) -> Self {
        self.confidence = confidence;
        self
    }
}

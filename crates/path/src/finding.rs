//! What is wrong, how sure that is, and how it is mended.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::catalogue::Code;

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
}

/// Something that would mend a finding.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Fix {
    /// What it does, and what it gives up.
    pub words: String,
    /// Commands for a shell on the finding's node, in order.
    pub commands: Vec<String>,
    /// Commands that take it back.
    pub undo: Vec<String>,
}

/// A fault, or what may be one, at a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// Which fault.
    pub code: Code,
    /// The node that it is at.
    pub node: String,
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
}

impl Finding {
    /// A finding that configuration alone gives.
    pub fn new(code: Code, node: &str, words: impl Into<String>) -> Self {
        Self {
            code,
            node: node.to_owned(),
            confidence: Confidence::Possible,
            words: words.into(),
            evidence: Vec::new(),
            owner: None,
            fixes: Vec::new(),
        }
    }

    /// Adds a fact and the command that shows it.
    #[must_use]
    pub fn because(mut self, fact: impl Into<String>, command: impl Into<String>) -> Self {
        self.evidence.push(Evidence {
            fact: fact.into(),
            command: command.into(),
            node: None,
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
        });
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

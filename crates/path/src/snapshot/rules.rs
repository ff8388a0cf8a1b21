//! Packet-filter rules as their programs dump them.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// What a program of the `...-save` kind printed.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct SavedRules {
    /// The program: `iptables-nft-save`, `ebtables-legacy-save`, ...
    pub program: String,
    /// Its output, counters included.
    pub text: String,
}

impl SavedRules {
    /// Whether the rules are in the kernel's tables from before nftables.
    pub fn is_legacy(&self) -> bool {
        self.program.contains("legacy")
    }

    /// Whether it holds any rule, or a policy that drops.
    pub fn says_anything(&self) -> bool {
        self.text.lines().any(|line| {
            line.starts_with("-A")
                || line.starts_with('[')
                || line.starts_with(':') && line.contains(" DROP")
        })
    }
}

/// All rules of a node.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct RuleDumps {
    /// What `nft --json --handle list ruleset` printed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nft: Option<Value>,
    /// Rules of ebtables.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ebtables: Vec<SavedRules>,
    /// Rules of iptables.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub iptables: Vec<SavedRules>,
    /// Rules of ip6tables.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ip6tables: Vec<SavedRules>,
}

//! Rules of netfilter that set marks, read into the director's own mark rules.
//!
//! Read are the texts of `iptables-save` and `ip6tables-save` (lines of `iptables` commands, too) and
//! the JSON of `nft -j list ruleset`. Of all hooks those count that a packet passes before IPVS sees
//! it: prerouting, then input, each by priority. Chains are followed as the kernel does: marks of
//! several rules add up, and what accepts, returns or jumps passes over rules. What can't be said
//! in mark rules is an [`Obstacle`]: nothing different is made of it.

mod iptables;
mod nftables;
mod program;
#[cfg(test)]
mod tests;

use std::fmt;

use pointsman_director::model::{Family, MarkRule};

/// A text to be read.
#[derive(Debug, Clone, Copy)]
pub struct Source<'a> {
    /// Its name, for messages.
    pub name: &'a str,
    /// What it says.
    pub text: &'a str,
}

/// Why a rule can't be imported.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Obstacle {
    /// Where it is: `file:line`, or file, chain and handle.
    pub place: String,
    /// The rule, as written.
    pub rule: String,
    /// What stands in the way.
    pub why: String,
}

impl fmt::Display for Obstacle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}: {}", self.place, self.why, self.rule)
    }
}

/// What was read.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Import {
    /// Rules that give packets the same marks, but for the obstacles.
    pub rules: Vec<MarkRule>,
    /// Rules that are left out.
    pub obstacles: Vec<Obstacle>,
}

/// A text is not what it should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{place}: {why}")]
pub struct ReadError {
    /// `file` or `file:line`.
    pub place: String,
    /// What is wrong.
    pub why: String,
}

/// Reads all of `sources`; they are one host's, so their hooks are ordered together. `family` is
/// that of tables of iptables whose text does not name the program that wrote it.
///
/// # Errors
///
/// When a text is neither of the two forms.
pub fn import(sources: &[Source<'_>], family: Family) -> Result<Import, ReadError> {
    let mut chains = Vec::new();
    for source in sources {
        if source.text.trim_start().starts_with('{') {
            chains.extend(nftables::read(source)?);
        } else {
            chains.extend(iptables::read(source, family)?);
        }
    }
    Ok(program::compile(chains))
}

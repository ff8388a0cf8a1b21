//! The kernel twin: a namespace made like a node, to try frames and fixes without touching the node.
//!
//! A [`Plan`] says what has to be run to make it. Every Ethernet link of the node becomes one end of a
//! veth pair with the same name and address; the other end, of the same name, lies in a second
//! namespace, where frames are put in and come out. Bridges are bridges, with the node's flags,
//! forwarding entries, kernel parameters and packet-filter rules. What can't be made is in
//! [`Plan::left_out`]: what depends on it is not shown by the twin.

mod links;
mod rules;

use crate::snapshot::Snapshot;

/// How to make a twin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// What is run in the twin's namespace, in order.
    pub steps: Vec<Step>,
    /// The links whose other ends are outside.
    pub ports: Vec<String>,
    /// What the node has and the twin has not, in words.
    pub left_out: Vec<String>,
}

/// A program that is run in the twin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// The program and its arguments.
    pub words: Vec<String>,
    /// What it reads.
    pub input: String,
    /// Without it the twin would be another than the node, and nothing it shows would count.
    pub needed: bool,
}

impl Step {
    fn new(words: &[&str], input: impl Into<String>) -> Self {
        Self {
            words: words.iter().map(|word| (*word).to_owned()).collect(),
            input: input.into(),
            needed: true,
        }
    }

    fn tried(mut self) -> Self {
        self.needed = false;
        self
    }
}

impl Plan {
    /// The plan of a node's twin; the far ends of its links go to the namespace `outside`.
    pub fn new(node: &Snapshot, outside: &str) -> Self {
        let mut plan = Self {
            steps: Vec::new(),
            ports: Vec::new(),
            left_out: Vec::new(),
        };
        links::plan(node, outside, &mut plan);
        rules::plan(node, &mut plan);
        links::raise(node, &mut plan);
        plan
    }

    fn leave_out(&mut self, what: impl Into<String>) {
        self.left_out.push(what.into());
    }

    fn has(&self, link: &str) -> bool {
        self.ports.iter().any(|port| port == link)
    }
}

//! Faults of the catalogue, each built for real: what is broken, what the client then sees, which
//! rule is guilty, what cures it and how the cure is undone.
//!
//! A fault is data. A [`site::Site`] says which hosts, guests and cables there are and works as it
//! stands; a [`Fault`] adds [`Blocker`]s to it, each with the commands that break something, cure
//! it and break it again. [`fault_lab::FaultLab`] carries all that out in network namespaces.

pub mod action;
mod balancing;
pub mod command;
pub mod fault_lab;
mod hypervisor;
mod identity;
mod kubernetes;
mod need;
mod nwfilter;
mod path;
mod quirk;
mod real_server;
pub mod show;
pub mod site;
mod story;
mod witness;

use std::net::SocketAddrV4;

use action::Action;
use site::Site;

/// One fault, or several that hide each other, and everything to show it.
#[derive(Debug, Clone)]
pub struct Fault {
    /// The code of the catalogue, or the name of a story or quirk.
    pub name: &'static str,
    /// What is wrong, in one line.
    pub title: &'static str,
    /// Who is there.
    pub site: Site,
    /// What is asked.
    pub request: Request,
    /// How `curl` ends while the fault stands: 28 timed out, 7 refused or unreachable.
    pub exit: i32,
    /// Everything that must be cured before a request is answered; none in a healthy lab.
    pub blockers: Vec<Blocker>,
    /// Done before each request.
    pub before: Vec<Action>,
    /// What an observer may know beyond the code, for people.
    pub note: &'static str,
}

/// One cause, enough to stop every request.
#[derive(Debug, Clone)]
pub struct Blocker {
    /// The code of the catalogue.
    pub code: &'static str,
    /// Who does it.
    pub guilty: Guilty,
    /// Makes the fault.
    pub breaks: Vec<Action>,
    /// Cures it.
    pub cure: Vec<Action>,
    /// Takes the cure back.
    pub undo: Vec<Action>,
    /// What people try first, and what does not help.
    pub tempting: Vec<Action>,
    /// What shows, while it stands, that it is this and nothing else.
    pub witness: Option<Witness>,
}

/// A command whose output shows that a fault is at work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Witness {
    /// Where.
    pub node: &'static str,
    /// The command; one that begins with `pointsman` is asked of the lab's director.
    pub command: &'static str,
    /// What a line of its output must have.
    pub line: &'static str,
    /// Behind this, the line has a number above 0; empty if it has none.
    pub count_after: &'static str,
}

/// Where the packet ends and by what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Guilty {
    /// The node.
    pub node: &'static str,
    /// Its interface where the packet was seen last or is missed first.
    pub port: &'static str,
    /// The rule as the node's tools list it, or the setting or line of configuration.
    pub rule: String,
}

/// A question to the virtual service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Request {
    /// `GET /`.
    Get,
    /// Echo of so many bytes by `POST`.
    Post(usize),
    /// A datagram; no answer counts as timed out.
    Udp,
}

impl Fault {
    fn new(name: &'static str, title: &'static str, site: Site) -> Self {
        Self {
            name,
            title,
            site,
            request: Request::Get,
            exit: TIMED_OUT,
            blockers: Vec::new(),
            before: Vec::new(),
            note: "",
        }
    }

    /// A fault with one cause of the same name.
    fn single(
        name: &'static str,
        title: &'static str,
        site: Site,
        guilty: (&'static str, &'static str, &str),
        breaks: Vec<Action>,
        cure: Vec<Action>,
    ) -> Self {
        Self::new(name, title, site).blocked(Blocker::new(name, guilty, breaks, cure))
    }

    fn blocked(mut self, blocker: Blocker) -> Self {
        self.blockers.push(blocker);
        self
    }

    fn refused(self) -> Self {
        Self {
            exit: REFUSED,
            ..self
        }
    }

    fn asking(self, request: Request) -> Self {
        Self { request, ..self }
    }

    fn before(self, before: Vec<Action>) -> Self {
        Self { before, ..self }
    }

    fn note(self, note: &'static str) -> Self {
        Self { note, ..self }
    }

    /// For a fault whose cure is taken back otherwise than the fault was made.
    fn undone_by(mut self, undo: Vec<Action>) -> Self {
        if let Some(blocker) = self.blockers.last_mut() {
            blocker.undo = undo;
        }
        self
    }

    /// With a cure that is none.
    fn tempting(mut self, tempting: Vec<Action>) -> Self {
        if let Some(blocker) = self.blockers.last_mut() {
            blocker.tempting = tempting;
        }
        self
    }

    /// Codes of everything that must be cured, in the order a packet meets them.
    pub fn codes(&self) -> Vec<&'static str> {
        self.blockers.iter().map(|blocker| blocker.code).collect()
    }

    /// What this machine lacks for it.
    pub fn missing(&self) -> Vec<&'static str> {
        let needs = self.site.needs.iter();
        needs.filter_map(|need| need.missing()).collect()
    }

    /// Whether nothing is wrong here.
    pub fn is_healthy(&self) -> bool {
        self.blockers.is_empty()
    }

    /// The virtual service.
    pub fn vip(&self) -> SocketAddrV4 {
        self.site.vip
    }
}

impl Blocker {
    fn new(
        code: &'static str,
        (node, port, rule): (&'static str, &'static str, &str),
        breaks: Vec<Action>,
        cure: Vec<Action>,
    ) -> Self {
        Self {
            code,
            guilty: Guilty {
                node,
                port,
                rule: rule.to_owned(),
            },
            undo: breaks.clone(),
            breaks,
            cure,
            tempting: Vec::new(),
            witness: witness::of(code),
        }
    }
}

/// `curl` gave up waiting.
pub const TIMED_OUT: i32 = 28;
/// `curl` could not connect: refused, or no route.
pub const REFUSED: i32 = 7;

/// Every fault of the catalogue that can be built here, in the catalogue's order.
pub fn faults() -> Vec<Fault> {
    [
        hypervisor::faults(),
        identity::faults(),
        real_server::faults(),
        balancing::faults(),
        kubernetes::faults(),
        path::faults(),
    ]
    .concat()
}

/// The stories: several faults that hide each other.
pub fn stories() -> Vec<Fault> {
    story::stories()
}

/// Healthy labs, each with something unusual that does no harm.
pub fn quirks() -> Vec<Fault> {
    quirk::quirks()
}

/// The fault, story or quirk with this name, in upper or lower case.
pub fn find(name: &str) -> Option<Fault> {
    let fits = |fault: &Fault| fault.name.eq_ignore_ascii_case(name);
    [faults(), stories(), quirks()]
        .into_iter()
        .flatten()
        .find(fits)
}

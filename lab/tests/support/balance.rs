//! A lab with a director in front of real servers, as every end-to-end test needs it.

use std::net::SocketAddr;
use std::time::Duration;

use pointsman_lab::address::{Family, vip};
use pointsman_lab::director::Director;
use pointsman_lab::lab::{self, Lab, Program};
use pointsman_lab::topology::{Kind, Options, Topology, WirePort};

/// The laboratory's own program, which serves and decapsulates.
pub const PROGRAM: &str = env!("CARGO_BIN_EXE_pointsman-lab");

/// A hook that a test asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hook {
    /// Native XDP, in a lab whose switch ends checksums and segments as a wire would.
    Xdp,
    /// tcx, with frames just as veth hands them over.
    Tcx,
}

impl Hook {
    /// As `--hook` wants it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Xdp => "xdp",
            Self::Tcx => "tcx",
        }
    }

    /// Options of a lab for this hook.
    pub fn options(self) -> Options {
        Options {
            wire_port: WirePort {
                complete_checksums: self == Self::Xdp,
            },
            ..Options::default()
        }
    }
}

/// Builds a lab with servers on these ports; none when labs can't be built here, and says why.
pub fn build(kind: Kind, options: &Options, ports: &[u16]) -> Option<Lab> {
    if let Some(reason) = lab::why_not() {
        eprintln!("skipped: {reason}");
        return None;
    }
    let lab = Topology::build(kind, options).unwrap();
    let program = Program::new(PROGRAM);
    if kind == Kind::Tunnel {
        lab.start_decapsulators(&program).unwrap();
    }
    lab.start_servers(&program, ports).unwrap();
    Some(lab)
}

/// Starts the director with a hook and checks that it was used on every leg.
pub fn direct<'a>(lab: &'a Lab, hook: Hook, more: &[&str]) -> Director<'a> {
    let arguments = [&["--hook", hook.name()], more].concat();
    let director = Director::start(lab, &arguments).unwrap();
    let legs = director.said().len() - 1;
    let expected = match lab.topology().kind {
        Kind::TwoBridge | Kind::Nat => 2,
        Kind::OneLeg | Kind::Tunnel => 1,
    };
    assert_eq!(legs, expected, "{:?}", director.said());
    for line in &director.said()[..legs] {
        let wanted = format!(": {} (", hook.name());
        assert!(line.contains(&wanted), "{:?}", director.said());
    }
    director
}

/// The letter of `ipvsadm -a` for the forwarding method that a lab is for.
pub fn method(kind: Kind) -> &'static str {
    match kind {
        Kind::TwoBridge | Kind::OneLeg => "-g",
        Kind::Tunnel => "-i",
        Kind::Nat => "-m",
    }
}

/// The VIP and a port.
pub fn service(family: Family, port: u16) -> SocketAddr {
    SocketAddr::new(vip(family), port)
}

/// Adds a service (`-t` or `-u`) with all real servers of one family, each with more words.
pub fn add(
    director: &Director<'_>,
    lab: &Lab,
    (letter, at, scheduler): (&str, SocketAddr, &str),
    servers: Family,
    words: impl Fn(usize) -> String,
) {
    director
        .ipvsadm(&format!("-A {letter} {at} -s {scheduler}"))
        .unwrap();
    for (index, address) in lab.topology().real_servers(servers).into_iter().enumerate() {
        director
            .ipvsadm(&format!(
                "-a {letter} {at} -r {} {}",
                SocketAddr::new(address, at.port()),
                words(index)
            ))
            .unwrap();
    }
}

/// For transfers of megabytes on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(60);

//! `pointsman nwfilter check`: every frame that a role needs, whether it passes, and why.

use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::Args;
use pointsman_filter::catalogue::{self, Need};
use pointsman_filter::judge::Verdict;
use pointsman_filter::route::{Direction, Host, Port};

use super::scene::SceneFlags;
use super::source::SourceFlags;

pub(crate) const LONG_ABOUT: &str = "\
List the frames that a role needs, whether they pass, and which rule decides

Exit codes: 0 all frames that must pass do, 1 some don't, 2 the question could not be answered.

    virsh dumpxml director > director.xml
    pointsman nwfilter check --domain director.xml --role director --vip 192.0.2.208:80 --method dr";

#[derive(Debug, Args)]
pub(crate) struct CheckFlags {
    #[command(flatten)]
    scene: SceneFlags,
    #[command(flatten)]
    source: SourceFlags,
}

pub(crate) fn run(flags: &CheckFlags) -> Result<ExitCode> {
    let Some(domain) = &flags.source.domain else {
        bail!("which guest? Name its XML with --domain");
    };
    let guest = flags.source.guest(domain)?;
    let compiled = guest.compile(flags.source.backend)?;
    let scene = flags.scene.scene(guest.mac, &[]);
    let host = Host {
        call_iptables: true,
        call_ip6tables: true,
        ..Host::default()
    };
    let port = Port {
        name: &guest.port,
        bridge: None,
        peer: None,
    };
    let mut lacking = false;
    for kind in catalogue::kinds(&scene) {
        let judgement = kind.judge(port, &compiled.ruleset, &host)?;
        lacking |= kind.need == Need::Must && judgement.verdict != Verdict::Pass;
        let direction = match kind.direction {
            Direction::In => "in",
            _ => "out",
        };
        println!(
            "{:7} {:15} {direction:3} {}",
            judgement.verdict.to_string(),
            kind.need,
            kind.words
        );
    }
    Ok(ExitCode::from(u8::from(lacking)))
}

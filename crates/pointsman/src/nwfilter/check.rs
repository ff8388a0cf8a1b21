//! `pointsman nwfilter check`: every frame that a role needs, whether it passes, and why.

mod finding;
mod json;
mod print;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::Args;
use pointsman_filter::catalogue::{self, Scene};
use pointsman_filter::explain::explain;
use pointsman_filter::model::Ruleset;
use pointsman_filter::nwfilter::{Binding, Learning, Reached, reach};
use pointsman_filter::pins::Pins;
use pointsman_filter::route::{Host, Port};
use pointsman_filter::{dump, hookup, owner};
use pointsman_wire::Mac;

use super::scene::SceneFlags;
use super::source::{self, Guest, SourceFlags};
use finding::Finding;

pub(crate) const LONG_ABOUT: &str = "\
List the frames that a role needs, whether they pass, and which rule decides

The rules are those that libvirt makes of a guest's filter (--domain), or those of dumps (--rules): \
ebtables-save, `ebtables -t nat -L`, iptables-save, ip6tables-save, `nft -j list ruleset`, also as pasted \
into a mail. What is not told about the network (the router, a client, real servers) is assumed and said.

Exit codes: 0 all frames that must pass do, 1 some don't, 2 the question could not be answered.

    virsh dumpxml director > director.xml
    pointsman nwfilter check --domain director.xml --role director --vip 192.0.2.208:80 --method dr
    ebtables-save > rules
    pointsman nwfilter check --rules rules --port vnet0 --role vrrp --vip 192.0.2.208:80";

#[derive(Debug, Args)]
pub(crate) struct CheckFlags {
    #[command(flatten)]
    scene: SceneFlags,
    #[command(flatten)]
    source: SourceFlags,
    /// Rules of the host instead of a guest's XML; several files are read as one host's
    #[arg(long, value_name = "FILE", num_args = 1.., conflicts_with = "domain",
          required_unless_present = "domain")]
    rules: Vec<PathBuf>,
    /// The bridge of the port, for rules that name it
    #[arg(long, value_name = "BRIDGE")]
    bridge: Option<String>,
    /// The host does not hand bridged packets to iptables (net.bridge.bridge-nf-call-iptables is 0)
    #[arg(long)]
    no_bridge_nf: bool,
    /// Show only what is not as it should be
    #[arg(long, short)]
    brief: bool,
    /// As JSON
    #[arg(long)]
    json: bool,
}

/// The rules in question, and whose they are.
struct Subject {
    rules: Ruleset,
    port: String,
    mac: Mac,
    /// The guest with its filters, if its XML was given.
    guest: Option<Guest>,
    /// What people should know about the answer.
    notes: Vec<String>,
}

pub(crate) fn run(flags: &CheckFlags) -> Result<ExitCode> {
    let subject = match &flags.source.domain {
        Some(domain) => Subject::of_guest(flags, flags.source.guest(domain)?)?,
        None => Subject::of_dumps(flags)?,
    };
    let report = Report::new(flags, &subject)?;
    if flags.json {
        println!("{:#}", json::report(&report));
    } else {
        print!("{}", print::report(&report, flags.brief));
    }
    Ok(ExitCode::from(u8::from(report.is_lacking())))
}

impl Subject {
    fn of_guest(flags: &CheckFlags, guest: Guest) -> Result<Self> {
        let compiled = guest.compile(flags.source.backend)?;
        let mut notes: Vec<String> = compiled.warnings.iter().map(ToString::to_string).collect();
        notes.extend(guest.unread.iter().map(ToString::to_string));
        if let Some(learning) = compiled.learning {
            notes.push(match learning {
                Learning::Any => {
                    "the filter has no IP, so libvirt learns it from the guest's first IPv4 packet; \
                     these are the rules until then. A director's first packet may be a client's, \
                     and then the client's address is learned: give IP"
                }
                Learning::Dhcp => {
                    "the filter has no IP, so libvirt learns it from DHCP; these are the rules until \
                     then"
                }
            }
            .into());
        }
        Ok(Self {
            rules: compiled.ruleset,
            port: guest.port.clone(),
            mac: guest.mac,
            guest: Some(guest),
            notes,
        })
    }

    fn of_dumps(flags: &CheckFlags) -> Result<Self> {
        let mut rules = Ruleset::default();
        for file in &flags.rules {
            rules.extend(dump::read(
                &file.display().to_string(),
                &source::text(file)?,
            )?);
        }
        Self::of_rules(flags, rules)
    }

    fn of_rules(flags: &CheckFlags, mut rules: Ruleset) -> Result<Self> {
        let ports = owner::ports(&rules);
        let port = match (&flags.source.port, ports.as_slice()) {
            (Some(port), _) => port.clone(),
            (None, [port]) => port.clone(),
            (None, []) => bail!("which port? Name it with --port; no chain is one of libvirt's"),
            (None, ports) => bail!(
                "which port? Name it with --port; libvirt's chains are about {}",
                ports.join(", ")
            ),
        };
        let mut notes: Vec<String> = hookup::complete(&mut rules, &port)?
            .into_iter()
            .map(|rule| format!("nothing enters libvirt's chain; taken for granted: {rule}"))
            .collect();
        let pinned = Pins::of(&rules, &port).macs;
        let mac = match (flags.source.mac, pinned.as_slice()) {
            (Some(mac), _) => mac,
            (None, [mac, ..]) => *mac,
            (None, []) => bail!("what is the guest's MAC? No rule says; name it with --mac"),
        };
        if !names(&rules, &port) {
            notes.push(format!("no rule names port {port}"));
        }
        Ok(Self {
            rules,
            port,
            mac,
            guest: None,
            notes,
        })
    }

    fn binding(&self) -> Option<&Binding> {
        Some(&self.guest.as_ref()?.binding)
    }
}

/// Whether any rule is about a port.
fn names(rules: &Ruleset, port: &str) -> bool {
    let is_about = |text: &str| {
        text.split([' ', '"', ',', '{', '}'])
            .any(|word| word == port)
    };
    rules
        .tables
        .iter()
        .flat_map(|table| &table.chains)
        .flat_map(|chain| &chain.rules)
        .any(|rule| is_about(&rule.text))
}

/// What was asked, and the answer.
struct Report<'a> {
    subject: &'a Subject,
    scene: Scene,
    vips: Vec<String>,
    findings: Vec<Finding>,
}

impl<'a> Report<'a> {
    fn new(flags: &CheckFlags, subject: &'a Subject) -> Result<Self> {
        let pins = Pins::of(&subject.rules, &subject.port);
        let scene = flags.scene.scene(subject.mac, &pins.addresses);
        let filters: Vec<Reached<'_>> = subject
            .guest
            .as_ref()
            .map(|guest| reach(&guest.library, &guest.binding))
            .unwrap_or_default();
        let host = Host {
            call_iptables: !flags.no_bridge_nf,
            call_ip6tables: !flags.no_bridge_nf,
            ..Host::default()
        };
        let port = Port {
            name: &subject.port,
            bridge: flags.bridge.as_deref(),
            peer: None,
        };
        let mut findings = Vec::new();
        for kind in catalogue::kinds(&scene) {
            let judgement = kind
                .judge(port, &subject.rules, &host)
                .context("the catalogue has a frame without a header")?;
            let explanation = explain(&judgement, &kind.frame, &subject.rules, &filters);
            findings.push(Finding { kind, explanation });
        }
        Ok(Self {
            subject,
            scene,
            vips: flags.scene.vips().map(|vip| vip.to_string()).collect(),
            findings,
        })
    }

    /// Whether something does not pass that must.
    fn is_lacking(&self) -> bool {
        self.findings.iter().any(Finding::is_lacking)
    }
}

//! `pointsman nwfilter check`: every frame that a role needs, whether it passes, and why.

mod finding;
mod json;
mod live;
mod print;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::Args;
use pointsman_filter::attribute::attribute;
use pointsman_filter::catalogue::{self, Scene};
use pointsman_filter::explain::explain;
use pointsman_filter::model::{Ruleset, Table};
use pointsman_filter::nwfilter::{Binding, Learning, Reached, reach};
use pointsman_filter::pins::Pins;
use pointsman_filter::route::{Host, Port};
use pointsman_filter::{dump, hookup, owner};
use pointsman_wire::Mac;

use super::scene::SceneFlags;
use super::source::{self, Backend, Guest, SourceFlags};
use finding::Finding;
use live::Live;

pub(crate) const LONG_ABOUT: &str = "\
List the frames that a role needs, whether they pass, and which rule decides

The rules are those that libvirt makes of a guest's filter (--domain), those of dumps (--rules): \
ebtables-save, `ebtables -t nat -L`, iptables-save, ip6tables-save, `nft -j list ruleset`, also as pasted \
into a mail; or those that this host has now (--live). With --domain beside --rules or --live the guest's \
filter names the host's rules, and what differs from it is said. What is not told about the network (the router, a client, real servers) is assumed and said.

Exit codes: 0 all frames that must pass do, 1 some don't, 2 the question could not be answered.

    virsh dumpxml director > director.xml
    pointsman nwfilter check --domain director.xml --role director --vip 192.0.2.208:80 --method dr
    ebtables-save > rules
    pointsman nwfilter check --rules rules --port vnet0 --role vrrp --vip 192.0.2.208:80
    pointsman nwfilter check --live --port vnet0 --role director --vip 192.0.2.208:80";

#[derive(Debug, Args)]
pub(crate) struct CheckFlags {
    #[command(flatten)]
    scene: SceneFlags,
    #[command(flatten)]
    source: SourceFlags,
    /// Rules of the host; several files are read as one host's
    #[arg(long, value_name = "FILE", num_args = 1..,
          required_unless_present_any = ["domain", "live"])]
    rules: Vec<PathBuf>,
    /// The rules that this host, in this network namespace, has now; nothing is changed
    #[arg(long, conflicts_with_all = ["rules", "bridge", "no_bridge_nf"], requires = "port")]
    live: bool,
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
    bridge: Option<String>,
    mac: Mac,
    /// The guest with its filters, if its XML was given.
    guest: Option<Guest>,
    /// How the host hands bridged packets to iptables.
    host: Host<'static>,
    /// What people should know about the answer.
    notes: Vec<String>,
}

pub(crate) fn run(flags: &CheckFlags) -> Result<ExitCode> {
    let subject = if flags.live {
        Subject::of_host(flags)?
    } else if flags.rules.is_empty() {
        Subject::of_guest(flags)?
    } else {
        Subject::of_dumps(flags)?
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
    /// By the guest's filter alone.
    fn of_guest(flags: &CheckFlags) -> Result<Self> {
        let guest = guest(flags)?.context("which guest? Name its XML with --domain")?;
        let compiled = guest.compile(flags.source.backend)?;
        let mut notes: Vec<String> = compiled.warnings.iter().map(ToString::to_string).collect();
        notes.extend(guest.unread.iter().map(ToString::to_string));
        notes.extend(
            compiled
                .learning
                .map(|learning| learns(learning).to_owned()),
        );
        Ok(Self {
            rules: compiled.ruleset,
            port: guest.port.clone(),
            bridge: flags.bridge.clone(),
            mac: guest.mac,
            guest: Some(guest),
            host: host(!flags.no_bridge_nf),
            notes,
        })
    }

    fn of_dumps(flags: &CheckFlags) -> Result<Self> {
        let mut dumps = Vec::new();
        for file in &flags.rules {
            let name = file.display().to_string();
            dumps.push(dump::read(&name, &source::text(file)?)?);
        }
        let mut subject = Self::of_rules(flags, dump::merge(dumps), guest(flags)?)?;
        subject.bridge.clone_from(&flags.bridge);
        subject.host = host(!flags.no_bridge_nf);
        Ok(subject)
    }

    fn of_host(flags: &CheckFlags) -> Result<Self> {
        let port = flags.source.port.as_deref().unwrap_or_default();
        let live = Live::look(port)?;
        let (mut guest, mut notes) = (guest(flags)?, live.notes);
        if guest.is_none()
            && let Some(binding) = &live.binding
        {
            match flags
                .source
                .guest_of("virsh nwfilter-binding-dumpxml", binding)
            {
                Ok(found) => guest = Some(found),
                Err(error) => notes.push(format!("without libvirt's filters: {error:#}")),
            }
        }
        let mut subject = Self::of_rules(flags, live.rules, guest)?;
        subject.bridge = live.bridge;
        subject.host = Host {
            call_iptables: live.call_iptables,
            call_ip6tables: live.call_ip6tables,
            filter_vlan_tagged: live.filter_vlan_tagged,
            ..Host::default()
        };
        notes.append(&mut subject.notes);
        subject.notes = notes;
        Ok(subject)
    }

    /// By a host's rules, which the guest's filter only names.
    fn of_rules(flags: &CheckFlags, mut rules: Ruleset, guest: Option<Guest>) -> Result<Self> {
        let ports = owner::ports(&rules);
        let told = flags.source.port.clone();
        let of_guest = guest.as_ref().and_then(|guest| guest.binding.port.clone());
        let port = match (told.or(of_guest), ports.as_slice()) {
            (Some(port), _) => port,
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
        if let Some(guest) = &guest {
            match named(flags, &mut rules, guest) {
                Ok(differences) => notes.extend(differences),
                Err(error) if flags.source.domain.is_some() => return Err(error),
                // Nobody asked for what libvirt told by itself.
                Err(error) => notes.push(format!("without libvirt's filters: {error:#}")),
            }
        }
        let pinned = Pins::of(&rules, &port).macs;
        let of_guest = guest.as_ref().map(|guest| guest.mac);
        let mac = match (flags.source.mac.or(of_guest), pinned.as_slice()) {
            (Some(mac), _) => mac,
            (None, [mac, ..]) => *mac,
            (None, []) => bail!("what is the guest's MAC? No rule says; name it with --mac"),
        };
        if !ports.contains(&port) && !names(&rules, &port) {
            notes.push(format!("no rule names port {port}"));
        }
        Ok(Self {
            rules,
            port,
            bridge: None,
            mac,
            guest,
            host: Host::default(),
            notes,
        })
    }

    fn binding(&self) -> Option<&Binding> {
        Some(&self.guest.as_ref()?.binding)
    }

    /// The router's MAC, if the guest's filter says (`clean-traffic-gateway`).
    fn gateway_mac(&self) -> Option<Mac> {
        let parameters = &self.binding()?.filter.parameters;
        parameters.get("GATEWAY_MAC")?.first()?.parse().ok()
    }
}

/// The guest of the XML, if that was given.
fn guest(flags: &CheckFlags) -> Result<Option<Guest>> {
    let domain = flags.source.domain.as_deref();
    domain.map(|domain| flags.source.guest(domain)).transpose()
}

/// A host, of whose settings only one is told.
fn host(bridge_nf: bool) -> Host<'static> {
    Host {
        call_iptables: bridge_nf,
        call_ip6tables: bridge_nf,
        ..Host::default()
    }
}

fn learns(learning: Learning) -> &'static str {
    match learning {
        Learning::Any => {
            "the filter has no IP, so libvirt learns it from the guest's first IPv4 packet; these are \
             the rules until then. A director's first packet may be a client's, and then the client's \
             address is learned: give IP"
        }
        Learning::Dhcp => {
            "the filter has no IP, so libvirt learns it from DHCP; these are the rules until then"
        }
    }
}

/// Names a host's rules by the guest's filter; what differs is worth a note.
fn named(flags: &CheckFlags, rules: &mut Ruleset, guest: &Guest) -> Result<Vec<String>> {
    // Which backend libvirt has shows in its tables.
    let is_native = |table: &Table| table.name.starts_with("libvirt_nwfilter_");
    let backend = if rules.tables.iter().any(is_native) {
        Some(Backend::Nftables)
    } else {
        flags.source.backend
    };
    let compiled = guest.compile(backend)?;
    if compiled.learning.is_some() {
        return Ok(vec![
            "the filter has no IP, so libvirt learns it; the host's rules are not compared with it"
                .into(),
        ]);
    }
    let drift = attribute(rules, &compiled.ruleset);
    Ok(drift.iter().map(ToString::to_string).collect())
}

/// What libvirt's other backend does otherwise with the same filter.
fn otherwise(subject: &Subject, port: Port<'_>, findings: &[Finding]) -> Result<Vec<String>> {
    let Some(guest) = &subject.guest else {
        return Ok(Vec::new());
    };
    let other = match guest.compile(Some(Backend::Nftables)) {
        Ok(compiled) => compiled.ruleset,
        Err(error) => {
            return Ok(vec![format!(
                "libvirt's nftables backend refuses this: {error:#}"
            )]);
        }
    };
    let mut notes = Vec::new();
    for finding in findings {
        let judgement = finding.kind.judge(port, &other, &subject.host)?;
        if judgement.verdict != finding.explanation.verdict {
            notes.push(format!(
                "libvirt's nftables backend (--backend nftables) says {}: {}",
                judgement.verdict, finding.kind.words
            ));
        }
    }
    Ok(notes)
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
    /// What people should know about the answer.
    notes: Vec<String>,
    scene: Scene,
    vips: Vec<String>,
    findings: Vec<Finding>,
}

impl<'a> Report<'a> {
    fn new(flags: &CheckFlags, subject: &'a Subject) -> Result<Self> {
        let pins = Pins::of(&subject.rules, &subject.port);
        let mut known = flags.scene.known(subject.mac, &pins.addresses);
        known.gateway_mac = known.gateway_mac.or_else(|| subject.gateway_mac());
        let scene = Scene::new(&known);
        let filters: Vec<Reached<'_>> = subject
            .guest
            .as_ref()
            .map(|guest| reach(&guest.library, &guest.binding))
            .unwrap_or_default();
        let port = Port {
            name: &subject.port,
            bridge: subject.bridge.as_deref(),
            peer: None,
        };
        let mut findings = Vec::new();
        for kind in catalogue::kinds(&scene) {
            let judgement = kind
                .judge(port, &subject.rules, &subject.host)
                .context("the catalogue has a frame without a header")?;
            let explanation = explain(&judgement, &kind.frame, &subject.rules, &filters);
            findings.push(Finding { kind, explanation });
        }
        let mut notes = subject.notes.clone();
        if flags.source.backend.is_none() && flags.rules.is_empty() && !flags.live {
            notes.extend(otherwise(subject, port, &findings)?);
        }
        Ok(Self {
            subject,
            notes,
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

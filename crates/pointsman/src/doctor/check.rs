//! `pointsman doctor check`: the faults that configuration alone can tell.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{Read, Write};
use std::net::IpAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};
use pointsman_config::ipvsadm::Numeric;
use pointsman_config::ipvsadm::endpoint::{self, Endpoint};
use pointsman_director::model::{ForwardingMethod, Protocol};
use pointsman_path::bundle::Bundle;
use pointsman_path::finding::Finding;
use pointsman_path::lint::{self, Case};
use pointsman_path::question::Wish;
use pointsman_path::topology::{self, Role, Topology};
use serde_json::json;

use super::harmless;
use crate::collect::{self, Node, NodeFlags};

pub(crate) const LONG_ABOUT: &str = "\
Look for faults that configuration alone can tell; nothing is sent and nothing is changed

Reads this host, network namespaces, hosts that ssh reaches, or bundles of `pointsman collect`. Finds \
directors by their services and real servers by their addresses; --role tells what nobody can see.

Exit codes: 0 nothing found, 1 something found, 2 the question could not be answered.

    pointsman doctor check --vip 192.0.2.208:80 --netns 'pmdemo-*'
    pointsman doctor check --bundle bundle.json --json
    pointsman doctor check --vip 192.0.2.208:80 --role rs1=real-server --host root@rs1";

#[derive(Debug, Args)]
pub(crate) struct CheckFlags {
    /// The virtual service; all that directors have when not told
    #[arg(long, value_name = "ADDR[:PORT]", value_parser = service)]
    vip: Option<Endpoint>,
    /// The virtual service is one of UDP, where no director tells
    #[arg(long)]
    udp: bool,
    /// How packets get to real servers, where no director tells
    #[arg(long, value_name = "METHOD", value_enum)]
    method: Option<Method>,
    /// A client's address
    #[arg(long, value_name = "ADDR")]
    from: Option<IpAddr>,
    /// What a node is for: director, real-server, client; may be repeated
    #[arg(long = "role", value_name = "NODE=ROLE", value_parser = role)]
    roles: Vec<(String, Role)>,
    #[command(flatten)]
    nodes: NodeFlags,
    /// A bundle of `pointsman collect` instead: JSON, tar, or a folder; may be repeated
    #[arg(long = "bundle", value_name = "FILE", conflicts_with_all = ["netns", "hosts", "here"])]
    bundles: Vec<PathBuf>,
    /// A file that tells nodes, their roles, client and virtual service
    #[arg(long, value_name = "FILE")]
    topology: Option<PathBuf>,
    /// As JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(super) enum Method {
    /// Direct routing
    Dr,
    /// Tunnel
    Tun,
    /// Masquerade
    Nat,
}

impl Method {
    pub(super) const fn model(self) -> ForwardingMethod {
        match self {
            Self::Dr => ForwardingMethod::Direct,
            Self::Tun => ForwardingMethod::Tunnel,
            Self::Nat => ForwardingMethod::Masquerade,
        }
    }
}

pub(super) fn run(flags: &CheckFlags) -> Result<ExitCode> {
    let topology = flags.topology.as_ref().map(read_topology).transpose()?;
    let case = case(flags, topology.as_ref());
    let (bundle, unreached) = if flags.bundles.is_empty() {
        let nodes = match &topology {
            Some(topology) if !flags.nodes.is_told() => topology
                .nodes
                .iter()
                .map(|node| (Node::of(&node.at), Some(node.name.clone())))
                .collect(),
            _ => flags
                .nodes
                .nodes()?
                .into_iter()
                .map(|node| (node, None))
                .collect(),
        };
        let wish = Wish {
            address: case.vip,
            ..Wish::default()
        };
        collect::collect(&flags.nodes, nodes, &wish)
    } else {
        (collect::read(&flags.bundles)?, Vec::new())
    };
    if bundle.nodes.is_empty() {
        bail!("no node could be read: {}", unreached.join("; "));
    }
    let subjects = lint::subject(&bundle, &case);
    let findings = lint::lint(&bundle, &case);
    if subjects.is_empty() && findings.is_empty() {
        let vip = case
            .vip
            .map_or("a virtual service".to_owned(), |vip| vip.to_string());
        bail!(
            "nothing here tells of {vip}: add the director, or say by --vip ADDR:PORT and --role which node is what"
        );
    }
    let text = if flags.json {
        as_json(&bundle, &subjects, &findings, &unreached)?
    } else {
        as_text(&bundle, &subjects, &findings, &unreached)
    };
    std::io::stdout().write_all(text.as_bytes())?;
    Ok(ExitCode::from(u8::from(!findings.is_empty())))
}

pub(super) fn read_topology(path: &PathBuf) -> Result<Topology> {
    let name = || path.display().to_string();
    let mut bytes = Vec::new();
    std::fs::File::open(path)
        .and_then(|file| {
            file.take(topology::LIMIT as u64 + 1)
                .read_to_end(&mut bytes)
        })
        .with_context(name)?;
    Topology::read(&bytes).with_context(name)
}

fn case(flags: &CheckFlags, topology: Option<&Topology>) -> Case {
    let mut roles: BTreeMap<String, Role> = BTreeMap::new();
    if let Some(topology) = topology {
        roles.extend(
            topology
                .nodes
                .iter()
                .map(|node| (node.name.clone(), node.role)),
        );
    }
    roles.extend(flags.roles.iter().cloned());
    let told = topology.and_then(|topology| topology.vip);
    let by_udp = topology.is_some_and(|topology| topology.protocol == topology::Protocol::Udp);
    Case {
        vip: flags
            .vip
            .map(|vip| vip.address)
            .or(told.map(|vip| vip.ip())),
        port: match flags.vip {
            Some(vip) => vip.port,
            None => told.map(|vip| vip.port()),
        },
        protocol: (flags.udp || by_udp).then_some(Protocol::Udp),
        client: flags.from.or(topology.and_then(|topology| topology.client)),
        method: flags.method.map(Method::model),
        roles,
        cables: topology.into_iter().flat_map(Topology::cables).collect(),
    }
}

fn as_json(
    bundle: &Bundle,
    subjects: &[String],
    findings: &[Finding],
    unreached: &[String],
) -> Result<String> {
    let gaps: Vec<_> = bundle
        .nodes
        .iter()
        .flat_map(|node| {
            node.gaps
                .iter()
                .map(|gap| json!({"node": node.node, "gap": gap}))
        })
        .collect();
    let document = json!({
        "schema": "pointsman.check/1",
        "services": subjects,
        "findings": findings,
        "not_collected": gaps,
        "not_reached": unreached,
    });
    Ok(serde_json::to_string_pretty(&document)? + "\n")
}

fn as_text(
    bundle: &Bundle,
    subjects: &[String],
    findings: &[Finding],
    unreached: &[String],
) -> String {
    let mut text = String::new();
    let about = if subjects.is_empty() {
        "the nodes".to_owned()
    } else {
        subjects.join(", ")
    };
    let _ = match findings.len() {
        0 => writeln!(text, "{about}: nothing wrong that configuration could tell"),
        1 => writeln!(text, "{about}: 1 finding"),
        count => writeln!(text, "{about}: {count} findings"),
    };
    for finding in findings {
        tell(&mut text, finding);
    }
    text += &looked_at(bundle, unreached);
    if !findings.is_empty() {
        text += EXPLAIN;
    }
    harmless(&text)
}

/// What is said behind findings.
pub(super) const EXPLAIN: &str = "`pointsman doctor --explain CODE` tells more of a finding\n";

/// A finding for people.
pub(super) fn tell(text: &mut String, finding: &Finding) {
    let _ = writeln!(
        text,
        "\n{}  {}  ({})",
        finding.code, finding.words, finding.confidence
    );
    for evidence in &finding.evidence {
        let _ = writeln!(text, "  because  {}", evidence.fact);
        if !evidence.command.is_empty() {
            let node = evidence.node.as_ref().unwrap_or(&finding.node);
            let _ = writeln!(text, "           {node}# {}", evidence.command);
        }
    }
    if let Some(owner) = &finding.owner {
        let _ = writeln!(text, "  owner    {owner}");
    }
    for fix in &finding.fixes {
        let _ = writeln!(text, "  fix      {}", fix.words);
        let node = fix.node.as_ref().unwrap_or(&finding.node);
        for command in fix.commands.iter().filter(|command| !command.is_empty()) {
            let _ = writeln!(text, "           {node}# {command}");
        }
        for step in &fix.afterwards {
            let _ = writeln!(text, "  then     {}# {}", step.node, step.command);
        }
        for command in fix.undo.iter().filter(|command| !command.is_empty()) {
            let _ = writeln!(text, "  undo     {node}# {command}");
        }
    }
}

/// Which nodes were read, and what was not.
pub(super) fn looked_at(bundle: &Bundle, unreached: &[String]) -> String {
    let mut text = String::new();
    let names: Vec<&str> = bundle.nodes.iter().map(|node| &*node.node).collect();
    if !names.is_empty() {
        let _ = writeln!(text, "\nlooked at {}", names.join(", "));
    }
    for node in &bundle.nodes {
        for gap in &node.gaps {
            let _ = writeln!(
                text,
                "not looked at: {} of {}: {}",
                gap.part.name(),
                node.node,
                gap.because
            );
        }
    }
    for failure in unreached {
        let _ = writeln!(text, "not looked at: {failure}");
    }
    text
}

/// `ADDR[:PORT]`.
pub(super) fn service(text: &str) -> Result<Endpoint, String> {
    endpoint::parse(text, None, &Numeric).ok_or_else(|| {
        "write an address, or address and port, as in 192.0.2.1:80 or [2001:db8::1]:80".to_owned()
    })
}

/// `NODE=ROLE`.
pub(super) fn role(text: &str) -> Result<(String, Role), String> {
    let (node, role) = text.split_once('=').ok_or("write NODE=ROLE")?;
    let role = match role {
        "director" => Role::Director,
        "real-server" | "realserver" => Role::RealServer,
        "client" => Role::Client,
        "gateway" => Role::Gateway,
        "host" => Role::Host,
        "switch" => Role::Switch,
        "other" => Role::Other,
        _ => {
            return Err(format!(
                "{role:?} is no role: director, real-server, client, gateway, host, switch or other"
            ));
        }
    };
    Ok((node.to_owned(), role))
}

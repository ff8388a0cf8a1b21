//! `pointsman doctor vip`: does a virtual service answer a client, and if not, where and why do packets
//! end?

use std::collections::BTreeMap;
use std::io::{IsTerminal, Write};
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::Args;
use pointsman_config::ipvsadm::endpoint::Endpoint;
use pointsman_director::model::Protocol;
use pointsman_linux::netns::NetNs;
use pointsman_path::bundle::Bundle;
use pointsman_path::capture_file;
use pointsman_path::capture_filter::Wanted;
use pointsman_path::diagnosis::{self, Observed};
use pointsman_path::finding::Finding;
use pointsman_path::ladder::{Hints, Ladder};
use pointsman_path::lint::{self, Case};
use pointsman_path::observation::Point;
use pointsman_path::question::Wish;
use pointsman_path::redact;
use pointsman_path::report::{self, Question, Report, Unobserved, Verdict};
use pointsman_path::snapshot::{Origin, Snapshot};
use pointsman_path::topology::{self, Cable, Role, Topology};

use super::check::{self, Method};
use super::methods::{self, Tracing};
use super::probe::Probe;
use super::watch::Watch;
use super::{document, harmless, routes, trial};
use crate::collect::{self, Node, NodeFlags};
use crate::far::Ssh;

/// Most namespaces that are asked when none is named.
const NAMESPACES: usize = 64;
/// Most addresses that captures are told to keep.
const ENDS: usize = 64;

pub(crate) const LONG_ABOUT: &str = "\
Say whether a virtual service answers a client, and if not, where and why packets end

Reads how everything is set up, captures at every interface, watches what kernels drop, and sends a few \
connections (datagrams for UDP) from the client. What configuration could explain is weighed by what was \
seen: a finding is possible (configuration alone), likely (one witness) or proved (two of different \
kinds). Fixes of bridge ports' filters are tried in a kernel twin of the host first. Nothing is changed \
outside of that, and nothing is left.

More than looking on needs your consent, by a flag or by an answer where a terminal is there to ask at: \
--trace puts tables of own rules into namespaces while three more probes are sent; the rules count these \
probes at every hook and have the kernel tell which rule decides. The tables belong to the running \
program: the kernel takes them away when it ends, also when it is killed. --inject sends two numbered \
copies of the lost request into each device on the rest of its way, as if they came from the wire: the \
first place that answers is behind what is broken. The answer lists the methods that were used, and why \
others were not.

Without --netns, --host, --here, --topology and --bundle: this host, and the namespaces that are \
connected with the service. Probes go from the node that has the client's address. At hosts that ssh \
reaches, a copy of this program watches and asks, from a temporary folder that goes afterwards; what \
nobody can see there, as which port is whose cable's end, --topology can tell.

Exit codes: 0 it answers, 1 a fault, 2 nobody can tell.

    pointsman doctor vip 198.51.100.208:80 --from 192.0.2.10 --netns 'pmdemo-*'
    pointsman doctor vip 198.51.100.208:80 --topology lab.json --json
    pointsman doctor vip 198.51.100.208:80 --bundle bundle.json";

#[derive(Debug, Args)]
pub(crate) struct VipFlags {
    /// The virtual service
    #[arg(value_name = "ADDR:PORT", value_parser = check::service)]
    service: Endpoint,
    /// The service is one of UDP
    #[arg(long)]
    udp: bool,
    /// The client's address
    #[arg(long, value_name = "ADDR")]
    from: Option<IpAddr>,
    /// How packets get to real servers, where no director tells
    #[arg(long, value_name = "METHOD", value_enum)]
    method: Option<Method>,
    /// What a node is for: director, real-server, client; may be repeated
    #[arg(long = "role", value_name = "NODE=ROLE", value_parser = check::role)]
    roles: Vec<(String, Role)>,
    #[command(flatten)]
    nodes: NodeFlags,
    /// A bundle of `pointsman collect` instead; nothing is sent then. May be repeated
    #[arg(long = "bundle", value_name = "FILE", conflicts_with_all = ["netns", "hosts", "here"])]
    bundles: Vec<PathBuf>,
    /// A file that tells nodes, their roles and client
    #[arg(long, value_name = "FILE")]
    topology: Option<PathBuf>,
    /// Send nothing: watch what clients do for some seconds
    #[arg(long)]
    no_probe: bool,
    /// How many probes are sent, or with --no-probe, for how many seconds to watch [default: 7, 3]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=100))]
    probes: Option<u16>,
    /// Where probes are not answered, have kernels tell which rules stop some more of them: puts own
    /// rules that only count and trace these probes into every namespace for about a second
    #[arg(long)]
    trace: bool,
    /// Where probes are not answered, put copies of the lost one in further and further on, as if they came
    /// from the wire: what answers is behind what is broken
    #[arg(long)]
    inject: bool,
    /// As JSON
    #[arg(long)]
    json: bool,
    /// Write the answer as one HTML file too, which needs no other and no network
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Keep the frames that were captured as one pcapng file, an interface for each place
    #[arg(long, value_name = "FILE")]
    pcapng: Option<PathBuf>,
    /// Replace names of hosts and guests, MAC addresses and public addresses by pseudonyms, the same for
    /// the same. Comments of rules stay
    #[arg(long)]
    redact: bool,
}

pub(super) fn run(flags: &VipFlags) -> Result<ExitCode> {
    let topology = flags
        .topology
        .as_ref()
        .map(check::read_topology)
        .transpose()?;
    let port = flags
        .service
        .port
        .filter(|port| *port != 0)
        .context("say the port too: ADDR:PORT")?;
    let service = SocketAddr::new(flags.service.address, port);
    let case = case(flags, topology.as_ref(), service);
    check_files(flags)?;
    let (mut report, bundle) = if flags.bundles.is_empty() {
        live(flags, topology.as_ref(), &case, service)?
    } else {
        let bundle = collect::read(&flags.bundles)?;
        (offline(&bundle, &case, service), bundle)
    };
    if flags.redact {
        let key = collect::key().context("cannot read /dev/urandom")?;
        let nodes = topology.iter().flat_map(|topology| &topology.nodes);
        let hosts = nodes.filter_map(|node| match &node.at {
            Origin::Host(host) => Some(host.clone()),
            Origin::Here | Origin::Netns(_) => None,
        });
        let asked: Vec<String> = flags.nodes.hosts.iter().cloned().chain(hosts).collect();
        report = redact::redact_report(&report, &bundle, &asked, key);
    }
    if let Some(path) = &flags.html {
        document::write(path, report.html().as_bytes())?;
    }
    let text = if flags.json {
        serde_json::to_string_pretty(&report)? + "\n"
    } else {
        harmless(&report.text())
    };
    std::io::stdout().write_all(text.as_bytes())?;
    Ok(ExitCode::from(report.exit_code()))
}

/// Refuses files that can't be, before anything is sent.
fn check_files(flags: &VipFlags) -> Result<()> {
    if flags.pcapng.is_some() && flags.redact {
        bail!(
            "--pcapng can't be redacted: frames hold addresses and what was said; leave --pcapng or --redact out"
        );
    }
    if flags.pcapng.is_some() && !flags.bundles.is_empty() {
        bail!("--pcapng keeps what is captured, and from bundles nothing is: leave it out");
    }
    let mut files = flags.html.iter().chain(&flags.pcapng);
    files.try_for_each(|path| document::check(path))
}

fn case(flags: &VipFlags, topology: Option<&Topology>, service: SocketAddr) -> Case {
    let nodes = topology.into_iter().flat_map(|topology| &topology.nodes);
    let mut roles: BTreeMap<String, Role> =
        nodes.map(|node| (node.name.clone(), node.role)).collect();
    roles.extend(flags.roles.iter().cloned());
    let by_udp = topology.is_some_and(|own| own.protocol == topology::Protocol::Udp);
    Case {
        vip: Some(service.ip()),
        port: Some(service.port()),
        protocol: (flags.udp || by_udp).then_some(Protocol::Udp),
        client: flags
            .from
            .or_else(|| topology.and_then(|topology| topology.client)),
        method: flags.method.map(Method::model),
        roles,
        cables: topology.into_iter().flat_map(Topology::cables).collect(),
    }
}

/// Whether the service is one of UDP, told or because nothing else has its address and port.
fn is_udp(case: &Case, bundle: &Bundle) -> bool {
    let services = bundle.nodes.iter().flat_map(|node| &node.services);
    let mut protocols = services
        .filter_map(|service| service.address())
        .filter(|(_, vip, port)| Some(*vip) == case.vip && Some(*port) == case.port)
        .map(|(protocol, ..)| protocol)
        .peekable();
    case.protocol == Some(Protocol::Udp)
        || protocols.peek().is_some() && protocols.all(|protocol| protocol == Protocol::Udp)
}

fn question(service: SocketAddr, case: &Case, udp: bool, asker: Option<String>) -> Question {
    Question {
        service,
        protocol: if udp { "udp" } else { "tcp" }.to_owned(),
        client: case.client,
        asker,
    }
}

fn blank(question: Question) -> Report {
    Report {
        schema: report::SCHEMA.to_owned(),
        tool: concat!("pointsman ", env!("CARGO_PKG_VERSION")).to_owned(),
        verdict: Verdict {
            status: report::Status::Unknown,
            code: None,
            confidence: None,
            summary: String::new(),
        },
        taken: 0,
        redacted: false,
        question,
        sent: String::new(),
        outcomes: Vec::new(),
        ladder: String::new(),
        courses: None,
        topology: None,
        ahead: Vec::new(),
        cause: None,
        also: Vec::new(),
        not_observed: Vec::new(),
        methods: Vec::new(),
        changes: Vec::new(),
    }
}

/// Tells who is there, and where packets were to go on to.
fn surroundings(report: &mut Report, bundle: &Bundle, case: &Case) {
    let mut found = lint::topology(bundle, case);
    found.asker.clone_from(&report.question.asker);
    let cause = report.cause.as_ref().map(|cause| &*cause.node);
    report.ahead = lint::ahead(bundle, case, report.courses.as_ref(), cause);
    report.topology = Some(found);
    let taken = bundle.nodes.iter().map(|node| node.taken);
    report.taken = taken.max().unwrap_or_default();
}

/// What was not collected.
fn gaps(bundle: &Bundle, unobserved: &mut Vec<Unobserved>) {
    for node in &bundle.nodes {
        unobserved.extend(node.gaps.iter().map(|gap| Unobserved {
            what: format!("{} of {}", gap.part.name(), node.node),
            because: gap.because.clone(),
        }));
    }
}

/// The answer from bundles alone.
fn offline(bundle: &Bundle, case: &Case, service: SocketAddr) -> Report {
    let mut report = blank(question(service, case, is_udp(case, bundle), None));
    let mut findings = lint::lint(bundle, case);
    gaps(bundle, &mut report.not_observed);
    trial::all(&mut findings, bundle, None, &mut report.not_observed);
    report.not_observed.push(Unobserved {
        what: "packets".to_owned(),
        because: "bundles tell how things are set up".to_owned(),
    });
    report.verdict = Report::verdict(&report.question, &findings, &[], false);
    report.settle(findings);
    surroundings(&mut report, bundle, case);
    report
}

/// The answer by asking and watching.
fn live(
    flags: &VipFlags,
    topology: Option<&Topology>,
    case: &Case,
    service: SocketAddr,
) -> Result<(Report, Bundle)> {
    let vip = service.ip();
    let wish = Wish {
        address: Some(vip),
        ..Wish::default()
    };
    let (before, unreached) = read(flags, topology, &wish, case)?;
    if before.nodes.is_empty() && unreached.is_empty() {
        bail!(
            "neither this host nor a namespace here has {vip} or the client's address: say where to look by --netns, --host or --topology"
        );
    }
    if before.nodes.is_empty() {
        bail!("no node could be read: {}", unreached.join("; "));
    }
    let udp = is_udp(case, &before);
    let mut unobserved: Vec<Unobserved> = unreached
        .into_iter()
        .map(|because| Unobserved {
            what: "a node".to_owned(),
            because,
        })
        .collect();
    gaps(&before, &mut unobserved);
    let asker = asker(topology, case, &before, &mut unobserved);
    let mut report = blank(question(
        service,
        case,
        udp,
        asker.map(|node| node.node.clone()),
    ));
    let ends = ends(&before, case, service);
    let wanted = Wanted {
        ends: ends.clone(),
        clients: Vec::new(),
    };
    let ssh = Ssh {
        program: flags.nodes.ssh.as_os_str(),
        sudo: flags.nodes.sudo,
    };
    let mut watch = Watch::begin(&before, &wanted, vip, Some(ssh), &mut unobserved);
    let asker = asker.filter(|asker| {
        let Origin::Host(host) = &asker.origin else {
            return true;
        };
        let can_ask = watch.station(&asker.node).is_some();
        if !can_ask {
            unobserved.push(Unobserved {
                what: "answers to probes".to_owned(),
                because: format!("the client is {host}, where no copy of this program runs"),
            });
        }
        can_ask
    });
    let number = flags.probes;
    let outcomes = match asker.filter(|_| !flags.no_probe) {
        Some(asker) => {
            let probe = Probe {
                service,
                client: case
                    .client
                    .filter(|client| asker.owner_of(*client).is_some()),
                udp,
                count: usize::from(number.unwrap_or(7)),
                ports: None,
            };
            report.sent = probe.words(&asker.node);
            if !flags.json && std::io::stderr().is_terminal() {
                eprintln!("sending {}", report.sent);
            }
            match watch.station(&asker.node) {
                Some(station) => station.probe(&probe)?,
                None => probe.send(netns(asker)?.as_ref())?,
            }
        }
        None => {
            std::thread::sleep(Duration::from_secs(number.unwrap_or(3).into()));
            Vec::new()
        }
    };
    let (mut recording, drops) = watch.end(&mut unobserved)?;
    plug(&mut recording.points, &case.cables);
    let (after, _) = read_again(flags, &before, &wish);
    let routes = diagnosis::routes_wanted(&after, vip, case.client);
    let routes = routes::ask(&after, routes);
    let servers = ends.iter().map(|(address, _)| *address);
    let hints = Hints {
        virtual_addresses: vec![vip],
        servers: servers.filter(|address| *address != vip).collect(),
        ..Hints::default()
    };
    let ladder = Ladder::new(&recording, &hints);
    let observed = Observed {
        service,
        client: case.client,
        before: &before,
        after: &after,
        recording: &recording,
        ladder: &ladder,
        drops: &drops,
        routes: &routes,
        outcomes: &outcomes,
        udp,
    };
    let mut findings = lint::lint(&after, case);
    for earlier in lint::lint(&before, case) {
        let known = |one: &Finding| one.code == earlier.code && one.node == earlier.node;
        if !findings.iter().any(known) {
            findings.push(earlier);
        }
    }
    diagnosis::weigh(&mut findings, &observed);
    report.methods = methods::looking_on(&recording, &drops, &unobserved, &routes);
    if !observed.is_answered() {
        let tracing = Tracing {
            given: flags.trace,
            quiet: flags.json,
            bundle: &after,
            ends: &ends,
            service,
            udp,
            asker: asker.filter(|_| !flags.no_probe),
            client: case.client,
        };
        let leave = tracing.consent();
        let traced = std::thread::scope(|scope| {
            // Twins have namespaces of their own: neither is in the other's way.
            let tracer = leave.map(|()| scope.spawn(|| tracing.run()));
            let seen = Some((&observed, &recording));
            trial::all(&mut findings, &before, seen, &mut unobserved);
            let broke_off = |_| Err(anyhow::anyhow!("it broke off"));
            tracer.map(|thread| thread.join().unwrap_or_else(broke_off))
        });
        report.methods.extend(tracing.tell(traced, &mut findings));
        let (sender, leave) = (tracing.asker, (flags.inject, flags.json));
        let injected = methods::inject(&mut findings, &observed, case, &wanted, sender, leave);
        report.methods.push(injected);
    } else {
        report.methods.extend(Tracing::not_needed());
    }
    report.methods.push(methods::twins(&findings));
    unobserved.extend(report::limits(&ladder));
    let lost = diagnosis::has_lost_packets(&observed);
    report.verdict = Report::verdict(&report.question, &findings, &outcomes, lost);
    report.settle(findings);
    (report.ladder, report.courses) = report::broken(&observed, report.cause.as_ref());
    surroundings(&mut report, &after, case);
    report.outcomes = outcomes;
    report.not_observed = unobserved;
    if let Some(path) = &flags.pcapng {
        let mut file = Vec::new();
        let remarks = report::remarks(&report, &ladder);
        capture_file::write_remarked(&mut file, &report.tool, &recording, Some(&ladder), &remarks)?;
        document::write(path, &file)?;
    }
    Ok((report, after))
}

/// Reads all nodes that are meant.
fn read(
    flags: &VipFlags,
    topology: Option<&Topology>,
    wish: &Wish,
    case: &Case,
) -> Result<(Bundle, Vec<String>)> {
    if flags.nodes.is_told() {
        let nodes = flags.nodes.nodes()?.into_iter().map(|node| (node, None));
        return Ok(collect::collect(&flags.nodes, nodes.collect(), wish));
    }
    if let Some(topology) = topology {
        let nodes = topology.nodes.iter();
        let nodes = nodes.map(|node| (Node::of(&node.at), Some(node.name.clone())));
        return Ok(collect::collect(&flags.nodes, nodes.collect(), wish));
    }
    let names = NetNs::list().context("cannot list network namespaces")?;
    if names.len() > NAMESPACES {
        bail!(
            "there are {} network namespaces here; say by --netns which ones matter",
            names.len()
        );
    }
    let nodes = [(Node::Here, None)]
        .into_iter()
        .chain(names.into_iter().map(|name| (Node::Netns(name), None)));
    let (mut bundle, unreached) = collect::collect(&flags.nodes, nodes.collect(), wish);
    keep_connected(&mut bundle, case);
    Ok((bundle, unreached))
}

/// Keeps nodes that have an address of the question, and those that cables connect with them.
fn keep_connected(bundle: &mut Bundle, case: &Case) {
    let asked = [case.vip, case.client];
    let is_seed = |node: &Snapshot| {
        let balances = node.services.iter().any(|own| {
            own.address()
                .is_some_and(|(_, vip, _)| Some(vip) == case.vip)
        });
        let mut asked = asked.iter().flatten();
        balances || asked.any(|address| node.owner_of(*address).is_some())
    };
    let mut kept: Vec<bool> = bundle.nodes.iter().map(is_seed).collect();
    let leads_to = |from: &Snapshot, to: &Snapshot| {
        let others = from.links.iter().filter_map(|link| link.other.as_ref());
        let names = others.filter_map(|other| from.namespaces.get(&other.namespace?));
        let Origin::Netns(own) = &to.origin else {
            return false;
        };
        names.into_iter().any(|name| name == own)
    };
    let mut grows = true;
    while grows {
        grows = false;
        for at in 0..kept.len() {
            let near = |other: usize| {
                let (one, other) = (&bundle.nodes[at], &bundle.nodes[other]);
                leads_to(one, other) || leads_to(other, one)
            };
            if !kept[at] && (0..kept.len()).any(|other| kept[other] && near(other)) {
                kept[at] = true;
                grows = true;
            }
        }
    }
    let mut kept = kept.into_iter();
    bundle.nodes.retain(|_| kept.next().unwrap_or(false));
}

/// Reads the same nodes once more, under the same names.
fn read_again(flags: &VipFlags, before: &Bundle, wish: &Wish) -> (Bundle, Vec<String>) {
    let nodes = before.nodes.iter();
    let nodes = nodes.map(|node| (Node::of(&node.origin), Some(node.node.clone())));
    collect::collect(&flags.nodes, nodes.collect(), wish)
}

/// The node that probes go from.
fn asker<'a>(
    topology: Option<&Topology>,
    case: &Case,
    bundle: &'a Bundle,
    unobserved: &mut Vec<Unobserved>,
) -> Option<&'a Snapshot> {
    let told = topology.and_then(Topology::asker);
    let told = told.and_then(|node| {
        let mut nodes = bundle.nodes.iter();
        nodes.find(|own| own.node == node.name || own.origin == node.at)
    });
    let has_address = |client: IpAddr| {
        let mut nodes = bundle.nodes.iter();
        nodes.find(|node| node.owner_of(client).is_some())
    };
    let because = match (told.or_else(|| has_address(case.client?)), case.client) {
        (Some(node), _) => return Some(node),
        (None, Some(client)) => format!("no node that was read has the client's address {client}"),
        (None, None) => "nobody said who the client is: --from ADDR".to_owned(),
    };
    unobserved.push(Unobserved {
        what: "answers to probes".to_owned(),
        because,
    });
    None
}

/// Cables that were told, where the points themselves tell none.
fn plug(points: &mut [Point], cables: &[Cable]) {
    for point in points.iter_mut().filter(|point| point.peer.is_none()) {
        let own = (point.node.clone(), point.device.clone());
        point.peer = cables.iter().find_map(|[one, other]| {
            if *one == own {
                return Some(other.clone());
            }
            (*other == own).then(|| one.clone())
        });
    }
}

pub(super) fn netns(node: &Snapshot) -> Result<Option<NetNs>> {
    Ok(match &node.origin {
        Origin::Netns(name) => Some(NetNs::open(name)?),
        _ => None,
    })
}

/// The service, its real servers, and where rules translate it to.
fn ends(bundle: &Bundle, case: &Case, service: SocketAddr) -> Vec<(IpAddr, Option<u16>)> {
    let mut ends = vec![(service.ip(), Some(service.port()))];
    let mut add = |address: IpAddr, port: u16| {
        let end = (address, Some(port));
        if !ends.contains(&end) && ends.len() < ENDS {
            ends.push(end);
        }
    };
    for node in &bundle.nodes {
        for own in &node.services {
            if own
                .address()
                .is_some_and(|(_, vip, _)| Some(vip) == case.vip)
            {
                for server in &own.servers {
                    add(server.address, server.port);
                }
            }
        }
        for saved in node.rules.iptables.iter().chain(&node.rules.ip6tables) {
            let words = saved.text.split_whitespace();
            let targets = words
                .clone()
                .zip(words.skip(1))
                .filter(|(word, _)| *word == "--to-destination");
            for (_, target) in targets {
                if let Ok(target) = target.parse::<SocketAddr>() {
                    add(target.ip(), target.port());
                }
            }
        }
    }
    ends
}

//! Own rules for the time of a few probes: they count at every hook, and have the kernel tell which rules
//! the probes meet.
//!
//! All of it is in tables that belong to sockets of this process: they are gone when it ends, however it
//! does. Nothing in them changes a packet or its way.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use pointsman_linux::netlink::{
    CountingChain, CountingRule, Layer, OwnTable, Packets, RuleTraces, Step, handles,
};
use pointsman_linux::netns::NetNs;
use pointsman_path::bundle::Bundle;
use pointsman_path::diagnosis::{self, HookCounts, NfHook, RuleTold, Traffic};
use pointsman_path::report::Method;
use pointsman_path::snapshot::{Origin, Snapshot};
use pointsman_wire::protocol;

use super::probe::Probe;

/// What all tables are called; the number of the process follows.
const NAME: &str = "pointsman_doctor_";
/// How many probes are sent meanwhile.
pub(super) const PROBES: usize = 3;
/// How long packets may take to be everywhere, and the kernel to tell of it.
const SETTLE: Duration = Duration::from_millis(60);
/// Most ends of the service that are told apart.
const ENDS: usize = 16;
/// Most addresses of a node that may stand for the client's.
const SOURCES: usize = 4;

/// What is looked for.
pub(super) struct Wanted<'a> {
    /// The nodes.
    pub(super) bundle: &'a Bundle,
    /// The service, its real servers, and where rules translate it to.
    pub(super) ends: &'a [(IpAddr, Option<u16>)],
    /// The virtual address.
    pub(super) vip: IpAddr,
    /// What is sent; with the client's address.
    pub(super) probe: Probe,
    /// Where probes are sent from; nothing for here.
    pub(super) netns: Option<NetNs>,
}

/// What was told and counted.
#[derive(Default)]
pub(super) struct Traced {
    /// Rules that dropped probes.
    pub(super) told: Vec<RuleTold>,
    /// Packets at the hooks.
    pub(super) counts: Vec<HookCounts>,
    /// What was done, in words.
    pub(super) done: String,
    /// Nodes whose kernel could not tell everything, and why.
    pub(super) limits: Vec<String>,
}

impl Traced {
    /// How it went.
    pub(super) fn methods(&self, bundle: &Bundle) -> Vec<Method> {
        let limits: String = self
            .limits
            .iter()
            .map(|limit| format!("; {limit}"))
            .collect();
        let rules = self.told.iter().map(|told| {
            let (rule, owner) = diagnosis::rule_words(bundle, told);
            let owner = owner.map_or_else(String::new, |owner| format!(" ({owner})"));
            format!("{}: {rule}{owner} dropped {}", told.node, told.packets)
        });
        let rules: Vec<String> = rules.collect();
        let rules = match rules.is_empty() {
            true => "no rule dropped one".to_owned(),
            false => rules.join("; "),
        };
        let losses = self.counts.iter().flat_map(HookCounts::losses);
        let losses: Vec<String> = losses.map(|loss| loss.to_string()).collect();
        let losses = match losses.is_empty() {
            true => "none was lost at a hook".to_owned(),
            false => losses.join("; "),
        };
        vec![
            Method::ran("nft trace", format!("{}: {rules}{limits}", self.done)),
            Method::ran("hook counts", losses),
        ]
    }
}

/// One node's tables.
struct Inserted<'a> {
    node: &'a Snapshot,
    netns: Option<NetNs>,
    tables: Vec<(Layer, OwnTable)>,
    traces: RuleTraces,
}

/// Sends probes and has kernels tell of them.
pub(super) fn run(wanted: Wanted<'_>) -> Result<Traced> {
    let Wanted { bundle, netns, .. } = &wanted;
    let client = wanted.probe.client;
    let client = client.context("nobody said which address the client has: --from ADDR")?;
    let first = Probe::free_ports(client, wanted.probe.udp, PROBES, netns.as_ref())?;
    let last = first + u16::try_from(PROBES).unwrap_or(1) - 1;
    let started = Instant::now();
    let mut traced = Traced::default();
    let mut inserted = Vec::new();
    for node in &bundle.nodes {
        let netns = match &node.origin {
            Origin::Here => None,
            Origin::Netns(name) => Some(NetNs::open(name)?),
            Origin::Host(_) => {
                let limit = format!("{}: rules are traced on this machine only", node.node);
                traced.limits.push(limit);
                continue;
            }
        };
        let make = || insert(node, &wanted, client, (first, last));
        let made = match &netns {
            Some(netns) => netns.run_in(make)?,
            None => make(),
        };
        match made {
            Ok((tables, traces)) => inserted.push(Inserted {
                node,
                netns,
                tables,
                traces,
            }),
            Err(error) => traced.limits.push(format!("{}: {error:#}", node.node)),
        }
        if has_legacy(node) {
            traced.limits.push(format!(
                "{}: rules of legacy iptables are not told by the kernel, only counted around",
                node.node
            ));
        }
    }
    if inserted.is_empty() {
        bail!("{}", traced.limits.join("; "));
    }
    let probe = Probe {
        ports: Some(first),
        count: PROBES,
        ..wanted.probe
    };
    probe.send(netns.as_ref())?;
    std::thread::sleep(SETTLE);
    let count = inserted.len();
    for one in inserted {
        if let Err(error) = read(one, wanted.vip.is_ipv4(), &mut traced) {
            traced.limits.push(format!("{error:#}"));
        }
    }
    let took = started.elapsed().as_millis();
    traced.done =
        format!("{PROBES} more probes, with own rules in {count} namespaces for {took} ms");
    Ok(traced)
}

/// Makes the tables of the namespace that this thread is in.
fn insert(
    node: &Snapshot,
    wanted: &Wanted<'_>,
    client: IpAddr,
    ports: (u16, u16),
) -> Result<(Vec<(Layer, OwnTable)>, RuleTraces)> {
    let traces = RuleTraces::new()?;
    let has_bridge = node.links.iter().any(|link| link.bridge.is_some());
    let mut layers = Vec::new();
    if has_bridge {
        layers.push(Layer::Bridge);
    }
    layers.push(if client.is_ipv4() {
        Layer::Ip
    } else {
        Layer::Ip6
    });
    if client.is_ipv4() {
        layers.push(Layer::Arp);
    }
    let name = format!("{NAME}{}", std::process::id());
    let mut tables = Vec::new();
    for layer in layers {
        let mut chains = Vec::new();
        for hook in hooks(layer) {
            for (place, priority) in [("first", i32::MIN), ("last", i32::MAX)] {
                let trace = place == "first" && matches!(hook, NfHook::Prerouting | NfHook::Output);
                let rules = packets(node, wanted, client, ports, layer);
                let rules = rules.into_iter().map(|(_, packets)| CountingRule {
                    packets,
                    trace: trace && layer != Layer::Arp,
                });
                chains.push(CountingChain {
                    name: format!("{hook}_{place}"),
                    hook: number(layer, *hook),
                    priority,
                    rules: rules.collect(),
                });
            }
        }
        match OwnTable::create(layer, &name, &chains) {
            Ok(table) => tables.push((layer, table)),
            // A kernel may lack a family; what is left tells as much as it can.
            Err(error) if layer == Layer::Arp && tables.len() > 1 => drop(error),
            Err(error) => return Err(explained(error)),
        }
    }
    Ok((tables, traces))
}

fn explained(error: pointsman_linux::netlink::Error) -> anyhow::Error {
    match error.errno() {
        Some(libc::EPERM) => anyhow::anyhow!("own rules need root (CAP_NET_ADMIN)"),
        Some(libc::EOPNOTSUPP | libc::EINVAL) => anyhow::Error::new(error).context(
            "this kernel has no tables that end with their process (Linux 5.12), and others could be left \
             behind",
        ),
        _ => error.into(),
    }
}

fn hooks(layer: Layer) -> &'static [NfHook] {
    match layer {
        Layer::Arp => &[NfHook::Input, NfHook::Output],
        _ => &NfHook::ALL,
    }
}

/// `NF_INET_*` and `NF_BR_*` are numbered alike; `NF_ARP_*` are not.
fn number(layer: Layer, hook: NfHook) -> u32 {
    match (layer, hook) {
        (Layer::Arp, NfHook::Output) => 1,
        (Layer::Arp, _) => 0,
        (_, NfHook::Prerouting) => 0,
        (_, NfHook::Input) => 1,
        (_, NfHook::Forward) => 2,
        (_, NfHook::Output) => 3,
        (_, NfHook::Postrouting) => 4,
    }
}

/// What is counted by itself: the probes' flow, and as it is where the node's own address stands for the
/// client's; ARP about the virtual address.
fn packets(
    node: &Snapshot,
    wanted: &Wanted<'_>,
    client: IpAddr,
    ports: (u16, u16),
    layer: Layer,
) -> Vec<(Traffic, Packets)> {
    let mut all = Vec::new();
    if let (IpAddr::V4(address), Layer::Bridge | Layer::Arp) = (wanted.vip, layer) {
        all.extend([false, true].map(|told| (Traffic::Arp, Packets::Arp { address, told })));
    }
    if layer == Layer::Arp {
        return all;
    }
    let ends: Vec<(IpAddr, u16)> = wanted
        .ends
        .iter()
        .filter(|(address, _)| address.is_ipv4() == client.is_ipv4())
        .filter_map(|(address, port)| Some((*address, (*port)?)))
        .take(ENDS)
        .collect();
    let own = node.links.iter().flat_map(|link| &link.addresses);
    let own = own
        .map(|own| own.prefix.address)
        .filter(|own| own.is_ipv4() == client.is_ipv4() && !own.is_loopback() && *own != client)
        .filter(|own| !ends.iter().any(|(end, _)| end == own))
        .take(SOURCES)
        .map(|own| (own, (1, u16::MAX)));
    let sources: Vec<(IpAddr, (u16, u16))> = [(client, ports)].into_iter().chain(own).collect();
    let protocol = if wanted.probe.udp {
        protocol::UDP
    } else {
        protocol::TCP
    };
    for (source, source_ports) in sources {
        for &(end, port) in &ends {
            let (here, there) = ((source, source_ports), (end, (port, port)));
            for (traffic, from, to) in [
                (Traffic::Requests, here, there),
                (Traffic::Answers, there, here),
            ] {
                let flow = Packets::Flow {
                    protocol,
                    source: from.0,
                    source_ports: from.1,
                    destination: to.0,
                    destination_ports: to.1,
                };
                all.push((traffic, flow));
            }
        }
    }
    all
}

/// Which kind of traffic a rule of our own counts.
fn traffic(at: usize, layer: Layer, is_ipv4: bool) -> Traffic {
    let arp = if is_ipv4 && matches!(layer, Layer::Bridge | Layer::Arp) {
        2
    } else {
        0
    };
    match at.checked_sub(arp) {
        None => Traffic::Arp,
        Some(at) if at % 2 == 0 => Traffic::Requests,
        Some(_) => Traffic::Answers,
    }
}

/// Reads what a node's rules counted and what its kernel told, and takes the tables away.
fn read(mut one: Inserted<'_>, is_ipv4: bool, traced: &mut Traced) -> Result<()> {
    let (steps, lost) = one.traces.read()?;
    if lost {
        let limit = format!("{}: the kernel told more than could be kept", one.node.node);
        traced.limits.push(limit);
    }
    for (layer, table) in &mut one.tables {
        let packets = table.packets()?;
        let mut by_traffic: BTreeMap<Traffic, Vec<(NfHook, u64, u64)>> = BTreeMap::new();
        for (hook, places) in hooks(*layer).iter().zip(packets.chunks(2)) {
            let [first, last] = places else { continue };
            let mut sums: BTreeMap<Traffic, (u64, u64)> = BTreeMap::new();
            for (at, (first, last)) in first.iter().zip(last).enumerate() {
                let sum = sums.entry(traffic(at, *layer, is_ipv4)).or_default();
                *sum = (sum.0 + first, sum.1 + last);
            }
            for (traffic, (first, last)) in sums {
                by_traffic
                    .entry(traffic)
                    .or_default()
                    .push((*hook, first, last));
            }
        }
        traced
            .counts
            .extend(by_traffic.into_iter().map(|(traffic, hooks)| HookCounts {
                node: one.node.node.clone(),
                layer: layer.name().to_owned(),
                traffic,
                hooks,
            }));
    }
    let mut dropped: BTreeMap<(Layer, String, String, Step), usize> = BTreeMap::new();
    for step in steps.into_iter().filter(|step| step.dropped) {
        let key = (step.layer, step.table, step.chain, step.step);
        *dropped.entry(key).or_default() += 1;
    }
    for ((layer, table, chain, step), packets) in dropped {
        let list = || handles(layer, &table, &chain);
        let listed = match &one.netns {
            Some(netns) => netns.run_in(list)?,
            None => list(),
        };
        let place = match step {
            Step::Rule(handle) => listed?.iter().position(|other| *other == handle),
            Step::Policy | Step::Return => None,
        };
        traced.told.push(RuleTold {
            node: one.node.node.clone(),
            family: layer.name().to_owned(),
            table,
            chain,
            place,
            packets,
        });
    }
    Ok(())
}

/// Whether a node has rules that nftables knows nothing of.
fn has_legacy(node: &Snapshot) -> bool {
    let dumps = &node.rules;
    let mut all = dumps
        .iptables
        .iter()
        .chain(&dumps.ip6tables)
        .chain(&dumps.ebtables);
    all.any(|saved| {
        saved.program.contains("legacy") && saved.text.lines().any(|line| line.contains("-A "))
    })
}

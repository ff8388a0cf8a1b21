//! The base chains that a frame meets, in the kernel's order.

use pointsman_wire::ethernet;

use crate::connection::Connections;
use crate::frame::Frame;
use crate::model::{Engine, Family, Hook, Ruleset};
use crate::test::Name;

/// The bridge port in question: a guest's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Port<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its bridge, if known.
    pub bridge: Option<&'a str>,
    /// The port at the other end of the way; without, one that no rule names.
    pub peer: Option<&'a str>,
}

/// Where a frame comes from and goes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Direction {
    /// From the guest, through the bridge, by another port.
    Out,
    /// By another port, through the bridge, to the guest.
    In,
    /// From the guest to the host itself.
    ToHost,
    /// From the host itself to the guest.
    FromHost,
}

/// What else about the host decides.
#[derive(Debug, Clone, Copy, Default)]
pub struct Host<'a> {
    /// `net.bridge.bridge-nf-call-iptables`: bridged IPv4 meets the rules for IPv4.
    pub call_iptables: bool,
    /// `net.bridge.bridge-nf-call-ip6tables`.
    pub call_ip6tables: bool,
    /// `net.bridge.bridge-nf-call-arptables`.
    pub call_arptables: bool,
    /// `net.bridge.bridge-nf-filter-vlan-tagged`.
    pub filter_vlan_tagged: bool,
    /// Connections, if known; without, what depends on them is unknown.
    pub connections: Option<&'a Connections>,
}

/// A base chain on the way, and the interfaces that it sees.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stage<'a> {
    pub(crate) table: usize,
    pub(crate) chain: usize,
    pub(crate) input_port: Name<'a>,
    pub(crate) output_port: Name<'a>,
    pub(crate) input_device: Name<'a>,
    pub(crate) output_device: Name<'a>,
    /// Before connection tracking has looked at the packet.
    pub(crate) untracked: bool,
}

/// Priority at which connection tracking looks at packets.
const CONNTRACK: i32 = -200;

/// The base chains in order.
pub(crate) fn stages<'a>(
    rules: &Ruleset,
    frame: &Frame<'_>,
    port: Port<'a>,
    direction: Direction,
    host: &Host<'_>,
) -> Vec<Stage<'a>> {
    let bridge = port.bridge.map_or(Name::Unknown, Name::Known);
    let guest = Name::Known(port.name);
    let peer = port.peer.map_or(Name::Other, Name::Known);
    let (input, output) = match direction {
        Direction::Out => (guest, peer),
        Direction::In => (peer, guest),
        Direction::ToHost => (guest, Name::None),
        Direction::FromHost => (Name::None, guest),
    };
    let way = Way {
        rules,
        inet: inet(frame, host),
        stages: Vec::new(),
    };
    // What each hook sees: ports in and out, devices in and out.
    let came = [input, Name::None, bridge, Name::None];
    let through = [input, output, bridge, bridge];
    let leaves = [Name::None, output, Name::None, bridge];
    let leaves_inet = [input, output, Name::None, bridge];
    let mut way = way;
    if direction == Direction::Out || direction == Direction::ToHost {
        way.netdev(Hook::Ingress, port.name, came);
    }
    if direction != Direction::FromHost {
        way.bridge(Hook::Brouting, None, came, came);
        way.bridge(Hook::Prerouting, Some(0), came, came);
    }
    match direction {
        Direction::Out | Direction::In => {
            way.bridge(Hook::Forward, Some(-1), through, through);
            way.bridge(Hook::Postrouting, Some(i32::MAX), leaves, leaves_inet);
        }
        Direction::ToHost => {
            way.bridge(Hook::Input, None, came, came);
            way.inet(Hook::Input, came);
        }
        Direction::FromHost => {
            let routed = [Name::None, Name::None, Name::None, bridge];
            way.inet(Hook::Output, routed);
            way.inet(Hook::Postrouting, routed);
            way.bridge(Hook::Output, None, leaves, leaves);
            way.bridge(Hook::Postrouting, None, leaves, leaves);
        }
    }
    if direction == Direction::In || direction == Direction::FromHost {
        way.netdev(Hook::Egress, port.name, leaves);
    }
    way.stages
}

/// The family of IP or ARP rules that a bridged frame meets, by the bridge's settings.
fn inet(frame: &Frame<'_>, host: &Host<'_>) -> Option<Family> {
    if frame.is_tagged() && !host.filter_vlan_tagged {
        return None;
    }
    match frame.carried() {
        ethernet::IPV4 if host.call_iptables => Some(Family::Ip),
        ethernet::IPV6 if host.call_ip6tables => Some(Family::Ip6),
        ethernet::ARP if host.call_arptables => Some(Family::Arp),
        _ => None,
    }
}

struct Way<'r, 'a> {
    rules: &'r Ruleset,
    inet: Option<Family>,
    stages: Vec<Stage<'a>>,
}

type Names<'a> = [Name<'a>; 4];

impl<'a> Way<'_, 'a> {
    /// A hook of the bridge, at whose priority `filter` IP's hook of the same name is called.
    fn bridge(&mut self, hook: Hook, filter: Option<i32>, seen: Names<'a>, by_inet: Names<'a>) {
        let chains = self.chains(hook, |family, _| family == Family::Bridge);
        let called = filter.unwrap_or(i32::MAX);
        let before = chains.partition_point(|&(priority, ..)| priority < called);
        self.add(&chains[..before], seen);
        if filter.is_some() {
            // ARP has only the hook for what passes through.
            if self.inet != Some(Family::Arp) || hook == Hook::Forward {
                self.inet(hook, by_inet);
            }
        }
        self.add(&chains[before..], seen);
    }

    fn inet(&mut self, hook: Hook, seen: Names<'a>) {
        let Some(own) = self.inet else { return };
        let chains = self.chains(hook, |family, _| {
            family == own || family == Family::Inet && own != Family::Arp
        });
        self.add(&chains, seen);
    }

    fn netdev(&mut self, hook: Hook, device: &str, seen: Names<'a>) {
        let chains = self.chains(hook, |family, devices| {
            family == Family::Netdev && devices.iter().any(|name| name == device)
        });
        self.add(&chains, seen);
    }

    /// Chains at a hook by priority: priority, table, chain.
    fn chains(
        &self,
        hook: Hook,
        wanted: impl Fn(Family, &[String]) -> bool,
    ) -> Vec<(i32, usize, usize)> {
        let mut chains = Vec::new();
        for (table, its) in self.rules.tables.iter().enumerate() {
            for (chain, its_chain) in its.chains.iter().enumerate() {
                if let Some(base) = &its_chain.base
                    && base.hook == hook
                    && wanted(its.family, &base.devices)
                {
                    chains.push((base.priority, table, chain));
                }
            }
        }
        // Stable: of the same priority the first registered is first.
        chains.sort_by_key(|&(priority, ..)| priority);
        chains
    }

    fn add(&mut self, chains: &[(i32, usize, usize)], seen: Names<'a>) {
        let [input_port, output_port, input_device, output_device] = seen;
        for &(priority, table, chain) in chains {
            let its = &self.rules.tables[table];
            let hook = its.chains[chain].base.as_ref().map(|base| base.hook);
            self.stages.push(Stage {
                table,
                chain,
                input_port,
                output_port,
                input_device,
                output_device,
                untracked: its.engine != Engine::Ebtables
                    && matches!(hook, Some(Hook::Prerouting | Hook::Output))
                    && priority < CONNTRACK,
            });
        }
    }
}

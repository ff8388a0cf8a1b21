//! Who is who in a bundle: virtual services, directors, real servers, and what they are plugged into.

use std::cell::OnceCell;
use std::net::{IpAddr, SocketAddr};

use pointsman_director::model::{ForwardingMethod, Protocol, RealServer, TunnelType};
use pointsman_filter::model::Ruleset;

use super::{Case, node_rules};
use crate::bundle::Bundle;
use crate::snapshot::{Balancer, Link, Origin, Part, Route, Service, Snapshot};
use crate::topology::Role;

/// Everything that checks look at.
pub(super) struct Site<'a> {
    pub(super) nodes: &'a [Snapshot],
    pub(super) case: &'a Case,
    pub(super) targets: Vec<Target<'a>>,
    pub(super) attachments: Vec<Attachment<'a>>,
    rules: Vec<OnceCell<Ruleset>>,
}

/// A virtual service.
pub(super) struct Target<'a> {
    pub(super) protocol: Protocol,
    pub(super) vip: IpAddr,
    pub(super) port: u16,
    /// The service as a director has it; nothing if roles alone tell of it.
    pub(super) service: Option<&'a Service>,
    /// Who balances, if that is in the bundle.
    pub(super) director: Option<&'a Snapshot>,
    pub(super) members: Vec<Member<'a>>,
}

/// A real server.
pub(super) struct Member<'a> {
    pub(super) server: RealServer,
    pub(super) node: Option<&'a Snapshot>,
}

/// An interface and the bridge port at its other end.
pub(super) struct Attachment<'a> {
    pub(super) guest: &'a Snapshot,
    pub(super) link: &'a Link,
    pub(super) host: &'a Snapshot,
    pub(super) port: &'a Link,
    /// Others on the same lower device reach it without the bridge.
    pub(super) is_local: bool,
}

/// A bridge that frames cross.
pub(super) struct Crossing<'a> {
    pub(super) host: &'a Snapshot,
    pub(super) input: &'a Link,
    pub(super) output: &'a Link,
}

impl Target<'_> {
    /// `TCP 192.0.2.1:80`.
    pub(super) fn words(&self) -> String {
        format!("{} {}", self.protocol, SocketAddr::new(self.vip, self.port))
    }

    /// The name of the protocol in sockets and rules.
    pub(super) fn transport(&self) -> &'static str {
        match self.protocol {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
            Protocol::Sctp => "sctp",
        }
    }

    /// Whether the kernel's IPVS balances it.
    pub(super) fn is_of_kernel(&self) -> bool {
        self.service
            .is_some_and(|service| service.balancer == Balancer::Kernel)
    }
}

impl<'a> Member<'a> {
    /// The link that has its address, on its node.
    pub(super) fn link(&self) -> Option<&'a Link> {
        Some(self.node?.owner_of(self.server.address)?.0)
    }
}

impl<'a> Site<'a> {
    pub(super) fn new(bundle: &'a Bundle, case: &'a Case) -> Self {
        let nodes = &bundle.nodes[..];
        let mut site = Self {
            nodes,
            case,
            targets: Vec::new(),
            attachments: Vec::new(),
            rules: nodes.iter().map(|_| OnceCell::new()).collect(),
        };
        site.find_services();
        site.find_by_roles();
        site.find_attachments();
        site
    }

    fn find_services(&mut self) {
        for node in self.nodes {
            for service in &node.services {
                let Some((protocol, vip, port)) = service.address() else {
                    continue;
                };
                let told = |vip_told: Option<IpAddr>| vip_told.is_none_or(|told| told == vip);
                if !told(self.case.vip) || self.case.port.is_some_and(|told| told != port) {
                    continue;
                }
                let members = service.servers.iter().map(|server| Member {
                    server: server.clone(),
                    node: self.node_of(server.address, node),
                });
                self.targets.push(Target {
                    protocol,
                    vip,
                    port,
                    service: Some(service),
                    director: Some(node),
                    members: members.collect(),
                });
            }
        }
    }

    /// A target of what roles tell, where no service does.
    fn find_by_roles(&mut self) {
        let (Some(vip), Some(port)) = (self.case.vip, self.case.port) else {
            return;
        };
        // Where rules translate the address, nobody else balances it.
        let address = vip.to_string();
        let by_rules = |node| super::real_server::translates(node, &address);
        if !self.targets.is_empty()
            || self.nodes.iter().any(by_rules)
            || self.is_of_kube_proxy(&address)
        {
            return;
        }
        let this = &*self;
        let of_role = |role| {
            this.nodes
                .iter()
                .filter(move |node| this.role(node) == Some(role))
        };
        let members: Vec<_> = of_role(Role::RealServer)
            .filter_map(|node| {
                let mut addresses = node.links.iter().flat_map(|link| &link.addresses);
                let own = addresses.find(|own| {
                    let address = own.prefix.address;
                    address != vip
                        && address.is_ipv4() == vip.is_ipv4()
                        && !address.is_loopback()
                        && own.scope != "link"
                })?;
                let server = RealServer {
                    address: own.prefix.address,
                    port,
                    method: self.case.method.unwrap_or(ForwardingMethod::Direct),
                    weight: 1,
                    upper: 0,
                    lower: 0,
                    tunnel: TunnelType::default(),
                };
                let node = Some(node);
                Some(Member { server, node })
            })
            .collect();
        let director = of_role(Role::Director).next();
        if director.is_some() || !members.is_empty() {
            self.targets.push(Target {
                protocol: self.case.protocol.unwrap_or(Protocol::Tcp),
                vip,
                port,
                service: None,
                director,
                members,
            });
        }
    }

    /// Whether rules of kube-proxy are about an address.
    pub(super) fn is_of_kube_proxy(&self, address: &str) -> bool {
        let rules = |node: &'a Snapshot| node.rules.iptables.iter().chain(&node.rules.ip6tables);
        self.nodes.iter().flat_map(rules).any(|saved| {
            let mut lines = saved.text.lines();
            lines.any(|line| {
                line.contains("KUBE-SERVICES") && line.contains(&format!(" {address}/"))
            })
        })
    }

    fn find_attachments(&mut self) {
        for guest in self.nodes {
            for link in guest.links.iter().filter(|link| link.port.is_none()) {
                if let Some((host, port)) = self.other_end(guest, link) {
                    self.attachments.push(Attachment {
                        guest,
                        link,
                        host,
                        port,
                        is_local: link.mode.as_deref() == Some("bridge"),
                    });
                }
            }
        }
    }

    /// The bridge port that a link ends at, itself or the device below it.
    fn other_end(&self, guest: &Snapshot, link: &Link) -> Option<(&'a Snapshot, &'a Link)> {
        if ["macvlan", "macvtap", "vlan"].contains(&&*link.kind) {
            let (node, below) = self.other(guest, link)?;
            // One device below another is enough.
            let (host, port) = self.peer(node, below)?;
            return port.port.as_ref().map(|_| (host, port));
        }
        let (host, port) = self.peer(guest, link).or_else(|| self.tap(link))?;
        port.port.as_ref().map(|_| (host, port))
    }

    /// The other end of a veth.
    pub(super) fn peer(&self, node: &Snapshot, link: &Link) -> Option<(&'a Snapshot, &'a Link)> {
        let found = (link.kind == "veth").then(|| self.other(node, link));
        found.flatten().or_else(|| self.told(node, link))
    }

    /// The other end of a cable that was told.
    fn told(&self, node: &Snapshot, link: &Link) -> Option<(&'a Snapshot, &'a Link)> {
        let is_this = |(name, port): &(String, String)| *name == node.node && *port == link.name;
        let (there, port) = self.case.cables.iter().find_map(|[one, other]| {
            match (is_this(one), is_this(other)) {
                (true, _) => Some(other),
                (_, true) => Some(one),
                _ => None,
            }
        })?;
        let there = self.nodes.iter().find(|node| node.node == *there)?;
        Some((there, there.link(port)?))
    }

    /// The bridges that frames from one link to another cross, as far as they are in the bundle.
    pub(super) fn crossings(
        &self,
        from: &Attachment<'a>,
        to: &Attachment<'a>,
    ) -> Option<Vec<Crossing<'a>>> {
        let is = |one: &Link, other: &Link| one.index == other.index;
        let same_port = from.host.node == to.host.node && is(from.port, to.port);
        if same_port && from.is_local && to.is_local {
            return Some(Vec::new());
        }
        // Breadth first: where a frame came in, and how.
        let mut places: Vec<(&Snapshot, &Link, Option<usize>, Option<&Link>)> =
            vec![(from.host, from.port, None, None)];
        let mut at = 0;
        while let Some(&(host, input, ..)) = places.get(at) {
            if host.node == to.host.node && input.master == to.port.master {
                let mut crossings = vec![Crossing {
                    host,
                    input,
                    output: to.port,
                }];
                let mut place = places[at];
                while let (_, _, Some(before), Some(output)) = place {
                    place = places[before];
                    let (host, input, ..) = place;
                    crossings.push(Crossing {
                        host,
                        input,
                        output,
                    });
                }
                crossings.reverse();
                return Some(crossings);
            }
            for output in host.ports_of(input.master.as_deref().unwrap_or_default()) {
                let Some((there, next)) = self.peer(host, output) else {
                    continue;
                };
                let seen = places.iter().any(|(host, input, ..)| {
                    host.node == there.node && input.master == next.master
                });
                if next.port.is_some() && !seen {
                    places.push((there, next, Some(at), Some(output)));
                }
            }
            at += 1;
        }
        None
    }

    /// The link that another one names as its other end, or as the one below it.
    fn other(&self, node: &Snapshot, link: &Link) -> Option<(&'a Snapshot, &'a Link)> {
        let other = link.other.as_ref()?;
        let index = other.index;
        let there = match other.namespace {
            Some(number) => {
                let name = node.namespaces.get(&number)?;
                let mut nodes = self.nodes.iter();
                nodes.find(|there| is_beside(&node.origin, &there.origin, name))?
            }
            None => self.nodes.iter().find(|own| own.node == node.node)?,
        };
        let found = there.links.iter().find(|own| match index {
            Some(index) => own.index == index,
            None => Some(&own.name) == other.name.as_ref(),
        })?;
        Some((there, found))
    }

    /// The tap of a virtual machine: the host has learned the guest's address there.
    fn tap(&self, link: &Link) -> Option<(&'a Snapshot, &'a Link)> {
        let mac = link.mac?;
        self.nodes.iter().find_map(|host| {
            let learned = |entry: &&crate::snapshot::ForwardingEntry| {
                entry.mac == Some(mac) && entry.is_learned()
            };
            let entry = host.forwarding.iter().find(learned)?;
            let port = host.link(&entry.port)?;
            (port.kind == "tun").then_some((host, port))
        })
    }

    /// What a node is for, if that was told.
    pub(super) fn role(&self, node: &Snapshot) -> Option<Role> {
        let named = |name: &str| {
            node.node == name
                || node
                    .node
                    .strip_suffix(name)
                    .is_some_and(|before| before.ends_with('-'))
        };
        let mut roles = self.case.roles.iter();
        roles.find(|(name, _)| named(name)).map(|(_, role)| *role)
    }

    /// The node that has an address and is not the one that asks, if only it can be.
    pub(super) fn node_of(&self, address: IpAddr, asking: &Snapshot) -> Option<&'a Snapshot> {
        let mut nodes = self
            .nodes
            .iter()
            .filter(|node| node.node != asking.node && node.owner_of(address).is_some());
        let first = nodes.next()?;
        nodes.next().is_none().then_some(first)
    }

    /// Whether a node balances this address.
    pub(super) fn is_director_of(&self, node: &Snapshot, vip: IpAddr) -> bool {
        self.role(node) == Some(Role::Director)
            || node
                .services
                .iter()
                .any(|service| service.address().is_some_and(|(_, own, _)| own == vip))
    }

    /// Whether a node is a real server for this address: told or configured to be one, or with the
    /// address where only real servers have it.
    pub(super) fn is_server_of(&self, node: &Snapshot, vip: IpAddr) -> bool {
        let hidden = node
            .owner_of(vip)
            .is_some_and(|(link, _)| link.is_loopback() || link.kind == "ipip");
        self.role(node) == Some(Role::RealServer)
            || hidden && !self.is_director_of(node, vip)
            || self.targets.iter().any(|target| {
                let is = |member: &Member<'_>| member.node.is_some_and(|own| own.node == node.node);
                target.vip == vip && target.members.iter().any(is)
            })
    }

    /// A client's address: as told, or that of the one node that is told to be one.
    pub(super) fn client(&self, vip: IpAddr) -> Option<IpAddr> {
        let told = self
            .case
            .client
            .filter(|own| own.is_ipv4() == vip.is_ipv4());
        told.or_else(|| {
            let node = self
                .nodes
                .iter()
                .find(|node| self.role(node) == Some(Role::Client))?;
            let route = node.route_to(vip)?;
            let link = node.link(route.device.as_deref()?)?;
            let mut own = link.addresses.iter().map(|own| own.prefix.address);
            own.find(|own| own.is_ipv4() == vip.is_ipv4() && !is_link_local(*own))
        })
    }

    /// A node's way to clients: to the client that is known; else its default route; else its way
    /// to the virtual address's neighbours.
    pub(super) fn way_to_clients(&self, node: &'a Snapshot, vip: IpAddr) -> Option<&'a Route> {
        if let Some(client) = self.client(vip) {
            return node.route_to(client);
        }
        let main = || {
            node.routes
                .iter()
                .filter(|route| route.table == crate::snapshot::MAIN)
        };
        let unspecified =
            |route: &&Route| route.to.length == 0 && route.to.address.is_ipv4() == vip.is_ipv4();
        main()
            .filter(unspecified)
            .min_by_key(|route| route.metric)
            .or_else(|| {
                main()
                    .filter(|route| route.to.contains(vip))
                    .max_by_key(|route| route.to.length)
            })
    }

    /// Packet-filter rules of a node.
    pub(super) fn rules(&self, node: &Snapshot) -> &Ruleset {
        let at = self.nodes.iter().position(|own| std::ptr::eq(own, node));
        // Every node comes from `nodes`.
        self.rules[at.unwrap_or_default()].get_or_init(|| node_rules::read(node))
    }

    /// Names of links, tables and chains that a shell does not take for one plain word.
    pub(super) fn unfit_names(&self) -> Vec<String> {
        let mut unfit = Vec::new();
        let mut add = |name: &str| {
            if !name.is_empty() && crate::remote::quoted(name) != name {
                unfit.push(name.to_owned());
            }
        };
        for node in self.nodes {
            node.links.iter().for_each(|link| add(&link.name));
            node.vlans.iter().for_each(|own| add(&own.port));
            node.neighbours.iter().for_each(|own| add(&own.device));
            for table in &self.rules(node).tables {
                add(&table.name);
                table.chains.iter().for_each(|chain| add(&chain.name));
            }
            for route in &node.routes {
                [&route.table, &route.kind]
                    .into_iter()
                    .for_each(|name| add(name));
            }
            for rule in &node.routing_rules {
                rule.table.iter().for_each(|name| add(name));
            }
        }
        unfit
    }

    /// The bridge port that a link is behind.
    pub(super) fn attachment(&self, guest: &Snapshot, link: &Link) -> Option<&Attachment<'a>> {
        self.attachments
            .iter()
            .find(|own| own.guest.node == guest.node && own.link.index == link.index)
    }
}

/// Whether an address is only good on its link.
pub(super) fn is_link_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.is_link_local(),
        IpAddr::V6(address) => address.segments()[0] & 0xffc0 == 0xfe80,
    }
}

/// Whether routing looks at more than the destination.
pub(super) fn has_policy(node: &Snapshot) -> bool {
    !node.has(Part::RoutingRules)
        || node
            .routing_rules
            .iter()
            .any(|rule| ![0, 32766, 32767].contains(&rule.priority))
}
/// Whether a node is the namespace of this name on another one's machine.
fn is_beside(of: &Origin, there: &Origin, name: &str) -> bool {
    match (of, there) {
        (Origin::Host(of), Origin::Host(there)) => {
            let login = |host: &str| host.split('/').next().map(str::to_owned);
            login(of) == login(there) && there.split_once('/').is_some_and(|(_, own)| own == name)
        }
        (Origin::Host(_), _) => false,
        (_, there) => matches!(there, Origin::Netns(own) if own == name),
    }
}

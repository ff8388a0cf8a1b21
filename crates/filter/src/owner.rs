//! Who installed a chain, recognised by its name.

use std::fmt;

use crate::model::{Engine, Ruleset, Table};
use crate::nwfilter::port_of;

/// A program that installs rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Program {
    /// libvirt's filters of guests' ports.
    Nwfilter,
    /// libvirt's virtual networks.
    LibvirtNetwork,
    /// OpenStack nova.
    Nova,
    /// OpenStack neutron.
    Neutron,
    /// kube-proxy and kubelet.
    Kubernetes,
    /// Docker.
    Docker,
    /// Plugins of the container network interface.
    Cni,
    /// Calico.
    Calico,
    /// firewalld.
    Firewalld,
    /// ufw.
    Ufw,
    /// This project.
    Pointsman,
}

impl Program {
    /// As people know it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Nwfilter => "libvirt nwfilter",
            Self::LibvirtNetwork => "libvirt network",
            Self::Nova => "OpenStack nova",
            Self::Neutron => "OpenStack neutron",
            Self::Kubernetes => "Kubernetes",
            Self::Docker => "Docker",
            Self::Cni => "CNI plugin",
            Self::Calico => "Calico",
            Self::Firewalld => "firewalld",
            Self::Ufw => "ufw",
            Self::Pointsman => "pointsman",
        }
    }
}

/// Who installed a chain, what for, and where it is changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owner {
    /// The program.
    pub program: Program,
    /// The port that the chain is about, or what its name has of it.
    pub port: Option<String>,
    /// libvirt's filter, guessed from the chain.
    pub filter: Option<&'static str>,
    /// What the chain is for.
    pub part: String,
    /// Where this is changed; editing the rules themselves does not last.
    pub knob: Option<String>,
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.program.name(), self.part)
    }
}

impl Owner {
    fn new(program: Program, part: impl Into<String>) -> Self {
        Self {
            program,
            port: None,
            filter: None,
            part: part.into(),
            knob: None,
        }
    }

    fn of_port(mut self, port: &str) -> Self {
        self.port = Some(port.to_owned());
        self
    }

    fn by(mut self, knob: impl Into<String>) -> Self {
        self.knob = Some(knob.into());
        self
    }
}

/// Who installed a chain of a table; nothing if neither name tells.
pub fn owner(table: &Table, chain: &str) -> Option<Owner> {
    of_names(table.engine, &table.name, chain)
}

/// Who installed a chain, by its name and its table's.
pub fn of_names(engine: Engine, table: &str, chain: &str) -> Option<Owner> {
    if let Some(port) = port_of(table).filter(|_| engine == Engine::Nftables) {
        return Some(ours(&port, chain));
    }
    if engine == Engine::Nftables {
        match table {
            "libvirt_nwfilter_ethernet" | "libvirt_nwfilter_inet" => return Some(nftables(chain)),
            "libvirt_network" => return Some(network()),
            "firewalld" => return Some(firewalld()),
            "kube-proxy" => return Some(Owner::new(Program::Kubernetes, "kube-proxy's services")),
            "docker-bridges" => return Some(Owner::new(Program::Docker, "networks of containers")),
            _ => {}
        }
    }
    nwfilter(chain)
        .or_else(|| neutron(chain))
        .or_else(|| nova(chain))
        .or_else(|| others(chain))
}

/// Ports that libvirt's chains are about, in the order of the rules.
pub fn ports(rules: &Ruleset) -> Vec<String> {
    let mut ports: Vec<String> = Vec::new();
    for table in &rules.tables {
        for chain in &table.chains {
            let Some(found) = owner(table, &chain.name) else {
                continue;
            };
            if let Some(port) = found.port
                && found.program == Program::Nwfilter
                && !ports.contains(&port)
            {
                ports.push(port);
            }
        }
    }
    ports
}

/// Chains of a port's table of ours, which have libvirt's names.
fn ours(port: &str, chain: &str) -> Owner {
    let owner = nwfilter(chain).unwrap_or_else(|| {
        let part = format!("the way to the chains of port {port}");
        Owner::new(Program::Nwfilter, part)
    });
    Owner {
        program: Program::Pointsman,
        port: Some(port.to_owned()),
        knob: Some(format!("pointsman nwfilter list --port {port}")),
        ..owner
    }
}

/// nova, if a rule was made of one of its filters: `filters` are those by way of which the rule is at the
/// port, and the rule's own.
pub fn of_filters<'f>(filters: impl IntoIterator<Item = &'f str>) -> Option<Owner> {
    let of_nova: Vec<&str> = filters
        .into_iter()
        .filter(|name| name.starts_with("nova-"))
        .collect();
    let part = format!("filter {}", of_nova.last()?);
    let owner = Owner::new(Program::Nova, part);
    let instance = of_nova
        .iter()
        .find(|name| name.starts_with("nova-instance-"));
    Some(match instance {
        Some(name) => owner.by(format!(
            "the parameters in the filter {name}, which nova writes anew at hard reboot and migration"
        )),
        None => owner,
    })
}

/// How libvirt's own filters name their chains.
const FILTERS: &[(&str, &str)] = &[
    ("mac", "no-mac-spoofing"),
    ("ipv4-ip", "no-ip-spoofing"),
    ("ipv6-ip", "no-ipv6-spoofing"),
    ("arp-mac", "no-arp-mac-spoofing"),
    ("arp-ip", "no-arp-ip-spoofing"),
    ("rarp", "no-other-rarp-traffic"),
];
/// What a filter's chain begins with.
const PREFIXES: &[&str] = &["mac", "vlan", "stp", "rarp", "arp", "ipv4", "ipv6"];

/// Chains of libvirt's filters in ebtables and iptables.
fn nwfilter(chain: &str) -> Option<Owner> {
    match chain {
        "libvirt-in" | "libvirt-out" | "libvirt-in-post" | "libvirt-host-in" => {
            let part = "the way to the chains of guests' ports";
            return Some(Owner::new(Program::Nwfilter, part));
        }
        _ => {}
    }
    let root = chain.strip_prefix("libvirt-").unwrap_or(chain);
    let is_root = root.len() < chain.len();
    for (letters, towards) in [
        (["I-", "J-"], "what the guest sends"),
        (["O-", "P-"], "what goes to the guest"),
    ] {
        let Some(rest) = letters.iter().find_map(|letter| root.strip_prefix(letter)) else {
            continue;
        };
        if is_root {
            return Some(at_port(rest, format!("{towards} at port {rest}")));
        }
        let (port, name) = split(rest)?;
        return Some(chain_of(port, name, towards));
    }
    for (letters, what) in [
        (["FI-", "FJ-"], "packets that the guest sends on"),
        (["FO-", "FP-"], "packets that go to the guest"),
        (["HI-", "HJ-"], "packets that the guest sends to the host"),
    ] {
        if let Some(port) = letters.iter().find_map(|letter| chain.strip_prefix(letter)) {
            return Some(at_port(port, format!("{what} at port {port}")));
        }
    }
    None
}

/// `vnet0-ipv4-ip`: the port and the filter's chain.
fn split(rest: &str) -> Option<(&str, &str)> {
    let is_chain = |name: &str| PREFIXES.iter().any(|prefix| name.starts_with(prefix));
    rest.match_indices('-')
        .map(|(at, _)| (&rest[..at], &rest[at + 1..]))
        .find(|(port, name)| !port.is_empty() && is_chain(name))
}

/// Chains in the tables of libvirt's nftables backend: `vnet0-out`, `vnet0-ipv4-ip-out`.
fn nftables(chain: &str) -> Owner {
    let chain = chain.strip_prefix("n-").unwrap_or(chain);
    let (rest, towards) = match (chain.strip_suffix("-out"), chain.strip_suffix("-in")) {
        (Some(rest), _) => (rest, "what the guest sends"),
        (_, Some(rest)) => (rest, "what goes to the guest"),
        _ => {
            let part = "the way to the chains of guests' ports";
            return Owner::new(Program::Nwfilter, part);
        }
    };
    match split(rest) {
        Some((port, name)) => chain_of(port, name, towards),
        None => at_port(rest, format!("{towards} at port {rest}")),
    }
}

fn chain_of(port: &str, name: &str, towards: &str) -> Owner {
    let filter = FILTERS
        .iter()
        .find(|(chain, _)| *chain == name)
        .map(|(_, filter)| *filter);
    let guess = filter.map_or(String::new(), |filter| {
        format!(", by its name filter {filter}")
    });
    let mut owner = at_port(
        port,
        format!("{towards} at port {port}, chain {name}{guess}"),
    );
    owner.filter = filter;
    owner
}

fn at_port(port: &str, part: String) -> Owner {
    let mut owner = Owner::new(Program::Nwfilter, part).of_port(port);
    owner.knob = Some(match openstack(port) {
        Some(id) => format!(
            "nova: the parameters of the filter nova-instance-... of the guest with the neutron port \
             {id}...; `virsh nwfilter-binding-dumpxml {port}`"
        ),
        None => format!("`virsh nwfilter-binding-dumpxml {port}` names filter and parameters"),
    });
    owner
}

/// The beginning of a neutron port's id: `0678bf1d-41` of `tap0678bf1d-41`.
fn openstack(port: &str) -> Option<&str> {
    let id = port
        .strip_prefix("tap")
        .or_else(|| port.strip_prefix("qvo"))?;
    is_port_id(id).then_some(id)
}

/// `0678bf1d-41`, or what the limit of a chain's name has left of it.
fn is_port_id(id: &str) -> bool {
    id.len() >= 10
        && id.len() <= 11
        && id.bytes().enumerate().all(|(at, byte)| match at {
            8 => byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        })
}

/// Chains of neutron's iptables driver, and of its Linux bridge agent.
fn neutron(chain: &str) -> Option<Owner> {
    for (prefix, what) in [
        (
            "neutronMAC-",
            "link-layer addresses that the port may send from",
        ),
        ("neutronARP-", "addresses that the port may use in ARP"),
    ] {
        if let Some(port) = chain.strip_prefix(prefix) {
            let id = openstack(port).unwrap_or(port);
            let owner = Owner::new(Program::Neutron, format!("{what}, port {id}..."));
            return Some(owner.of_port(port).by(pairs(id)));
        }
    }
    let rest = chain.strip_prefix("neutron-")?;
    let part = rest.rsplit_once('-').map_or(rest, |(_, part)| part);
    // The id itself has a dash: look for `-i`, `-o` and `-s` before it.
    for (letter, what) in [
        ('i', "security groups for what goes to the port"),
        ('o', "security groups for what the port sends"),
        ('s', "addresses that the port may send from"),
    ] {
        let found = rest
            .match_indices(letter)
            .map(|(at, _)| (&rest[..at], &rest[at + 1..]))
            .find(|(before, id)| (before.is_empty() || before.ends_with('-')) && is_port_id(id));
        if let Some((_, id)) = found {
            let knob = if letter == 's' {
                pairs(id)
            } else {
                format!("openstack port show {id}...; openstack security group rule list")
            };
            let owner = Owner::new(Program::Neutron, format!("{what}, port {id}..."));
            return Some(owner.of_port(&format!("tap{id}")).by(knob));
        }
    }
    Some(Owner::new(
        Program::Neutron,
        match part {
            "fallback" => "what no security group rule allows",
            "chain" => "the way to the ports' security groups",
            "scope" => "address scopes",
            _ => "the agent's own chains",
        },
    ))
}

fn pairs(id: &str) -> String {
    format!("openstack port set --allowed-address ip-address=ADDR {id}..., or port security off")
}

/// Chains of nova-network and nova-compute.
fn nova(chain: &str) -> Option<Owner> {
    if chain == "nova-filter-top" {
        let part = "the way to nova's chains";
        return Some(Owner::new(Program::Nova, part));
    }
    let rest = ["compute", "network", "api", "metadata"]
        .iter()
        .find_map(|program| chain.strip_prefix(&format!("nova-{program}-")))?;
    let part = match rest {
        "sg-fallback" => "what no security group rule allows".to_owned(),
        "provider" => "rules of the provider for all instances".to_owned(),
        "local" => "the way to the instances' chains, by their fixed addresses".to_owned(),
        _ => match rest.strip_prefix("inst-") {
            Some(number) => format!("security groups of instance {number}"),
            None => format!("nova's rules of {rest}"),
        },
    };
    let mut owner = Owner::new(Program::Nova, part);
    if rest.starts_with("inst-") || rest == "sg-fallback" {
        owner.knob = Some("openstack security group rule list".into());
    }
    Some(owner)
}

fn network() -> Owner {
    Owner::new(
        Program::LibvirtNetwork,
        "forwarding and translation of virtual networks",
    )
    .by("virsh net-dumpxml")
}

fn firewalld() -> Owner {
    Owner::new(Program::Firewalld, "zones and policies").by("firewall-cmd --list-all-zones")
}

/// Programs whose chains all begin alike.
fn others(chain: &str) -> Option<Owner> {
    if let Some(id) = chain.strip_prefix("cni-br-iface-") {
        let id = id.strip_suffix("-mac").unwrap_or(id);
        let owner = Owner::new(
            Program::Cni,
            format!("source MAC of container {id} (macspoofchk)"),
        );
        return Some(owner.by("`macspoofchk` of the bridge plugin in the network's configuration"));
    }
    let starts = |prefixes: &[&str]| prefixes.iter().any(|prefix| chain.starts_with(prefix));
    if starts(&["LIBVIRT_"]) {
        return Some(network());
    }
    if starts(&["KUBE-"]) {
        let part = match chain {
            _ if starts(&["KUBE-MARK-MASQ", "KUBE-POSTROUTING"]) => {
                "translation of the source (masquerading)"
            }
            _ if starts(&["KUBE-FIREWALL"]) => "kubelet's protection of the host",
            _ if starts(&["KUBE-FORWARD"]) => "what services' packets may be forwarded",
            _ => "kube-proxy's services",
        };
        return Some(Owner::new(Program::Kubernetes, part));
    }
    if starts(&["CNI-", "CNI_"]) {
        return Some(Owner::new(
            Program::Cni,
            "ports and translation of containers",
        ));
    }
    if starts(&["cali-", "cali_"]) {
        return Some(Owner::new(Program::Calico, "policies").by("calicoctl get networkpolicy"));
    }
    if chain == "DOCKER-USER" {
        return Some(Owner::new(
            Program::Docker,
            "the administrator's own rules for containers",
        ));
    }
    if starts(&["DOCKER"]) {
        return Some(Owner::new(Program::Docker, "networks of containers"));
    }
    if starts(&["ufw-", "ufw6-"]) {
        return Some(Owner::new(Program::Ufw, "rules of the host").by("ufw status"));
    }
    let zones = [
        "_ZONES",
        "_ZONES_SOURCE",
        "_direct",
        "_POLICIES_pre",
        "_POLICIES_post",
    ];
    let by_zone = [
        "IN_",
        "FWD_",
        "FWDI_",
        "FWDO_",
        "PRE_",
        "POST_",
        "filter_IN_",
        "nat_PRE_",
    ];
    if zones.iter().any(|end| chain.ends_with(end))
        || starts(&by_zone) && chain.contains(|c: char| c.is_ascii_lowercase())
    {
        return Some(firewalld());
    }
    None
}

#[cfg(test)]
mod tests;

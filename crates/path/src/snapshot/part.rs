//! What a snapshot is made of, and what could not be read.

use serde::{Deserialize, Serialize};

/// A part of a snapshot that is read as a whole or not at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Part {
    /// The kernel's name and version.
    Kernel,
    /// Links, their addresses, bridges and ports.
    Links,
    /// Routes.
    Routes,
    /// Rules that choose a table of routes.
    RoutingRules,
    /// Neighbours.
    Neighbours,
    /// What bridges have learned.
    Forwarding,
    /// VLANs of bridge ports.
    Vlans,
    /// Groups that were joined behind bridge ports.
    Multicast,
    /// Numbers of other namespaces.
    Namespaces,
    /// Kernel parameters.
    Sysctls,
    /// Offloads of links.
    Offloads,
    /// Rules of nftables.
    Nft,
    /// Rules of iptables.
    Iptables,
    /// Rules of ip6tables.
    Ip6tables,
    /// Rules of ebtables.
    Ebtables,
    /// Tracked connections.
    Connections,
    /// Sockets that listen.
    Sockets,
    /// Counters of the network stack.
    Counters,
    /// Virtual services of the kernel's IPVS.
    Ipvs,
    /// Virtual services of Pointsman.
    Pointsman,
    /// Settings of Pointsman.
    Settings,
    /// Domains of libvirt.
    Domains,
    /// Network filters of libvirt.
    NetworkFilters,
    /// Which filter libvirt has bound to which port.
    FilterBindings,
    /// How kube-proxy was started.
    KubeProxy,
    /// A part that this version does not know.
    #[serde(other)]
    Other,
}

impl Part {
    /// What it is called.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Kernel => "kernel",
            Self::Links => "links and addresses",
            Self::Routes => "routes",
            Self::RoutingRules => "routing rules",
            Self::Neighbours => "neighbours",
            Self::Forwarding => "what bridges learned",
            Self::Vlans => "VLANs of bridge ports",
            Self::Multicast => "groups of bridge ports",
            Self::Namespaces => "other namespaces",
            Self::Sysctls => "kernel parameters",
            Self::Offloads => "offloads",
            Self::Nft => "rules of nftables",
            Self::Iptables => "rules of iptables",
            Self::Ip6tables => "rules of ip6tables",
            Self::Ebtables => "rules of ebtables",
            Self::Connections => "tracked connections",
            Self::Sockets => "sockets",
            Self::Counters => "counters",
            Self::Ipvs => "services of the kernel's IPVS",
            Self::Pointsman => "services of Pointsman",
            Self::Settings => "settings of Pointsman",
            Self::Domains => "libvirt domains",
            Self::NetworkFilters => "libvirt network filters",
            Self::FilterBindings => "libvirt filter bindings",
            Self::KubeProxy => "kube-proxy's command line",
            Self::Other => "something newer",
        }
    }
}

/// A part that could not be read, or not whole.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gap {
    /// What is missing.
    pub part: Part,
    /// The command that was to tell it.
    #[serde(default)]
    pub command: String,
    /// Why it did not.
    pub because: String,
}

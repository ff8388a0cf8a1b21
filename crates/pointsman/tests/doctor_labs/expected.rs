//! What the doctor's answer must say in each fault lab.

use pointsman_path::finding::Confidence;

use Confidence::{Likely, Proved};

/// How the finding's first fix mends the lab.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cure {
    /// Its commands do, as they are printed, and its undo takes that back.
    Commands,
    /// The same, but who learned something from the cure does not forget it by the undo: what.
    Lasting(&'static str),
    /// No command does: why, and what is done by hand is the lab's own cure.
    ByHand(&'static str),
}

/// One lab.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Expected {
    /// Its name.
    pub(crate) lab: &'static str,
    /// The rule, setting or thing that the finding must name.
    pub(crate) names: &'static str,
    /// At least so sure.
    pub(crate) sure: Confidence,
    /// What mends it.
    pub(crate) cure: Cure,
    /// Another port of the gap than that of the lab's own words; empty if there is none.
    pub(crate) or_at: &'static str,
}

const fn row(lab: &'static str, sure: Confidence, names: &'static str) -> Expected {
    Expected {
        lab,
        names,
        sure,
        cure: Cure::Commands,
        or_at: "",
    }
}

/// The port by which a frame should have left, where the lab names the one that it came in by.
const fn before(or_at: &'static str, row: Expected) -> Expected {
    Expected { or_at, ..row }
}

const fn lasting(
    lab: &'static str,
    sure: Confidence,
    names: &'static str,
    what: &'static str,
) -> Expected {
    Expected {
        cure: Cure::Lasting(what),
        ..row(lab, sure, names)
    }
}

const fn by_hand(
    lab: &'static str,
    sure: Confidence,
    names: &'static str,
    why: &'static str,
) -> Expected {
    Expected {
        cure: Cure::ByHand(why),
        ..row(lab, sure, names)
    }
}

/// Of every fault and story that a machine without VLANs and kernel IPVS builds.
pub(crate) const EXPECTED: &[Expected] = &[
    row("HOST_IP_SPOOF_DIR", Proved, "I-vnet0-ipv4-ip"),
    row("HOST_IP_SPOOF_RS", Proved, "I-vnet0-ipv4-ip"),
    row("HOST_ARP_SPOOF", Proved, "arp"),
    row("HOST_IP_SPOOF_VIP", Proved, "DROP"),
    row("HOST_MAC_SPOOF", Proved, "mac"),
    row("NEUTRON_PORT_SECURITY", Proved, "neutron"),
    row("SG_INGRESS", Proved, "DROP"),
    row("STATEFUL_ASYM_DIR", Proved, "INVALID"),
    row("STATEFUL_ASYM_RETURN", Proved, "INVALID"),
    row("CNI_EBTABLES", Proved, "DROP"),
    row("ARP_FLUX_RS", Proved, "arp_ignore"),
    row("ARP_ANNOUNCE_RS", Proved, "arp_announce"),
    row("DUP_VIP", Proved, "198.51.100.208/32"),
    row("VRRP_SPLIT", Proved, "vrrp"),
    row("STALE_NEIGH", Proved, "ip neighbour show 198.51.100.208"),
    row("MAC_FLAP", Likely, "MAC address"),
    row("HAIRPIN", Proved, "hairpin"),
    row("PORT_ISOLATED", Proved, "isolated"),
    row("L2_NOT_ADJACENT", Proved, "198.51.100.1"),
    row("RS_VIP_MISSING", Proved, "198.51.100.208"),
    row("RS_VIP_MISSING_FWD", Proved, "ip_forward"),
    row("RS_VIP_NETMASK", Proved, "198.51.100.208/24"),
    row("RS_RPFILTER", Proved, "rp_filter"),
    row("TUN_RPFILTER", Proved, "decap0"),
    by_hand("TUN_DOWN", Proved, "tunnel", "this kernel has no ipip"),
    before("vnet0", row("TUN_FIREWALL", Proved, "ipencap")),
    lasting(
        "TUN_MTU",
        Proved,
        "icmp",
        "the client knows the MTU of the path",
    ),
    row("L2_MTU", Proved, "MTU of 1000"),
    row("PORT_MISMATCH", Proved, "port 80"),
    row("SERVICE_BIND", Proved, "198.51.100.226"),
    row("UDP_SRC_RIP", Proved, "198.51.100.226"),
    row("RS_REPLY_URPF", Proved, "lan2"),
    by_hand("RS_BACKLOG", Proved, "queue", "the server's program"),
    row("RS_LOCAL_FW", Proved, "--dport 80 -j DROP"),
    row("NO_SERVICE_MATCH", Proved, "198.51.100.208:80"),
    row("NO_RS_AVAILABLE", Proved, "weight 0"),
    lasting(
        "RS_STICKY_DEAD",
        Proved,
        "expire_quiescent_template",
        "the client is another real server's now",
    ),
    row("NAT_BAD_GATEWAY", Proved, "198.51.100.1"),
    row("NAT_SAME_SUBNET", Proved, "198.51.100.10"),
    row("CSUM_PARTIAL", Proved, "tx-checksumming"),
    by_hand("XDP_TX_VETH_SILENT", Proved, "XDP program", "another hook"),
    row("BR_NF_FULL_UNNAT", Proved, "bridge-nf-call-iptables"),
    row("DOCKER_FORWARD_DROP", Proved, "FORWARD"),
    row("KUBE_INVALID_DROP", Proved, "INVALID"),
    by_hand(
        "KUBE_NO_ENDPOINT",
        Proved,
        "has no endpoints",
        "the cluster",
    ),
    row("IPVS_STRICT_ARP", Proved, "arp_ignore"),
    row("VIP_NOT_ROUTED", Proved, "198.51.100.208"),
    row("POLICY_ROUTE", Proved, "lookup"),
    row("TTL_EXPIRED", Proved, "hop limit"),
    row("KVM", Proved, "I-vnet0-ipv4-ip"),
    row("OPENSTACK", Proved, "arp"),
    row("HARVESTER", Proved, "bridge-nf-call-iptables"),
];

/// The row of a lab.
pub(crate) fn of(lab: &str) -> Option<&'static Expected> {
    EXPECTED.iter().find(|row| row.lab == lab)
}

//! Every fault that the doctor knows by name: what it is, how it shows, and what mends it.

mod director;
mod kubernetes;
mod neighbour;
mod port_filter;
mod real_server;
mod routing;

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// What is known of a fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// The fault.
    pub code: Code,
    /// What it is, in a few words.
    pub title: &'static str,
    /// What happens, and why.
    pub explanation: &'static str,
    /// The fact that tells it from what looks alike.
    pub evidence: &'static str,
    /// What mends it, the smallest thing first.
    pub fix: &'static str,
    /// Whether it was made and seen to behave so; otherwise the entry is from documentation.
    pub tried: bool,
}

/// No fault is called so.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no fault is called `{0}`: `pointsman doctor --explain` lists them")]
pub struct CodeError(pub String);

/// Declares codes with the names that people see.
macro_rules! codes {
    ($($variant:ident $name:literal,)*) => {
        /// A fault, by a name that stays.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        pub enum Code {
            $(
                #[doc = concat!("`", $name, "`")]
                #[serde(rename = $name)]
                $variant,
            )*
        }

        impl Code {
            /// Every code, in the order of the path of a packet.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// The name that people see.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                }
            }
        }
    };
}

codes! {
    HostIpSpoofDirector "HOST_IP_SPOOF_DIR",
    HostIpSpoofServer "HOST_IP_SPOOF_RS",
    HostArpSpoof "HOST_ARP_SPOOF",
    HostIpSpoofVip "HOST_IP_SPOOF_VIP",
    HostMacSpoof "HOST_MAC_SPOOF",
    NeutronPortSecurity "NEUTRON_PORT_SECURITY",
    SecurityGroupIngress "SG_INGRESS",
    StatefulDirector "STATEFUL_ASYM_DIR",
    StatefulReturn "STATEFUL_ASYM_RETURN",
    HypervisorSpoof "HYPERVISOR_SPOOF",
    OvsPortSecurity "OVS_PORT_SECURITY",
    CniEbtables "CNI_EBTABLES",
    ArpFlux "ARP_FLUX_RS",
    ArpAnnounce "ARP_ANNOUNCE_RS",
    DuplicateVip "DUP_VIP",
    VrrpSplit "VRRP_SPLIT",
    VrrpMismatch "VRRP_MISMATCH",
    VrrpIdTaken "VRRP_ID_TAKEN",
    VipNotBelieved "VIP_NOT_BELIEVED",
    IgmpSnooping "IGMP_SNOOP",
    StaleNeighbour "STALE_NEIGH",
    MacFlapping "MAC_FLAP",
    ForwardingUnlearned "FDB_UNLEARNED",
    XdpForeignMac "XDP_ACCEPTS_FOREIGN_MAC",
    Hairpin "HAIRPIN",
    PortIsolated "PORT_ISOLATED",
    VlanMismatch "VLAN_MISMATCH",
    NotAdjacent "L2_NOT_ADJACENT",
    VrrpMacFilter "VRRP_VMAC_FILTER",
    NeighbourOverflow "NEIGH_OVERFLOW",
    DuplicateDetection "IPV6_DAD",
    VipMissing "RS_VIP_MISSING",
    VipMissingForwarding "RS_VIP_MISSING_FWD",
    VipNetmask "RS_VIP_NETMASK",
    ReversePath "RS_RPFILTER",
    TunnelReversePath "TUN_RPFILTER",
    TunnelDown "TUN_DOWN",
    TunnelFirewall "TUN_FIREWALL",
    TunnelMtu "TUN_MTU",
    LinkMtu "L2_MTU",
    PortMismatch "PORT_MISMATCH",
    ServiceBind "SERVICE_BIND",
    UdpSource "UDP_SRC_RIP",
    ReplyUpstream "RS_REPLY_URPF",
    Backlog "RS_BACKLOG",
    ServerFirewall "RS_LOCAL_FW",
    Timestamps "PAWS_NAT_CLIENTS",
    NoService "NO_SERVICE_MATCH",
    NoServer "NO_RS_AVAILABLE",
    StickyDead "RS_STICKY_DEAD",
    NatNoForward "NAT_NO_FORWARD",
    NatGateway "NAT_BAD_GATEWAY",
    NatSameSubnet "NAT_SAME_SUBNET",
    IpvsConntrackOff "IPVS_CT_OFF",
    DirectorInput "DIR_INPUT_DROP",
    DirectorForward "DIR_FORWARD_DROP",
    DirectorInvalid "DIR_INVALID_DROP",
    LocalClient "LOCAL_CLIENT",
    ReceiveOffload "GRO_LRO",
    PartialChecksum "CSUM_PARTIAL",
    XdpVethSilent "XDP_TX_VETH_SILENT",
    XdpInvisible "XDP_INVISIBLE",
    ConntrackFull "CT_TABLE_FULL",
    IpvsReuse "IPVS_REUSE",
    SyncLost "SYNC_LOST",
    LocalAddresses "LOCAL_ADDR_EXHAUST",
    FullNatFirewall "FULLNAT_RS_FW",
    BridgeDestinationNat "BR_NF_DESNAT",
    BridgeAsymmetricVlan "BR_NF_ASYM_VLAN",
    BridgeFullNat "BR_NF_FULL_UNNAT",
    DockerForward "DOCKER_FORWARD_DROP",
    KubeInvalid "KUBE_INVALID_DROP",
    KubeLocalPolicy "KUBE_ETP_LOCAL",
    KubeNoEndpoint "KUBE_NO_ENDPOINT",
    StrictArp "IPVS_STRICT_ARP",
    VxlanChecksum "VXLAN_CSUM",
    CniReversePath "CNI_RPFILTER",
    MasqueradeHides "MASQ_HIDES_CLIENT",
    KubeHairpin "KUBE_SEP_HAIRPIN",
    NotRouted "VIP_NOT_ROUTED",
    PolicyRoute "POLICY_ROUTE",
    IcmpRedirect "ICMP_REDIRECT",
    TtlExpired "TTL_EXPIRED",
    MixedTables "NFT_LEGACY_MIX",
    ListingLies "EBT_LISTING_LIES",
    CaptureChanges "TCPDUMP_CHANGES_PATH",
    WrongNamespace "NETNS_SYSCTL",
    CapturePoint "CAPTURE_POINT_LIE",
}

impl Code {
    /// What is known of it.
    pub fn entry(self) -> &'static Entry {
        entries()
            .find(|entry| entry.code == self)
            .expect("a test looks every code up")
    }
}

/// All entries, in the order of the path of a packet.
pub fn entries() -> impl Iterator<Item = &'static Entry> {
    [
        port_filter::ENTRIES,
        neighbour::ENTRIES,
        real_server::ENTRIES,
        director::ENTRIES,
        kubernetes::ENTRIES,
        routing::ENTRIES,
    ]
    .into_iter()
    .flatten()
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Code {
    type Err = CodeError;

    /// Upper and lower case are the same, and so are `-` and `_`.
    fn from_str(text: &str) -> Result<Self, CodeError> {
        let name = text.to_ascii_uppercase().replace('-', "_");
        Self::ALL
            .iter()
            .copied()
            .find(|code| code.name() == name)
            .ok_or_else(|| CodeError(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_one_entry_in_order() {
        let codes: Vec<Code> = entries().map(|entry| entry.code).collect();
        assert_eq!(codes, Code::ALL);
        assert_eq!(codes.len(), 88);
    }

    #[test]
    fn entries_are_sentences() {
        for entry in entries() {
            for text in [entry.explanation, entry.evidence, entry.fix] {
                assert!(
                    text.ends_with('.') && text.len() > 10,
                    "{}: {text}",
                    entry.code
                );
                assert!(!text.contains("  "), "{}: {text}", entry.code);
            }
            assert!(!entry.title.ends_with('.'), "{}", entry.code);
        }
    }

    #[test]
    fn names_are_read_as_they_are_written() {
        for code in Code::ALL {
            assert_eq!(code.name().parse(), Ok(*code));
            assert_eq!(
                code.name().to_lowercase().replace('_', "-").parse(),
                Ok(*code)
            );
            let json = serde_json::to_string(code).unwrap();
            assert_eq!(json, format!("\"{code}\""));
        }
        assert!("NOTHING".parse::<Code>().is_err());
    }
}

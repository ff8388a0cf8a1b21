//! Kubernetes, Harvester, Docker: what they do to bridged traffic.

use super::{Code, Entry};

pub(super) const ENTRIES: &[Entry] = &[
    Entry {
        code: Code::BridgeDestinationNat,
        title: "the host translates an answer while it is still on the bridge",
        explanation: "The host masquerades connections to a service whose endpoint is a guest on a bridge \
                of the same host. The guest's answer crosses the bridge, which calls iptables: \
                connection tracking takes it for the host's own and translates it back too early. \
                The host then refuses it with RST.",
        evidence: "The destination port of the SYN/ACK changes between tap and uplink; a tracked \
                connection SYN_RECV has that port as its original source.",
        fix: "bridge-nf-call-iptables=0, if nothing needs it; or no masquerading (kube-proxy \
                without cluster CIDR); or `CT --notrack` for the guest's port. Which of them helps \
                depends on the bridge: try it first.",
        tried: true,
    },
    Entry {
        code: Code::BridgeAsymmetricVlan,
        title: "requests cross the bridge tagged, answers untagged",
        explanation: "Tagged frames skip iptables on a bridge (bridge-nf-filter-vlan-tagged=0), untagged \
                ones do not: connection tracking sees one direction only.",
        evidence: "Only answers have a tracked pass through the bridge.",
        fix: "The same as for BR_NF_DESNAT, and tried first.",
        tried: true,
    },
    Entry {
        code: Code::BridgeFullNat,
        title: "both addresses of an answer are translated on the bridge",
        explanation: "Where the tag comes on after POSTROUTING, the source is translated too: the answer \
                is on the wire with the service's address.",
        evidence: "The SYN/ACK's source on the uplink is the cluster address.",
        fix: "bridge-nf-call-iptables=0, or `CT --notrack`; an empty cluster CIDR does not help \
                here.",
        tried: true,
    },
    Entry {
        code: Code::DockerForward,
        title: "FORWARD's policy drops bridged traffic",
        explanation: "Docker and others set FORWARD to DROP, and the bridge calls iptables: guests' \
                frames end there.",
        evidence: "Frames stop between tap and uplink; FORWARD's policy counts.",
        fix: "Accept it (in DOCKER-USER), or bridge-nf-call-iptables=0.",
        tried: false,
    },
    Entry {
        code: Code::KubeInvalid,
        title: "kube-proxy's rule drops INVALID",
        explanation: "KUBE-FORWARD drops what connection tracking finds invalid. With direct routing \
                through a node that is every ACK.",
        evidence: "The rule's counter rises.",
        fix: "Do not track it, or nf_conntrack_tcp_be_liberal=1.",
        tried: false,
    },
    Entry {
        code: Code::KubeLocalPolicy,
        title: "the node has no endpoint and may not use others",
        explanation: "externalTrafficPolicy is Local and the node has no endpoint: its packets are \
                dropped.",
        evidence: "A DROP in KUBE-XLB or KUBE-EXT counts; the health-check port says 503.",
        fix: "An endpoint on the node, or the policy Cluster.",
        tried: false,
    },
    Entry {
        code: Code::KubeNoEndpoint,
        title: "the service has no endpoint",
        explanation: "kube-proxy refuses connections to services without endpoints.",
        evidence: "A REJECT with the comment `has no endpoints`.",
        fix: "Mend selector or pods.",
        tried: false,
    },
    Entry {
        code: Code::StrictArp,
        title: "every node answers ARP for the load balancers' addresses",
        explanation: "kube-proxy with IPVS puts the addresses on kube-ipvs0 of each node, and Linux \
                answers for all of them.",
        evidence: "Several MAC addresses answer for the virtual address.",
        fix: "strictARP in kube-proxy (arp_ignore=1, arp_announce=2).",
        tried: false,
    },
    Entry {
        code: Code::VxlanChecksum,
        title: "packets of the overlay have a wrong checksum",
        explanation: "After two translations some cards and kernels leave a wrong checksum in the outer \
                UDP header.",
        evidence: "SYNs are repeated after 1 and 3 seconds; wrong checksums at the receiver.",
        fix: "Checksum offload off at the overlay's device.",
        tried: false,
    },
    Entry {
        code: Code::CniReversePath,
        title: "a container network's interface drops by reverse path",
        explanation: "Strict rp_filter at a container's interface and a way back elsewhere.",
        evidence: "TcpExtIPReversePathFilter rises.",
        fix: "rp_filter=2.",
        tried: false,
    },
    Entry {
        code: Code::MasqueradeHides,
        title: "masquerading hides the client",
        explanation: "The service works, the real server sees a node's address.",
        evidence: "The tracked connection's reply goes to the node.",
        fix: "externalTrafficPolicy Local, or the right cluster CIDR.",
        tried: false,
    },
    Entry {
        code: Code::KubeHairpin,
        title: "a pod can't reach itself by its service",
        explanation: "The frame must go back by the port it came from.",
        evidence: "hairpin_mode of the veth is 0.",
        fix: "Hairpin mode `hairpin-veth`.",
        tried: false,
    },
];

//! Filters at ports of virtual switches, before the wire.

use super::{Code, Entry};

pub(super) const ENTRIES: &[Entry] = &[
    Entry {
        code: Code::HostIpSpoofDirector,
        title: "the director's host takes forwarded packets for forged",
        explanation: "With direct routing the director sends packets on with the client's source address. \
                A rule against forged addresses at the director's port (libvirt's `clean-traffic` or \
                `no-ip-spoofing`) lets only the guest's own address out, so every forwarded packet \
                is dropped on the director's host.",
        evidence: "The director's interface and its tap show the rewritten frame, the bridge behind \
                the tap does not; the rule's counter rises by one for each packet.",
        fix: "A filter of its own without the address rule that keeps the rules for MAC and ARP; \
                or an exception for the virtual address and port; or no filter; or tunnel or \
                masquerading, whose packets carry the director's address. To allow the virtual \
                address does not help: the source is the client's.",
        tried: true,
    },
    Entry {
        code: Code::HostIpSpoofServer,
        title: "the real server's host takes answers for forged",
        explanation: "With direct routing and tunnels a real server answers from the virtual address. A \
                rule against forged addresses at its port drops the answer on its host.",
        evidence: "The answer leaves the real server, its tap shows it, the bridge behind does not; \
                the dropped source is the virtual address.",
        fix: "Allow the virtual address at the real server's port.",
        tried: true,
    },
    Entry {
        code: Code::HostArpSpoof,
        title: "ARP for the virtual address is dropped at the port",
        explanation: "A rule against ARP spoofing lets a guest speak for its own addresses only. Answers \
                and announcements for a virtual address that it took over are dropped.",
        evidence: "The guest's interface and the tap show `is-at` for the virtual address, the bridge \
                does not.",
        fix: "Allow the virtual address in the ARP rules and in the IP rules: with only one of \
                them it still fails.",
        tried: true,
    },
    Entry {
        code: Code::HostIpSpoofVip,
        title: "packets from the virtual address are dropped at the port",
        explanation: "The node that has the virtual address may send from its own address only: what it \
                answers from the virtual address is dropped on its host.",
        evidence: "Requests arrive, answers are seen on the tap and not behind it; the dropped source \
                is the virtual address.",
        fix: "Allow the virtual address at the port (in OpenStack an allowed address pair).",
        tried: true,
    },
    Entry {
        code: Code::HostMacSpoof,
        title: "the port lets only one MAC address out",
        explanation: "The guest sends with another MAC address than the one of its definition: VRRP's \
                virtual MAC, a macvlan, a nested guest. The rule against MAC spoofing drops all of \
                it.",
        evidence: "The source MAC of the guest's frames differs from the one in the rule and in the \
                domain's definition.",
        fix: "Switch virtual MACs off (`use_vmac`), or allow the address at the port.",
        tried: false,
    },
    Entry {
        code: Code::NeutronPortSecurity,
        title: "OpenStack's port security drops what the guest sends",
        explanation: "Neutron's rules for a port let only its own pairs of address and MAC out. They act \
                in iptables' FORWARD, so only while the bridge calls iptables.",
        evidence: "The counter of the rule `Drop traffic without an IP/MAC allow rule` rises by one \
                for each packet.",
        fix: "For answers of real servers and for VRRP an allowed address pair of the virtual \
                address. A director with direct routing sends from any client's address: it needs a \
                pair of 0.0.0.0/0, port security off, or tunnel or masquerading.",
        tried: true,
    },
    Entry {
        code: Code::SecurityGroupIngress,
        title: "a security group does not let requests in",
        explanation: "The group lacks the virtual port, or the protocol that carries it: 4 (IP in IP), 47 \
                (GRE), 112 (VRRP).",
        evidence: "The frame arrives at the host's uplink and not at the tap; the fallback chain's \
                counter rises.",
        fix: "Add the rule; a tunnel needs the outer protocol, not the inner port.",
        tried: false,
    },
    Entry {
        code: Code::StatefulDirector,
        title: "a stateful filter before the director sees one direction only",
        explanation: "With direct routing and tunnels answers take another way. Connection tracking on \
                the director's way sees SYN and never SYN/ACK: the client's ACK is INVALID to it. A \
                rule that drops INVALID lets connections begin and then hang.",
        evidence: "SYN passes, ACK and data stop; the tracked connection stays SYN_SENT [UNREPLIED]; \
                the counter of the INVALID rule rises.",
        fix: "Accept the virtual address and port before that rule; or do not track it (table \
                raw, `CT --notrack`); or bridge-nf-call-iptables=0; or masquerading.",
        tried: true,
    },
    Entry {
        code: Code::StatefulReturn,
        title: "a stateful firewall sees answers only",
        explanation: "A firewall or address translation on the way back sees a SYN/ACK of a connection \
                that it does not know, and drops it.",
        evidence: "The SYN/ACK arrives at the firewall and not behind it.",
        fix: "Make both directions take the same way, or let the firewall pass it without state.",
        tried: false,
    },
    Entry {
        code: Code::HypervisorSpoof,
        title: "the hypervisor drops foreign addresses silently",
        explanation: "VMware's forged transmits, Hyper-V's MAC spoofing, the source/destination check of \
                clouds and the spoof check of SR-IOV act where no Linux host shows it.",
        evidence: "The frame leaves the guest and no rule on any Linux host saw it; for SR-IOV `ip -d \
                link` shows `spoof checking on` at the virtual function.",
        fix: "Switch the check off for this interface, or use tunnel or masquerading.",
        tried: false,
    },
    Entry {
        code: Code::OvsPortSecurity,
        title: "Open vSwitch drops it by port security",
        explanation: "OVN and neutron's flows of Open vSwitch drop what the port may not send.",
        evidence: "`ovs-appctl ofproto/trace` of the rewritten frame ends in a drop.",
        fix: "Allowed address pairs, or port security off for this port.",
        tried: false,
    },
    Entry {
        code: Code::CniEbtables,
        title: "a container network drops foreign addresses",
        explanation: "Container networks drop per pod what comes from foreign addresses: kubenet's \
                KUBE-DEDUP, Calico, Cilium, Antrea's SpoofGuard.",
        evidence: "The frame is last seen on the pod's veth; a rule's counter rises.",
        fix: "The switch that the container network has for it, or tunnel or masquerading.",
        tried: false,
    },
];

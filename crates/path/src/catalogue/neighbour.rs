//! Who the virtual address belongs to on the link: ARP, bridges, VLANs.

use super::{Code, Entry};

pub(super) const ENTRIES: &[Entry] = &[
    Entry {
        code: Code::ArpFlux,
        title: "a real server answers ARP for the virtual address",
        explanation: "Linux answers ARP for every address of the host on every interface. A real server \
                that has the virtual address on `lo` answers too, and the first answer wins: \
                requests go to it directly, past the director.",
        evidence: "More than one MAC address answers `who-has`; the client's neighbour entry is a real \
                server; the director counts nothing.",
        fix: "arp_ignore=1 on real servers, on the interface that hears the question or on `all`; \
                never on the director.",
        tried: true,
    },
    Entry {
        code: Code::ArpAnnounce,
        title: "a real server announces the virtual address when it asks",
        explanation: "While answering a client a real server asks for the client's or the gateway's MAC \
                with the virtual address as the sender: whoever hears it learns the real server for \
                the virtual address.",
        evidence: "An ARP request with the virtual address as sender and a real server's MAC.",
        fix: "arp_announce=2 on real servers, on the interface that answers leave by or on `all`.",
        tried: true,
    },
    Entry {
        code: Code::DuplicateVip,
        title: "two nodes have the virtual address",
        explanation: "Two live nodes answer for the virtual address; clients reach the one or the other.",
        evidence: "Two MAC addresses answer, both of nodes that mean it.",
        fix: "Take the address from one; `arping -D` tells whether somebody has it.",
        tried: true,
    },
    Entry {
        code: Code::VrrpSplit,
        title: "VRRP advertisements do not arrive and both are master",
        explanation: "The backup does not hear the master (filtered protocol 112, other password, other \
                identifier or interval) and becomes master too.",
        evidence: "Advertisements leave one node and are missing at the other; both have the address.",
        fix: "Let protocol 112 to 224.0.0.18 and ff02::12 pass, or give unicast peers.",
        tried: true,
    },
    Entry {
        code: Code::VrrpMismatch,
        title: "virtual routers do not agree and both are master",
        explanation: "Advertisements arrive and do not count: another version, virtual router id, password, \
                interval (version 2), list of addresses, checksum, or a peer that is not the other. Each \
                takes the other for down.",
        evidence: "Both advertise the same address in turns, and their advertisements differ in that.",
        fix: "The same settings on both; `pointsman config check` reads the files.",
        tried: true,
    },
    Entry {
        code: Code::VrrpIdTaken,
        title: "two virtual routers have one id on a segment",
        explanation: "Routers of different groups hear each other's advertisements, reject them and log, \
                and with virtual MACs take each other's frames.",
        evidence: "Advertisements of one id with different addresses at one place.",
        fix: "Another virtual_router_id for one of them.",
        tried: true,
    },
    Entry {
        code: Code::VipNotBelieved,
        title: "the master has the address and the segment does not know",
        explanation: "The election is well, for advertisements come from the routers' own addresses. What \
                says where the virtual address is (ARP, neighbor advertisements) is dropped at the \
                master's port, or a switch has its MAC address fixed elsewhere.",
        evidence: "A neighbor asks for the address and nobody answers, while the master advertises.",
        fix: "Allow the address at the port (ARP and IP lists, allowed address pair); `verify_vip` has \
                the master find out by itself.",
        tried: true,
    },
    Entry {
        code: Code::IgmpSnooping,
        title: "a switch does not pass a group on: VRRP's, or neighbor discovery's",
        explanation: "A switch with IGMP or MLD snooping delivers a group to those who joined, as far as it \
                knows, once a querier asks. A Linux bridge floods 224.0.0.0/24 in any case, but neither \
                ff02::12 nor a group of one's own (`vrrp_mcast_group4`); and a port with `mcast_flood \
                off` gets no group at all that nobody joined, 224.0.0.18 among them. IPv6 asks for \
                neighbors in groups: what works by IPv4 may not by IPv6.",
        evidence: "Advertisements come in at one port and do not leave by the other; `bridge -d link` shows \
                `mcast_flood off` there, or `bridge mdb` lacks the port while there is a querier.",
        fix: "`mcast_flood on`; mend what drops reports or questions of IGMP and MLD, a fixed entry \
                (`bridge mdb add`), an exception for the group, or unicast peers.",
        tried: true,
    },
    Entry {
        code: Code::StaleNeighbour,
        title: "somebody still has the old MAC address for the virtual address",
        explanation: "After a failover the announcement was lost, dropped or refused. Packets go on to \
                the old node.",
        evidence: "A neighbour entry for the virtual address differs from the MAC of the node that has \
                it now.",
        fix: "Announce again (`garp_master_refresh`), delete the entry, and mend what dropped the \
                announcement.",
        tried: true,
    },
    Entry {
        code: Code::MacFlapping,
        title: "one MAC address comes from two ports",
        explanation: "Somebody forwards frames without putting in its own source address, or two nodes \
                share one: switches move the address to and fro.",
        evidence: "`bridge monitor fdb` shows an address change ports again and again.",
        fix: "Send with the address of the port that sends.",
        tried: true,
    },
    Entry {
        code: Code::ForwardingUnlearned,
        title: "switches do not know where the director is",
        explanation: "A director that only receives, or forwards in XDP only, sends nothing under its own \
                address. Switches forget it and flood its traffic to all ports.",
        evidence: "No forwarding entry has the director's address; every port carries its traffic.",
        fix: "Announce from time to time, or a static entry.",
        tried: true,
    },
    Entry {
        code: Code::XdpForeignMac,
        title: "an XDP program takes frames that are for others",
        explanation: "XDP sees flooded frames too. A program that does not check the destination address \
                forwards what another director forwards as well.",
        evidence: "The same packet twice behind the directors, from two source addresses.",
        fix: "Check the destination address first.",
        tried: true,
    },
    Entry {
        code: Code::Hairpin,
        title: "the frame must leave by the port that it came in by",
        explanation: "Director and real server are behind the same port of a bridge (nested guests, a \
                macvlan, containers in a guest). A bridge does not send a frame back to where it \
                came from.",
        evidence: "The port receives the frame and nothing is sent, nothing is counted as dropped; \
                both MAC addresses are behind one port with `hairpin off`.",
        fix: "`bridge link set dev PORT hairpin on`, or a macvlan in bridge mode.",
        tried: true,
    },
    Entry {
        code: Code::PortIsolated,
        title: "both ports are isolated from each other",
        explanation: "Isolated ports of a bridge reach only ports that are not.",
        evidence: "`bridge -d link` shows `isolated on` at both.",
        fix: "`bridge link set dev PORT isolated off` at one of them, or another bridge.",
        tried: true,
    },
    Entry {
        code: Code::VlanMismatch,
        title: "the ports do not share a VLAN",
        explanation: "A port of the bridge or the trunk lacks the VLAN, or has another one for frames \
                without tag.",
        evidence: "The tap shows the frame, the trunk does not, or with another tag; `bridge vlan \
                show` lacks the number.",
        fix: "Add the VLAN to the port.",
        tried: false,
    },
    Entry {
        code: Code::NotAdjacent,
        title: "direct routing to a real server behind a router",
        explanation: "Direct routing changes only MAC addresses: the real server must be on a link of the \
                director. Behind a router the packet would go to the router, which sends it back.",
        evidence: "The route to the real server has a gateway.",
        fix: "Tunnel or masquerading for this real server.",
        tried: false,
    },
    Entry {
        code: Code::VrrpMacFilter,
        title: "the guest's interface does not get VRRP's MAC address",
        explanation: "A macvtap or a virtual function delivers only its own address unless the host \
                trusts the guest's filters.",
        evidence: "The host's interface shows the frame, the guest's does not; `trustGuestRxFilters` \
                is not `yes`.",
        fix: "No virtual MAC, or trust the filters.",
        tried: false,
    },
    Entry {
        code: Code::NeighbourOverflow,
        title: "the table of neighbours is full",
        explanation: "More neighbours than gc_thresh3: new ones can't be resolved.",
        evidence: "`neighbour table overflow` in the kernel's log; NeighTableFull or failed entries by \
                chance.",
        fix: "Raise net.ipv4.neigh.default.gc_thresh1 to 3.",
        tried: false,
    },
    Entry {
        code: Code::DuplicateDetection,
        title: "duplicate detection took the IPv6 address away",
        explanation: "IPv6 asks whether somebody has the address before it uses it. On a real server the \
                director answers, on a director whoever had the address before, and it becomes `dadfailed`.",
        evidence: "`ip -6 address` shows `dadfailed` or `tentative`.",
        fix: "Add it with `nodad`, as /128 on `lo`.",
        tried: true,
    },
];

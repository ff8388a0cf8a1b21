//! The director.

use super::{Code, Entry};

pub(super) const ENTRIES: &[Entry] = &[
    Entry {
        code: Code::NoService,
        title: "no virtual service has this address and port",
        explanation: "The address is there and nobody balances this protocol and port: the director \
                answers itself, or refuses.",
        evidence: "The list of services lacks it.",
        fix: "Add the virtual service.",
        tried: false,
    },
    Entry {
        code: Code::NoServer,
        title: "no real server can take a connection",
        explanation: "The service has no real server, or all have weight 0: the client is told `port \
                unreachable`.",
        evidence: "The list shows no real server of a weight above 0.",
        fix: "Mend the real servers or their health checks; a sorry server.",
        tried: true,
    },
    Entry {
        code: Code::StickyDead,
        title: "clients stick to a dead real server",
        explanation: "Persistence sends a client to the real server that it had, even if that is gone.",
        evidence: "Some clients fail, always the same.",
        fix: "expire_nodest_conn=1 and expire_quiescent_template=1.",
        tried: true,
    },
    Entry {
        code: Code::NatNoForward,
        title: "the director does not forward, so answers of real servers die there",
        explanation: "With masquerading, answers go through the director, which is a router then.",
        evidence: "SYN/ACK arrives at the director and does not leave; IpInAddrErrors rises; \
                ip_forward is 0.",
        fix: "net.ipv4.ip_forward=1.",
        tried: true,
    },
    Entry {
        code: Code::NatGateway,
        title: "the real server answers past the director",
        explanation: "With masquerading the answer must come back through the director. The real server's \
                route to the client leads elsewhere.",
        evidence: "The client gets a SYN/ACK from the real server's own address.",
        fix: "The director as the real server's gateway, or a policy route.",
        tried: true,
    },
    Entry {
        code: Code::NatSameSubnet,
        title: "the client is in the real servers' network",
        explanation: "The real server reaches the client without the director: the answer is not \
                translated back.",
        evidence: "As with a wrong gateway; the client sends RST to the real server.",
        fix: "Source translation for local clients, or separate networks.",
        tried: true,
    },
    Entry {
        code: Code::IpvsConntrackOff,
        title: "source translation does not see the packets of IPVS",
        explanation: "Rules of iptables that translate the source of balanced packets need \
                net.ipv4.vs.conntrack=1.",
        evidence: "The rule's counter stays 0.",
        fix: "net.ipv4.vs.conntrack=1.",
        tried: true,
    },
    Entry {
        code: Code::DirectorInput,
        title: "the director's INPUT rules drop requests",
        explanation: "IPVS acts after the filter of INPUT.",
        evidence: "The SYN arrives, the service counts nothing, a rule of INPUT counts.",
        fix: "Accept the virtual address and port.",
        tried: true,
    },
    Entry {
        code: Code::DirectorForward,
        title: "the director's FORWARD rules drop forwarded packets",
        explanation: "Docker and others set FORWARD to DROP: answers that are masqueraded, and forwarded \
                packets, end there.",
        evidence: "SYN/ACK comes in and does not leave; FORWARD counts.",
        fix: "Accept the virtual services' traffic in FORWARD.",
        tried: true,
    },
    Entry {
        code: Code::DirectorInvalid,
        title: "the director drops packets without a tracked connection",
        explanation: "With net.ipv4.vs.conntrack=0 connections of IPVS are not tracked: a rule that drops \
                INVALID in FORWARD drops answers.",
        evidence: "The counter of the INVALID rule rises.",
        fix: "net.ipv4.vs.conntrack=1, or an exception for the real servers.",
        tried: true,
    },
    Entry {
        code: Code::LocalClient,
        title: "the virtual address was tried from the director itself",
        explanation: "On a node that has the virtual address it is local: the packet does not take the \
                way of clients.",
        evidence: "`ip route get VIP` says `local`.",
        fix: "Try from a third host.",
        tried: false,
    },
    Entry {
        code: Code::ReceiveOffload,
        title: "received packets are merged beyond the MTU",
        explanation: "LRO, or GRO before a program that forwards, merges packets that can't be cut again: \
                bulk traffic is slow or lost.",
        evidence: "Packets longer than the MTU in a capture at the director; `ethtool -k` shows \
                large-receive-offload on.",
        fix: "`ethtool -K DEV lro off`.",
        tried: false,
    },
    Entry {
        code: Code::PartialChecksum,
        title: "checksums that virtual senders left open are lost",
        explanation: "Virtual network cards hand over frames whose checksum is to be finished by \
                hardware. XDP that sends such a frame on loses that mark: the real server gets a bad \
                checksum.",
        evidence: "TcpInCsumErrors rises at the real server.",
        fix: "Another hook than XDP (tcx); or checksum offload off at the senders.",
        tried: true,
    },
    Entry {
        code: Code::XdpVethSilent,
        title: "frames that XDP sends into a veth are lost",
        explanation: "The other end of the veth must run an XDP program or receive by NAPI.",
        evidence: "rx_queue_0_xdp_tx_errors rises; the peer sees nothing.",
        fix: "A program that passes everything at the peer, or tcx.",
        tried: true,
    },
    Entry {
        code: Code::XdpInvisible,
        title: "captures do not show what XDP handles",
        explanation: "Not a fault, a trap: frames that XDP forwards or drops never reach a capture on \
                that interface.",
        evidence: "The program's counters rise and the capture stays empty.",
        fix: "Look at what the data plane tells of itself (`pointsman verdicts`).",
        tried: true,
    },
    Entry {
        code: Code::ConntrackFull,
        title: "the table of tracked connections is full",
        explanation: "New connections are dropped by chance.",
        evidence: "`table full, dropping packet` in the log; nf_conntrack_count is at \
                nf_conntrack_max.",
        fix: "Raise nf_conntrack_max; do not track the virtual address.",
        tried: false,
    },
    Entry {
        code: Code::IpvsReuse,
        title: "reused client ports meet old connections",
        explanation: "Behind NodePorts ports are reused fast; older kernels delay such a SYN by a second \
                or send it to a real server that is gone.",
        evidence: "SYNs answered after a second.",
        fix: "A kernel of 5.9 or later, conn_reuse_mode as it advises.",
        tried: false,
    },
    Entry {
        code: Code::SyncLost,
        title: "connections are unknown to the new master",
        explanation: "After a failover the backup has no connections.",
        evidence: "Established connections are reset when the master changes.",
        fix: "Connection synchronisation, or a scheduler whose choice can be computed again.",
        tried: false,
    },
    Entry {
        code: Code::LocalAddresses,
        title: "no free local address and port",
        explanation: "Source translation needs a free pair of local address and port for each connection \
                to a real server.",
        evidence: "New connections fail under load only.",
        fix: "More local addresses.",
        tried: false,
    },
    Entry {
        code: Code::FullNatFirewall,
        title: "real servers do not expect the director's addresses",
        explanation: "With source translation requests come from the director: rules at the real server \
                know only clients.",
        evidence: "A rule's counter at the real server; its log shows the director.",
        fix: "Accept the director's addresses.",
        tried: false,
    },
];

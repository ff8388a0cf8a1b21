//! The real server, with direct routing and tunnels.

use super::{Code, Entry};

pub(super) const ENTRIES: &[Entry] = &[
    Entry {
        code: Code::VipMissing,
        title: "the real server lacks the virtual address",
        explanation: "A real server accepts packets to addresses that it has. Without the virtual address \
                it drops them without an answer.",
        evidence: "The packet arrives; IpInAddrErrors rises; `ip address` lacks the address.",
        fix: "`ip address add VIP/32 dev lo`, with arp_ignore and arp_announce set before.",
        tried: true,
    },
    Entry {
        code: Code::VipMissingForwarding,
        title: "a real server without the virtual address sends packets back",
        explanation: "It lacks the virtual address and forwards: packets go back to the director, which \
                sends them again, until their hop limit ends.",
        evidence: "One SYN becomes dozens of frames with a falling hop limit; the client soon gets `No \
                route to host`.",
        fix: "Give it the address, and ip_forward=0.",
        tried: true,
    },
    Entry {
        code: Code::VipNetmask,
        title: "the virtual address brought a whole network to `lo`",
        explanation: "An address on `lo` with a network makes the whole network local: answers to clients \
                in it are delivered on the real server itself.",
        evidence: "`ip route get CLIENT` says `local ... dev lo`.",
        fix: "A length of 32, or 128 for IPv6.",
        tried: true,
    },
    Entry {
        code: Code::ReversePath,
        title: "the real server drops requests by reverse-path filtering",
        explanation: "Requests come by one interface, the way back to the client leads by another: a \
                strict rp_filter drops them. The greater of `all` and the interface's is in force.",
        evidence: "TcpExtIPReversePathFilter rises; with log_martians the log says `martian source`.",
        fix: "rp_filter=2 on that interface, which also outweighs a strict `all`.",
        tried: true,
    },
    Entry {
        code: Code::TunnelReversePath,
        title: "the real server drops what comes out of the tunnel",
        explanation: "After decapsulation the packet comes in by tunl0 with a client's source, and the \
                way back leads elsewhere. Strict rp_filter on tunl0 or `all` drops it.",
        evidence: "The outer packets arrive, no answer leaves; TcpExtIPReversePathFilter rises.",
        fix: "net.ipv4.conf.tunl0.rp_filter=2.",
        tried: true,
    },
    Entry {
        code: Code::TunnelDown,
        title: "the real server can't decapsulate",
        explanation: "The module ipip is not loaded or tunl0 is down. The real server answers `protocol 4 \
                unreachable`, which the client sees as refused.",
        evidence: "An ICMP error `protocol unreachable` from the real server; no tunnel link that is \
                up.",
        fix: "`modprobe ipip; ip link set tunl0 up`, the virtual address on tunl0 or `lo`.",
        tried: true,
    },
    Entry {
        code: Code::TunnelFirewall,
        title: "a firewall drops the outer packets",
        explanation: "Real server, host or security group accept ports, and the outer packet has none: \
                protocol 4, 41 or 47, or a port of UDP.",
        evidence: "The outer packet arrives at the interface, silence; a rule's counter rises.",
        fix: "Accept the outer protocol from the director's address.",
        tried: true,
    },
    Entry {
        code: Code::TunnelMtu,
        title: "full-size packets do not fit into the tunnel",
        explanation: "The outer header takes 20 bytes or more. The director tells the client to send \
                less; if that ICMP error is lost, uploads hang.",
        evidence: "Small requests work, large ones hang; the director sends `fragmentation needed`.",
        fix: "Let ICMP type 3 code 4 pass; or `advmss` on the real server's routes; or a larger \
                MTU between director and real servers.",
        tried: true,
    },
    Entry {
        code: Code::LinkMtu,
        title: "links of one network differ in MTU",
        explanation: "On one link layer nobody tells a sender that a frame is too large: it is just \
                dropped.",
        evidence: "Large frames vanish on one link, its `rx dropped` or oversize counter rises.",
        fix: "One MTU for all links of a network.",
        tried: true,
    },
    Entry {
        code: Code::PortMismatch,
        title: "the real server serves another port than the virtual one",
        explanation: "Direct routing and tunnels do not change ports: the real server gets the virtual \
                port. ipvsadm stores the virtual port silently when another one is given.",
        evidence: "The real server answers RST from the virtual address and port; it listens on \
                another port.",
        fix: "Serve the virtual port, or use masquerading.",
        tried: true,
    },
    Entry {
        code: Code::ServiceBind,
        title: "the server is bound to another address",
        explanation: "The program listens on the real server's own address only, so packets to the \
                virtual address meet no socket.",
        evidence: "RST from the virtual address; `ss -ltn` shows neither `*` nor the virtual address.",
        fix: "Bind to 0.0.0.0 or to the virtual address.",
        tried: true,
    },
    Entry {
        code: Code::UdpSource,
        title: "answers by UDP come from the wrong address",
        explanation: "A UDP server bound to all addresses answers from the address of the interface that \
                it sends by.",
        evidence: "The answer's source is the real server's address; the client says port \
                unreachable.",
        fix: "IP_PKTINFO, or a socket bound to the virtual address, or masquerading.",
        tried: true,
    },
    Entry {
        code: Code::ReplyUpstream,
        title: "the network behind the real server refuses its answers",
        explanation: "Answers come from the virtual address, which the network there does not expect: \
                reverse-path checks, a provider's filters, a cloud's checks.",
        evidence: "The SYN/ACK leaves the real server's uplink and is not seen behind it.",
        fix: "Announce the virtual address there, or masquerading.",
        tried: false,
    },
    Entry {
        code: Code::Backlog,
        title: "the real server's queue of new connections is full",
        explanation: "The program does not accept connections fast enough: SYNs are dropped.",
        evidence: "TcpExtListenOverflows rises.",
        fix: "More capacity, a longer queue.",
        tried: false,
    },
    Entry {
        code: Code::ServerFirewall,
        title: "the real server's own rules drop it",
        explanation: "Its INPUT rules accept its own address, not the virtual one.",
        evidence: "The packet arrives at the interface; a rule's counter rises.",
        fix: "Accept the virtual address and port.",
        tried: false,
    },
    Entry {
        code: Code::Timestamps,
        title: "clients behind one address are taken for old connections",
        explanation: "Many clients share an address; their timestamps differ, and a connection that is \
                closing refuses a newer one that looks older.",
        evidence: "TcpExtPAWSPassive or the like rises, SYNs are ignored now and then.",
        fix: "Never recycle by timestamp; more addresses for the clients.",
        tried: false,
    },
];

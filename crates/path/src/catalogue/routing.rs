//! Routing, filtering in general, and traps of looking.

use super::{Code, Entry};

pub(super) const ENTRIES: &[Entry] = &[
    Entry {
        code: Code::NotRouted,
        title: "nobody leads packets to the virtual address",
        explanation: "Routers have no route, or one to the wrong place.",
        evidence: "No SYN is seen at the first point that is looked at; the client's or gateway's \
                route leads elsewhere.",
        fix: "Announce or mend the route.",
        tried: false,
    },
    Entry {
        code: Code::PolicyRoute,
        title: "a rule sends answers elsewhere",
        explanation: "`ip rule` has answers looked up in another table.",
        evidence: "`ip route get CLIENT from VIP` leads elsewhere than the main table.",
        fix: "A rule for the virtual address as source.",
        tried: false,
    },
    Entry {
        code: Code::IcmpRedirect,
        title: "the director tells hosts to go past it",
        explanation: "A director with one leg that translates addresses sends ICMP redirects: hosts then \
                answer directly.",
        evidence: "ICMP redirects from the director.",
        fix: "send_redirects=0 on the interface and on `all`.",
        tried: false,
    },
    Entry {
        code: Code::TtlExpired,
        title: "the hop limit ends on the way",
        explanation: "A loop, or too many hops.",
        evidence: "`time exceeded`; the limit falls from hop to hop.",
        fix: "Take the loop out.",
        tried: true,
    },
    Entry {
        code: Code::MixedTables,
        title: "rules are in two kinds of tables",
        explanation: "Some rules are in the tables from before nftables, some in nftables: both are in \
                force, and each program lists only its own.",
        evidence: "`iptables-legacy-save` and `iptables-nft-save` both print rules.",
        fix: "Move all rules to one of them.",
        tried: false,
    },
    Entry {
        code: Code::ListingLies,
        title: "ebtables lists another end of a chain than there is",
        explanation: "ebtables-nft 1.8.9 lists chains made with `-P ACCEPT` as RETURN, and by listing \
                makes the hidden rule anew.",
        evidence: "`nft list table bridge nat` shows the rule.",
        fix: "Read nft, or ebtables-save.",
        tried: true,
    },
    Entry {
        code: Code::CaptureChanges,
        title: "the capture itself changes what is seen",
        explanation: "A capture on a bridge makes it promiscuous: it receives more, and drops it as meant \
                for others.",
        evidence: "The drops end with the capture.",
        fix: "Leave such drops on bridges out.",
        tried: true,
    },
    Entry {
        code: Code::WrongNamespace,
        title: "the value was read in another namespace",
        explanation: "bridge-nf-call-iptables, ip_forward and others are per network namespace, and a new \
                one begins with bridge-nf-call-iptables=1.",
        evidence: "The value in the namespace of the bridge differs from the host's.",
        fix: "Read and set it where the bridge is.",
        tried: true,
    },
    Entry {
        code: Code::CapturePoint,
        title: "a capture shows what is dropped right behind it",
        explanation: "A capture on the port that a frame comes in by shows frames that the bridge's \
                PREROUTING drops.",
        evidence: "The next point behind does not show it.",
        fix: "Look at the bridge and the next port too.",
        tried: true,
    },
];

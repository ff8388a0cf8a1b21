//! Why a packet was passed, forwarded or dropped.

macro_rules! reasons {
    ($($name:ident = $number:literal, $action:ident, $text:literal, $why:literal;)*) => {
        /// Why a packet met its verdict. The same value counts it, traces it and explains it.
        #[derive(Clone, Copy, PartialEq, Eq)]
        #[cfg_attr(feature = "std", derive(Debug, Hash, PartialOrd, Ord))]
        #[repr(u8)]
        pub enum Reason {
            $(#[doc = $why] $name = $number,)*
        }

        impl Reason {
            /// Every reason, in order of its number.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];

            /// The stable name under which it is counted.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }

            /// What happened, in a sentence.
            pub const fn explanation(self) -> &'static str {
                match self { $(Self::$name => $why,)* }
            }

            /// What is done with a packet for this reason.
            pub const fn action(self) -> Action {
                match self { $(Self::$name => Action::$action,)* }
            }
        }
    };
}

/// What is done with a packet.
#[derive(Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "std", derive(Debug, Hash, PartialOrd, Ord))]
#[repr(u8)]
pub enum Action {
    /// Up to the kernel, unchanged.
    Pass = 0,
    /// Out of a device.
    Forward = 1,
    /// Nowhere.
    Drop = 2,
}

reasons! {
    NotIp = 0, Pass, "not-ip", "Neither IPv4 nor IPv6: the kernel's.";
    NotForUs = 1, Pass, "not-for-us", "The frame is addressed to another host or to a group.";
    Malformed = 2, Pass, "malformed", "A header is cut short or contradicts itself; left to the kernel.";
    Fragment = 3, Pass, "fragment", "A fragment: the kernel reassembles it, the director does not forward it.";
    NotBalanced = 4, Pass, "not-balanced", "A protocol that no virtual service balances.";
    NoService = 5, Pass, "no-service", "No virtual service has this address, protocol and port.";
    NoConnection = 6, Pass, "no-connection", "A TCP packet that can't begin a connection and belongs to none.";
    SourcePort20 = 7, Pass, "source-port-20", "FTP data from port 20 never begins a connection, as in IPVS.";
    IcmpUnrelated = 8, Pass, "icmp-unrelated", "ICMP that is not an error about a connection of ours.";
    LocalServer = 9, Pass, "local-server", "The real server is this host: delivered here.";
    Direct = 10, Forward, "direct", "Sent to the real server by direct routing.";
    Tunnel = 11, Forward, "tunnel", "Sent to the real server through a tunnel.";
    Masquerade = 12, Forward, "masquerade", "Sent to the real server with destination translated.";
    Reply = 13, Forward, "reply", "A real server's reply, source translated back, sent to the client.";
    RelatedIn = 14, Forward, "related-in", "An ICMP error about a connection, sent to the real server.";
    RelatedOut = 15, Forward, "related-out", "An ICMP error about a connection, translated, sent to the client.";
    NoDestination = 16, Drop, "no-destination", "No real server can take a new connection; the client is told port unreachable.";
    ServerGone = 17, Drop, "server-gone", "The connection's real server was removed; as in IPVS its packets are dropped.";
    NoNextHop = 18, Drop, "no-next-hop", "The next hop towards the real server has no route or no link-layer address yet.";
    TtlExceeded = 19, Drop, "ttl-exceeded", "The hop limit ran out; the sender is told time exceeded.";
    TooBig = 20, Drop, "too-big", "Larger than the path behind the director and must not be fragmented; the sender is told the MTU.";
    NeedsFragmenting = 21, Drop, "needs-fragmenting", "Larger than the path behind the director, may be fragmented: handed to the daemon.";
    TableFull = 22, Drop, "table-full", "The connection table is full; established connections go on.";
    NoHeadroom = 23, Drop, "no-headroom", "The device left no room for the tunnel header.";
    NoReturnRoute = 24, Drop, "no-return-route", "No way back to the client: no route and no link-layer address learned.";
    LocalMasquerade = 25, Drop, "local-masquerade", "Masquerading to this host itself is not supported.";
    Stateless = 26, Forward, "stateless", "Sent by hash without a connection, because the table is full.";
    VlanTags = 27, Drop, "vlan-tags", "The frame's VLAN tags can't be rewritten by this hook.";
    Contended = 28, Drop, "contended", "Processors raced for a connection that was ending; the sender tries again.";
}

/// Number of reasons.
pub const REASONS: usize = Reason::ALL.len();

/// What becomes of a packet, and why.
///
/// Every byte is a field: a hole would reach the verifier as a pointer with undefined bits.
#[derive(Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "std", derive(Debug, Hash))]
#[repr(C)]
pub struct Verdict {
    /// Device the packet leaves by, for [`Action::Forward`]; else 0.
    pub ifindex: u32,
    /// Why.
    pub reason: Reason,
    /// 1 when the next hop's link-layer address is for the kernel to find.
    pub unresolved: u8,
    /// Zero.
    pub pad: u16,
}

impl Verdict {
    /// A verdict that needs no device.
    #[inline(always)]
    pub const fn of(reason: Reason) -> Self {
        Self {
            ifindex: 0,
            reason,
            unresolved: 0,
            pad: 0,
        }
    }

    /// Out of the device `ifindex`.
    #[inline(always)]
    pub const fn forward(reason: Reason, ifindex: u32) -> Self {
        Self {
            ifindex,
            reason,
            unresolved: 0,
            pad: 0,
        }
    }

    /// What is done.
    #[inline(always)]
    pub const fn action(&self) -> Action {
        self.reason.action()
    }
}

/// The value of a result, or out of the function with a verdict for its reason.
///
/// A `Result<Verdict, Reason>` would leave half of itself undefined, which the verifier minds.
macro_rules! attempt {
    ($result:expr) => {
        match $result {
            Ok(value) => value,
            Err(reason) => return $crate::reason::Verdict::of(reason),
        }
    };
}
pub(crate) use attempt;

impl Reason {
    /// The reason with this number.
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.get(usize::from(number)).copied()
    }

    /// True when the daemon is to be told, with the packet: it answers with ICMP, fragments, or
    /// resolves a neighbour.
    #[inline(always)]
    pub const fn needs_daemon(self) -> bool {
        matches!(
            self,
            Self::NoDestination
                | Self::NoNextHop
                | Self::TtlExceeded
                | Self::TooBig
                | Self::NeedsFragmenting
        )
    }
}

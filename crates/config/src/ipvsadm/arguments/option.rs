//! The options of ipvsadm: how they are written and what they are called in messages.

use pointsman_director::model::ForwardingMethod;

/// A command of ipvsadm.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verb {
    AddService,
    EditService,
    DeleteService,
    Flush,
    Restore,
    Save,
    AddServer,
    EditServer,
    DeleteServer,
    List,
    Zero,
    Set,
    StartDaemon,
    StopDaemon,
    Help,
    Version,
}

impl Verb {
    /// Name in messages.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::AddService => "add-service",
            Self::EditService => "edit-service",
            Self::DeleteService => "delete-service",
            Self::Flush => "flush",
            Self::Restore => "restore",
            Self::Save => "save",
            Self::AddServer => "add-server",
            Self::EditServer => "edit-server",
            Self::DeleteServer => "delete-server",
            Self::List => "list",
            Self::Zero => "zero",
            Self::Set => "set",
            Self::StartDaemon => "start-daemon",
            Self::StopDaemon => "stop-daemon",
            Self::Help => "help",
            Self::Version => "version",
        }
    }
}

/// Something a command may or may not have, in the order in which ipvsadm checks them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(crate) enum Given {
    Numeric,
    Connection,
    Service,
    Scheduler,
    Persistent,
    Netmask,
    Server,
    Method,
    Weight,
    UpperThreshold,
    LowerThreshold,
    McastInterface,
    Timeout,
    Daemon,
    Stats,
    Rate,
    Thresholds,
    PersistentConn,
    NoSort,
    SyncId,
    Exact,
    OnePacket,
    Engine,
    SchedulerFlags,
    McastGroup,
    McastPort,
    McastTtl,
    SyncMaxlen,
    TunInfo,
    TunType,
    TunPort,
    TunNocsum,
    TunCsum,
    TunRemcsum,
}

impl Given {
    /// Every trait, in checking order.
    pub(crate) const ALL: [Self; 34] = [
        Self::Numeric,
        Self::Connection,
        Self::Service,
        Self::Scheduler,
        Self::Persistent,
        Self::Netmask,
        Self::Server,
        Self::Method,
        Self::Weight,
        Self::UpperThreshold,
        Self::LowerThreshold,
        Self::McastInterface,
        Self::Timeout,
        Self::Daemon,
        Self::Stats,
        Self::Rate,
        Self::Thresholds,
        Self::PersistentConn,
        Self::NoSort,
        Self::SyncId,
        Self::Exact,
        Self::OnePacket,
        Self::Engine,
        Self::SchedulerFlags,
        Self::McastGroup,
        Self::McastPort,
        Self::McastTtl,
        Self::SyncMaxlen,
        Self::TunInfo,
        Self::TunType,
        Self::TunPort,
        Self::TunNocsum,
        Self::TunCsum,
        Self::TunRemcsum,
    ];

    /// Name in messages.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Numeric => "numeric",
            Self::Connection => "connection",
            Self::Service => "service-address",
            Self::Scheduler => "scheduler",
            Self::Persistent => "persistent",
            Self::Netmask => "netmask",
            Self::Server => "real-server",
            Self::Method => "forwarding-method",
            Self::Weight => "weight",
            Self::UpperThreshold => "u-threshold",
            Self::LowerThreshold => "l-threshold",
            Self::McastInterface => "mcast-interface",
            Self::Timeout => "timeout",
            Self::Daemon => "daemon",
            Self::Stats => "stats",
            Self::Rate => "rate",
            Self::Thresholds => "thresholds",
            Self::PersistentConn => "persistent-conn",
            Self::NoSort => "nosort",
            Self::SyncId => "syncid",
            Self::Exact => "exact",
            Self::OnePacket => "ops",
            Self::Engine => "pe",
            Self::SchedulerFlags => "sched-flags",
            Self::McastGroup => "mcast-group",
            Self::McastPort => "mcast-port",
            Self::McastTtl => "mcast-ttl",
            Self::SyncMaxlen => "sync-maxlen",
            Self::TunInfo => "tun-info",
            Self::TunType => "tun-type",
            Self::TunPort => "tun-port",
            Self::TunNocsum => "tun-nocsum",
            Self::TunCsum => "tun-csum",
            Self::TunRemcsum => "tun-remcsum",
        }
    }
}

/// What an option does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Meaning {
    /// Chooses the command.
    Verb(Verb),
    /// `-t`
    TcpService,
    /// `-u`
    UdpService,
    /// `--sctp-service`
    SctpService,
    /// `-f`
    MarkService,
    /// `-6`, not checked by any table.
    Ipv6,
    /// `--sort`, without effect and not checked either.
    Sort,
    /// `-g`, `-i`, `-m`
    Method(ForwardingMethod),
    /// Any other option is its trait.
    Has(Given),
}

/// Whether an option takes an argument.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Argument {
    None,
    Required,
    /// Taken unless it is missing or starts with a dash.
    Optional,
}

/// One way to write an option.
#[derive(Debug)]
pub(crate) struct Spelling {
    pub(crate) long: &'static str,
    pub(crate) short: Option<char>,
    pub(crate) argument: Argument,
    pub(crate) meaning: Meaning,
}

const fn with(
    long: &'static str,
    short: Option<char>,
    argument: Argument,
    meaning: Meaning,
) -> Spelling {
    Spelling {
        long,
        short,
        argument,
        meaning,
    }
}

const fn flag(long: &'static str, short: Option<char>, meaning: Meaning) -> Spelling {
    with(long, short, Argument::None, meaning)
}

const fn value(long: &'static str, short: Option<char>, meaning: Meaning) -> Spelling {
    with(long, short, Argument::Required, meaning)
}

/// Every option of ipvsadm 1.31.
pub(crate) const SPELLINGS: &[Spelling] = &[
    flag("add-service", Some('A'), Meaning::Verb(Verb::AddService)),
    flag("edit-service", Some('E'), Meaning::Verb(Verb::EditService)),
    flag(
        "delete-service",
        Some('D'),
        Meaning::Verb(Verb::DeleteService),
    ),
    flag("clear", Some('C'), Meaning::Verb(Verb::Flush)),
    flag("list", Some('L'), Meaning::Verb(Verb::List)),
    flag("list", Some('l'), Meaning::Verb(Verb::List)),
    flag("zero", Some('Z'), Meaning::Verb(Verb::Zero)),
    flag("add-server", Some('a'), Meaning::Verb(Verb::AddServer)),
    flag("edit-server", Some('e'), Meaning::Verb(Verb::EditServer)),
    flag(
        "delete-server",
        Some('d'),
        Meaning::Verb(Verb::DeleteServer),
    ),
    flag("set", None, Meaning::Verb(Verb::Set)),
    flag("help", Some('h'), Meaning::Verb(Verb::Help)),
    flag("version", Some('v'), Meaning::Verb(Verb::Version)),
    flag("restore", Some('R'), Meaning::Verb(Verb::Restore)),
    flag("save", Some('S'), Meaning::Verb(Verb::Save)),
    value("start-daemon", None, Meaning::Verb(Verb::StartDaemon)),
    value("stop-daemon", None, Meaning::Verb(Verb::StopDaemon)),
    value("tcp-service", Some('t'), Meaning::TcpService),
    value("udp-service", Some('u'), Meaning::UdpService),
    value("sctp-service", None, Meaning::SctpService),
    value("fwmark-service", Some('f'), Meaning::MarkService),
    flag("ipv6", Some('6'), Meaning::Ipv6),
    value("scheduler", Some('s'), Meaning::Has(Given::Scheduler)),
    with(
        "persistent",
        Some('p'),
        Argument::Optional,
        Meaning::Has(Given::Persistent),
    ),
    value("netmask", Some('M'), Meaning::Has(Given::Netmask)),
    value("real-server", Some('r'), Meaning::Has(Given::Server)),
    flag(
        "masquerading",
        Some('m'),
        Meaning::Method(ForwardingMethod::Masquerade),
    ),
    flag("ipip", Some('i'), Meaning::Method(ForwardingMethod::Tunnel)),
    flag(
        "gatewaying",
        Some('g'),
        Meaning::Method(ForwardingMethod::Direct),
    ),
    value("weight", Some('w'), Meaning::Has(Given::Weight)),
    value(
        "u-threshold",
        Some('x'),
        Meaning::Has(Given::UpperThreshold),
    ),
    value(
        "l-threshold",
        Some('y'),
        Meaning::Has(Given::LowerThreshold),
    ),
    flag("numeric", Some('n'), Meaning::Has(Given::Numeric)),
    flag("connection", Some('c'), Meaning::Has(Given::Connection)),
    value("mcast-interface", None, Meaning::Has(Given::McastInterface)),
    flag("timeout", None, Meaning::Has(Given::Timeout)),
    flag("daemon", None, Meaning::Has(Given::Daemon)),
    flag("stats", None, Meaning::Has(Given::Stats)),
    flag("rate", None, Meaning::Has(Given::Rate)),
    flag("thresholds", None, Meaning::Has(Given::Thresholds)),
    flag("persistent-conn", None, Meaning::Has(Given::PersistentConn)),
    flag("nosort", None, Meaning::Has(Given::NoSort)),
    flag("sort", None, Meaning::Sort),
    value("syncid", None, Meaning::Has(Given::SyncId)),
    flag("exact", Some('X'), Meaning::Has(Given::Exact)),
    flag("ops", Some('o'), Meaning::Has(Given::OnePacket)),
    value("pe", None, Meaning::Has(Given::Engine)),
    value(
        "sched-flags",
        Some('b'),
        Meaning::Has(Given::SchedulerFlags),
    ),
    value("mcast-group", None, Meaning::Has(Given::McastGroup)),
    value("mcast-port", None, Meaning::Has(Given::McastPort)),
    value("mcast-ttl", None, Meaning::Has(Given::McastTtl)),
    value("sync-maxlen", None, Meaning::Has(Given::SyncMaxlen)),
    flag("tun-info", None, Meaning::Has(Given::TunInfo)),
    value("tun-type", None, Meaning::Has(Given::TunType)),
    value("tun-port", None, Meaning::Has(Given::TunPort)),
    flag("tun-nocsum", None, Meaning::Has(Given::TunNocsum)),
    flag("tun-csum", None, Meaning::Has(Given::TunCsum)),
    flag("tun-remcsum", None, Meaning::Has(Given::TunRemcsum)),
];

impl Spelling {
    pub(crate) fn of_long(name: &str) -> Option<&'static Self> {
        SPELLINGS.iter().find(|spelling| spelling.long == name)
    }

    pub(crate) fn of_short(letter: char) -> Option<&'static Self> {
        SPELLINGS
            .iter()
            .find(|spelling| spelling.short == Some(letter))
    }
}

//! Every keyword of keepalived 2.2.7, in one table: where it belongs, what follows it, what becomes of it.
//!
//! From this table come the checks of what people write, and the keyword tables of COMPATIBILITY.md; a test
//! asks the real keepalived about every row.

mod checkers;
mod global;
mod services;
mod vrrp;

/// One keyword in one block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keyword {
    /// The block in which it stands.
    pub block: Block,
    /// The word.
    pub name: &'static str,
    /// What follows it.
    pub arguments: Arguments,
    /// What becomes of it.
    pub status: Status,
    /// What holds without it, for people; empty where nothing does.
    pub default: &'static str,
}

/// What becomes of a keyword.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// It is read, and part of the [`Configuration`](super::Configuration).
    Supported,
    /// It is accepted and changes nothing, for this reason.
    NoEffect(&'static str),
    /// It is not done; this is what becomes different.
    Unsupported(&'static str),
    /// It is read, and keepalived does not know it.
    Own,
}

/// What follows a keyword.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arguments {
    /// Nothing.
    Nothing,
    /// `on`, `off`, `true`, `false`, `yes`, `no`, or nothing, which means on.
    Switch,
    /// A whole number between these.
    Whole(i64, i64),
    /// Seconds with up to six decimals, between these many microseconds.
    Seconds(u64, u64),
    /// Milliseconds with up to three decimals, between these many microseconds.
    Milliseconds(u64, u64),
    /// One word.
    Word,
    /// One of these words.
    OneOf(&'static [&'static str]),
    /// An IP address.
    Address,
    /// A command, and perhaps the user and the group that run it.
    Script,
    /// Words, at least one.
    Several,
    /// Words, as many as one likes, and none too.
    Words,
    /// A block whose lines don't begin with keywords.
    Lines,
    /// A block of keywords.
    Block(Block),
    /// Words that name something, and a block of keywords about it.
    Named(Block),
}

/// Where keywords stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Block {
    /// Outside of all blocks.
    Top,
    /// `global_defs`.
    Global,
    /// `vrrp_instance`.
    Instance,
    /// `authentication` in an instance.
    Authentication,
    /// `vrrp_sync_group`.
    SyncGroup,
    /// `vrrp_script`.
    Script,
    /// `track_file`.
    TrackFile,
    /// `vrrp_track_process`.
    TrackProcess,
    /// `garp_group`.
    GarpGroup,
    /// `bfd_instance`.
    Bfd,
    /// `track_group`.
    TrackGroup,
    /// `virtual_server`.
    Service,
    /// `real_server`.
    Server,
    /// `SSL`.
    Tls,
    /// `TCP_CHECK`.
    Tcp,
    /// `HTTP_GET`.
    Http,
    /// `SSL_GET`.
    Https,
    /// `url` in `HTTP_GET` and `SSL_GET`.
    Url,
    /// `SMTP_CHECK`.
    Smtp,
    /// `host` in `SMTP_CHECK`.
    SmtpHost,
    /// `DNS_CHECK`.
    Dns,
    /// `MISC_CHECK`.
    Misc,
    /// `BFD_CHECK`.
    BfdCheck,
    /// `UDP_CHECK`.
    Udp,
    /// `PING_CHECK`.
    Ping,
    /// `FILE_CHECK`.
    File,
}

impl Block {
    /// Every block, in the order in which the manual has them.
    pub const ALL: [Self; 26] = [
        Self::Top,
        Self::Global,
        Self::TrackGroup,
        Self::TrackFile,
        Self::TrackProcess,
        Self::Bfd,
        Self::Script,
        Self::SyncGroup,
        Self::GarpGroup,
        Self::Instance,
        Self::Authentication,
        Self::Service,
        Self::Server,
        Self::Tcp,
        Self::Http,
        Self::Https,
        Self::Url,
        Self::Smtp,
        Self::SmtpHost,
        Self::Dns,
        Self::Misc,
        Self::BfdCheck,
        Self::Udp,
        Self::Ping,
        Self::File,
        Self::Tls,
    ];

    /// What people call it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Top => "top level",
            Self::Global => "global_defs",
            Self::Instance => "vrrp_instance",
            Self::Authentication => "authentication",
            Self::SyncGroup => "vrrp_sync_group",
            Self::Script => "vrrp_script",
            Self::TrackFile => "track_file",
            Self::TrackProcess => "vrrp_track_process",
            Self::GarpGroup => "garp_group",
            Self::Bfd => "bfd_instance",
            Self::TrackGroup => "track_group",
            Self::Service => "virtual_server",
            Self::Server => "real_server",
            Self::Tls => "SSL",
            Self::Tcp => "TCP_CHECK",
            Self::Http => "HTTP_GET",
            Self::Https => "SSL_GET",
            Self::Url => "url",
            Self::Smtp => "SMTP_CHECK",
            Self::SmtpHost => "host",
            Self::Dns => "DNS_CHECK",
            Self::Misc => "MISC_CHECK",
            Self::BfdCheck => "BFD_CHECK",
            Self::Udp => "UDP_CHECK",
            Self::Ping => "PING_CHECK",
            Self::File => "FILE_CHECK",
        }
    }
}

/// The whole table, block by block.
pub fn all() -> impl Iterator<Item = &'static Keyword> {
    [
        global::TOP,
        global::GLOBAL,
        global::TRACKED,
        vrrp::INSTANCE,
        vrrp::OTHERS,
        services::SERVICE,
        services::SERVER,
        checkers::CHECKERS,
    ]
    .into_iter()
    .flatten()
}

/// The row of a keyword.
pub fn find(block: Block, name: &str) -> Option<&'static Keyword> {
    all().find(|keyword| keyword.block == block && keyword.name == name)
}

/// The table as COMPATIBILITY.md shows it: a row of Markdown for each block.
pub fn markdown() -> String {
    let mut text = String::from(
        "| Block | in the model | accepted, without effect | named as unsupported | not keepalived's |\n\
         |---|---|---|---|---|\n",
    );
    for block in Block::ALL {
        let mut cells = [const { Vec::new() }; 4];
        for keyword in all().filter(|keyword| keyword.block == block) {
            let cell = match keyword.status {
                Status::Supported => 0,
                Status::NoEffect(_) => 1,
                Status::Unsupported(_) => 2,
                Status::Own => 3,
            };
            cells[cell].push(keyword.name);
        }
        let cells = cells.map(|mut names: Vec<&str>| {
            names.sort_unstable();
            names.join(" ")
        });
        let [supported, idle, unsupported, own] = cells;
        text += &format!(
            "| {} | {supported} | {idle} | {unsupported} | {own} |\n",
            block.name()
        );
    }
    text
}

const fn yes(
    block: Block,
    name: &'static str,
    arguments: Arguments,
    default: &'static str,
) -> Keyword {
    Keyword {
        block,
        name,
        arguments,
        status: Status::Supported,
        default,
    }
}

const fn own(block: Block, name: &'static str, arguments: Arguments) -> Keyword {
    Keyword {
        block,
        name,
        arguments,
        status: Status::Own,
        default: "off",
    }
}

const fn idle(
    block: Block,
    name: &'static str,
    arguments: Arguments,
    why: &'static str,
) -> Keyword {
    Keyword {
        block,
        name,
        arguments,
        status: Status::NoEffect(why),
        default: "",
    }
}

const fn no(block: Block, name: &'static str, arguments: Arguments, loss: &'static str) -> Keyword {
    Keyword {
        block,
        name,
        arguments,
        status: Status::Unsupported(loss),
        default: "",
    }
}

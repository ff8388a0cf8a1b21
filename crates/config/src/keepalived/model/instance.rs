//! Virtual routers and their groups.

use std::net::IpAddr;
use std::time::Duration;

use pointsman_ha::vrrp::OldChecksum;
use pointsman_wire::Mac;

use super::{Announce, Command, Places, Route, Rule, Tracking, Weight};

/// `vrrp_instance`: one virtual router.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Instance {
    /// Its name.
    pub name: String,
    /// Where its keywords stand.
    pub places: Places,
    /// True when it begins as master, which only hurries it; `state`.
    pub begins_as_master: bool,
    /// The interface; none where unicast needs none.
    pub interface: Option<String>,
    /// Virtual router id, 1 to 255; 0 if none was written.
    pub vrid: u8,
    /// Priority, 1 to 255.
    pub priority: u8,
    /// Time between advertisements.
    pub interval: Duration,
    /// Version of the protocol, 2 or 3.
    pub version: u8,
    /// Addresses that are advertised.
    pub addresses: Vec<VirtualAddress>,
    /// Addresses that are not, and come and go all the same.
    pub excluded: Vec<VirtualAddress>,
    /// Routes that come and go with them (`virtual_routes`).
    pub routes: Vec<Route>,
    /// Rules that come and go with them (`virtual_rules`).
    pub rules: Vec<Rule>,
    /// True when addresses of its interface stay though the first one of their network goes
    /// (`promote_secondaries`).
    pub promote_secondaries: bool,
    /// How advertisements are authenticated.
    pub authentication: Option<Authentication>,
    /// True when it takes over from lower priorities.
    pub preempt: bool,
    /// For how long it lets them be.
    pub preempt_delay: Duration,
    /// Announcements.
    pub announce: Announce,
    /// Intervals of silence until the master is down.
    pub down_adverts: u8,
    /// `lower_prio_no_advert`.
    pub lower_no_advert: bool,
    /// `higher_prio_send_advert`.
    pub higher_send_advert: bool,
    /// `skip_check_adv_addr`.
    pub skip_check: bool,
    /// `strict_mode`: what is not the RFC's has been taken out.
    pub strict: bool,
    /// False when the master drops what comes to its addresses (`no_accept`), unless it owns them.
    pub accept: bool,
    /// Source of advertisements; none is the interface's first address.
    pub source: Option<IpAddr>,
    /// True when it is in fault without that source.
    pub track_source: bool,
    /// Group of advertisements, where there are no peers; none is the global one of its family.
    pub group: Option<IpAddr>,
    /// Peers; none is multicast.
    pub peers: Vec<Peer>,
    /// Hop limit of unicast advertisements, if it is set.
    pub unicast_ttl: Option<u8>,
    /// True when only peers are believed.
    pub only_peers: bool,
    /// `old_unicast_checksum`.
    pub old_checksum: OldChecksum,
    /// True when it is in fault, not multicast, without peers.
    pub fault_without_peer: bool,
    /// False when its interface may be down.
    pub track_primary: bool,
    /// What it tracks.
    pub tracked: Vec<Track>,
    /// Whom it tells.
    pub notify: Notify,
    /// True when mails tell of it (`smtp_alert`).
    pub alert: bool,
    /// Its own link-layer address (`use_vmac`).
    pub vmac: Option<VirtualMac>,
    /// Interface of the sync daemon that follows it, in the old form (`lvs_sync_daemon_interface`).
    pub sync_interface: Option<String>,
    /// How it finds out whether its addresses are believed (`verify_vip`).
    pub verification: Option<Verification>,
}

/// `verify_vip`: as master it asks neighbors in the name of its address, and in its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verification {
    /// Time between two questions.
    pub every: Duration,
    /// Whom it asks; without, whom the host knows on the segment.
    pub ask: Vec<IpAddr>,
    /// For how long it is no master when nobody believes it; none stays master and says so.
    pub step_down: Option<Duration>,
}

impl Verification {
    /// For how long it steps down when no time is written.
    pub const PAUSE: Duration = Duration::from_secs(60);
}

impl Default for Verification {
    fn default() -> Self {
        Self {
            every: Duration::from_secs(5),
            ask: Vec::new(),
            step_down: None,
        }
    }
}

/// `use_vmac`: an interface with a virtual router's own link-layer address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VirtualMac {
    /// Name of the interface.
    pub name: String,
    /// The link-layer address.
    pub mac: Mac,
    /// True when advertisements come from the interface below (`vmac_xmit_base`), as they do to peers.
    pub advertise_below: bool,
}

/// `vrrp_sync_group`: virtual routers that are master together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SyncGroup {
    /// Its name.
    pub name: String,
    /// Where its keywords stand.
    pub places: Places,
    /// Names of its virtual routers.
    pub members: Vec<String>,
    /// What it tracks.
    pub tracked: Vec<Track>,
    /// Whom it tells.
    pub notify: Notify,
    /// True when mails tell of it (`smtp_alert`).
    pub alert: bool,
    /// `sync_group_tracking_weight`.
    pub tracking_weight: bool,
}

/// An address that comes and goes with the master, or is static.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VirtualAddress {
    /// The address.
    pub address: IpAddr,
    /// Length of its prefix: 32 or 128 where none is written.
    pub prefix: u8,
    /// Its interface; none is the instance's.
    pub device: Option<String>,
    /// Broadcast address: an address, `+` or `-`.
    pub broadcast: Option<String>,
    /// Scope: a name or a number.
    pub scope: Option<String>,
    /// Label.
    pub label: Option<String>,
    /// Address of the other end.
    pub peer: Option<IpAddr>,
    /// `home`: a home address of IPv6.
    pub home: bool,
    /// `-nodad`: IPv6 asks whether somebody else has it.
    pub dad: bool,
    /// `mngtmpaddr`: IPv6 makes temporary addresses of it.
    pub manages_temporary: bool,
    /// `noprefixroute`: no route to its network comes with it.
    pub no_prefix_route: bool,
    /// `autojoin`: the group that it is, is joined.
    pub autojoin: bool,
    /// For how many seconds what is new may be sent from it unasked; none has no end.
    pub preferred_seconds: Option<u32>,
    /// Who minds that it goes.
    pub tracking: Tracking,
    /// Where it stands.
    pub places: Places,
}

/// How advertisements are authenticated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Authentication {
    /// A password, padded with zeros.
    Password([u8; 8]),
    /// An IPsec header, with such a password as its key.
    Header([u8; 8]),
}

/// A unicast peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peer {
    /// Its address.
    pub address: IpAddr,
    /// Least hop limit that is accepted.
    pub least_ttl: u8,
    /// Greatest hop limit that is accepted.
    pub most_ttl: u8,
}

/// Something tracked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Track {
    /// What it is.
    pub kind: Tracked,
    /// Its name.
    pub name: String,
    /// What it weighs.
    pub weight: Weight,
    /// Where it stands.
    pub places: Places,
}

/// What can be tracked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Tracked {
    /// An interface.
    Interface,
    /// A [`TrackScript`](super::TrackScript).
    Script,
    /// A [`TrackFile`](super::TrackFile).
    File,
    /// A [`TrackProcess`](super::TrackProcess).
    Process,
    /// A [`BfdInstance`](super::BfdInstance).
    Bfd,
    /// The quorum of a [`Service`](super::Service), by its key in words.
    Service,
}

/// Commands that are run when something happens.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Notify {
    /// `notify_master`.
    pub master: Option<Command>,
    /// `notify_backup`.
    pub backup: Option<Command>,
    /// `notify_fault`.
    pub fault: Option<Command>,
    /// `notify_stop`.
    pub stop: Option<Command>,
    /// `notify_deleted`, perhaps without a command.
    pub deleted: Option<Option<Command>>,
    /// `notify_master_rx_lower_pri`.
    pub lower: Option<Command>,
    /// `notify`.
    pub any: Option<Command>,
    /// `notify_priority_changes`.
    pub priority: bool,
}

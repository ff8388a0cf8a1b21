//! What holds for all.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use super::{Command, Mail, Places, User};

/// `global_defs`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Global {
    /// Where its keywords stand.
    pub places: Places,
    /// Name of this host in notices; none is the host's.
    pub router_id: Option<String>,
    /// Interface of virtual addresses that name none, where their instance names none either.
    pub default_interface: Option<String>,
    /// Who runs scripts.
    pub script_user: Option<User>,
    /// True when scripts that others than root can change are not run as root.
    pub script_security: bool,
    /// Run before anything else, and how long it may take.
    pub startup: Option<(Command, Duration)>,
    /// Run after everything else, and how long it may take.
    pub shutdown: Option<(Command, Duration)>,
    /// Group of IPv4 advertisements.
    pub group_v4: IpAddr,
    /// Group of IPv6 advertisements.
    pub group_v6: IpAddr,
    /// Version of instances that name none.
    pub version: u8,
    /// Announcements of instances that say nothing.
    pub announce: Announce,
    /// Time between gratuitous ARPs.
    pub garp_interval: Duration,
    /// Time between unsolicited neighbor advertisements.
    pub gna_interval: Duration,
    /// Intervals of silence until the master is down.
    pub down_adverts: u8,
    /// `vrrp_lower_prio_no_advert`.
    pub lower_no_advert: bool,
    /// `vrrp_higher_prio_send_advert`.
    pub higher_send_advert: bool,
    /// `vrrp_check_unicast_src`.
    pub only_peers: bool,
    /// `vrrp_skip_check_adv_addr`.
    pub skip_check: bool,
    /// `vrrp_strict`.
    pub strict: bool,
    /// `vrrp_notify_priority_changes`.
    pub notify_priority: bool,
    /// How long virtual routers wait after the start.
    pub startup_delay: Duration,
    /// The rules of virtual routers that don't accept what comes to their addresses.
    pub firewall: Firewall,
    /// What names of virtual MACs' interfaces begin with (`vmac_prefix`); none is `vrrp`.
    pub vmac_prefix: Option<String>,
    /// FIFO of all notices.
    pub fifo: Fifo,
    /// FIFO of virtual routers' notices.
    pub vrrp_fifo: Fifo,
    /// FIFO of services' notices.
    pub lvs_fifo: Fifo,
    /// `fifo_write_vrrp_states_on_reload`.
    pub fifo_on_reload: bool,
    /// `rs_init_notifies`.
    pub init_notifies: bool,
    /// Mails.
    pub mail: Mail,
    /// Bits that files made here and by scripts don't get (`umask`).
    pub umask: Option<u32>,
    /// A file that is empty while a reload reads, and then goes (`reload_file`).
    pub reload_file: Option<String>,
    /// `checker_log_all_failures`.
    pub log_all_failures: bool,
    /// True when services that somebody else made are removed at the start.
    pub flush: bool,
    /// Seconds of established TCP, TCP after FIN, and UDP, where they are changed.
    pub timeouts: [Option<u32>; 3],
    /// Who is told of connections (`lvs_sync_daemon`).
    pub synchronisation: Option<Synchronisation>,
}

/// `lvs_sync_daemon`: connections are told to other directors.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Synchronisation {
    /// Interface of the multicast.
    pub interface: String,
    /// The virtual router that says which daemon runs, a master or a backup; without one both do.
    pub instance: Option<String>,
    /// Sync id; the virtual router's id when absent, 0 without one.
    pub id: Option<u8>,
    /// Longest message, bytes.
    pub max_length: Option<u16>,
    /// UDP port.
    pub port: Option<u16>,
    /// Time to live.
    pub ttl: Option<u8>,
    /// Multicast group.
    pub group: Option<IpAddr>,
}

/// `nftables` and its like: the rules for `no_accept`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Firewall {
    /// Name of the tables, if one was written.
    pub table: Option<String>,
    /// Priority of their chains, among those of others.
    pub priority: i32,
    /// True when rules count what they drop.
    pub counts: bool,
}

impl Default for Firewall {
    fn default() -> Self {
        Self {
            table: None,
            priority: -1,
            counts: false,
        }
    }
}

/// How often announcements are sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Announce {
    /// `garp_master_delay`.
    pub delay: Duration,
    /// `garp_master_repeat`.
    pub repeat: u32,
    /// `garp_master_refresh`.
    pub refresh: Duration,
    /// `garp_master_refresh_repeat`.
    pub refresh_repeat: u32,
    /// `garp_extra_if all`: time between announcements at other interfaces than the instance's; 0 for none.
    pub elsewhere: Duration,
    /// `garp_lower_prio_delay`; without it, and without the global one, the global master's.
    pub lower_delay: Duration,
    /// `garp_lower_prio_repeat`; without it, and without the global one, the global master's.
    pub lower_repeat: u32,
}

impl Default for Announce {
    fn default() -> Self {
        Self {
            delay: Duration::from_secs(5),
            repeat: 5,
            refresh: Duration::ZERO,
            refresh_repeat: 1,
            elsewhere: Duration::ZERO,
            lower_delay: Duration::from_secs(5),
            lower_repeat: 5,
        }
    }
}

/// A FIFO and who reads it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Fifo {
    /// Its path, and whose it is.
    pub path: Option<Command>,
    /// The program that is started to read it.
    pub script: Option<Command>,
}

impl Default for Global {
    fn default() -> Self {
        Self {
            places: Places::default(),
            router_id: None,
            default_interface: None,
            script_user: None,
            script_security: false,
            startup: None,
            shutdown: None,
            group_v4: Ipv4Addr::new(224, 0, 0, 18).into(),
            group_v6: Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0x12).into(),
            version: 2,
            announce: Announce::default(),
            garp_interval: Duration::ZERO,
            gna_interval: Duration::ZERO,
            down_adverts: 3,
            lower_no_advert: false,
            higher_send_advert: false,
            only_peers: false,
            skip_check: false,
            strict: false,
            notify_priority: false,
            startup_delay: Duration::ZERO,
            firewall: Firewall::default(),
            vmac_prefix: None,
            fifo: Fifo::default(),
            vrrp_fifo: Fifo::default(),
            lvs_fifo: Fifo::default(),
            fifo_on_reload: false,
            init_notifies: false,
            mail: Mail::default(),
            umask: None,
            reload_file: None,
            log_all_failures: false,
            flush: false,
            timeouts: [None; 3],
            synchronisation: None,
        }
    }
}

//! `vrrp_instance`, `vrrp_sync_group`, `vrrp_script`, `garp_group`.

use super::Arguments::{Address, Block as Opens, Lines, Nothing, OneOf, Script as Runs, Seconds};
use super::Arguments::{Several, Switch, Whole, Word, Words};
use super::Block::{Authentication, GarpGroup, Instance, Script, SyncGroup};
use super::{Keyword, idle, no, yes};

const MAIL: &str = "no mail is sent; use notify scripts or a FIFO";
const VMAC: &str = "the addresses stay on the interface's own MAC, and adverts come from it";
const ROUTES: &str = "it does not come and go with the master; set it with a notify script";
const BFD: &str = "BFD is not spoken: nothing is tracked";
const INT: i64 = i32::MAX as i64;
const U32: i64 = u32::MAX as i64;

/// `vrrp_instance`.
pub(super) const INSTANCE: &[Keyword] = &[
    yes(
        Instance,
        "state",
        OneOf(&["MASTER", "BACKUP"]),
        "BACKUP; MASTER for priority 255",
    ),
    yes(
        Instance,
        "interface",
        Word,
        "none, which unicast alone allows",
    ),
    yes(
        Instance,
        "virtual_router_id",
        Whole(1, 255),
        "none, it is needed",
    ),
    yes(Instance, "priority", Whole(1, 255), "100"),
    yes(Instance, "advert_int", Seconds(10_000, 255_000_000), "1 s"),
    yes(
        Instance,
        "version",
        Whole(2, 3),
        "vrrp_version; IPv6 always 3",
    ),
    yes(Instance, "virtual_ipaddress", Lines, ""),
    yes(Instance, "virtual_ipaddress_excluded", Lines, ""),
    no(Instance, "virtual_routes", Lines, ROUTES),
    no(Instance, "virtual_rules", Lines, ROUTES),
    no(
        Instance,
        "promote_secondaries",
        Nothing,
        "other addresses of the same network may go with a virtual address; set the sysctl \
         promote_secondaries of the interface",
    ),
    yes(Instance, "authentication", Opens(Authentication), "none"),
    yes(Instance, "accept", Nothing, "on"),
    no(
        Instance,
        "no_accept",
        Nothing,
        "the master answers to the virtual addresses itself; filter them by hand",
    ),
    yes(Instance, "nopreempt", Nothing, "off"),
    yes(Instance, "preempt", Nothing, "on"),
    yes(Instance, "preempt_delay", Seconds(0, 1_000_000_000), "0"),
    yes(
        Instance,
        "garp_master_delay",
        Whole(0, 4294),
        "vrrp_garp_master_delay",
    ),
    yes(
        Instance,
        "garp_master_repeat",
        Whole(1, U32),
        "vrrp_garp_master_repeat",
    ),
    yes(
        Instance,
        "garp_master_refresh",
        Whole(0, U32),
        "vrrp_garp_master_refresh",
    ),
    yes(
        Instance,
        "garp_master_refresh_repeat",
        Whole(1, U32),
        "vrrp_garp_master_refresh_repeat",
    ),
    yes(
        Instance,
        "garp_lower_prio_delay",
        Whole(0, 4294),
        "vrrp_garp_lower_prio_delay",
    ),
    yes(
        Instance,
        "garp_lower_prio_repeat",
        Whole(0, INT),
        "vrrp_garp_lower_prio_repeat",
    ),
    no(
        Instance,
        "garp_extra_if",
        Several,
        "addresses on other interfaces are not announced again and again",
    ),
    yes(
        Instance,
        "down_timer_adverts",
        Whole(1, 100),
        "vrrp_down_timer_adverts",
    ),
    yes(
        Instance,
        "lower_prio_no_advert",
        Switch,
        "vrrp_lower_prio_no_advert",
    ),
    yes(
        Instance,
        "higher_prio_send_advert",
        Switch,
        "vrrp_higher_prio_send_advert",
    ),
    yes(
        Instance,
        "skip_check_adv_addr",
        Switch,
        "vrrp_skip_check_adv_addr",
    ),
    no(
        Instance,
        "strict_mode",
        Switch,
        "the virtual router is not held to the RFC: accept mode stays on, nothing is refused for it",
    ),
    yes(
        Instance,
        "mcast_src_ip",
        Address,
        "the interface's first address",
    ),
    yes(
        Instance,
        "unicast_src_ip",
        Address,
        "the interface's first address",
    ),
    yes(
        Instance,
        "mcast_dst_ip",
        Address,
        "vrrp_mcast_group4, vrrp_mcast_group6",
    ),
    yes(Instance, "track_src_ip", Nothing, "off"),
    yes(Instance, "unicast_ttl", Whole(0, 255), "255; IPv6 64"),
    yes(Instance, "unicast_peer", Lines, "none: multicast"),
    yes(Instance, "unicast_fault_no_peer", Nothing, "off"),
    yes(
        Instance,
        "check_unicast_src",
        Nothing,
        "vrrp_check_unicast_src",
    ),
    no(
        Instance,
        "old_unicast_checksum",
        OneOf(&["", "never"]),
        "checksums are those of keepalived 1.3.7 and later; older peers reject them",
    ),
    no(Instance, "use_vmac", Words, VMAC),
    no(Instance, "use_vmac_addr", Nothing, VMAC),
    no(Instance, "vmac_xmit_base", Nothing, VMAC),
    no(
        Instance,
        "use_ipvlan",
        Words,
        "there is no ipvlan; the addresses are on the interface",
    ),
    no(
        Instance,
        "vrf",
        Word,
        "advertisements are not bound to a VRF",
    ),
    yes(Instance, "dont_track_primary", Nothing, "off"),
    yes(Instance, "track_interface", Lines, ""),
    yes(Instance, "track_script", Lines, ""),
    yes(Instance, "track_file", Lines, ""),
    yes(Instance, "track_process", Lines, ""),
    no(Instance, "track_bfd", Lines, BFD),
    yes(Instance, "notify_master", Runs, ""),
    yes(Instance, "notify_backup", Runs, ""),
    yes(Instance, "notify_fault", Runs, ""),
    yes(Instance, "notify_stop", Runs, ""),
    yes(Instance, "notify_deleted", Words, "FAULT is told"),
    yes(Instance, "notify_master_rx_lower_pri", Runs, ""),
    yes(Instance, "notify", Runs, ""),
    yes(
        Instance,
        "notify_priority_changes",
        Switch,
        "vrrp_notify_priority_changes",
    ),
    no(Instance, "smtp_alert", Switch, MAIL),
    no(
        Instance,
        "lvs_sync_daemon_interface",
        Word,
        "connections are not synchronised: after a failover, established ones end",
    ),
    idle(
        Instance,
        "debug",
        Whole(0, 4),
        "keepalived does not use it either",
    ),
    idle(
        Instance,
        "native_ipv6",
        Nothing,
        "the virtual addresses say which family it is",
    ),
    idle(
        Instance,
        "linkbeat_use_polling",
        Nothing,
        "the kernel tells of links",
    ),
    idle(
        Instance,
        "kernel_rx_buf_size",
        Word,
        "Pointsman sizes its own sockets",
    ),
];

/// The other blocks.
pub(super) const OTHERS: &[Keyword] = &[
    yes(Authentication, "auth_type", OneOf(&["PASS", "AH"]), "none"),
    yes(Authentication, "auth_pass", Word, "none"),
    yes(SyncGroup, "group", Lines, ""),
    yes(SyncGroup, "track_interface", Lines, ""),
    yes(SyncGroup, "track_script", Lines, ""),
    yes(SyncGroup, "track_file", Lines, ""),
    yes(SyncGroup, "track_process", Lines, ""),
    no(SyncGroup, "track_bfd", Lines, BFD),
    yes(SyncGroup, "notify_master", Runs, ""),
    yes(SyncGroup, "notify_backup", Runs, ""),
    yes(SyncGroup, "notify_fault", Runs, ""),
    yes(SyncGroup, "notify_stop", Runs, ""),
    yes(SyncGroup, "notify", Runs, ""),
    yes(
        SyncGroup,
        "notify_priority_changes",
        Switch,
        "vrrp_notify_priority_changes",
    ),
    no(SyncGroup, "smtp_alert", Switch, MAIL),
    yes(SyncGroup, "global_tracking", Nothing, "off"),
    yes(SyncGroup, "sync_group_tracking_weight", Nothing, "off"),
    yes(Script, "script", Word, "none, it is needed"),
    yes(Script, "interval", Whole(1, 4294), "1 s"),
    yes(Script, "timeout", Whole(1, 4294), "interval"),
    yes(Script, "weight", Several, "0"),
    yes(Script, "rise", Whole(1, INT), "1"),
    yes(Script, "fall", Whole(1, INT), "1"),
    yes(Script, "user", Several, "script_user"),
    yes(Script, "init_fail", Nothing, "off"),
    yes(
        GarpGroup,
        "garp_interval",
        Seconds(0, INT as u64),
        "vrrp_garp_interval",
    ),
    yes(
        GarpGroup,
        "gna_interval",
        Seconds(0, INT as u64),
        "vrrp_gna_interval",
    ),
    yes(GarpGroup, "interface", Word, ""),
    yes(GarpGroup, "interfaces", Lines, ""),
];

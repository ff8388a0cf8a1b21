//! Virtual routers of a configuration.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use pointsman_config::keepalived::Configuration;
use pointsman_config::keepalived::model::{
    Authentication, Instance, Notify, Track, Tracked, VirtualAddress, Weight,
};
use pointsman_ha::vrrp::{
    AddressCheck, AnnounceConfig, Peer, Peers, RouterConfig, Tracker, Version,
};

use super::command::Commands;
use crate::vrrp::hooks::{HooksConfig, Scripts};
use crate::vrrp::track::{FileTracker, ScriptTracker};
use crate::vrrp::{self, Group, Holding, INTERFACE_TRACKER, VrrpConfig};

/// The virtual routers and their groups.
pub(super) fn vrrp(configuration: &Configuration, faults: &mut Vec<String>) -> VrrpConfig {
    let groups = &configuration.sync_groups;
    let mut instances = Vec::new();
    for instance in &configuration.instances {
        let grouped = groups
            .iter()
            .filter(|group| group.members.contains(&instance.name));
        let tracked: Vec<&Track> = instance
            .tracked
            .iter()
            .chain(grouped.flat_map(|group| &group.tracked))
            .collect();
        match router(configuration, instance, &tracked) {
            Ok(router) => instances.push(vrrp::Instance {
                router,
                holdings: holdings(instance, faults),
                source: instance.source,
            }),
            Err(problem) => faults.push(format!("vrrp_instance {}: {problem}", instance.name)),
        }
    }
    VrrpConfig {
        instances,
        groups: groups
            .iter()
            .map(|group| Group {
                name: group.name.clone(),
                members: group.members.clone(),
                tracking_weight: group.tracking_weight,
            })
            .collect(),
        startup_delay: configuration.global.startup_delay,
    }
}

fn router(
    configuration: &Configuration,
    instance: &Instance,
    tracked: &[&Track],
) -> Result<RouterConfig, String> {
    let global = &configuration.global;
    let addresses: Vec<IpAddr> = instance.addresses.iter().map(|a| a.address).collect();
    let v6 = addresses.first().is_some_and(IpAddr::is_ipv6);
    let Some(interface) = &instance.interface else {
        return Err("no interface; name one".into());
    };
    if !instance.track_primary {
        return Err("dont_track_primary: its interface has to be up here".into());
    }
    let password = match instance.authentication {
        None => None,
        Some(Authentication::Password(password)) => Some(password),
        Some(Authentication::Header(_)) => return Err("auth_type AH is not done".into()),
    };
    if instance.peers.is_empty() && instance.fault_without_peer {
        return Err("unicast_fault_no_peer without a peer: it could only be in fault".into());
    }
    let spacing = if v6 {
        global.gna_interval
    } else {
        global.garp_interval
    };
    let grouped = configuration.garp_groups.iter();
    let grouped = grouped.filter(|group| group.interfaces.contains(interface));
    let spacing = grouped
        .filter_map(|group| {
            if v6 {
                group.gna_interval
            } else {
                group.garp_interval
            }
        })
        .next()
        .unwrap_or(spacing);
    let announce = &instance.announce;
    let mut router = RouterConfig::new(&instance.name, interface, instance.vrid, &addresses);
    router.version = if instance.version == 3 {
        Version::V3
    } else {
        Version::V2
    };
    router.priority = instance.priority;
    router.interval = instance.interval;
    router.excluded = instance.excluded.iter().map(|a| a.address).collect();
    router.peers = peers(instance, if v6 { global.group_v6 } else { global.group_v4 });
    router.password = password;
    router.preempt = instance.preempt;
    router.preempt_delay = instance.preempt_delay;
    router.down_adverts = instance.down_adverts;
    router.address_check = if instance.skip_check {
        AddressCheck::TrustMaster
    } else {
        AddressCheck::Reject
    };
    router.answer_lower = !instance.lower_no_advert;
    router.answer_higher = instance.higher_send_advert;
    router.announce = AnnounceConfig {
        repeat: announce.repeat,
        delay: announce.delay,
        refresh: announce.refresh,
        refresh_repeat: announce.refresh_repeat,
        lower_repeat: announce.lower_repeat,
        lower_delay: announce.lower_delay,
        spacing,
    };
    router.notify_priority = global.notify_priority || instance.notify.priority;
    for track in tracked {
        router.trackers.push(tracker(configuration, track)?);
    }
    router.check().map_err(|error| error.problem)?;
    Ok(router)
}

fn peers(instance: &Instance, group: IpAddr) -> Peers {
    if instance.peers.is_empty() {
        return Peers::Multicast(instance.group.unwrap_or(group));
    }
    let v6 = instance
        .addresses
        .first()
        .is_some_and(|a| a.address.is_ipv6());
    Peers::Unicast {
        peers: instance
            .peers
            .iter()
            .map(|peer| Peer {
                address: peer.address,
                hop_limits: peer.least_ttl..=peer.most_ttl,
            })
            .collect(),
        // What keepalived sends where nothing is said.
        hop_limit: instance.unicast_ttl.unwrap_or(if v6 { 64 } else { 255 }),
        only_peers: instance.only_peers,
    }
}

/// The name under which readings of something tracked come.
fn name_of(track: &Track) -> String {
    match track.kind {
        Tracked::Interface => format!("{INTERFACE_TRACKER}{}", track.name),
        Tracked::Script => format!("script {}", track.name),
        Tracked::File => format!("file {}", track.name),
        Tracked::Process => format!("process {}", track.name),
    }
}

fn tracker(configuration: &Configuration, track: &Track) -> Result<Tracker, String> {
    if track.kind == Tracked::Process {
        return Err(format!(
            "track_process {}: processes are not tracked",
            track.name
        ));
    }
    let known = match track.kind {
        Tracked::Script => configuration.scripts.iter().any(|s| s.name == track.name),
        Tracked::File => configuration
            .track_files
            .iter()
            .any(|f| f.name == track.name),
        _ => true,
    };
    if !known {
        return Err(format!("tracks {}, which is not defined", track.name));
    }
    let Weight { weight, reverse } = track.weight;
    Ok(Tracker {
        name: name_of(track),
        weight,
        reverse,
    })
}

fn holdings(instance: &Instance, faults: &mut Vec<String>) -> Vec<Holding> {
    let all = instance.addresses.iter().chain(&instance.excluded);
    all.filter_map(|address| match holding(address) {
        Ok(holding) => Some(holding),
        Err(problem) => {
            faults.push(format!(
                "vrrp_instance {}: {}: {problem}",
                instance.name, address.address
            ));
            None
        }
    })
    .collect()
}

fn holding(address: &VirtualAddress) -> Result<Holding, String> {
    let broadcast = match (address.broadcast.as_deref(), address.address) {
        (None | Some("-"), _) => None,
        (Some("+"), IpAddr::V4(v4)) => {
            let host = u32::MAX.checked_shr(address.prefix.into()).unwrap_or(0);
            Some(Ipv4Addr::from(u32::from(v4) | host))
        }
        (Some(text), _) => match text.parse() {
            Ok(broadcast) => Some(broadcast),
            Err(_) => return Err(format!("{text} is no broadcast address")),
        },
    };
    let scope = match address.scope.as_deref() {
        None | Some("global") => 0,
        Some("site") => 200,
        Some("link") => 253,
        Some("host") => 254,
        Some("nowhere") => 255,
        Some(text) => text.parse().map_err(|_| format!("{text} is no scope"))?,
    };
    if address.peer.is_some() {
        return Err("an address with a peer is not done".into());
    }
    Ok(Holding {
        address: address.address,
        prefix: address.prefix,
        device: address.device.clone(),
        broadcast,
        scope,
        label: address.label.clone(),
    })
}

/// Whom virtual routers and groups tell.
pub(super) fn hooks(
    configuration: &Configuration,
    commands: &Commands,
    faults: &mut Vec<String>,
) -> HooksConfig {
    let mut scripts = |notify: &Notify| Scripts {
        master: commands.optional(notify.master.as_ref(), faults),
        backup: commands.optional(notify.backup.as_ref(), faults),
        fault: commands.optional(notify.fault.as_ref(), faults),
        stop: commands.optional(notify.stop.as_ref(), faults),
        deleted: commands.optional(notify.deleted.as_ref().and_then(Option::as_ref), faults),
        master_rx_lower_pri: commands.optional(notify.lower.as_ref(), faults),
        any: commands.optional(notify.any.as_ref(), faults),
    };
    let instances = configuration.instances.iter();
    let instances: BTreeMap<_, _> = instances
        .map(|one| (one.name.clone(), scripts(&one.notify)))
        .collect();
    let groups = configuration.sync_groups.iter();
    let groups: BTreeMap<_, _> = groups
        .map(|one| (one.name.clone(), scripts(&one.notify)))
        .collect();
    let global = &configuration.global;
    let fifos = [&global.fifo, &global.vrrp_fifo].into_iter();
    HooksConfig {
        instances,
        groups,
        fifos: fifos
            .filter_map(|fifo| commands.fifo(fifo, faults))
            .collect(),
    }
}

/// Scripts that some virtual router tracks.
pub(super) fn scripts(
    configuration: &Configuration,
    commands: &Commands,
    faults: &mut Vec<String>,
) -> Vec<ScriptTracker> {
    let used = |name: &str| is_tracked(configuration, Tracked::Script, name);
    let scripts = configuration
        .scripts
        .iter()
        .filter(|script| used(&script.name));
    scripts
        .filter_map(|script| {
            Some(ScriptTracker {
                name: format!("script {}", script.name),
                script: commands.script(&script.command, faults)?,
                interval: script.interval,
                timeout: script.timeout,
                rise: script.rise,
                fall: script.fall,
                init_fail: script.init_fail,
            })
        })
        .collect()
}

/// Files that some virtual router tracks.
pub(super) fn files(configuration: &Configuration) -> Vec<FileTracker> {
    let used = |name: &str| is_tracked(configuration, Tracked::File, name);
    let files = configuration
        .track_files
        .iter()
        .filter(|file| used(&file.name));
    files
        .map(|file| FileTracker {
            name: format!("file {}", file.name),
            path: file.path.clone().into(),
            initial: file.initial,
        })
        .collect()
}

fn is_tracked(configuration: &Configuration, kind: Tracked, name: &str) -> bool {
    let instances = configuration.instances.iter().flat_map(|one| &one.tracked);
    let groups = configuration
        .sync_groups
        .iter()
        .flat_map(|one| &one.tracked);
    instances
        .chain(groups)
        .any(|track| track.kind == kind && track.name == name)
}

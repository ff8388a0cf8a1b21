//! Virtual routers of a configuration.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use pointsman_config::keepalived::Configuration;
use pointsman_config::keepalived::model::{
    Authentication, Firewall, Instance, Notify, Tracked, VirtualAddress,
};

use pointsman_ha::vrrp::{Tracker, VerifyConfig};

use super::command::Commands;
use super::host_items::Names;
use crate::vrrp::hooks::{HooksConfig, Scripts};
use crate::vrrp::process::{ParameterMatch, ProcessTracker};
use crate::vrrp::track::{FileTracker, ScriptTracker};
use crate::vrrp::{self, Group, Holding, RefusalConfig, VERIFY_TRACKER, Verification, VrrpConfig};

/// The virtual routers and their groups.
pub(super) fn vrrp(configuration: &Configuration, faults: &mut Vec<String>) -> VrrpConfig {
    let mut instances = Vec::new();
    let names = Names::read();
    for (instance, mut router) in configuration.instances.iter().zip(configuration.routers()) {
        let verification = instance.verification.as_ref();
        if verification.is_some_and(|wish| wish.step_down.is_some()) {
            let name = format!("{VERIFY_TRACKER}{}", instance.name);
            router.trackers.push(Tracker::new(&name));
        }
        let problem = unsupported(configuration, instance)
            .or_else(|| router.check().err().map(|error| error.problem));
        match problem {
            Some(problem) => faults.push(format!("vrrp_instance {}: {problem}", instance.name)),
            None => instances.push(vrrp::Instance {
                router,
                holdings: holdings(instance, faults),
                items: names.items(instance, faults),
                promote_secondaries: instance.promote_secondaries,
                source: instance.source,
                track_interface: instance.track_primary,
                vmac: instance.vmac.clone().map(|vmac| vrrp::Vmac {
                    name: vmac.name,
                    mac: vmac.mac,
                    advertise_below: vmac.advertise_below,
                }),
                // Who owns the addresses accepts in any case.
                elsewhere: instance.announce.elsewhere,
                refuses: !instance.accept && instance.priority < 255,
                verification: instance.verification.as_ref().map(|wish| Verification {
                    config: VerifyConfig {
                        every: wish.every,
                        step_down: wish.step_down,
                    },
                    ask: wish.ask.clone(),
                }),
            }),
        }
    }
    let groups = configuration.sync_groups.iter().map(|group| Group {
        name: group.name.clone(),
        members: group.members.clone(),
        tracking_weight: group.tracking_weight,
    });
    VrrpConfig {
        instances,
        groups: groups.collect(),
        statics: names.statics(&configuration.statics, faults),
        startup_delay: configuration.global.startup_delay,
        refusal: refusal(&configuration.global.firewall),
    }
}

fn refusal(firewall: &Firewall) -> RefusalConfig {
    let usual = RefusalConfig::default();
    RefusalConfig {
        table: firewall.table.clone().unwrap_or(usual.table),
        priority: firewall.priority,
        counts: firewall.counts,
    }
}

/// What the configuration's model has and nothing here does, if the instance asks for it.
fn unsupported(configuration: &Configuration, instance: &Instance) -> Option<String> {
    if instance.interface.is_none() {
        return Some("no interface; name one".into());
    }
    if matches!(instance.authentication, Some(Authentication::Header(_))) {
        return Some("auth_type AH is not done".into());
    }
    let groups = configuration.sync_groups.iter();
    let groups = groups.filter(|group| group.members.contains(&instance.name));
    let mut tracked = instance
        .tracked
        .iter()
        .chain(groups.flat_map(|group| &group.tracked));
    tracked.find_map(|track| {
        let known = match track.kind {
            Tracked::Interface => true,
            Tracked::Service => configuration
                .services
                .iter()
                .any(|service| service.key().to_string() == track.name),
            Tracked::Script => configuration.scripts.iter().any(|s| s.name == track.name),
            Tracked::File => configuration
                .track_files
                .iter()
                .any(|f| f.name == track.name),
            Tracked::Process => configuration
                .track_processes
                .iter()
                .any(|p| p.name == track.name),
            Tracked::Bfd => configuration
                .bfd_instances
                .iter()
                .any(|b| b.name == track.name),
        };
        (!known).then(|| format!("tracks {}, which is not defined", track.name))
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

pub(super) fn holding(address: &VirtualAddress) -> Result<Holding, String> {
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
    let mut flags = 0;
    let v6 = address.address.is_ipv6();
    for (wanted, flag) in [
        (v6 && !address.dad, Holding::NODAD),
        (v6 && address.home, Holding::HOME),
        (v6 && address.manages_temporary, Holding::MANAGES_TEMPORARY),
        (address.no_prefix_route, Holding::NO_PREFIX_ROUTE),
        (address.autojoin, Holding::AUTOJOIN),
    ] {
        if wanted {
            flags |= flag;
        }
    }
    Ok(Holding {
        address: address.address,
        prefix: address.prefix,
        peer: address.peer,
        device: address.device.clone(),
        broadcast,
        scope,
        label: address.label.clone(),
        flags,
        preferred_seconds: address.preferred_seconds,
        tracked: address.tracking.tracked,
    })
}

/// Whom virtual routers and groups tell.
pub(super) fn hooks(
    configuration: &Configuration,
    commands: &Commands,
    faults: &mut Vec<String>,
) -> HooksConfig {
    let mut scripts = |notify: &Notify, mails| Scripts {
        master: commands.optional(notify.master.as_ref(), faults),
        backup: commands.optional(notify.backup.as_ref(), faults),
        fault: commands.optional(notify.fault.as_ref(), faults),
        stop: commands.optional(notify.stop.as_ref(), faults),
        tells_deletion: notify.deleted.is_some(),
        deleted: commands.optional(notify.deleted.as_ref().and_then(Option::as_ref), faults),
        master_rx_lower_pri: commands.optional(notify.lower.as_ref(), faults),
        any: commands.optional(notify.any.as_ref(), faults),
        mails,
    };
    let instances = configuration.instances.iter();
    let instances: BTreeMap<_, _> = instances
        .map(|one| (one.name.clone(), scripts(&one.notify, one.alert)))
        .collect();
    let groups = configuration.sync_groups.iter();
    let groups: BTreeMap<_, _> = groups
        .map(|one| (one.name.clone(), scripts(&one.notify, one.alert)))
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

/// Processes that some virtual router tracks.
pub(super) fn processes(configuration: &Configuration) -> Vec<ProcessTracker> {
    let used = |name: &str| is_tracked(configuration, Tracked::Process, name);
    let all = configuration.track_processes.iter();
    all.filter(|process| used(&process.name))
        .map(|process| {
            let (name, parameters) = match process.command.split_first() {
                Some((name, parameters)) => (name.clone(), parameters.to_vec()),
                None => (String::new(), Vec::new()),
            };
            ProcessTracker {
                name: format!("process {}", process.name),
                matching: match process.matching.as_deref() {
                    // Said of no parameters, it has none.
                    Some(_) if parameters.is_empty() => ParameterMatch::Exact,
                    Some("initial") => ParameterMatch::Initial,
                    Some(_) => ParameterMatch::Partial,
                    None if parameters.is_empty() => ParameterMatch::Any,
                    None => ParameterMatch::Exact,
                },
                process: name,
                parameters,
                full_command: process.full_command,
                least: process.least,
                most: process.most.unwrap_or(u32::MAX),
                rise: process.rise_delay,
                fall: process.fall_delay,
            }
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

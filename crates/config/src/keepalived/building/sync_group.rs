//! `vrrp_sync_group`, and the commands that it and instances run.

use super::super::keywords::Block;
use super::super::model::{Configuration, Notify, SyncGroup, Tracked};
use super::super::reader::{Entry, Reader};
use super::super::values::{self, Value};
use super::{Opened, bfd, is_new, mail, names, tracking};

/// Commands that are run.
pub(super) fn notify(notify: &mut Notify, entry: &Entry<'_>) {
    let slot = match (entry.keyword.name, entry.value) {
        ("notify_master", _) => &mut notify.master,
        ("notify_backup", _) => &mut notify.backup,
        ("notify_fault", _) => &mut notify.fault,
        ("notify_stop", _) => &mut notify.stop,
        ("notify_master_rx_lower_pri", _) => &mut notify.lower,
        ("notify", _) => &mut notify.any,
        ("notify_deleted", Value::Words(words)) => {
            notify.deleted = Some(values::command(words));
            return;
        }
        ("notify_priority_changes", Value::Switch(on)) => {
            notify.priority = on;
            return;
        }
        _ => return,
    };
    if let Value::Words(words) = entry.value {
        *slot = values::command(words);
    }
}

/// `vrrp_sync_group`.
pub(super) fn read(reader: &mut Reader<'_>, configuration: &mut Configuration, at: Opened<'_>) {
    let mut group = SyncGroup {
        name: at.name(),
        places: at.places(),
        members: Vec::new(),
        tracked: Vec::new(),
        notify: Notify {
            priority: configuration.global.notify_priority,
            ..Notify::default()
        },
        alert: false,
        tracking_weight: false,
    };
    let mut alert = None;
    for entry in reader.entries(Block::SyncGroup, at.block) {
        group.places.note(entry.keyword.name, entry.place);
        notify(&mut group.notify, &entry);
        mail::own(&entry, &mut alert);
        let kind = match (entry.keyword.name, entry.value) {
            ("group", Value::Block(_, block)) => {
                group
                    .members
                    .extend(names(block).map(|word| word.text.clone()));
                continue;
            }
            ("global_tracking", _) => {
                let text = "`global_tracking` is no longer meant to be used: it is \
                            `sync_group_tracking_weight`, and what all members track stands in the group";
                reader.error(entry.place, text.to_owned());
                group.tracking_weight = true;
                continue;
            }
            ("sync_group_tracking_weight", _) => {
                group.tracking_weight = true;
                continue;
            }
            ("track_interface", _) => Tracked::Interface,
            ("track_script", _) => Tracked::Script,
            ("track_file", _) => Tracked::File,
            ("track_process", _) => Tracked::Process,
            ("track_bfd", _) => Tracked::Bfd,
            ("track_virtual_server", _) => Tracked::Service,
            _ => continue,
        };
        if let Value::Block(_, block) = entry.value {
            tracking::tracks(reader, kind, block, &mut group.tracked);
            bfd::settle(reader, configuration, &mut group.tracked);
        }
    }
    group.alert = configuration.global.mail.about_router(alert);
    let all = configuration.sync_groups.iter().map(|g| g.name.as_str());
    if is_new(reader, "vrrp_sync_group", at, all) {
        configuration.sync_groups.push(group);
    }
}

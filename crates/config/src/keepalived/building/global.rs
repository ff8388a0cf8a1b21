//! `global_defs`.

use std::net::IpAddr;
use std::time::Duration;

use super::super::document::{Statement, Word};
use super::super::keywords::Block;
use super::super::model::{Fifo, Global};
use super::super::reader::{Entry, Reader};
use super::super::values::{self, Value};
use super::{elsewhere, files, mail, small, synchronisation};

/// The longest timeout of connections, seconds: 31 days.
const LONGEST: i64 = 31 * 24 * 60 * 60;

pub(super) fn read(reader: &mut Reader<'_>, global: &mut Global, block: &[Statement]) {
    let mut timeouts = [Duration::from_secs(10); 2];
    for entry in reader.entries(Block::Global, block) {
        global.places.note(entry.keyword.name, entry.place);
        protocol(reader, global, &entry);
        mail::read(reader, &mut global.mail, &entry);
        files::read(reader, global, &entry);
        match (entry.keyword.name, entry.value) {
            ("router_id", Value::Word(word)) => global.router_id = Some(word.text.clone()),
            ("default_interface", Value::Word(word)) => {
                global.default_interface = Some(word.text.clone());
            }
            ("script_user", Value::Words(words)) => match values::user(words) {
                Some(user) => global.script_user = Some(user),
                None => reader.error(entry.place, "`script_user` needs a user".to_owned()),
            },
            ("enable_script_security", _) => global.script_security = true,
            ("startup_script", Value::Words(words)) => {
                global.startup = values::command(words).map(|command| (command, timeouts[0]));
            }
            ("shutdown_script", Value::Words(words)) => {
                global.shutdown = values::command(words).map(|command| (command, timeouts[1]));
            }
            ("startup_script_timeout", Value::Whole(seconds)) => {
                timeouts[0] = Duration::from_secs(small(seconds));
            }
            ("shutdown_script_timeout", Value::Whole(seconds)) => {
                timeouts[1] = Duration::from_secs(small(seconds));
            }
            ("notify_fifo", Value::Words(words)) => path(&mut global.fifo, words),
            ("vrrp_notify_fifo", Value::Words(words)) => path(&mut global.vrrp_fifo, words),
            ("lvs_notify_fifo", Value::Words(words)) => path(&mut global.lvs_fifo, words),
            ("notify_fifo_script", Value::Words(words)) => script(&mut global.fifo, words),
            ("vrrp_notify_fifo_script", Value::Words(words)) => {
                script(&mut global.vrrp_fifo, words);
            }
            ("lvs_notify_fifo_script", Value::Words(words)) => {
                script(&mut global.lvs_fifo, words);
            }
            ("fifo_write_vrrp_states_on_reload", _) => global.fifo_on_reload = true,
            ("rs_init_notifies", _) => global.init_notifies = true,
            ("checker_log_all_failures", Value::Switch(on)) => global.log_all_failures = on,
            ("lvs_flush", _) => global.flush = true,
            ("lvs_timeouts", Value::Words(words)) => connections(reader, global, &entry, words),
            ("lvs_sync_daemon", Value::Words(_)) if global.synchronisation.is_some() => {
                let text = "there is a sync daemon already; this one is left out".to_owned();
                reader.error(entry.place, text);
            }
            ("lvs_sync_daemon", Value::Words(words)) => {
                global.synchronisation = synchronisation::read(reader, &entry, words);
            }
            _ => {}
        }
    }
    if global.places.of("vrrp_garp_lower_prio_delay").is_none() {
        global.announce.lower_delay = global.announce.delay;
    }
    if global.places.of("vrrp_garp_lower_prio_repeat").is_none() {
        global.announce.lower_repeat = global.announce.repeat;
    }
    for (script, timeout) in [&mut global.startup, &mut global.shutdown]
        .into_iter()
        .zip(timeouts)
    {
        if let Some((_, time)) = script {
            *time = timeout;
        }
    }
}

/// What virtual routers do that say nothing themselves.
fn protocol(reader: &mut Reader<'_>, global: &mut Global, entry: &Entry<'_>) {
    let announce = &mut global.announce;
    let whole_seconds = |seconds| Duration::from_secs(small(seconds));
    match (entry.keyword.name, entry.value) {
        ("vrrp_mcast_group4" | "vrrp_mcast_group6", Value::Address(address)) => {
            let wants_v4 = entry.keyword.name == "vrrp_mcast_group4";
            if address.is_ipv4() != wants_v4 || !address.is_multicast() {
                let family = if wants_v4 { "IPv4" } else { "IPv6" };
                let text = format!("`{address}` is no multicast group of {family}");
                return reader.error(entry.place, text);
            }
            match address {
                IpAddr::V4(_) => global.group_v4 = address,
                IpAddr::V6(_) => global.group_v6 = address,
            }
        }
        ("vrrp_version", Value::Whole(version)) => global.version = small(version),
        ("vrrp_check_unicast_src", _) => global.only_peers = true,
        ("vrrp_skip_check_adv_addr", _) => global.skip_check = true,
        ("vrrp_strict", _) => global.strict = true,
        ("vrrp_garp_master_delay", Value::Whole(s)) => announce.delay = whole_seconds(s),
        ("vrrp_garp_master_repeat", Value::Whole(n)) => announce.repeat = small(n),
        ("vrrp_garp_master_refresh", Value::Whole(s)) => announce.refresh = whole_seconds(s),
        ("vrrp_garp_master_refresh_repeat", Value::Whole(n)) => announce.refresh_repeat = small(n),
        ("vrrp_garp_lower_prio_delay", Value::Whole(s)) => {
            announce.lower_delay = whole_seconds(s);
        }
        ("vrrp_garp_lower_prio_repeat", Value::Whole(n)) => announce.lower_repeat = small(n),
        ("vrrp_garp_extra_if", Value::Words(words)) => {
            if let Some(time) = elsewhere::read(reader, entry.place, words) {
                announce.elsewhere = time;
            }
        }
        ("vrrp_garp_interval", Value::Time(time)) => global.garp_interval = time,
        ("vrrp_gna_interval", Value::Time(time)) => global.gna_interval = time,
        ("vrrp_min_garp", Value::Switch(true)) => {
            announce.repeat = 1;
            announce.delay = Duration::ZERO;
        }
        ("vrrp_down_timer_adverts", Value::Whole(n)) => global.down_adverts = small(n),
        ("vrrp_lower_prio_no_advert", Value::Switch(on)) => global.lower_no_advert = on,
        ("vrrp_higher_prio_send_advert", Value::Switch(on)) => global.higher_send_advert = on,
        ("vrrp_notify_priority_changes", Value::Switch(on)) => global.notify_priority = on,
        ("vrrp_startup_delay", Value::Time(time)) => global.startup_delay = time,
        ("nftables", Value::Words(words)) => {
            global.firewall.table = words.first().map(|word| word.text.clone());
            if let Some(word) = words.get(1) {
                let text = format!("`{}` behind `nftables` is ignored", word.text);
                reader.warning(word.place, text);
            }
        }
        ("nftables_priority", Value::Whole(priority)) => {
            global.firewall.priority = small(priority);
        }
        ("nftables_counters", _) => global.firewall.counts = true,
        ("vmac_prefix", Value::Word(word)) => global.vmac_prefix = Some(word.text.clone()),
        _ => {}
    }
}

fn path(fifo: &mut Fifo, words: &[Word]) {
    fifo.path = values::command(words);
}

fn script(fifo: &mut Fifo, words: &[Word]) {
    fifo.script = values::command(words);
}

fn connections(reader: &mut Reader<'_>, global: &mut Global, entry: &Entry<'_>, words: &[Word]) {
    if words.is_empty() {
        let text = "`lvs_timeouts` needs tcp, tcpfin or udp, each with seconds".to_owned();
        return reader.error(entry.place, text);
    }
    for pair in words.chunks(2) {
        let at = match &*pair[0].text {
            "tcp" => 0,
            "tcpfin" => 1,
            "udp" => 2,
            other => {
                let text = format!("`{other}`: timeouts are those of tcp, tcpfin and udp");
                reader.error(pair[0].place, text);
                continue;
            }
        };
        let Some(word) = pair.get(1) else {
            let text = format!("`{}` needs seconds", pair[0].text);
            reader.error(pair[0].place, text);
            continue;
        };
        match values::whole(word, &pair[0].text, 0, LONGEST) {
            // 0 leaves it as it is.
            Ok(0) => global.timeouts[at] = None,
            Ok(seconds) => global.timeouts[at] = Some(small(seconds)),
            Err(fault) => reader.fault(fault),
        }
    }
}

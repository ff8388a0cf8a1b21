//! `bfd_instance`.

use std::net::IpAddr;
use std::time::Duration;

use super::super::keywords::Block;
use super::super::model::{BfdInstance, Configuration, Track, Tracked, Weight};
use super::super::reader::Reader;
use super::super::values::Value;
use super::{Opened, is_new, small, tracking};

/// Bytes that a name may have.
const NAME_MAX: usize = 31;
/// Hop limits of sessions that say nothing, of IPv4 and of IPv6.
const HOP_LIMITS: [u8; 2] = [255, 64];
/// Longer intervals than these keepalived does not take for sensible.
const SENSIBLE: [(&str, Duration); 3] = [
    ("min_rx", Duration::from_secs(1)),
    ("min_tx", Duration::from_secs(1)),
    ("idle_tx", Duration::from_secs(10)),
];

/// A busy virtual machine is slow for longer than this now and then.
const HASTY: Duration = Duration::from_millis(300);

/// `bfd_instance`.
pub(super) fn read(reader: &mut Reader<'_>, configuration: &mut Configuration, at: Opened<'_>) {
    let mut instance = BfdInstance {
        name: at.name(),
        places: at.places(),
        neighbor: IpAddr::from([0; 4]),
        source: None,
        min_rx: Duration::from_millis(10),
        min_tx: Duration::from_millis(10),
        idle_tx: Duration::from_secs(1),
        multiplier: 5,
        passive: false,
        hop_limit: 0,
        max_hops: 0,
        weight: Weight::default(),
        for_routers: false,
        for_servers: false,
    };
    let mut neighbor = None;
    for entry in reader.entries(Block::Bfd, at.block) {
        instance.places.note(entry.keyword.name, entry.place);
        match (entry.keyword.name, entry.value) {
            ("neighbor_ip" | "neighbour_ip", Value::Address(address)) => neighbor = Some(address),
            ("source_ip", Value::Address(address)) => instance.source = Some(address),
            ("min_rx", Value::Time(time)) => instance.min_rx = time,
            ("min_tx", Value::Time(time)) => instance.min_tx = time,
            ("idle_tx", Value::Time(time)) => instance.idle_tx = time,
            ("multiplier", Value::Whole(n)) => instance.multiplier = small(n),
            ("passive", _) => instance.passive = true,
            ("ttl" | "hoplimit", Value::Whole(n)) => instance.hop_limit = small(n),
            // -1 is any, too.
            ("max_hops", Value::Whole(n)) => instance.max_hops = u8::try_from(n).unwrap_or(255),
            ("weight", Value::Words(words)) => {
                instance.weight = tracking::weight(reader, entry.place, words, 253);
            }
            ("vrrp", _) => instance.for_routers = true,
            ("checker", _) => instance.for_servers = true,
            _ => {}
        }
    }
    // Said of neither, it is for both.
    if !instance.for_routers && !instance.for_servers {
        (instance.for_routers, instance.for_servers) = (true, true);
    }
    let name = &instance.name;
    let Some(neighbor) = neighbor else {
        let text = format!("bfd_instance `{name}` has no `neighbor_ip` and is left out");
        return reader.error(at.place, text);
    };
    instance.neighbor = neighbor;
    if name.len() > NAME_MAX {
        let text = format!("the name `{name}` is longer than {NAME_MAX}; it is left out");
        return reader.error(at.place, text);
    }
    if let Some(source) = instance.source
        && source.is_ipv6() != neighbor.is_ipv6()
    {
        let text = format!(
            "`source_ip {source}` is of another family than {neighbor}: bfd_instance `{name}` is left out"
        );
        return reader.error(instance.places.near("source_ip"), text);
    }
    let mut others = configuration.bfd_instances.iter();
    if let Some(other) = others.find(|other| other.neighbor == neighbor) {
        let text = format!(
            "{neighbor} is the neighbor of bfd_instance `{}` already: `{name}` is left out",
            other.name
        );
        return reader.error(instance.places.near("neighbor_ip"), text);
    }
    let all = configuration.bfd_instances.iter().map(|b| b.name.as_str());
    if !is_new(reader, "bfd_instance", at, all) {
        return;
    }
    hops(reader, &mut instance);
    for (keyword, most) in SENSIBLE {
        let time = match keyword {
            "min_rx" => instance.min_rx,
            "min_tx" => instance.min_tx,
            _ => instance.idle_tx,
        };
        if time > most {
            let text = format!("more than {} ms is hardly meant", most.as_millis());
            reader.warning(instance.places.near(keyword), text);
        }
    }
    let patience = instance.min_tx * u32::from(instance.multiplier);
    if patience < HASTY {
        let text = format!(
            "after {patience:?} of silence the session is down: a host that is slow for a moment loses it; min_rx and \
             min_tx of 100 hold"
        );
        reader.warning(instance.places.near("min_tx"), text);
    }
    configuration.bfd_instances.push(instance);
}

/// How far away the neighbor may be.
fn hops(reader: &mut Reader<'_>, instance: &mut BfdInstance) {
    let is_ipv6 = instance.neighbor.is_ipv6();
    if instance.hop_limit == 0 {
        instance.hop_limit = HOP_LIMITS[usize::from(is_ipv6)];
        if is_ipv6 {
            let text = "without `hoplimit 255` packets leave with 64, as keepalived's; all others discard them \
                        (RFC 5881)";
            reader.warning(instance.places.begin(), text.to_owned());
        }
    }
    let any = instance.max_hops == 255 && instance.hop_limit == 255;
    if instance.max_hops > instance.hop_limit && !any {
        let text = format!(
            "max_hops {} is more than the hop limit {}: it becomes that",
            instance.max_hops, instance.hop_limit
        );
        reader.error(instance.places.near("max_hops"), text);
        instance.max_hops = instance.hop_limit;
    }
}

/// Leaves of what is tracked the sessions that stand before it, and weighs them.
pub(super) fn settle(
    reader: &mut Reader<'_>,
    configuration: &Configuration,
    tracked: &mut Vec<Track>,
) {
    tracked.retain_mut(|track| {
        if track.kind != Tracked::Bfd {
            return true;
        }
        let mut known = configuration.bfd_instances.iter();
        let Some(known) = known.find(|one| one.name == track.name && one.for_routers) else {
            let text = format!(
                "there is no bfd_instance `{}` for virtual routers before this: it is not tracked",
                track.name
            );
            reader.error(track.places.begin(), text);
            return false;
        };
        if track.places.of("weight").is_none() {
            track.weight = known.weight;
        }
        true
    });
}

/// The session of a `BFD_CHECK`, if it stands before it.
pub(super) fn find<'a>(configuration: &'a Configuration, name: &str) -> Option<&'a BfdInstance> {
    let mut all = configuration.bfd_instances.iter();
    all.find(|one| one.name == name && one.for_servers)
}

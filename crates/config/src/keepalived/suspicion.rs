//! What is suspicious about a configuration as a whole.

mod quorum;

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::time::Duration;

use pointsman_director::model::ForwardingMethod;

use super::document::Place;
use super::model::{
    Check, Checker, Configuration, Instance, Members, Server, Service, Target, Track, Tracked,
    Weight,
};
use super::reader::Reader;

/// Below this interval a busy virtual machine loses mastership by being slow.
const HASTY: Duration = Duration::from_millis(100);

/// Checks what several things say together; takes out what keepalived takes out.
pub(super) fn check(reader: &mut Reader<'_>, configuration: &mut Configuration) {
    groups(reader, configuration);
    let scripts: HashSet<String> = names(configuration.scripts.iter().map(|s| &s.name));
    let files: HashSet<String> = names(configuration.track_files.iter().map(|f| &f.name));
    let processes: HashSet<String> = names(configuration.track_processes.iter().map(|p| &p.name));
    let known = |track: &Track| match track.kind {
        // Services were looked for before.
        Tracked::Interface | Tracked::Service => true,
        Tracked::Script => scripts.contains(&track.name),
        Tracked::File => files.contains(&track.name),
        Tracked::Process => processes.contains(&track.name),
        // Only those that are there are kept when they are read.
        Tracked::Bfd => true,
    };
    track_groups(reader, configuration);
    let weights = weights(configuration);
    for group in &mut configuration.sync_groups {
        quorum::resolve(reader, &mut group.tracked, &configuration.services);
        weigh(&mut group.tracked, &weights);
        group
            .tracked
            .retain(|track| is_known(reader, track, &known));
    }
    let weightless: HashSet<&str> = configuration
        .sync_groups
        .iter()
        .filter(|group| !group.tracking_weight)
        .flat_map(|group| group.members.iter().map(String::as_str))
        .collect();
    for instance in &mut configuration.instances {
        quorum::resolve(reader, &mut instance.tracked, &configuration.services);
        weigh(&mut instance.tracked, &weights);
        instance
            .tracked
            .retain(|track| is_known(reader, track, &known));
        trackers(
            reader,
            instance,
            weightless.contains(instance.name.as_str()),
        );
        identity(reader, instance);
        addresses(reader, instance);
    }
    twice(reader, &configuration.instances);
    services(reader, configuration);
}

fn names<'a>(names: impl Iterator<Item = &'a String>) -> HashSet<String> {
    names.cloned().collect()
}

/// What scripts, files and processes weigh where a tracker names no weight.
fn weights(configuration: &Configuration) -> HashMap<(Tracked, String), Weight> {
    let scripts = configuration.scripts.iter();
    let files = configuration.track_files.iter();
    let processes = configuration.track_processes.iter();
    scripts
        .map(|s| ((Tracked::Script, s.name.clone()), s.weight))
        .chain(files.map(|f| ((Tracked::File, f.name.clone()), f.weight)))
        .chain(processes.map(|p| ((Tracked::Process, p.name.clone()), p.weight)))
        .collect()
}

fn weigh(tracked: &mut [Track], weights: &HashMap<(Tracked, String), Weight>) {
    for track in tracked {
        if track.places.of("weight").is_none()
            && let Some(weight) = weights.get(&(track.kind, track.name.clone()))
        {
            track.weight = *weight;
        }
    }
}

/// Sync groups whose members exist, each in one group.
fn groups(reader: &mut Reader<'_>, configuration: &mut Configuration) {
    let instances = names(configuration.instances.iter().map(|i| &i.name));
    let mut taken: HashSet<String> = HashSet::new();
    configuration.sync_groups.retain_mut(|group| {
        let place = group.places.near("group");
        group.members.retain(|member| {
            if !instances.contains(member) {
                let text =
                    format!("there is no vrrp_instance `{member}`; it is left out of the group");
                reader.error(place, text);
                return false;
            }
            let is_free = taken.insert(member.clone());
            if !is_free {
                let text =
                    format!("`{member}` is in a sync group already; it is left out of this one");
                reader.error(place, text);
            }
            is_free
        });
        match group.members.len() {
            0 => {
                let text = format!("sync group `{}` has no members and is left out", group.name);
                reader.error(place, text);
                return false;
            }
            1 => {
                let text = format!(
                    "sync group `{}` has one member, so there is nothing to keep in step",
                    group.name
                );
                reader.error(place, text);
            }
            _ => {}
        }
        true
    });
}

/// Track groups whose members exist.
fn track_groups(reader: &mut Reader<'_>, configuration: &mut Configuration) {
    let instances = names(configuration.instances.iter().map(|i| &i.name));
    for group in &mut configuration.track_groups {
        let place = group.places.begin();
        group.members.retain(|member| {
            let known = instances.contains(member);
            if !known {
                let text = format!(
                    "there is no vrrp_instance `{member}`; it is left out of track_group `{}`",
                    group.name
                );
                reader.error(place, text);
            }
            known
        });
        if group.members.is_empty() {
            let text = format!("track_group `{}` has no members: nobody tracks", group.name);
            reader.error(place, text);
        }
    }
}

fn is_known(reader: &mut Reader<'_>, track: &Track, known: &impl Fn(&Track) -> bool) -> bool {
    let is_known = known(track);
    if !is_known {
        let kind = match track.kind {
            Tracked::Script => "vrrp_script",
            Tracked::File => "track_file",
            _ => "vrrp_track_process",
        };
        let text = format!("there is no {kind} `{}`: it is not tracked", track.name);
        reader.error(track.places.begin(), text);
    }
    is_known
}

fn trackers(reader: &mut Reader<'_>, instance: &mut Instance, weightless: bool) {
    let own = instance.interface.clone();
    let is_owner = instance.priority == 255;
    instance.tracked.retain_mut(|track| {
        let place = track.places.begin();
        if track.kind == Tracked::Interface && Some(&track.name) == own.as_ref() {
            let text = format!("`{}` is the instance's own interface, which is tracked anyway", track.name);
            reader.error(place, text);
            return false;
        }
        if is_owner && track.weight.weight != 0 {
            let text = format!("`{}` is not tracked: priority 255 does not change", track.name);
            reader.error(place, text);
            return false;
        }
        if weightless && track.weight.weight != 0 {
            let text = format!(
                "the weight of `{}` does not count in a sync group: while it is down the instance is in fault",
                track.name
            );
            reader.error(place, text);
            track.weight = Default::default();
        }
        true
    });
}

fn identity(reader: &mut Reader<'_>, instance: &Instance) {
    let begin = instance.places.begin();
    let name = &instance.name;
    if instance.vrid == 0 && instance.places.of("virtual_router_id").is_none() {
        let text =
            format!("vrrp_instance `{name}` has no `virtual_router_id`: nothing works without");
        reader.error(begin, text);
    }
    if instance.interface.is_none() {
        let text = format!("vrrp_instance `{name}` has no `interface`");
        reader.error(begin, text);
    }
    if instance.addresses.is_empty() {
        let text = format!("vrrp_instance `{name}` has no virtual_ipaddress: it wins nothing");
        reader.error(begin, text);
    }
    if instance.addresses.len() > 255 {
        let text = format!(
            "{} virtual addresses, an advertisement has room for 255: the others belong into \
             virtual_ipaddress_excluded",
            instance.addresses.len()
        );
        reader.warning(instance.places.near("virtual_ipaddress"), text);
    }
    if instance.begins_as_master && instance.priority < 255 {
        let text = "`state MASTER` makes nobody master: the priority does, after the same wait; BACKUP says so";
        reader.warning(instance.places.near("state"), text.to_owned());
    }
    if instance.version == 3 && instance.interval < HASTY {
        let text = format!(
            "advertisements each {:?}: a host that is slow for a moment loses its addresses; from 0.1 on it holds",
            instance.interval
        );
        reader.warning(instance.places.near("advert_int"), text);
    }
    if instance.lower_no_advert && instance.announce.lower_repeat == 0 && !instance.strict {
        let text = "a master that was paused and comes back is not answered: the segment may believe it, and lose the \
                    addresses; leave lower_prio_no_advert or garp_lower_prio_repeat as they are";
        reader.warning(
            instance.places.near("lower_prio_no_advert"),
            text.to_owned(),
        );
    }
    if instance.version == 3
        && instance
            .addresses
            .first()
            .is_some_and(|a| a.address.is_ipv6())
    {
        let is_link_local = |address: IpAddr| match address {
            IpAddr::V6(v6) => v6.is_unicast_link_local(),
            IpAddr::V4(_) => true,
        };
        if !is_link_local(instance.addresses[0].address) {
            let text = "the first address of an IPv6 instance is link-local by RFC 9568; others than keepalived \
                        may reject it";
            reader.warning(instance.places.near("virtual_ipaddress"), text.to_owned());
        }
    }
}

/// Addresses that are there twice, or have a mask that can't be meant.
fn addresses(reader: &mut Reader<'_>, instance: &Instance) {
    let mut seen = HashSet::new();
    for address in instance.addresses.iter().chain(&instance.excluded) {
        let place = address.places.begin();
        if !seen.insert((address.address, address.device.clone())) {
            let text = format!("`{}` is there already", address.address);
            reader.warning(place, text);
        }
        if address.prefix == 0 {
            let text = format!(
                "`{}/0`: the whole world is not on this link",
                address.address
            );
            reader.warning(place, text);
        }
    }
}

/// What two instances claim both.
fn twice(reader: &mut Reader<'_>, instances: &[Instance]) {
    let mut ids = HashMap::new();
    let mut owners: HashMap<IpAddr, &Instance> = HashMap::new();
    for instance in instances {
        let Some(first) = instance.addresses.first() else {
            continue;
        };
        let key = (
            instance.vrid,
            instance.interface.as_ref(),
            first.address.is_ipv6(),
            !instance.peers.is_empty(),
            instance.group,
        );
        if let Some(other) = ids.insert(key, instance)
            && shares_peers(instance, other)
        {
            let text = format!(
                "virtual_router_id {} is `{}`'s on this interface: each takes the other for itself",
                instance.vrid, other.name
            );
            reader.error(instance.places.near("virtual_router_id"), text);
        }
        for address in instance.addresses.iter().chain(&instance.excluded) {
            match owners.insert(address.address, instance) {
                Some(other) if other.name != instance.name => {
                    let text = format!(
                        "`{}` is an address of `{}` too: when one gives it back, the other has lost it",
                        address.address, other.name
                    );
                    reader.warning(address.places.begin(), text);
                }
                _ => {}
            }
        }
    }
}

/// Unicast instances may have one id if their peers are others.
fn shares_peers(one: &Instance, other: &Instance) -> bool {
    let peers: HashSet<IpAddr> = other.peers.iter().map(|peer| peer.address).collect();
    one.peers.is_empty() || one.peers.iter().any(|peer| peers.contains(&peer.address))
}

fn services(reader: &mut Reader<'_>, configuration: &Configuration) {
    let mut seen: HashMap<String, Place> = HashMap::new();
    for service in &configuration.services {
        let place = service.places.begin();
        let key = match &service.target {
            Target::Mark(mark) => format!("fwmark {mark} {}", service.is_ipv6),
            target => format!("{target:?} {:?}", service.protocol),
        };
        if seen.insert(key, place).is_some() {
            let text = "this virtual_server is there already; the real servers of both are mixed"
                .to_owned();
            reader.warning(place, text);
        }
        service_alone(reader, service);
    }
    let used: HashSet<&str> = configuration
        .services
        .iter()
        .filter_map(|service| match &service.target {
            Target::Group(name) => Some(name.as_str()),
            _ => None,
        })
        .collect();
    for group in &configuration.service_groups {
        if !used.contains(group.name.as_str()) {
            let text = format!(
                "no virtual_server uses virtual_server_group `{}`",
                group.name
            );
            reader.warning(group.places.begin(), text);
        }
        let mut seen: Vec<Members> = Vec::new();
        for member in &group.members {
            if seen.contains(member) {
                let text = format!("virtual_server_group `{}` holds one line twice", group.name);
                reader.warning(group.places.begin(), text);
            }
            seen.push(*member);
        }
    }
}

fn service_alone(reader: &mut Reader<'_>, service: &Service) {
    if let Some(sorry) = &service.sorry
        && let Some(server) = service
            .servers
            .iter()
            .find(|s| s.address == sorry.address && s.port == sorry.port)
    {
        let text = format!(
            "sorry server `{}` is a real server too: without quorum it serves, down as it may be",
            server.address
        );
        reader.warning(service.places.near("sorry_server"), text);
    }
    if service.servers.iter().all(|server| server.weight == 0) {
        let text = "every real server has weight 0: nobody takes a new connection".to_owned();
        reader.warning(service.places.begin(), text);
    }
    for server in &service.servers {
        if server.upper != 0 && server.lower > server.upper {
            let text = format!(
                "lthreshold {} is more than uthreshold {}: once full it stays full",
                server.lower, server.upper
            );
            reader.warning(server.places.near("lthreshold"), text);
        }
        if server.upper == 0 && server.lower > 0 {
            let text = "lthreshold without uthreshold has no effect".to_owned();
            reader.warning(server.places.near("lthreshold"), text);
        }
        for checker in &server.checkers {
            vip_check(reader, service, server, checker);
        }
        if server.checkers.is_empty() {
            let text = format!(
                "real server `{}` is not checked: it counts as up whatever happens",
                server.address
            );
            reader.warning(server.places.begin(), text);
        }
    }
}

/// What `vip_check` can't find out.
fn vip_check(reader: &mut Reader<'_>, service: &Service, server: &Server, checker: &Checker) {
    let goes_to_vip = |check: &Check| check.binding().is_some_and(|binding| binding.vip_check);
    if !goes_to_vip(&checker.check) {
        return;
    }
    let place = checker.places.near("vip_check");
    if server.method.method == ForwardingMethod::Masquerade {
        let text = "`vip_check` with NAT is the usual check: what clients send gets the real \
                    server's own address";
        reader.warning(place, text.to_owned());
        return;
    }
    match &service.target {
        Target::Address(address, _) if address.is_ipv4() != server.address.is_ipv4() => {
            let text = "`vip_check` through a tunnel of the other family is not done".to_owned();
            reader.unsupported(place, text);
        }
        Target::Address(..) => {}
        Target::Mark(_) | Target::Group(_) => {
            let text = "`vip_check` needs a virtual_server with one address".to_owned();
            reader.error(place, text);
        }
    }
    let no_answer = matches!(&checker.check, Check::Udp(_, probe) if probe.reply.is_none());
    if no_answer {
        let text = "`vip_check` without `require_reply`: a real server that just drops what is \
                    not for it counts as up";
        reader.warning(place, text.to_owned());
    }
}

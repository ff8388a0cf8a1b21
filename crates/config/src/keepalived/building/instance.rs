//! `vrrp_instance`.

use std::net::IpAddr;
use std::time::Duration;

use pointsman_ha::vrrp::OldChecksum;

use super::super::document::Statement;
use super::super::keywords::Block;
use super::super::model::{
    Authentication, Configuration, Global, Instance, Notify, Peer, Tracked, VirtualAddress,
};
use super::super::reader::{Entry, Reader};
use super::super::values::{self, Value};
use super::rule_line::Preferences;
use super::sync_group::notify;
use super::{
    Opened, address_line, bfd, elsewhere, is_new, mail, route_line, rule_line, small, strictness,
    tracking, verification, virtual_mac,
};

/// `vrrp_instance`.
pub(super) fn read(
    reader: &mut Reader<'_>,
    configuration: &mut Configuration,
    preferences: &mut Preferences,
    at: Opened<'_>,
) {
    if at.words.len() > 1 {
        let text = "a vrrp_instance has one name".to_owned();
        reader.error(at.words[1].place, text);
    }
    let mut draft = Draft::new(&configuration.global, at);
    let mut alert = None;
    for entry in reader.entries(Block::Instance, at.block) {
        draft.instance.places.note(entry.keyword.name, entry.place);
        draft.identity(reader, &entry);
        draft.protocol(&entry);
        draft.addresses(reader, &entry);
        draft.host(reader, preferences, &entry);
        draft.link(reader, &entry);
        notify(&mut draft.instance.notify, &entry);
        mail::own(&entry, &mut alert);
    }
    let (mut instance, wish) = draft.finish(reader, &configuration.global);
    instance.alert = configuration.global.mail.about_router(alert);
    bfd::settle(reader, configuration, &mut instance.tracked);
    instance.vmac = wish.map(|wish| {
        virtual_mac::settle(
            &wish,
            &instance,
            &configuration.global,
            &configuration.instances,
        )
    });
    let all = configuration.instances.iter().map(|i| i.name.as_str());
    if is_new(reader, "vrrp_instance", at, all) {
        configuration.instances.push(instance);
    }
}

/// An instance while its keywords are read.
struct Draft {
    instance: Instance,
    state: Option<bool>,
    priority: Option<u8>,
    version: Option<u8>,
    password: Option<[u8; 8]>,
    authentication: Option<bool>,
    accept: Option<bool>,
    vmac: Option<virtual_mac::Wish>,
}

impl Draft {
    fn new(global: &Global, at: Opened<'_>) -> Self {
        let instance = Instance {
            name: at.name(),
            places: at.places(),
            begins_as_master: false,
            interface: None,
            vrid: 0,
            priority: 100,
            interval: Duration::from_secs(1),
            version: global.version,
            addresses: Vec::new(),
            excluded: Vec::new(),
            routes: Vec::new(),
            rules: Vec::new(),
            promote_secondaries: false,
            authentication: None,
            preempt: true,
            preempt_delay: Duration::ZERO,
            announce: global.announce,
            down_adverts: global.down_adverts,
            lower_no_advert: global.lower_no_advert,
            higher_send_advert: global.higher_send_advert,
            skip_check: global.skip_check,
            strict: global.strict,
            accept: true,
            source: None,
            track_source: false,
            group: None,
            peers: Vec::new(),
            unicast_ttl: None,
            only_peers: global.only_peers,
            old_checksum: OldChecksum::default(),
            fault_without_peer: false,
            track_primary: true,
            sync_interface: None,
            tracked: Vec::new(),
            notify: Notify {
                priority: global.notify_priority,
                ..Notify::default()
            },
            alert: false,
            vmac: None,
            verification: None,
        };
        Self {
            instance,
            state: None,
            priority: None,
            version: None,
            password: None,
            authentication: None,
            accept: None,
            vmac: None,
        }
    }

    /// What it does on its link.
    fn link(&mut self, reader: &mut Reader<'_>, entry: &Entry<'_>) {
        let words = match entry.value {
            Value::Words(words) => words,
            _ => &[],
        };
        match entry.keyword.name {
            "accept" => self.accept = Some(true),
            "no_accept" => self.accept = Some(false),
            "garp_extra_if" => {
                if let Some(time) = elsewhere::read(reader, entry.place, words) {
                    self.instance.announce.elsewhere = time;
                }
            }
            "old_unicast_checksum" => {
                self.instance.old_checksum = match entry.value {
                    Value::Word(_) => OldChecksum::Never,
                    _ => OldChecksum::Always,
                };
            }
            "use_vmac" => self.vmac = Some(virtual_mac::read(reader, words)),
            "verify_vip" => {
                self.instance.verification = Some(verification::read(reader, words));
            }
            _ => {}
        }
    }

    /// Who it is.
    fn identity(&mut self, reader: &mut Reader<'_>, entry: &Entry<'_>) {
        let instance = &mut self.instance;
        match (entry.keyword.name, entry.value) {
            ("state", Value::Word(word)) => self.state = Some(word.text == "MASTER"),
            ("interface", Value::Word(word)) => instance.interface = Some(word.text.clone()),
            ("virtual_router_id", Value::Whole(id)) => instance.vrid = small(id),
            ("priority", Value::Whole(priority)) => self.priority = Some(small(priority)),
            ("version", Value::Whole(version)) => self.version = Some(small(version)),
            ("authentication", Value::Block(_, block)) => self.authentication(reader, block),
            ("track_interface", Value::Block(_, block)) => {
                tracking::tracks(reader, Tracked::Interface, block, &mut instance.tracked);
            }
            ("track_script", Value::Block(_, block)) => {
                tracking::tracks(reader, Tracked::Script, block, &mut instance.tracked);
            }
            ("track_file", Value::Block(_, block)) => {
                tracking::tracks(reader, Tracked::File, block, &mut instance.tracked);
            }
            ("track_process", Value::Block(_, block)) => {
                tracking::tracks(reader, Tracked::Process, block, &mut instance.tracked);
            }
            ("track_bfd", Value::Block(_, block)) => {
                tracking::tracks(reader, Tracked::Bfd, block, &mut instance.tracked);
            }
            ("track_virtual_server", Value::Block(_, block)) => {
                tracking::tracks(reader, Tracked::Service, block, &mut instance.tracked);
            }
            _ => {}
        }
    }

    /// How it speaks.
    fn protocol(&mut self, entry: &Entry<'_>) {
        let instance = &mut self.instance;
        let announce = &mut instance.announce;
        let whole_seconds = |seconds| Duration::from_secs(small(seconds));
        match (entry.keyword.name, entry.value) {
            ("advert_int", Value::Time(time)) => instance.interval = time,
            ("nopreempt", _) => instance.preempt = false,
            ("preempt", _) => instance.preempt = true,
            ("preempt_delay", Value::Time(time)) => instance.preempt_delay = time,
            ("garp_master_delay", Value::Whole(s)) => announce.delay = whole_seconds(s),
            ("garp_master_repeat", Value::Whole(n)) => announce.repeat = small(n),
            ("garp_master_refresh", Value::Whole(s)) => announce.refresh = whole_seconds(s),
            ("garp_master_refresh_repeat", Value::Whole(n)) => announce.refresh_repeat = small(n),
            ("garp_lower_prio_delay", Value::Whole(s)) => {
                announce.lower_delay = whole_seconds(s);
            }
            ("garp_lower_prio_repeat", Value::Whole(n)) => announce.lower_repeat = small(n),
            ("down_timer_adverts", Value::Whole(n)) => instance.down_adverts = small(n),
            ("lower_prio_no_advert", Value::Switch(on)) => instance.lower_no_advert = on,
            ("higher_prio_send_advert", Value::Switch(on)) => instance.higher_send_advert = on,
            ("skip_check_adv_addr", Value::Switch(on)) => instance.skip_check = on,
            ("strict_mode", Value::Switch(on)) => instance.strict = on,
            ("mcast_src_ip" | "unicast_src_ip", Value::Address(address)) => {
                instance.source = Some(address);
            }
            ("mcast_dst_ip", Value::Address(address)) => instance.group = Some(address),
            ("track_src_ip", _) => instance.track_source = true,
            ("unicast_ttl", Value::Whole(ttl)) => instance.unicast_ttl = Some(small(ttl)),
            ("unicast_fault_no_peer", _) => instance.fault_without_peer = true,
            ("check_unicast_src", _) => instance.only_peers = true,
            ("dont_track_primary", _) => instance.track_primary = false,
            ("lvs_sync_daemon_interface", Value::Word(word)) => {
                instance.sync_interface = Some(word.text.clone());
            }
            _ => {}
        }
    }

    fn addresses(&mut self, reader: &mut Reader<'_>, entry: &Entry<'_>) {
        let Value::Block(_, block) = entry.value else {
            return;
        };
        let instance = &mut self.instance;
        let read = |reader: &mut Reader<'_>| -> Vec<VirtualAddress> {
            let lines = block.iter();
            lines
                .filter_map(|line| address_line::read(reader, line, None))
                .collect()
        };
        match entry.keyword.name {
            "virtual_ipaddress" => {
                for address in read(reader) {
                    let first = instance
                        .addresses
                        .first()
                        .map_or(address.address, |a| a.address);
                    if first.is_ipv6() != address.address.is_ipv6() {
                        let text = format!(
                            "`{}` is of another family than `{first}`, and is left out; put it into \
                             virtual_ipaddress_excluded",
                            address.address
                        );
                        reader.error(address.places.begin(), text);
                        continue;
                    }
                    instance.addresses.push(address);
                }
            }
            "virtual_ipaddress_excluded" => instance.excluded.extend(read(reader)),
            "unicast_peer" => {
                let lines = block.iter();
                instance
                    .peers
                    .extend(lines.filter_map(|line| peer(reader, line)));
            }
            _ => {}
        }
    }

    /// What comes and goes with its addresses.
    fn host(&mut self, reader: &mut Reader<'_>, preferences: &mut Preferences, entry: &Entry<'_>) {
        let instance = &mut self.instance;
        let lines = match entry.value {
            Value::Block(_, block) => block,
            _ => &[],
        };
        match entry.keyword.name {
            "virtual_routes" => {
                let routes = lines.iter();
                let routes = routes.filter_map(|line| route_line::read(reader, line, None));
                instance.routes.extend(routes);
            }
            "virtual_rules" => {
                let rules = lines.iter();
                let rules =
                    rules.filter_map(|line| rule_line::read(reader, line, preferences, None));
                instance.rules.extend(rules);
            }
            "promote_secondaries" => instance.promote_secondaries = true,
            _ => {}
        }
    }

    fn authentication(&mut self, reader: &mut Reader<'_>, block: &[Statement]) {
        self.authentication.get_or_insert(false);
        for entry in reader.entries(Block::Authentication, block) {
            match (entry.keyword.name, entry.value) {
                ("auth_type", Value::Word(word)) if word.text == "AH" => {
                    self.authentication = Some(true);
                    let text = "`auth_type AH`: advertisements are not authenticated, peers with AH reject them; \
                                use PASS, or none";
                    reader.unsupported(entry.place, text.to_owned());
                }
                ("auth_type", Value::Word(_)) => self.authentication = Some(false),
                ("auth_pass", Value::Word(word)) => {
                    let bytes = word.text.as_bytes();
                    if bytes.len() > 8 {
                        let text =
                            "a password has eight characters, what is behind them does not count";
                        reader.error(word.place, text.to_owned());
                    }
                    let mut password = [0; 8];
                    for (to, from) in password.iter_mut().zip(bytes) {
                        *to = *from;
                    }
                    self.password = Some(password);
                }
                _ => {}
            }
        }
    }

    /// What follows from all keywords together, in keepalived's way.
    fn finish(
        mut self,
        reader: &mut Reader<'_>,
        global: &Global,
    ) -> (Instance, Option<virtual_mac::Wish>) {
        let master = self.state.unwrap_or(self.priority == Some(255));
        self.instance.priority = self.priority.unwrap_or(if master { 255 } else { 100 });
        self.instance.begins_as_master = master;
        let is_ipv6 = self
            .instance
            .addresses
            .first()
            .is_some_and(|a| a.address.is_ipv6());
        self.instance.version = self
            .version
            .unwrap_or(if is_ipv6 { 3 } else { global.version });
        strictness::begin(reader, &mut self.instance);
        self.authenticate(reader);
        let instance = &mut self.instance;
        preempt(reader, instance);
        interval(reader, instance);
        unicast(reader, instance);
        if let Some(group) = instance.group
            && (!group.is_multicast() || group.is_ipv6() != is_ipv6)
        {
            let place = instance.places.near("mcast_dst_ip");
            let text = format!("`{group}` is no multicast group of the virtual addresses' family");
            reader.error(place, text);
            instance.group = None;
        }
        if let Some(source) = instance.source
            && source.is_ipv6() != is_ipv6
            && !instance.addresses.is_empty()
        {
            let keyword = ["unicast_src_ip", "mcast_src_ip"];
            let place = keyword.iter().find_map(|k| instance.places.of(k));
            let text = format!("`{source}` is of another family than the virtual addresses");
            reader.error(place.unwrap_or(instance.places.begin()), text);
            instance.source = None;
        }
        if instance.places.of("native_ipv6").is_some() && !is_ipv6 {
            let text = "`native_ipv6` with IPv4 addresses".to_owned();
            reader.error(instance.places.near("native_ipv6"), text);
        }
        strictness::hold(reader, instance, self.accept, self.vmac.as_mut());
        strictness::warn(reader, instance, global);
        (self.instance, self.vmac)
    }

    fn authenticate(&mut self, reader: &mut Reader<'_>) {
        let place = self.instance.places.near("authentication");
        let Some(header) = self.authentication else {
            return;
        };
        if self.instance.strict {
            let text = "authentication is not the RFC's: in strict mode none is used".to_owned();
            return reader.error(place, text);
        }
        let Some(password) = self.password else {
            let text = "authentication without `auth_pass` is none".to_owned();
            return reader.error(place, text);
        };
        if self.instance.version == 3 {
            let text = "version 3 has no authentication; none is used".to_owned();
            return reader.error(place, text);
        }
        if header && self.instance.begins_as_master && self.instance.priority < 255 {
            let text = "`state MASTER` has no effect with `auth_type AH`".to_owned();
            reader.error(self.instance.places.near("state"), text);
            self.instance.begins_as_master = false;
        }
        self.instance.authentication = Some(if header {
            Authentication::Header(password)
        } else {
            Authentication::Password(password)
        });
    }
}

fn preempt(reader: &mut Reader<'_>, instance: &mut Instance) {
    let place = instance.places.near("nopreempt");
    if !instance.preempt && instance.priority == 255 {
        let text =
            "`nopreempt` has no effect with priority 255, which owns the addresses".to_owned();
        reader.error(place, text);
        instance.preempt = true;
    } else if !instance.preempt && instance.begins_as_master {
        let text = "`nopreempt` has no effect with `state MASTER`; make it BACKUP on every host"
            .to_owned();
        reader.error(place, text);
        instance.preempt = true;
    }
    if instance.preempt_delay.is_zero() {
        return;
    }
    let place = instance.places.near("preempt_delay");
    if instance.begins_as_master {
        let text = "`preempt_delay` has no effect with `state MASTER`".to_owned();
        reader.error(place, text);
        instance.preempt_delay = Duration::ZERO;
    } else if !instance.preempt {
        let text = "`preempt_delay` has no effect with `nopreempt`".to_owned();
        reader.error(place, text);
        instance.preempt_delay = Duration::ZERO;
    }
}

/// Version 2 has whole seconds, version 3 hundredths up to 40.95 s.
fn interval(reader: &mut Reader<'_>, instance: &mut Instance) {
    let place = instance.places.near("advert_int");
    let interval = instance.interval;
    let micros = interval.as_micros() as u64;
    if instance.version == 2 {
        let seconds = ((micros + 500_000) / 1_000_000).max(1);
        if seconds * 1_000_000 != micros {
            let text = format!(
                "version 2 has whole seconds: {} becomes {seconds} s; `version 3` has hundredths",
                interval.as_secs_f64()
            );
            reader.error(place, text);
            instance.interval = Duration::from_secs(seconds);
        }
        return;
    }
    if micros > 40_950_000 {
        let text = format!(
            "version 3 has at most 40.95 seconds: {} becomes that",
            interval.as_secs_f64()
        );
        reader.error(place, text);
        instance.interval = Duration::from_millis(40_950);
    } else if !micros.is_multiple_of(10_000) {
        let hundredths = ((micros + 5_000) / 10_000).max(1);
        instance.interval = Duration::from_millis(hundredths * 10);
        let text = format!(
            "version 3 has hundredths of seconds: {} becomes {}",
            interval.as_secs_f64(),
            instance.interval.as_secs_f64()
        );
        reader.error(place, text);
    }
}

fn unicast(reader: &mut Reader<'_>, instance: &mut Instance) {
    let v6 = instance.addresses.first().map(|a| a.address.is_ipv6());
    if let Some(v6) = v6 {
        instance.peers.retain(|peer| {
            let fits = peer.address.is_ipv6() == v6;
            if !fits {
                let text = format!(
                    "peer `{}` is of another family than the virtual addresses, and is left out",
                    peer.address
                );
                reader.error(instance.places.near("unicast_peer"), text);
            }
            fits
        });
    }
    if instance
        .peers
        .iter()
        .any(|peer| (peer.least_ttl, peer.most_ttl) != (0, 255))
    {
        instance.only_peers = true;
    }
    if !instance.peers.is_empty() {
        return;
    }
    let keywords = [
        "unicast_peer",
        "unicast_src_ip",
        "check_unicast_src",
        "old_unicast_checksum",
    ];
    let said = keywords
        .iter()
        .find_map(|keyword| instance.places.of(keyword));
    if let Some(place) = instance.places.of("unicast_fault_no_peer") {
        let text = "`unicast_fault_no_peer` without peers: the virtual router is in fault";
        reader.warning(place, text.to_owned());
    }
    if let (Some(place), false) = (said, instance.fault_without_peer) {
        let text =
            "unicast without peers: it is multicast; name the others in unicast_peer".to_owned();
        reader.error(place, text);
    }
    if let Some(place) = instance.places.of("unicast_ttl") {
        let text = "`unicast_ttl` has no effect without peers".to_owned();
        reader.error(place, text);
        instance.unicast_ttl = None;
    }
}

/// `ADDRESS [min_ttl N] [max_ttl N]`.
fn peer(reader: &mut Reader<'_>, line: &Statement) -> Option<Peer> {
    let (word, rest) = line.words.split_first()?;
    let address: IpAddr = match values::address(word) {
        Ok(address) => address,
        Err(fault) => {
            reader.fault(fault);
            return None;
        }
    };
    let mut peer = Peer {
        address,
        least_ttl: 0,
        most_ttl: 255,
    };
    for pair in rest.chunks(2) {
        let slot = match &*pair[0].text {
            "min_ttl" => &mut peer.least_ttl,
            "max_ttl" => &mut peer.most_ttl,
            other => {
                let text = format!("`{other}`: behind a peer stand min_ttl and max_ttl");
                reader.error(pair[0].place, text);
                continue;
            }
        };
        match pair
            .get(1)
            .map(|word| values::whole(word, &pair[0].text, 0, 255))
        {
            Some(Ok(ttl)) => *slot = small(ttl),
            Some(Err(fault)) => reader.fault(fault),
            None => {
                let text = format!("`{}` needs a number from 0 to 255", pair[0].text);
                reader.error(pair[0].place, text);
            }
        }
    }
    if peer.least_ttl > peer.most_ttl {
        let text = format!(
            "min_ttl {} is more than max_ttl {}: nothing of this peer is accepted",
            peer.least_ttl, peer.most_ttl
        );
        reader.error(word.place, text);
    }
    Some(peer)
}

//! What a configuration amounts to, in the words of keepalived's dump.

use std::net::IpAddr;
use std::time::Duration;

use pointsman_config::keepalived::Configuration;
use pointsman_config::keepalived::model::{
    Authentication, Binding, Check, Checker, HttpProtocol, Instance, Members, Method, Server,
    Service, Target, VirtualAddress,
};
use pointsman_director::model::{ForwardingMethod, Protocol, TunnelChecksum, TunnelType};

/// One fact a line, in order.
pub type Said = Vec<String>;

/// Facts of the dump that are compared, by how they begin.
const FACTS: &[&str] = &[
    "Virtual Server Group =",
    "VIP =",
    "VIP Range =",
    "FWMARK =",
    "VS VIP =",
    "VS FWMARK =",
    "VS GROUP =",
    "lvs_sched =",
    "One packet scheduling =",
    "persistence timeout =",
    "persistence granularity =",
    "protocol =",
    "alpha is",
    "omega is",
    "quorum =",
    "sorry server =",
    "RIP =",
    "forwarding method =",
    "Alpha is",
    "connection limit range =",
    "Alpha =",
    "Delay loop =",
    "Warmup =",
    "Retries =",
    "Delay before retry =",
    "Dest =",
    "Bind to =",
    "Mark =",
    "Timeout =",
    "Keepalive method =",
    "Checked url =",
    "digest =",
    "Regex =",
    "Type =",
    "Name =",
    "helo =",
    "Payload len =",
    "Require reply =",
    "Min reply length =",
    "Max reply length =",
    "timeout =",
    "dynamic =",
    "VRRP Instance =",
    "VRRP Version =",
    "Wantstate =",
    "Interface =",
    "Multicast address",
    "Gratuitous ARP",
    "Down timer adverts =",
    "Send advert after receive",
    "Virtual Router ID =",
    "Priority =",
    "Advert interval =",
    "Accept =",
    "Preempt =",
    "Preempt delay =",
    "Authentication type =",
    "Password =",
    "Check unicast src :",
    "VRRP Sync Group =",
];

/// The facts of keepalived's dump.
pub fn said_by_keepalived(dump: &[String]) -> Said {
    let mut said = Said::new();
    let mut within = false;
    let mut lists = false;
    // Here an address stays named after the instance's interface, there after the virtual MAC's.
    let mut on_base = (String::new(), String::new());
    for line in dump {
        let line = &match line.split_once(", vmac on ") {
            Some((device, base)) => {
                let (head, name) = device.rsplit_once(' ').unwrap_or(("", device));
                on_base = (format!("dev {name}"), format!("dev {base}"));
                format!("{head} {base}")
            }
            None if on_base.0.is_empty() => line.clone(),
            None => line.replace(&on_base.0, &on_base.1),
        };
        if line.contains("------<") {
            let sections = [
                "LVS Topology",
                "Health checkers",
                "VRRP Topology",
                "Sync groups",
            ];
            let inner = ["Virtual server", "Real server"];
            if !inner.iter().any(|name| line.contains(name)) {
                within = sections.iter().any(|name| line.contains(name));
            }
            lists = false;
            continue;
        }
        if !within {
            continue;
        }
        let text = line.trim();
        // Addresses and peers stand alone on their lines.
        if text.starts_with("Virtual IP")
            || text == "Unicast Peer :"
            || text.starts_with("VRRP member")
        {
            lists = true;
            continue;
        }
        if lists && line.starts_with("     ") {
            said.push(words(text));
            continue;
        }
        // What does not belong to the dump comes in between whenever it likes.
        if !line.starts_with(' ') {
            continue;
        }
        lists = false;
        // Of some tunnels the service's default reads like a real server's.
        let is_default = said.last().is_some_and(|last| last.starts_with("quorum ="));
        if is_default && text.starts_with("forwarding method") {
            continue;
        }
        if let Some(fact) = FACTS.iter().find(|fact| text.starts_with(**fact)) {
            said.extend(fact_of(fact, text));
        }
    }
    said
}

/// The part of a fact that does not depend on the moment.
fn fact_of(fact: &str, text: &str) -> Option<String> {
    let text = match fact {
        "RIP =" => text.split(" EFF ").next()?,
        "Virtual Server Group =" | "VRRP Sync Group =" | "Multicast address" => {
            text.split(',').next()?
        }
        // The service's and the real server's own; a check's is in microseconds.
        "Warmup =" if !text.ends_with(" us") => return None,
        "One packet scheduling =" => text.split(" (").next()?,
        "Advert interval =" => return Some(text.replace("milli-sec", "ms")),
        "helo =" | "Timeout =" | "timeout =" => text,
        _ => text,
    };
    Some(text.to_owned())
}

/// An address with its prefix and its interface, or a peer with its hop limits.
fn words(text: &str) -> String {
    let words: Vec<&str> = text.split_whitespace().collect();
    match words.as_slice() {
        [address, "dev", device, ..] => {
            let device = device.split('@').next().unwrap_or(device);
            format!("{address} dev {device}")
        }
        _ => text.to_owned(),
    }
}

/// The same facts of a configuration that was read here.
pub fn said_here(configuration: &Configuration) -> Said {
    let mut said = Said::new();
    for group in &configuration.service_groups {
        said.push(format!("Virtual Server Group = {}", group.name));
        said.extend(group.members.iter().map(|member| match member {
            Members::Addresses(first, last, port) if first == last => {
                format!("VIP = {first}, VPORT = {port}")
            }
            Members::Addresses(first, last, port) => {
                format!("VIP Range = {first}-{last}, VPORT = {port}")
            }
            Members::Mark(mark, _) => format!("FWMARK = {mark}"),
        }));
    }
    for one in &configuration.services {
        service(&mut said, one);
    }
    for service in &configuration.services {
        for server in &service.servers {
            for one in &server.checkers {
                checker(&mut said, one);
            }
        }
    }
    for one in &configuration.instances {
        instance(&mut said, configuration, one);
    }
    for group in &configuration.sync_groups {
        said.push(format!("VRRP Sync Group = {}", group.name));
        said.extend(group.members.iter().cloned());
    }
    said
}

fn service(said: &mut Said, service: &Service) {
    said.push(match &service.target {
        Target::Address(address, port) => format!("VS VIP = {address}, VPORT = {port}"),
        Target::Mark(mark) => format!("VS FWMARK = {mark}"),
        Target::Group(name) => format!("VS GROUP = [{name}]:0"),
    });
    said.push(format!("lvs_sched = {}", service.scheduler));
    let on = |on| if on { "enabled" } else { "disabled" };
    said.push(format!(
        "One packet scheduling = {}",
        on(service.one_packet)
    ));
    if let Some(seconds) = service.persistence {
        said.push(format!("persistence timeout = {seconds}"));
    }
    if let Some(mask) = service.granularity {
        said.push(match service.is_ipv6 {
            true => format!("persistence granularity = {mask}"),
            false => format!(
                "persistence granularity = {}",
                IpAddr::from(mask.to_be_bytes())
            ),
        });
    }
    let is_mark = matches!(service.target, Target::Mark(_));
    said.push(format!(
        "protocol = {}",
        match service.protocol {
            _ if is_mark => "none",
            Protocol::Tcp => "TCP",
            Protocol::Udp => "UDP",
            Protocol::Sctp => "SCTP",
        }
    ));
    let upper = |on| if on { "ON" } else { "OFF" };
    said.push(format!("alpha is {}", upper(service.alpha)));
    said.push(format!("omega is {}", upper(service.omega)));
    said.push(format!(
        "quorum = {}, hysteresis = {}",
        service.quorum, service.hysteresis
    ));
    if let Some(sorry) = &service.sorry {
        let protocol = match service.protocol {
            _ if is_mark => "none",
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
            Protocol::Sctp => "sctp",
        };
        said.push(format!(
            "sorry server = [{}]:{protocol}:{}",
            sorry.address, sorry.port
        ));
        said.push(method(&sorry.method));
    }
    for one in &service.servers {
        server(said, one);
    }
}

fn server(said: &mut Said, server: &Server) {
    let Server {
        address,
        port,
        weight,
        upper,
        lower,
        ..
    } = server;
    said.push(format!(
        "RIP = {address}, RPORT = {port}, WEIGHT = {weight}"
    ));
    said.push(method(&server.method));
    said.push(format!(
        "Alpha is {}",
        if server.alpha { "ON" } else { "OFF" }
    ));
    said.push(format!("connection limit range = {lower} -> {upper}"));
    said.push(format!(
        "Delay loop = {:.6}",
        server.delay_loop.as_secs_f64()
    ));
}

fn method(method: &Method) -> String {
    let checksum = |checksum| match checksum {
        TunnelChecksum::None => "no checksum",
        TunnelChecksum::Full => "checksum",
        TunnelChecksum::Remote => "remote checksum",
    };
    let name = match (method.method, method.tunnel) {
        (ForwardingMethod::Masquerade, _) => "NAT".to_owned(),
        (ForwardingMethod::Direct, _) => "DR".to_owned(),
        (ForwardingMethod::Tunnel, TunnelType::Ipip) => "TUN, type = IPIP".to_owned(),
        (ForwardingMethod::Tunnel, TunnelType::Gue { port, checksum: c }) => {
            format!("TUN, type = GUE, port = {port}, {}", checksum(c))
        }
        (ForwardingMethod::Tunnel, TunnelType::Gre { checksum: c }) => {
            format!("TUN, type = GRE, {}", checksum(c))
        }
    };
    format!("forwarding method = {name}")
}

fn checker(said: &mut Said, checker: &Checker) {
    let timing = &checker.timing;
    let yes = |yes| if yes { "yes" } else { "no" };
    let micros = |time: Duration| format!("{} us", time.as_micros());
    said.push(format!("Alpha = {}", yes(timing.alpha)));
    if let Check::Bfd(session) = &checker.check {
        // It is told; what says when to look has no value there.
        said.extend(["Delay loop", "Warmup"].map(|what| format!("{what} = {} us", u64::MAX)));
        said.push(format!("Retries = {}", u32::MAX));
        said.push(format!("Delay before retry = {} us", u64::MAX));
        said.push("Keepalive method = BFD_CHECK".to_owned());
        said.push(format!("Name = {session}"));
        said.push(format!(
            "Alpha is {}",
            if timing.alpha { "ON" } else { "OFF" }
        ));
        return;
    }
    said.push(format!("Delay loop = {}", micros(timing.delay_loop)));
    said.push(format!("Warmup = {}", micros(timing.warmup)));
    said.push(format!("Retries = {}", timing.retry));
    // Without retries there is no delay before them.
    if timing.retry > 0 {
        said.push(format!(
            "Delay before retry = {}",
            micros(timing.delay_before_retry)
        ));
    }
    let name = |name: &str| format!("Keepalive method = {name}");
    match &checker.check {
        Check::Tcp(to) => {
            binding(said, to);
            said.push(name("TCP_CHECK"));
        }
        Check::Ping(to) => {
            binding(said, to);
            said.push(name("PING_CHECK"));
        }
        Check::Smtp(to, helo) => {
            binding(said, to);
            said.push(name("SMTP_CHECK"));
            said.push(format!("helo = {helo}"));
        }
        Check::Dns(to, query, domain) => {
            binding(said, to);
            said.push(name("DNS_CHECK"));
            said.push(format!("Type = {query}"));
            // The root is nothing to keepalived.
            let domain = if domain == "." { "" } else { domain };
            said.push(format!("Name = {domain}").trim().to_owned());
        }
        Check::Udp(to, probe) => {
            binding(said, to);
            said.push(name("UDP_CHECK"));
            if let Some(payload) = &probe.payload {
                said.push(format!("Payload len = {}", payload.len()));
            }
            said.push(format!("Require reply = {}", yes(probe.reply.is_some())));
            if probe.reply.is_some() {
                said.push(format!("Min reply length = {}", probe.least));
                said.push(format!("Max reply length = {}", probe.most));
            }
        }
        Check::Http(http) => {
            binding(said, &http.binding);
            let protocol = match http.protocol {
                HttpProtocol::V1 => "1.0",
                HttpProtocol::V1Close => "1.0C",
                HttpProtocol::V1_1 => "1.1",
            };
            let kind = if http.tls { "SSL_GET" } else { "HTTP_GET" };
            said.push(name(&format!("{kind}, http protocol {protocol}")));
            for url in &http.urls {
                said.push(format!("Checked url = {}", url.path));
                if let Some(digest) = url.digest {
                    let digest: String = digest.iter().map(|b| format!("{b:02x}")).collect();
                    said.push(format!("digest = {digest}"));
                }
                if let Some((regex, _)) = &url.regex {
                    said.push(format!("Regex = \"{regex}\""));
                }
            }
        }
        Check::Misc {
            timeout, dynamic, ..
        } => {
            said.push(name("MISC_CHECK"));
            said.push(format!("timeout = {}", timeout.map_or(0, |t| t.as_secs())));
            said.push(format!("dynamic = {}", if *dynamic { "YES" } else { "NO" }));
        }
        Check::File { .. } => said.push(name("FILE_CHECK")),
        Check::Bfd(_) => {}
    }
}

fn binding(said: &mut Said, binding: &Binding) {
    let Binding { address, port, .. } = binding;
    said.push(format!("Dest = [{address}]:{port}"));
    if let Some(source) = binding.source {
        said.push(format!(
            "Bind to = [{source}]:{}",
            binding.source_port.unwrap_or(0)
        ));
    }
    said.push(format!("Timeout = {:.6}", binding.timeout.as_secs_f64()));
}

fn instance(said: &mut Said, configuration: &Configuration, one: &Instance) {
    let is_ipv6 = one.addresses.first().is_some_and(|a| a.address.is_ipv6());
    let interface = one.interface.as_deref().unwrap_or_default();
    said.push(format!("VRRP Instance = {}", one.name));
    said.push(format!("VRRP Version = {}", one.version));
    // In a sync group nobody begins as master, unless all own their addresses.
    let mut groups = configuration.sync_groups.iter();
    let owns = |name: &String| {
        let mut instances = configuration.instances.iter();
        instances.any(|i| i.name == *name && i.priority == 255)
    };
    let held_back = groups.any(|g| g.members.contains(&one.name) && !g.members.iter().all(owns));
    let state = match one.begins_as_master && !held_back {
        true => "MASTER",
        false => "BACKUP",
    };
    said.push(format!("Wantstate = {state}"));
    said.push(format!("Interface = {interface}"));
    if one.peers.is_empty() {
        let global = &configuration.global;
        let group = if is_ipv6 {
            global.group_v6
        } else {
            global.group_v4
        };
        said.push(format!("Multicast address {}", one.group.unwrap_or(group)));
    }
    let announce = &one.announce;
    let seconds = |time: Duration| time.as_secs();
    said.push(format!(
        "Gratuitous ARP delay = {}",
        seconds(announce.delay)
    ));
    said.push(format!("Gratuitous ARP repeat = {}", announce.repeat));
    said.push(format!(
        "Gratuitous ARP refresh = {}",
        seconds(announce.refresh)
    ));
    said.push(format!(
        "Gratuitous ARP refresh repeat = {}",
        announce.refresh_repeat
    ));
    said.push(format!(
        "Gratuitous ARP lower priority delay = {}",
        seconds(announce.lower_delay)
    ));
    said.push(format!(
        "Gratuitous ARP lower priority repeat = {}",
        announce.lower_repeat
    ));
    said.push(format!("Down timer adverts = {}", one.down_adverts));
    said.push(format!(
        "Send advert after receive lower priority advert = {}",
        !one.lower_no_advert
    ));
    said.push(format!(
        "Send advert after receive higher priority advert = {}",
        one.higher_send_advert
    ));
    said.push(format!("Virtual Router ID = {}", one.vrid));
    said.push(format!("Priority = {}", one.priority));
    said.push(match one.version {
        2 => format!("Advert interval = {} sec", one.interval.as_secs()),
        _ => format!("Advert interval = {} ms", one.interval.as_millis()),
    });
    let on = |on| if on { "enabled" } else { "disabled" };
    said.push(format!("Accept = {}", on(one.accept)));
    said.push(format!("Preempt = {}", on(one.preempt)));
    if !one.preempt_delay.is_zero() {
        said.push(format!(
            "Preempt delay = {} secs",
            one.preempt_delay.as_secs_f64()
        ));
    }
    if one.version == 2 {
        match one.authentication {
            None => said.push("Authentication type = none".to_owned()),
            Some(Authentication::Header(_)) => {
                said.push("Authentication type = IPSEC_AH".to_owned());
            }
            Some(Authentication::Password(word)) => {
                said.push("Authentication type = SIMPLE_PASSWORD".to_owned());
                let word = String::from_utf8_lossy(&word);
                said.push(format!("Password = {}", word.trim_end_matches('\0')));
            }
        }
    }
    let line = |address: &VirtualAddress| {
        let full = if address.address.is_ipv4() { 32 } else { 128 };
        let prefix = match address.prefix {
            prefix if prefix == full => String::new(),
            prefix => format!("/{prefix}"),
        };
        let device = address.device.as_deref().unwrap_or(interface);
        format!("{}{prefix} dev {device}", address.address)
    };
    said.extend(one.addresses.iter().map(line));
    said.extend(one.excluded.iter().map(line));
    if !one.peers.is_empty() {
        let only = if one.only_peers { "yes" } else { "no" };
        said.push(format!("Check unicast src : {only}"));
        // Where one has limits, all are shown with theirs.
        let limited = one
            .peers
            .iter()
            .any(|p| (p.least_ttl, p.most_ttl) != (0, 255));
        said.extend(one.peers.iter().map(|peer| match limited {
            false => peer.address.to_string(),
            true => format!(
                "{} min_ttl {} max_ttl {}",
                peer.address, peer.least_ttl, peer.most_ttl
            ),
        }));
    }
}

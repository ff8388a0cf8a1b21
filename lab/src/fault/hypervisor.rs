//! Faults of the virtual switch: filters on the ports of guests.

use super::action::{feed, run, sysctl};
use super::nwfilter::Port;
use super::site::{DIRECTOR, GATEWAY, RS1, Site, VIP};
use super::{Blocker, Fault};

/// The director's port, of OpenStack's naming.
pub(crate) const TAP: &str = "tap0678bf1d-41";
/// How chains of that port are called.
const PORT_ID: &str = "0678bf1d-4";
/// No guest has it: what a domain's XML says after its guest chose another.
const OTHER_MAC: &str = "52:54:00:a7:5e:01";

pub(crate) fn faults() -> Vec<Fault> {
    vec![
        ip_spoof_director(),
        ip_spoof_real_server(),
        arp_spoof(),
        ip_spoof_vip(),
        mac_spoof(),
        port_security(),
        security_group(),
        stateful_director(),
        stateful_return(),
        cni_spoof(),
    ]
}

/// The director's port by direct routing, with addresses that ARP may announce.
fn director_port<'a>(site: &Site, arp: &'a [&'a str]) -> Port<'a> {
    Port {
        host: "host1",
        port: "vnet0",
        mac: site.mac("director", "eth0").to_string(),
        arp,
        ip: &[DIRECTOR],
    }
}

/// `clean-traffic` on a port where direct routing sends with the client's address.
pub(crate) fn blocked_director(site: &Site, arp: &[&str]) -> Blocker {
    let exception =
        format!("I-vnet0-ipv4-ip 1 -p IPv4 --ip-dst {VIP} --ip-proto tcp --ip-dport 80 -j RETURN");
    let mut blocker = Blocker::new(
        "HOST_IP_SPOOF_DIR",
        ("host1", "vnet0", "-A I-vnet0-ipv4-ip -j DROP"),
        vec![director_port(site, arp).clean_traffic()],
        vec![run("host1", &format!("ebtables -t nat -I {exception}"))],
    );
    let exception = exception.replacen(" 1 ", " ", 1);
    blocker.undo = vec![run("host1", &format!("ebtables -t nat -D {exception}"))];
    blocker
}

/// The same filter on the port of a real server, which answers with the VIP as its source.
pub(crate) fn blocked_real_server(site: &Site) -> Blocker {
    let port = Port {
        host: "host2",
        port: "vnet0",
        mac: site.mac("rs1", "eth0").to_string(),
        arp: &[RS1],
        ip: &[RS1],
    };
    let allowed = format!("-p IPv4 --ip-src {VIP} -j RETURN");
    let mut blocker = Blocker::new(
        "HOST_IP_SPOOF_RS",
        ("host2", "vnet0", "-A I-vnet0-ipv4-ip -j DROP"),
        vec![port.clean_traffic()],
        vec![run(
            "host2",
            &format!("ebtables -t nat -I I-vnet0-ipv4-ip 1 {allowed}"),
        )],
    );
    blocker.undo = vec![run(
        "host2",
        &format!("ebtables -t nat -D I-vnet0-ipv4-ip {allowed}"),
    )];
    blocker
}

fn ip_spoof_director() -> Fault {
    let site = Site::direct();
    let blocker = blocked_director(&site, &[DIRECTOR, VIP]);
    Fault::new(
        "HOST_IP_SPOOF_DIR",
        "libvirt's anti-spoofing drops what the director forwards with the client's address",
        site,
    )
    .blocked(blocker)
    .tempting(vec![run(
        "host1",
        &format!("ebtables -t nat -I I-vnet0-ipv4-ip 1 -p IPv4 --ip-src {VIP} -j RETURN"),
    )])
    .note("adding the VIP to the allowed addresses does not help: the source is the client's")
}

fn ip_spoof_real_server() -> Fault {
    let site = Site::direct();
    let blocker = blocked_real_server(&site);
    Fault::new(
        "HOST_IP_SPOOF_RS",
        "libvirt's anti-spoofing drops a real server's answers, whose source is the VIP",
        site,
    )
    .blocked(blocker)
}

/// A masquerading director of OpenStack, whose port is called as OpenStack calls it.
pub(crate) fn openstack_site() -> Site {
    Site::masquerade()
        .rename("host1", "vnet0", TAP)
        .with(quick_neighbours)
}

/// Has the gateway give up an address that nobody answers for in less than a second.
fn quick_neighbours(site: &mut Site) {
    site.at("gateway")
        .sysctl("net.ipv4.neigh.lan1.retrans_time_ms", "200");
}

fn openstack_port<'a>(site: &Site, arp: &'a [&'a str], ip: &'a [&'a str]) -> Port<'a> {
    Port {
        host: "host1",
        port: TAP,
        mac: site.mac("director", "eth0").to_string(),
        arp,
        ip,
    }
}

/// Nobody learns where the floated VIP is.
pub(crate) fn blocked_arp(site: &Site, ip: &[&str]) -> Blocker {
    let chain = format!("I-{TAP}-arp-ip");
    let allowed = format!("-p ARP --arp-ip-src {VIP} -j RETURN");
    let forget = run("gateway", "ip neighbour flush dev lan1");
    let mut blocker = Blocker::new(
        "HOST_ARP_SPOOF",
        ("host1", TAP, &format!("-A {chain} -j DROP")),
        vec![
            openstack_port(site, &[DIRECTOR], ip).clean_traffic(),
            forget.clone(),
        ],
        vec![run(
            "host1",
            &format!("ebtables -t nat -I {chain} 1 {allowed}"),
        )],
    );
    blocker.undo = vec![
        run("host1", &format!("ebtables -t nat -D {chain} {allowed}")),
        forget,
    ];
    blocker
}

/// The floated VIP is known, and nothing may come from it.
pub(crate) fn blocked_vip() -> Blocker {
    let chain = format!("I-{TAP}-ipv4-ip");
    let allowed = format!("-p IPv4 --ip-src {VIP} -j RETURN");
    let mut blocker = Blocker::new(
        "HOST_IP_SPOOF_VIP",
        ("host1", TAP, &format!("-A {chain} -j DROP")),
        Vec::new(),
        vec![run(
            "host1",
            &format!("ebtables -t nat -I {chain} 1 {allowed}"),
        )],
    );
    blocker.undo = vec![run(
        "host1",
        &format!("ebtables -t nat -D {chain} {allowed}"),
    )];
    blocker
}

fn arp_spoof() -> Fault {
    let site = openstack_site();
    let blocker = blocked_arp(&site, &[DIRECTOR, VIP]);
    Fault::new(
        "HOST_ARP_SPOOF",
        "the host drops ARP answers for a VIP that floated to its guest",
        site,
    )
    .blocked(blocker)
    .refused()
}

fn ip_spoof_vip() -> Fault {
    let site = openstack_site();
    let mut blocker = blocked_vip();
    blocker.breaks = vec![openstack_port(&site, &[DIRECTOR, VIP], &[DIRECTOR]).clean_traffic()];
    Fault::new(
        "HOST_IP_SPOOF_VIP",
        "the host lets its guest say by ARP that it has the VIP, and drops what it sends from it",
        site,
    )
    .blocked(blocker)
}

fn mac_spoof() -> Fault {
    let site = Site::direct().with(quick_neighbours);
    let mac = site.mac("director", "eth0");
    let rules = format!(
        "*nat\n:PREROUTING ACCEPT\n:OUTPUT ACCEPT\n:POSTROUTING ACCEPT\n:I-vnet0-mac ACCEPT\n\
         :libvirt-I-vnet0 ACCEPT\n-A PREROUTING -i vnet0 -j libvirt-I-vnet0\n\
         -A I-vnet0-mac -s {OTHER_MAC} -j RETURN\n-A I-vnet0-mac -j DROP\n\
         -A libvirt-I-vnet0 -j I-vnet0-mac\nCOMMIT\n"
    );
    let forget = run("gateway", "ip neighbour flush dev lan1");
    Fault::single(
        "HOST_MAC_SPOOF",
        "the director's hardware address is not the one that its host allows",
        site,
        ("host1", "vnet0", "-A I-vnet0-mac -j DROP"),
        vec![feed("host1", "ebtables-restore", &rules), forget.clone()],
        vec![run(
            "host1",
            &format!("ebtables -t nat -I I-vnet0-mac 1 -s {mac} -j RETURN"),
        )],
    )
    .undone_by(vec![
        run(
            "host1",
            &format!("ebtables -t nat -D I-vnet0-mac -s {mac} -j RETURN"),
        ),
        forget,
    ])
    .refused()
}

/// Direct routing on a host whose bridge calls iptables.
pub(crate) fn filtering_host(host: &str) -> Site {
    Site::direct().with(|site| {
        site.at(host)
            .sysctl("net.bridge.bridge-nf-call-iptables", "1");
    })
}

/// What OpenStack's agent writes for the director's port: allowed sources, and what may come in.
fn neutron(allowed: &[String], incoming: &str) -> String {
    let name = |chain: &str| format!("neutron-linuxbri-{chain}");
    let own = |direction: char| format!("neutron-linuxbri-{direction}{PORT_ID}");
    let [outgoing, source, inside] = ['o', 's', 'i'].map(own);
    let mut lines = vec![
        "*filter".to_owned(),
        ":INPUT ACCEPT".to_owned(),
        ":FORWARD ACCEPT".to_owned(),
        ":OUTPUT ACCEPT".to_owned(),
    ];
    let chains = [
        &name("FORWARD"),
        &name("sg-chain"),
        &name("sg-fallback"),
        &outgoing,
        &source,
        &inside,
    ];
    for chain in chains {
        lines.push(format!(":{chain} -"));
    }
    let mut rule = |chain: &str, rest: String| lines.push(format!("-A {chain} {rest}"));
    rule("FORWARD", format!("-j {}", name("FORWARD")));
    for way in ["out", "in"] {
        let test = format!("-m physdev --physdev-{way} {TAP} --physdev-is-bridged");
        rule(
            &name("FORWARD"),
            format!(
                "{test} -m comment --comment \"Direct traffic from the VM interface to the \
                 security group chain.\" -j {}",
                name("sg-chain")
            ),
        );
    }
    for (way, chain) in [("out", &inside), ("in", &outgoing)] {
        let test = format!("-m physdev --physdev-{way} {TAP} --physdev-is-bridged");
        rule(&name("sg-chain"), format!("{test} -j {chain}"));
    }
    rule(&name("sg-chain"), "-j ACCEPT".to_owned());
    let dhcp = "-s 0.0.0.0/32 -d 255.255.255.255/32 -p udp -m udp --sport 68 --dport 67 -j RETURN";
    rule(&outgoing, dhcp.to_owned());
    rule(&outgoing, format!("-j {source}"));
    let server = "-p udp -m udp --sport 67 --dport 68 -j DROP";
    rule(&outgoing, server.to_owned());
    rule(&outgoing, "-j RETURN".to_owned());
    for pair in allowed {
        rule(&source, format!("{pair} -j RETURN"));
    }
    rule(
        &source,
        "-m comment --comment \"Drop traffic without an IP/MAC allow rule.\" -j DROP".to_owned(),
    );
    rule(&inside, "-p icmp -j RETURN".to_owned());
    if !incoming.is_empty() {
        rule(&inside, format!("{incoming} -j RETURN"));
    }
    rule(&inside, format!("-j {}", name("sg-fallback")));
    rule(&name("sg-fallback"), "-j DROP".to_owned());
    lines.push("COMMIT\n".to_owned());
    lines.join("\n")
}

fn port_security() -> Fault {
    let site = filtering_host("host1").rename("host1", "vnet0", TAP);
    let mac = site.mac("director", "eth0");
    let pair = |address: &str| format!("-s {address}/32 -m mac --mac-source {mac}");
    let rules = neutron(&[pair(DIRECTOR), pair(VIP)], "-p tcp -m tcp --dport 80");
    let chain = format!("neutron-linuxbri-s{PORT_ID}");
    let anything = format!("-m mac --mac-source {mac} -j RETURN");
    Fault::single(
        "NEUTRON_PORT_SECURITY",
        "OpenStack's port security drops what the director forwards with the client's address",
        site,
        (
            "host1",
            TAP,
            &format!(
                "-A {chain} -m comment --comment \"Drop traffic without an IP/MAC allow rule.\" \
                 -j DROP"
            ),
        ),
        vec![feed("host1", "iptables-restore", &rules)],
        vec![run("host1", &format!("iptables -I {chain} 1 {anything}"))],
    )
    .undone_by(vec![run(
        "host1",
        &format!("iptables -D {chain} {anything}"),
    )])
    .note("an allowed address pair for the VIP is there and does not help a director")
}

fn security_group() -> Fault {
    let site = filtering_host("host1").rename("host1", "vnet0", TAP);
    let mac = site.mac("director", "eth0");
    let rules = neutron(&[format!("-m mac --mac-source {mac}")], "");
    let chain = format!("neutron-linuxbri-i{PORT_ID}");
    let web = "-p tcp -m tcp --dport 80 -j RETURN";
    Fault::single(
        "SG_INGRESS",
        "the security group of the director's port does not let the service's port in",
        site,
        ("host1", TAP, "-A neutron-linuxbri-sg-fallback -j DROP"),
        vec![feed("host1", "iptables-restore", &rules)],
        vec![run("host1", &format!("iptables -I {chain} 1 {web}"))],
    )
    .undone_by(vec![run("host1", &format!("iptables -D {chain} {web}"))])
}

fn stateful_director() -> Fault {
    let untracked = format!("PREROUTING -d {VIP} -p tcp --dport 80 -j CT --notrack");
    Fault::single(
        "STATEFUL_ASYM_DIR",
        "a stateful rule on the director's host never sees answers, and calls the client's \
         second packet invalid",
        filtering_host("host1"),
        (
            "host1",
            "vnet0",
            "-A FORWARD -m conntrack --ctstate INVALID -j DROP",
        ),
        vec![
            run(
                "host1",
                "iptables -A FORWARD -m conntrack --ctstate INVALID -j DROP",
            ),
            sysctl("host1", "net.netfilter.nf_conntrack_tcp_loose", "0"),
        ],
        vec![run("host1", &format!("iptables -t raw -I {untracked}"))],
    )
    .undone_by(vec![run(
        "host1",
        &format!("iptables -t raw -D {untracked}"),
    )])
    .tempting(vec![run(
        "host1",
        "iptables -I FORWARD -m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT",
    )])
    .note("the client connects, then hangs")
}

fn stateful_return() -> Fault {
    let site = Site::direct().with(|site| {
        site.node("firewall", pointsman_path::topology::Role::Gateway)
            .sysctl("net.ipv4.ip_forward", "1");
        site.cable(("firewall", "lan1", None), ("switch", "fw", Some("br0")));
        site.cable(("client", "eth1", None), ("firewall", "lan0", None));
        site.at("firewall")
            .address("lan1", "198.51.100.2/24")
            .address("lan0", "192.0.2.2/24")
            .line("route add 192.0.2.10/32 dev lan0");
        site.at("rs1")
            .line(&format!("route del default via {GATEWAY}"))
            .default_via("198.51.100.2");
    });
    let untracked = format!("PREROUTING -s {VIP} -p tcp --sport 80 -j CT --notrack");
    Fault::single(
        "STATEFUL_ASYM_RETURN",
        "a stateful firewall on the way back never saw the request, and calls the answer invalid",
        site,
        (
            "firewall",
            "lan1",
            "-A FORWARD -m conntrack --ctstate INVALID -j DROP",
        ),
        vec![run(
            "firewall",
            "iptables -A FORWARD -m conntrack --ctstate INVALID -j DROP",
        )],
        vec![run("firewall", &format!("iptables -t raw -I {untracked}"))],
    )
    .undone_by(vec![run(
        "firewall",
        &format!("iptables -t raw -D {untracked}"),
    )])
}

fn cni_spoof() -> Fault {
    let site = Site::direct().with(quick_neighbours);
    let mac = site.mac("director", "eth0");
    let chain = "cni-br-iface-e3b0c442";
    // As the bridge plugin of CNI writes it.
    let rules = format!(
        "table bridge nat\nflush table bridge nat\ntable bridge nat {{\n\
         \tchain PREROUTING {{\n\t\ttype filter hook prerouting priority -300; policy accept;\n\
         \t\tiifname \"vnet0\" counter jump {chain} comment \"macspoofchk-e3b0c442\"\n\t}}\n\
         \tchain {chain} {{\n\t\tcounter jump {chain}-mac comment \"macspoofchk-e3b0c442\"\n\t}}\n\
         \tchain {chain}-mac {{\n\
         \t\tether saddr {OTHER_MAC} counter return comment \"macspoofchk-e3b0c442\"\n\
         \t\tcounter drop comment \"macspoofchk-e3b0c442\"\n\t}}\n}}\n"
    );
    let forget = run("gateway", "ip neighbour flush dev lan1");
    Fault::single(
        "CNI_EBTABLES",
        "the network plugin's check of hardware addresses drops what the director sends",
        site,
        (
            "host1",
            "vnet0",
            &format!("bridge nat {chain}-mac: drop comment \"macspoofchk-e3b0c442\""),
        ),
        vec![feed("host1", "nft -f -", &rules), forget],
        vec![run(
            "host1",
            &format!("nft insert rule bridge nat {chain}-mac ether saddr {mac} counter return"),
        )],
    )
    .refused()
}

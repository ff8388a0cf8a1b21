//! Healthy labs that look suspicious: what a doctor must not take for a fault.

use super::action::{feed, run, sysctl};
use super::hypervisor::filtering_host;
use super::identity::with_stray;
use super::site::{DIRECTOR, GATEWAY, RS1, SERVICE, Site, VIP};
use super::{Fault, action};

pub(crate) fn quirks() -> Vec<Fault> {
    vec![
        quirk("direct", "direct routing as it should be", Site::direct()),
        quirk(
            "direct-local",
            "direct routing with the client on the servers' network",
            Site::direct_local(),
        ),
        quirk(
            "two-networks",
            "direct routing to servers that answer by another network",
            Site::two_networks(),
        ),
        quirk("tunnel", "a tunnel as it should be", Site::tunnel()),
        quirk(
            "masquerade",
            "masquerade as it should be",
            Site::masquerade(),
        ),
        quirk(
            "one-armed",
            "masquerade on one network, with the director as the server's gateway",
            Site::one_armed(true),
        ),
        quirk(
            "cluster",
            "a service of Kubernetes with a guest of the host behind it",
            super::kubernetes::with_programs(),
        ),
        quirk(
            "vrrp",
            "two directors of which one is the master",
            super::identity::virtual_routers(),
        ),
        quirk(
            "symmetric-rp-filter",
            "strict reverse-path check where requests come and answers leave",
            Site::direct().with(|site| {
                site.last
                    .push(sysctl("rs1", "net.ipv4.conf.eth0.rp_filter", "1"));
            }),
        ),
        quirk(
            "loose-rp-filter",
            "loose reverse-path check where answers leave elsewhere",
            Site::two_networks().with(|site| {
                site.last
                    .push(sysctl("rs1", "net.ipv4.conf.eth1.rp_filter", "2"));
            }),
        ),
        quirk(
            "arp-ignore-2",
            "real server with arp_ignore 2",
            Site::direct().with(|site| {
                site.last
                    .push(sysctl("rs1", "net.ipv4.conf.all.arp_ignore", "2"));
            }),
        ),
        quirk(
            "unused-bridge",
            "a bridge nobody uses, its port without hairpin and isolated",
            Site::direct().with(|site| {
                site.at("host1")
                    .line("link add dev br9 type bridge")
                    .line("link add dev unused0 type veth peer name unused1")
                    .line("link set dev unused0 master br9")
                    .line("link set dev unused0 type bridge_slave isolated on");
            }),
        ),
        quirk(
            "other-drop",
            "rules that drop what comes from another address",
            Site::direct().with(|site| {
                let rule = "-A I-vnet0-ipv4-ip -p IPv4 --ip-src 198.51.100.9 -j DROP";
                let rules = format!(
                    "*nat\n:PREROUTING ACCEPT\n:OUTPUT ACCEPT\n:POSTROUTING ACCEPT\n\
                     :I-vnet0-ipv4-ip ACCEPT\n-A PREROUTING -i vnet0 -j I-vnet0-ipv4-ip\n\
                     {rule}\nCOMMIT\n"
                );
                site.last.push(feed("host1", "ebtables-restore", &rules));
            }),
        ),
        quirk(
            "mended-filter",
            "the director's port has clean-traffic with the exception for the service",
            Site::direct().with(|site| {
                let blocker = super::hypervisor::blocked_director(site, &[DIRECTOR, VIP]);
                site.last.extend(blocker.breaks);
                site.last.extend(blocker.cure);
            }),
        ),
        quirk(
            "other-service",
            "a second virtual service without real servers, on another port",
            Site::direct().with(|site| {
                site.services.push(format!("-A -t {VIP}:8443 -s rr"));
            }),
        ),
        quirk(
            "spare-weight-0",
            "a second real server of the service is quiesced and down",
            Site::direct().with(|site| {
                let spare = "198.51.100.228";
                site.machine("rs2", pointsman_path::topology::Role::RealServer, "rs2")
                    .address("eth0", &format!("{spare}/24"))
                    .default_via(GATEWAY)
                    .has_vip();
                site.services
                    .push(format!("-a -t {SERVICE} -r {spare} -g -w 0"));
            }),
        ),
        quirk(
            "jumbo",
            "MTU 9000 everywhere",
            Site::direct().with(|site| {
                let ends = site.cables.clone();
                for end in ends.iter().flatten() {
                    let line = format!("link set dev {} mtu 9000", end.port);
                    site.at(end.node).line(&line);
                }
            }),
        ),
        quirk(
            "symmetric-invalid-drop",
            "a stateful host that sees both directions of a masqueraded connection",
            Site::masquerade().with(|site| {
                site.at("host1")
                    .sysctl("net.bridge.bridge-nf-call-iptables", "1");
                site.last.push(run(
                    "host1",
                    "iptables -A FORWARD -p tcp -m physdev --physdev-in eth0 \
                     -m conntrack --ctstate INVALID -j DROP",
                ));
            }),
        ),
        quirk(
            "notracked-invalid-drop",
            "a stateful host that does not track the service",
            filtering_host("host1").with(|site| {
                for rule in [
                    format!("iptables -t raw -A PREROUTING -d {VIP} -j CT --notrack"),
                    "iptables -A FORWARD -m conntrack --ctstate INVALID -j DROP".to_owned(),
                ] {
                    site.last.push(run("host1", &rule));
                }
            }),
        ),
        quirk(
            "uncalled-iptables",
            "a policy that drops forwarded packets on a host whose bridge does not call iptables",
            Site::direct().with(|site| {
                site.last.push(run("host1", "iptables -P FORWARD DROP"));
            }),
        ),
        quirk(
            "idle-machine",
            "a machine with ip_forward and proxy ARP switched off that has nothing to do with it",
            with_stray(Site::direct()).with(|site| {
                site.last
                    .push(action::sysctl("stray", "net.ipv4.ip_forward", "1"));
            }),
        ),
        quirk(
            "server-filter",
            "a real server's filter that lets the VIP in",
            Site::direct().with(|site| {
                for rule in [
                    format!("INPUT -d {VIP}/32 -p tcp --dport 80 -j ACCEPT"),
                    format!("INPUT -d {RS1}/32 -p tcp --dport 22 -j ACCEPT"),
                    "INPUT -p tcp -j DROP".to_owned(),
                ] {
                    site.last.push(run("rs1", &format!("iptables -A {rule}")));
                }
            }),
        ),
    ]
}

fn quirk(name: &'static str, title: &'static str, site: Site) -> Fault {
    Fault::new(name, title, site)
}

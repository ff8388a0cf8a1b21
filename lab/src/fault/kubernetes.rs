//! Faults of hosts that are nodes of Kubernetes too.

use std::net::{Ipv4Addr, SocketAddrV4};

use pointsman_path::topology::Role;

use super::action::{Action, feed, run, sysctl};
use super::hypervisor::filtering_host;
use super::identity::with_stray;
use super::site::{Need, Site, VIP, server};
use super::{Blocker, Fault};

/// The guest's port of Harvester's bridge.
const PORT: &str = "veth2db2ad9c";
/// The guest.
const GUEST: &str = "172.16.178.178";
/// The service's address in the cluster.
const CLUSTER_IP: &str = "10.43.113.238";

pub(crate) fn faults() -> Vec<Fault> {
    vec![
        bridge_denat(),
        bridge_unnat(),
        docker_policy(),
        kube_invalid(),
        no_endpoint(),
        strict_arp(),
    ]
}

/// A node of Harvester: its own traffic leaves by `mgmt0`, its guests are on a bridge of `eth1`, in
/// VLAN 178.
///
/// ```text
/// host mgmt0 -- lan0 gateway lan1 -- eth1 host (harvester-br0) veth2db2ad9c -- rs1
/// ```
///
/// The last word is to tag frames: what comes in by `eth1` is tagged, and what the guest sends is not.
fn harvester(gateway_port: &str, tag: impl FnOnce(&mut Site)) -> Site {
    let mut site = Site::direct();
    site.nodes.clear();
    site.cables.clear();
    site.processes.clear();
    site.services.clear();
    site.director = None;
    site.asker = "host";
    site.client = Ipv4Addr::new(172, 16, 0, 57);
    site.vip = SocketAddrV4::new(Ipv4Addr::new(10, 43, 113, 238), 80);
    site.node("host", Role::Host).bridges.push("harvester-br0");
    site.node("gateway", Role::Gateway)
        .sysctl("net.ipv4.ip_forward", "1");
    site.node("rs1", Role::RealServer);
    site.cable(("host", "mgmt0", None), ("gateway", "lan0", None));
    let bridge = Some("harvester-br0");
    site.cable(("host", "eth1", bridge), ("gateway", "lan1", None));
    site.cable(("rs1", "eth0", None), ("host", PORT, bridge));
    tag(&mut site);
    site.at("host")
        .address("mgmt0", "172.16.0.57/24")
        .default_via("172.16.0.1");
    site.at("gateway")
        .address("lan0", "172.16.0.1/24")
        .address(gateway_port, "172.16.178.1/24");
    site.at("rs1")
        .address("eth0", &format!("{GUEST}/24"))
        .default_via("172.16.178.1");
    site.processes.push(server("rs1"));
    let rules = kube_proxy();
    site.last.push(feed("host", "iptables-restore", &rules));
    site
}

/// As it is: the bridge filters VLANs, and the guest's frames get their tag inside it.
fn with_vlans() -> Site {
    harvester("lan1.178", |site| {
        site.needs.push(Need::Vlans);
        site.at("gateway")
            .line("link add link lan1 name lan1.178 type vlan id 178")
            .line("link set dev lan1.178 up");
        site.at("host")
            .line("link set dev harvester-br0 type bridge vlan_filtering 1 vlan_default_pvid 0");
        for vlan in [
            "dev eth1 vid 178".to_owned(),
            format!("dev {PORT} vid 178 pvid untagged"),
        ] {
            site.last
                .push(run("host", &format!("bridge vlan add {vlan}")));
        }
    })
}

/// Where the kernel has no VLANs: programs tag what leaves by `eth1`, and take tags off at the guest's
/// port. So the guest's frames are tagged later than in reality, behind POSTROUTING.
pub(crate) fn with_programs() -> Site {
    harvester("lan1", |site| {
        for (node, device, sent, vlan) in [
            ("host", "eth1", true, Some(178)),
            ("host", PORT, true, None),
            ("gateway", "lan1", false, None),
            ("gateway", "lan1", true, Some(178)),
        ] {
            site.last.push(Action::Tag {
                node,
                device,
                sent,
                vlan,
            });
        }
    })
}

/// What kube-proxy writes for a service with one endpoint, the guest.
fn kube_proxy() -> String {
    let (service, endpoint) = ("KUBE-SVC-DB9BDCA5NGINXLB0", "KUBE-SEP-ZQ4NGINXVM178178");
    let name = "-m comment --comment \"default/nginx-lb:http cluster IP\"";
    let mut lines = vec!["*nat".to_owned()];
    for chain in ["PREROUTING", "INPUT", "OUTPUT", "POSTROUTING"] {
        lines.push(format!(":{chain} ACCEPT"));
    }
    for chain in [
        "KUBE-MARK-MASQ",
        "KUBE-POSTROUTING",
        "KUBE-SERVICES",
        service,
        endpoint,
    ] {
        lines.push(format!(":{chain} -"));
    }
    let portals = "-m comment --comment \"kubernetes service portals\" -j KUBE-SERVICES";
    for rule in [
        format!("PREROUTING {portals}"),
        format!("OUTPUT {portals}"),
        "POSTROUTING -m comment --comment \"kubernetes postrouting rules\" -j KUBE-POSTROUTING"
            .to_owned(),
        format!("KUBE-SERVICES -d {CLUSTER_IP}/32 -p tcp {name} -m tcp --dport 80 -j {service}"),
        format!(
            "{service} ! -s 10.42.0.0/16 -d {CLUSTER_IP}/32 -p tcp {name} -m tcp --dport 80 \
             -j KUBE-MARK-MASQ"
        ),
        format!("{service} -m comment --comment \"default/nginx-lb:http\" -j {endpoint}"),
        format!("{endpoint} -s {GUEST}/32 -j KUBE-MARK-MASQ"),
        format!("{endpoint} -p tcp -m tcp -j DNAT --to-destination {GUEST}:80"),
        "KUBE-MARK-MASQ -j MARK --set-xmark 0x4000/0x4000".to_owned(),
        "KUBE-POSTROUTING -m mark ! --mark 0x4000/0x4000 -j RETURN".to_owned(),
        "KUBE-POSTROUTING -j MARK --set-xmark 0x4000/0x0".to_owned(),
        "KUBE-POSTROUTING -m comment --comment \"kubernetes service traffic requiring SNAT\" \
         -j MASQUERADE --random-fully"
            .to_owned(),
    ] {
        lines.push(format!("-A {rule}"));
    }
    lines.push("COMMIT\n".to_owned());
    lines.join("\n")
}

/// The bridge's packets are given to iptables, which un-NATs answers that are still on their way.
pub(crate) fn unnat(code: &'static str) -> Blocker {
    let key = "net.bridge.bridge-nf-call-iptables";
    Blocker::new(
        code,
        ("host", PORT, &format!("{key} = 1")),
        vec![sysctl("host", key, "1")],
        vec![sysctl("host", key, "0")],
    )
}

fn bridge_denat() -> Fault {
    Fault::new(
        "BR_NF_DESNAT",
        "the port of a guest's answer is translated back while it crosses the host's bridge, and \
         nobody has it when it comes by the gateway",
        with_vlans(),
    )
    .blocked(unnat("BR_NF_DESNAT"))
    .note("requests are tagged and pass the bridge untouched; the connection stays in SYN_RECV")
}

fn bridge_unnat() -> Fault {
    Fault::new(
        "BR_NF_FULL_UNNAT",
        "a guest's answer is translated back while it crosses the host's bridge, addresses too",
        with_programs(),
    )
    .blocked(unnat("BR_NF_FULL_UNNAT"))
    // What kube-proxy leaves out without --cluster-cidr; it does cure where the bridge tags earlier.
    .tempting(vec![run(
        "host",
        "iptables -t nat -D KUBE-SVC-DB9BDCA5NGINXLB0 1",
    )])
    .note("the answer comes by the gateway from the service's own address")
}

fn docker_policy() -> Fault {
    let rules = "*filter\n:INPUT ACCEPT\n:FORWARD DROP\n:OUTPUT ACCEPT\n:DOCKER-USER -\n\
                 :DOCKER-FORWARD -\n-A FORWARD -j DOCKER-USER\n-A FORWARD -j DOCKER-FORWARD\n\
                 -A DOCKER-USER -j RETURN\nCOMMIT\n";
    let accept = "DOCKER-USER -m physdev --physdev-is-bridged -j ACCEPT";
    Fault::single(
        "DOCKER_FORWARD_DROP",
        "Docker's policy for forwarded packets holds for bridged ones too",
        filtering_host("host1"),
        ("host1", "vnet0", "-P FORWARD DROP"),
        vec![feed("host1", "iptables-restore", rules)],
        vec![run("host1", &format!("iptables -I {accept}"))],
    )
    .undone_by(vec![run("host1", &format!("iptables -D {accept}"))])
}

fn kube_invalid() -> Fault {
    let rules = "*filter\n:INPUT ACCEPT\n:FORWARD ACCEPT\n:OUTPUT ACCEPT\n:KUBE-FORWARD -\n\
                 -A FORWARD -m comment --comment \"kubernetes forwarding rules\" -j KUBE-FORWARD\n\
                 -A KUBE-FORWARD -m conntrack --ctstate INVALID -j DROP\nCOMMIT\n";
    let untracked = format!("PREROUTING -d {VIP} -p tcp --dport 80 -j CT --notrack");
    Fault::single(
        "KUBE_INVALID_DROP",
        "kube-proxy's rule against invalid packets meets connections whose answers it never sees",
        filtering_host("host1"),
        (
            "host1",
            "vnet0",
            "-A KUBE-FORWARD -m conntrack --ctstate INVALID -j DROP",
        ),
        vec![feed("host1", "iptables-restore", rules)],
        vec![run("host1", &format!("iptables -t raw -I {untracked}"))],
    )
    .undone_by(vec![run(
        "host1",
        &format!("iptables -t raw -D {untracked}"),
    )])
    .note("the client connects, then hangs")
}

fn no_endpoint() -> Fault {
    let rules = format!(
        "*filter\n:INPUT ACCEPT\n:FORWARD ACCEPT\n:OUTPUT ACCEPT\n:KUBE-SERVICES -\n\
         -A OUTPUT -m conntrack --ctstate NEW -m comment --comment \
         \"kubernetes service portals\" -j KUBE-SERVICES\n\
         -A KUBE-SERVICES -d {CLUSTER_IP}/32 -p tcp -m comment --comment \
         \"default/nginx-lb:http has no endpoints\" -m tcp --dport 80 -j REJECT \
         --reject-with icmp-port-unreachable\nCOMMIT\n"
    );
    Fault::single(
        "KUBE_NO_ENDPOINT",
        "kube-proxy knows no endpoint of the service and refuses requests",
        with_programs(),
        (
            "host",
            "mgmt0",
            &format!(
                "-A KUBE-SERVICES -d {CLUSTER_IP}/32 -p tcp -m comment --comment \
                 \"default/nginx-lb:http has no endpoints\" -m tcp --dport 80 -j REJECT \
                 --reject-with icmp-port-unreachable"
            ),
        ),
        vec![
            run("host", "iptables -t nat -F KUBE-SERVICES"),
            feed("host", "iptables-restore", &rules),
        ],
        vec![
            run("host", "iptables -F KUBE-SERVICES"),
            feed("host", "iptables-restore", &kube_proxy()),
        ],
    )
    .refused()
}

fn strict_arp() -> Fault {
    let site = with_stray(Site::direct()).with(|site| {
        // A bridge without ports stands for the dummy device, which not every kernel has.
        site.at("stray")
            .line("link add dev kube-ipvs0 type bridge")
            .address("kube-ipvs0", &format!("{VIP}/32"))
            .sysctl("net.ipv4.conf.all.arp_ignore", "1")
            .sysctl("net.ipv4.conf.all.arp_announce", "2");
    });
    let forget = run("gateway", "ip neighbour flush dev lan1");
    let key = "net.ipv4.conf.all.arp_ignore";
    Fault::single(
        "IPVS_STRICT_ARP",
        "a node whose kube-proxy uses IPVS without strictARP answers for the VIP on kube-ipvs0",
        site,
        ("stray", "eth0", &format!("{key} = 0")),
        vec![sysctl("stray", key, "0"), forget.clone()],
        vec![sysctl("stray", key, "1"), forget],
    )
    .refused()
}

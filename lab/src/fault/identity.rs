//! Faults of who says to have the VIP, and of the network between neighbours.

use super::Fault;
use pointsman_path::topology::Role;

use super::action::{Action, attempt, ipvsadm, run, spawn, sysctl};
use super::site::{GATEWAY, Need, REMOTE_RS1, RS2, SERVICE, Site, VIP};

pub(crate) fn faults() -> Vec<Fault> {
    vec![
        arp_flux(),
        arp_announce(),
        duplicate(),
        vrrp_split(),
        stale_neighbour(),
        mac_flap(),
        hairpin(),
        isolated(),
        vlan(),
        not_adjacent(),
    ]
}

/// The gateway asks anew where everybody is.
fn forget() -> Action {
    run("gateway", "ip neighbour flush dev lan1")
}

/// With a second real server on a port of the switch itself, so that its ARP answers come first. It
/// has the VIP and does not serve: it is being repaired.
fn idle_server() -> Site {
    Site::direct().with(|site| {
        let own = format!("{RS2}/24");
        site.machine("rs2", Role::RealServer, "rs2")
            .address("eth0", &own)
            .default_via(GATEWAY)
            .has_vip();
    })
}

fn arp_flux() -> Fault {
    Fault::single(
        "ARP_FLUX_RS",
        "a real server answers ARP requests for the VIP, before the director",
        idle_server(),
        ("rs2", "eth0", "net.ipv4.conf.all.arp_ignore = 0"),
        vec![sysctl("rs2", "net.ipv4.conf.all.arp_ignore", "0"), forget()],
        vec![sysctl("rs2", "net.ipv4.conf.all.arp_ignore", "1"), forget()],
    )
    .refused()
    .tempting(vec![forget()])
    .note("the director sees nothing; were rs2 serving, only the balance would be wrong")
}

fn arp_announce() -> Fault {
    Fault::single(
        "ARP_ANNOUNCE_RS",
        "a real server asks for its gateway with the VIP as sender, and so announces the VIP",
        idle_server(),
        ("rs2", "eth0", "net.ipv4.conf.all.arp_announce = 0"),
        vec![sysctl("rs2", "net.ipv4.conf.all.arp_announce", "0")],
        vec![
            sysctl("rs2", "net.ipv4.conf.all.arp_announce", "2"),
            forget(),
        ],
    )
    .before(vec![
        run("rs2", "ip neighbour flush dev eth0"),
        attempt("rs2", &format!("ping -q -c 1 -W 0.1 -I {VIP} {GATEWAY}")),
    ])
    .refused()
    .note("each time rs2 sends from the VIP and must ask where the gateway is")
}

/// With a machine that balanced once.
pub(crate) fn with_stray(site: Site) -> Site {
    site.with(|site| {
        site.machine("stray", Role::Other, "st")
            .address("eth0", "198.51.100.240/24")
            .default_via(GATEWAY);
    })
}

fn duplicate() -> Fault {
    let address = format!("{VIP}/32 dev eth0");
    Fault::single(
        "DUP_VIP",
        "a second machine has the VIP and answers ARP requests for it",
        with_stray(Site::direct()),
        ("stray", "eth0", &format!("inet {VIP}/32 eth0")),
        vec![run("stray", &format!("ip address add {address}")), forget()],
        vec![run("stray", &format!("ip address del {address}")), forget()],
    )
    .refused()
    .tempting(vec![forget()])
}

/// What keepalived is told on a director: the higher priority is the master.
fn virtual_router(priority: u8, refresh: u8) -> String {
    // Fifths of a second, so that nobody waits long.
    format!(
        "global_defs {{\n  vrrp_version 3\n}}\nvrrp_instance vip {{\n  state BACKUP\n  \
         interface eth0\n  virtual_router_id 51\n  priority {priority}\n  advert_int 0.2\n  \
         garp_master_refresh {refresh}\n  virtual_ipaddress {{\n    {VIP}/32 dev eth0\n  }}\n}}\n"
    )
}

/// Two directors that agree by VRRP which of them has the VIP.
pub(crate) fn virtual_routers() -> Site {
    let mut site = Site::direct();
    site.needs.push(Need::Keepalived);
    let vip = format!("address add {VIP}/32 dev eth0");
    site.at("director").lines.retain(|line| *line != vip);
    site.guest("backup", Role::Director, "host2", "vnet1")
        .address("eth0", "198.51.100.201/24")
        .default_via(GATEWAY);
    // Of two masters the gateway believes who spoke last; here it is the backup.
    for (node, file, priority, refresh) in [
        ("director", "director.conf", 150, 0),
        ("backup", "backup.conf", 100, 1),
    ] {
        site.last.push(Action::Write {
            name: file,
            text: virtual_router(priority, refresh),
        });
        let command = format!(
            "keepalived --dont-fork --vrrp --use-file @files/{file} --pid @files/{node}.pid \
             --vrrp_pid @files/{node}-vrrp.pid"
        );
        site.last.push(spawn(node, node, &command));
    }
    site
}

fn vrrp_split() -> Fault {
    let rule = "FORWARD -p IPv4 --ip-proto 112 -j DROP";
    Fault::single(
        "VRRP_SPLIT",
        "advertisements do not arrive, and both directors believe that they are the master",
        virtual_routers(),
        (
            "host2",
            "vnet1",
            "-A FORWARD -p IPv4 --ip-proto vrrp -j DROP",
        ),
        vec![run("host2", &format!("ebtables -A {rule}"))],
        vec![
            run("host2", &format!("ebtables -D {rule}")),
            // The gateway must not learn from a backup that has not given way yet.
            attempt(
                "backup",
                &format!(
                    "timeout 5 sh -c 'while ip -o address show dev eth0 | grep -q {VIP}; \
                     do sleep 0.1; done'"
                ),
            ),
            forget(),
        ],
    )
    .refused()
    .note("the backup has no virtual service; with one, connections would be split")
}

fn stale_neighbour() -> Fault {
    let site = with_stray(Site::direct());
    let old = site.mac("stray", "eth0");
    let entry = format!("{VIP} lladdr {old} dev lan1");
    Fault::single(
        "STALE_NEIGH",
        "the gateway sends to the machine that had the VIP before",
        site,
        ("gateway", "lan1", &format!("{entry} PERMANENT")),
        vec![run(
            "gateway",
            &format!("ip neighbour replace {entry} nud permanent"),
        )],
        vec![run("gateway", &format!("ip neighbour del {VIP} dev lan1"))],
    )
}

fn mac_flap() -> Fault {
    let site = with_stray(Site::direct());
    let own = site.mac("stray", "eth0");
    let director = site.mac("director", "eth0");
    let speak = |node| attempt(node, &format!("ping -q -c 1 -W 0.1 {GATEWAY}"));
    Fault::single(
        "MAC_FLAP",
        "two machines have the same hardware address, and the switch follows who spoke last",
        site,
        ("switch", "st", &format!("{director} dev st master br0")),
        vec![run(
            "stray",
            &format!("ip link set dev eth0 address {director}"),
        )],
        vec![
            run("stray", &format!("ip link set dev eth0 address {own}")),
            speak("director"),
        ],
    )
    .before(vec![speak("stray")])
}

/// Director and real server are guests of a guest: both behind one port of the host, and the inner
/// hypervisor leaves switching to the host (VEPA).
fn nested() -> Site {
    let mut site = Site::direct();
    let macs = ["director", "rs1"].map(|node| site.mac(node, "eth0"));
    site.cables.retain(|ends| {
        !ends
            .iter()
            .any(|end| matches!(end.node, "director" | "rs1"))
    });
    site.node("nested", Role::Other);
    site.cable(("nested", "eth0", None), ("host1", "vnet0", Some("br0")));
    for (mac, node) in macs.into_iter().zip(["director", "rs1"]) {
        site.at("nested").line(&format!(
            "link add link eth0 name eth1 address {mac} type macvlan mode vepa"
        ));
        site.at("nested")
            .line(&format!("link set dev eth1 netns @{node} name eth0"));
        site.at(node).lines.insert(0, "link set dev eth0 up".into());
    }
    // First, so that its guests have their interfaces when their turn comes.
    site.nodes.rotate_right(1);
    site.at("host1")
        .line("link set dev vnet0 type bridge_slave hairpin on");
    site
}

fn hairpin() -> Fault {
    Fault::single(
        "HAIRPIN",
        "director and real server are behind one port, which frames may not leave by that they \
         came in by",
        nested(),
        ("host1", "vnet0", "hairpin off"),
        vec![run("host1", "bridge link set dev vnet0 hairpin off")],
        vec![run("host1", "bridge link set dev vnet0 hairpin on")],
    )
}

fn isolated() -> Fault {
    let each = |state: &str| {
        ["h1", "h2"]
            .map(|port| {
                run(
                    "switch",
                    &format!("bridge link set dev {port} isolated {state}"),
                )
            })
            .to_vec()
    };
    Fault::single(
        "PORT_ISOLATED",
        "the ports of both hosts are isolated from each other",
        Site::direct(),
        ("switch", "h1", "isolated on"),
        each("on"),
        each("off"),
    )
}

fn vlan() -> Fault {
    let site = Site::direct().with(|site| {
        site.needs.push(Need::Vlans);
        site.at("host2")
            .line("link set dev br0 type bridge vlan_filtering 1");
    });
    Fault::single(
        "VLAN_MISMATCH",
        "the host's uplink is in another VLAN than the real server's port",
        site,
        ("host2", "eth0", "vid 2 pvid untagged"),
        vec![
            run("host2", "bridge vlan del dev eth0 vid 1"),
            run("host2", "bridge vlan add dev eth0 vid 2 pvid untagged"),
        ],
        vec![
            run("host2", "bridge vlan del dev eth0 vid 2"),
            run("host2", "bridge vlan add dev eth0 vid 1 pvid untagged"),
        ],
    )
}

fn not_adjacent() -> Fault {
    let server = format!("-t {SERVICE} -r {REMOTE_RS1}");
    Fault::single(
        "L2_NOT_ADJACENT",
        "direct routing to a real server that is behind a router",
        Site::tunnel(),
        ("director", "eth0", &format!("-a {server}:80 -g")),
        vec![ipvsadm(&format!("-e {server} -g"))],
        vec![ipvsadm(&format!("-e {server} -i"))],
    )
    .refused()
    .note("the router sends the packet back to the VIP, round and round until its time is over")
}

//! Faults of the director's configuration, and of routing around a masquerading director.

use super::Fault;
use super::action::{Action, director, ipvsadm, run, stop, sysctl};
use super::site::{self, DIRECTOR, GATEWAY, LOCAL_CLIENT, RS1, RS2, SERVICE, Site, VIP};

pub(crate) fn faults() -> Vec<Fault> {
    vec![
        no_service(),
        no_server(),
        sticky(),
        no_forwarding(),
        gateway(),
        same_subnet(),
        untracked(),
        input_filter(),
        forward_filter(),
        invalid_filter(),
        checksum(),
        silent_veth(),
    ]
}

fn no_service() -> Fault {
    Fault::single(
        "NO_SERVICE_MATCH",
        "the VIP has no virtual service with this port",
        Site::direct(),
        ("director", "eth0", &format!("no virtual service {SERVICE}")),
        vec![ipvsadm(&format!("-D -t {SERVICE}"))],
        vec![
            ipvsadm(&format!("-A -t {SERVICE} -s rr")),
            ipvsadm(&format!("-a -t {SERVICE} -r {RS1} -g")),
        ],
    )
    .refused()
}

fn no_server() -> Fault {
    let weigh = |weight: u8| ipvsadm(&format!("-e -t {SERVICE} -r {RS1} -g -w {weight}"));
    Fault::single(
        "NO_RS_AVAILABLE",
        "every real server of the service has weight 0",
        Site::direct(),
        (
            "director",
            "eth0",
            &format!("-a {SERVICE} -r {RS1}:80 -g -w 0"),
        ),
        vec![weigh(0)],
        vec![weigh(1)],
    )
    .refused()
}

fn sticky() -> Fault {
    let site = Site::direct().with(|site| {
        let own = format!("{RS2}/24");
        site.machine("rs2", pointsman_path::topology::Role::RealServer, "rs2")
            .address("eth0", &own)
            .default_via(GATEWAY)
            .has_vip();
        site.processes.push(site::server("rs2"));
        site.services = vec![
            format!("-A -t {SERVICE} -s rr -p 300"),
            format!("-a -t {SERVICE} -r {RS1} -g"),
        ];
    });
    let expire = |on: u8| director(&format!("setting expire_quiescent_template={on}"));
    let second = |verb: char| ipvsadm(&format!("-{verb} -t {SERVICE} -r {RS2}"));
    let weigh = |weight: u8| ipvsadm(&format!("-e -t {SERVICE} -r {RS1} -g -w {weight}"));
    Fault::single(
        "RS_STICKY_DEAD",
        "persistence keeps a client at a real server that is quiesced and dead",
        site,
        ("director", "eth0", "expire_quiescent_template = 0"),
        // Asked once, the client is known to be rs1's; then rs1 dies.
        vec![Action::Ask { times: 1 }, second('a'), weigh(0), stop("rs1")],
        vec![expire(1)],
    )
    .undone_by(vec![
        expire(0),
        second('d'),
        weigh(1),
        site::server("rs1"),
        Action::Ask { times: 1 },
        second('a'),
        weigh(0),
        stop("rs1"),
    ])
    .refused()
}

fn gateway() -> Fault {
    let to = |gateway: &str| run("rs1", &format!("ip route replace default via {gateway}"));
    Fault::single(
        "NAT_BAD_GATEWAY",
        "the real server's answers do not go through the director that translates them",
        Site::one_armed(true),
        ("rs1", "eth0", &format!("default via {GATEWAY} dev eth0")),
        vec![to(GATEWAY)],
        vec![to(DIRECTOR)],
    )
    .note("the client gets an answer from the real server's own address and resets it")
}

fn same_subnet() -> Fault {
    let site = Site::one_armed(false).with(|site| {
        let route = format!("route add {LOCAL_CLIENT}/32 via {DIRECTOR}");
        site.at("rs1").line(&route);
    });
    let route = format!("{LOCAL_CLIENT}/32 via {DIRECTOR}");
    Fault::single(
        "NAT_SAME_SUBNET",
        "client and real server are on one network, and answers go straight to the client",
        site,
        ("rs1", "eth0", "198.51.100.0/24 dev eth0 scope link"),
        vec![run("rs1", &format!("ip route del {route}"))],
        vec![run("rs1", &format!("ip route add {route}"))],
    )
}

/// What follows concerns a director that is the kernel's IPVS: packets of Pointsman's pass before
/// routing and netfilter.
fn kernel() -> Site {
    Site::masquerade().by_kernel()
}

fn no_forwarding() -> Fault {
    let key = "net.ipv4.ip_forward";
    Fault::single(
        "NAT_NO_FORWARD",
        "the director does not forward, so that answers end there",
        kernel(),
        ("director", "eth1", &format!("{key} = 0")),
        vec![sysctl("director", key, "0")],
        vec![sysctl("director", key, "1")],
    )
}

fn untracked() -> Fault {
    let key = "net.ipv4.vs.conntrack";
    let site = Site::one_armed(false).by_kernel().with(|site| {
        site.at("rs1")
            .line(&format!("route replace default via {GATEWAY}"));
        site.last.extend([
            sysctl("director", key, "1"),
            run(
                "director",
                &format!("iptables -t nat -A POSTROUTING -d {RS1} -p tcp --dport 80 -j MASQUERADE"),
            ),
        ]);
    });
    Fault::single(
        "IPVS_CT_OFF",
        "a rule that translates sources never sees what IPVS forwards",
        site,
        ("director", "eth0", &format!("{key} = 0")),
        vec![sysctl("director", key, "0")],
        vec![sysctl("director", key, "1")],
    )
}

fn filtered(
    code: &'static str,
    title: &'static str,
    port: &'static str,
    rule: &str,
    cure: Action,
    undo: Action,
) -> Fault {
    Fault::single(
        code,
        title,
        kernel(),
        ("director", port, rule),
        vec![run("director", &format!("iptables {rule}"))],
        vec![cure],
    )
    .undone_by(vec![undo])
}

fn input_filter() -> Fault {
    let rule = format!("INPUT -d {VIP}/32 -p tcp -m tcp --dport 80 -j ACCEPT");
    filtered(
        "DIR_INPUT_DROP",
        "the director's own filter drops requests before IPVS sees them",
        "eth0",
        "-A INPUT -p tcp -m tcp --dport 80 -j DROP",
        run("director", &format!("iptables -I {rule}")),
        run("director", &format!("iptables -D {rule}")),
    )
}

fn forward_filter() -> Fault {
    let rule = "FORWARD -p tcp -m tcp --sport 80 -j ACCEPT";
    filtered(
        "DIR_FORWARD_DROP",
        "the director's policy for forwarded packets drops answers",
        "eth1",
        "-P FORWARD DROP",
        run("director", &format!("iptables -I {rule}")),
        run("director", &format!("iptables -D {rule}")),
    )
}

fn invalid_filter() -> Fault {
    let key = "net.ipv4.vs.conntrack";
    filtered(
        "DIR_INVALID_DROP",
        "the director's rule against invalid packets drops answers, whose requests IPVS did not \
         have tracked",
        "eth1",
        "-A FORWARD -m conntrack --ctstate INVALID -j DROP",
        sysctl("director", key, "1"),
        sysctl("director", key, "0"),
    )
}

/// A director that uses XDP. The host's port completes checksums and segments as a wire forces a
/// sender to, and has a program, without which frames that XDP sends into it are lost.
fn by_xdp() -> Site {
    Site::direct().with(|site| {
        site.director = Some(vec!["--hook".to_owned(), "xdp".to_owned()]);
        site.processes.extend([offloads("off"), pass_xdp()]);
    })
}

fn offloads(state: &str) -> Action {
    let words = format!("ethtool -K vnet0 tx {state} tso {state} gso {state}");
    run("host1", &words)
}

const fn pass_xdp() -> Action {
    Action::PassXdp {
        node: "host1",
        device: "vnet0",
    }
}

fn checksum() -> Fault {
    Fault::single(
        "CSUM_PARTIAL",
        "the host hands frames over whose checksum the device was to complete, and XDP sends them \
         on as they are",
        by_xdp(),
        ("host1", "vnet0", "tx-checksumming: on"),
        vec![offloads("on")],
        vec![offloads("off")],
    )
    .note("captures at the real server show an incorrect checksum; the director's choice would be tcx")
}

fn silent_veth() -> Fault {
    Fault::single(
        "XDP_TX_VETH_SILENT",
        "XDP sends frames into a veth whose other end does not take them",
        by_xdp(),
        ("host1", "vnet0", "no XDP program"),
        vec![run("host1", "ip link set dev vnet0 xdp off")],
        vec![pass_xdp()],
    )
}

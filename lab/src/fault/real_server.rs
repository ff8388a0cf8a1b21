//! Faults of real servers.

use super::action::{Action, feed, run, start, stop, sysctl};
use super::site::{self, RS1, SERVICE, Site, VIP};
use super::{Fault, Request};

pub(crate) fn faults() -> Vec<Fault> {
    vec![
        vip_missing(),
        vip_missing_forwarding(),
        netmask(),
        reverse_path(),
        tunnel_reverse_path(),
        tunnel_down(),
        tunnel_filtered(),
        tunnel_mtu(),
        link_mtu(),
        port_mismatch(),
        bound_to_own(),
        datagram_source(),
        reply_filtered(),
        backlog(),
        local_filter(),
    ]
}

fn without_vip() -> Action {
    run("rs1", &format!("ip address del {VIP}/32 dev lo"))
}

fn with_vip() -> Action {
    run("rs1", &format!("ip address add {VIP}/32 dev lo"))
}

fn vip_missing() -> Fault {
    Fault::single(
        "RS_VIP_MISSING",
        "the real server does not have the VIP and drops what is sent to it",
        Site::direct(),
        ("rs1", "eth0", &format!("no address {VIP}")),
        vec![without_vip()],
        vec![with_vip()],
    )
}

fn vip_missing_forwarding() -> Fault {
    Fault::single(
        "RS_VIP_MISSING_FWD",
        "the real server does not have the VIP and routes packets to it back to the director",
        Site::direct(),
        ("rs1", "eth0", &format!("no address {VIP}")),
        vec![
            without_vip(),
            sysctl("rs1", "net.ipv4.ip_forward", "1"),
            sysctl("rs1", "net.ipv4.conf.all.send_redirects", "0"),
        ],
        vec![with_vip(), sysctl("rs1", "net.ipv4.ip_forward", "0")],
    )
    .refused()
    .tempting(vec![sysctl("rs1", "net.ipv4.ip_forward", "0")])
}

fn netmask() -> Fault {
    let address =
        |verb: &str, length: u8| run("rs1", &format!("ip address {verb} {VIP}/{length} dev lo"));
    Fault::single(
        "RS_VIP_NETMASK",
        "the VIP on lo has the network's prefix length, so that all its neighbours count as local",
        Site::direct_local(),
        ("rs1", "lo", &format!("inet {VIP}/24 lo")),
        vec![address("del", 32), address("add", 24)],
        vec![address("del", 24), address("add", 32)],
    )
}

fn reverse_path() -> Fault {
    let key = "net.ipv4.conf.eth1.rp_filter";
    Fault::single(
        "RS_RPFILTER",
        "the real server answers by another interface, and the strict reverse-path check drops \
         requests",
        Site::two_networks(),
        ("rs1", "eth1", &format!("{key} = 1")),
        vec![sysctl("rs1", key, "1")],
        vec![sysctl("rs1", key, "2")],
    )
}

fn tunnel_reverse_path() -> Fault {
    let key = "net.ipv4.conf.decap0.rp_filter";
    Fault::single(
        "TUN_RPFILTER",
        "the reverse-path check of the tunnel device drops what comes out of the tunnel",
        Site::tunnel(),
        ("rs1", "decap0", &format!("{key} = 1")),
        vec![sysctl("rs1", key, "1")],
        vec![sysctl("rs1", key, "0")],
    )
}

fn tunnel_down() -> Fault {
    Fault::single(
        "TUN_DOWN",
        "the real server has no tunnel end and says that it does not know the protocol",
        Site::tunnel(),
        ("rs1", "eth0", "no tunnel device"),
        vec![stop("tunnel")],
        vec![site::tunnel_end()],
    )
    .note("the real server sends the director ICMP protocol 4 unreachable")
}

fn tunnel_filtered() -> Fault {
    let rule = "FORWARD -p IPv4 --ip-proto 4 -j DROP";
    Fault::single(
        "TUN_FIREWALL",
        "the real server's host drops IP in IP",
        Site::tunnel(),
        (
            "host2",
            "eth0",
            "-A FORWARD -p IPv4 --ip-proto ipencap -j DROP",
        ),
        vec![run("host2", &format!("ebtables -A {rule}"))],
        vec![run("host2", &format!("ebtables -D {rule}"))],
    )
}

fn tunnel_mtu() -> Fault {
    let rule = "FORWARD -p icmp -m icmp --icmp-type 3/4 -j DROP";
    Fault::single(
        "TUN_MTU",
        "full segments do not fit into the tunnel, and a filter drops the director's word about it",
        Site::tunnel(),
        ("gateway", "lan1", &format!("-A {rule}")),
        vec![
            run("gateway", &format!("iptables -A {rule}")),
            run("client", "ip route flush cache"),
        ],
        vec![run("gateway", &format!("iptables -D {rule}"))],
    )
    .asking(Request::Post(4000))
    .note("connections and small requests work")
}

fn link_mtu() -> Fault {
    Fault::single(
        "L2_MTU",
        "one link of the network takes smaller frames than the others, and nobody says so",
        Site::direct(),
        ("host2", "vnet0", "mtu 1000"),
        vec![run("host2", "ip link set dev vnet0 mtu 1000")],
        vec![run("host2", "ip link set dev vnet0 mtu 1500")],
    )
    .asking(Request::Post(1100))
    .note("connections and small requests work")
}

fn port_mismatch() -> Fault {
    Fault::single(
        "PORT_MISMATCH",
        "the real server listens on another port than the virtual service, which direct routing \
         does not translate",
        Site::direct(),
        ("rs1", "eth0", "listens on *:8080, is asked on :80"),
        vec![
            ipvsadm_again("8080"),
            start("rs1", "rs1", "serve --name rs1 --port 8080"),
        ],
        vec![
            ipvsadm_again("80"),
            start("rs1", "rs1", "serve --name rs1 --port 80"),
        ],
    )
    .refused()
}

/// The real server as the operator writes it down.
fn ipvsadm_again(port: &str) -> Action {
    super::action::director(&format!("ipvsadm -e -t {SERVICE} -r {RS1}:{port} -g"))
}

fn bound_to_own() -> Fault {
    Fault::single(
        "SERVICE_BIND",
        "the server listens on the real server's own address alone",
        Site::direct(),
        ("rs1", "eth0", &format!("LISTEN {RS1}:80")),
        vec![start(
            "rs1",
            "rs1",
            &format!("serve --name rs1 --port 80 --only {RS1}"),
        )],
        vec![site::server("rs1")],
    )
    .refused()
}

fn datagram_source() -> Fault {
    let site = Site::direct().with(|site| {
        site.services = vec![
            format!("-A -u {SERVICE} -s rr"),
            format!("-a -u {SERVICE} -r {RS1} -g"),
        ];
    });
    Fault::single(
        "UDP_SRC_RIP",
        "the server answers datagrams from the real server's own address",
        site,
        ("rs1", "eth0", &format!("answers from {RS1}")),
        vec![start("rs1", "rs1", "serve --name rs1 --port 80 --careless")],
        vec![site::server("rs1")],
    )
    .asking(Request::Udp)
}

fn reply_filtered() -> Fault {
    let key = "net.ipv4.conf.lan2.rp_filter";
    Fault::single(
        "RS_REPLY_URPF",
        "the real server's router drops answers, for the way to the VIP is another",
        Site::tunnel(),
        ("gateway", "lan2", &format!("{key} = 1")),
        vec![sysctl("gateway", key, "1")],
        vec![sysctl("gateway", key, "0")],
    )
}

fn backlog() -> Fault {
    let site = Site::direct().with(|site| {
        site.at("rs1").sysctl("net.core.somaxconn", "1");
    });
    let halt = |halted| Action::Halt { key: "rs1", halted };
    Fault::single(
        "RS_BACKLOG",
        "the server does not accept connections, and its queue is full",
        site,
        ("rs1", "eth0", "TcpExtListenOverflows"),
        vec![halt(true), Action::Ask { times: 4 }],
        vec![halt(false)],
    )
}

fn local_filter() -> Fault {
    let rules = format!(
        "*filter\n:INPUT ACCEPT\n:FORWARD ACCEPT\n:OUTPUT ACCEPT\n\
         -A INPUT -d {RS1}/32 -p tcp -m tcp --dport 80 -j ACCEPT\n\
         -A INPUT -p tcp -m tcp --dport 80 -j DROP\nCOMMIT\n"
    );
    let accept = format!("INPUT -d {VIP}/32 -p tcp -m tcp --dport 80 -j ACCEPT");
    Fault::single(
        "RS_LOCAL_FW",
        "the real server's own filter accepts requests to its own address alone",
        Site::direct(),
        ("rs1", "eth0", "-A INPUT -p tcp -m tcp --dport 80 -j DROP"),
        vec![feed("rs1", "iptables-restore", &rules)],
        vec![run("rs1", &format!("iptables -I {accept}"))],
    )
    .undone_by(vec![run("rs1", &format!("iptables -D {accept}"))])
}

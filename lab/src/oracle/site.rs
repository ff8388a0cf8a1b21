//! The laboratory that scenarios are written for: client, director and up to eight real servers.
//!
//! ```text
//! client 10.1.0.2 ---- br_e ---- 10.1.0.1 director 10.2.0.1 ---- br_lvs ---- r1..r8 10.2.1.i
//!                        |                                                        |
//!                        +------------- replies from a VIP, straight -------------+
//! ```
//!
//! Any source of 10.64.0.0/16 and fd00:64::/64 is the client's, any address of 10.99.0.0/16 and
//! fd00:99::/64 is a VIP: local to the director, so that its kernel refuses ports that nobody
//! serves, and local to the real servers. What these answer as themselves goes by the director;
//! what they answer as a VIP goes straight to the client by their second leg.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::process::Command;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use pointsman_linux::netns::NetNs;
use pointsman_linux::sysctl;
use pointsman_wire::Mac;

use crate::address::leg_mac;
use crate::error::Result;
use crate::lab::{Program, wait_links};
use crate::process::Process;
use crate::tag::{fresh_tag, namespace_name};
use crate::topology::Role;
use crate::{cleanup, decapsulate, namespace};

/// How long links may take to have carrier: a guest without hardware virtualisation is slow.
const LINK_LIMIT: Duration = Duration::from_secs(60);

/// Building takes a processor: one after the other.
static BUILD: Mutex<()> = Mutex::new(());

/// Most real servers.
pub const SERVERS: u8 = 8;

/// Networks of the client's sources.
const CLIENTS: [&str; 2] = ["10.64.0.0/16", "fd00:64::/64"];
/// Networks of the VIPs.
const VIPS: [&str; 2] = ["10.99.0.0/16", "fd00:99::/64"];

/// Whether a real server can have this number.
pub fn is_server(number: &u8) -> bool {
    (1..=SERVERS).contains(number)
}

/// The two addresses of a real server.
pub fn server_addresses(number: u8) -> Option<[IpAddr; 2]> {
    is_server(&number).then(|| {
        [
            Ipv4Addr::new(10, 2, 1, number).into(),
            Ipv6Addr::new(0xfd00, 2, 0, 0, 0, 0, 1, number.into()).into(),
        ]
    })
}

/// The real server that has this address.
pub fn server_of(address: IpAddr) -> Option<u8> {
    (1..=SERVERS).find(|number| {
        server_addresses(*number).is_some_and(|addresses| addresses.contains(&address))
    })
}

/// A laboratory of its own for one scenario; dropping it deletes everything.
#[derive(Debug)]
pub struct Site {
    tag: String,
    servers: u8,
    // Ended before the namespaces go.
    processes: Mutex<Vec<Process>>,
}

impl Site {
    /// Builds it with this many real servers, and waits until every link is up.
    pub fn build(servers: u8) -> Result<Self> {
        let _turn = BUILD.lock().unwrap_or_else(PoisonError::into_inner);
        let site = Self {
            tag: fresh_tag(),
            servers: servers.clamp(1, SERVERS),
            processes: Mutex::default(),
        };
        // From here on an error drops `site`, which deletes what is there.
        cleanup::register(&site.tag, site.namespaces(), |names| {
            names
                .iter()
                .try_for_each(|name| NetNs::create(name).map(drop))
        })?;
        site.connect()?;
        for name in site.namespaces() {
            wait_links(&name, LINK_LIMIT)?;
        }
        Ok(site)
    }

    /// The tag in the names of its namespaces.
    pub fn tag(&self) -> &str {
        &self.tag
    }

    /// Number of its real servers.
    pub fn servers(&self) -> u8 {
        self.servers
    }

    /// Name of a node's namespace.
    pub fn namespace(&self, role: Role) -> String {
        namespace_name(&self.tag, role)
    }

    /// Has every real server take packets out of tunnels.
    pub fn start_decapsulators(&self, program: &Program) -> Result<()> {
        for number in 1..=self.servers {
            let mut command = program.command();
            command.args(["decapsulate", "--interface", "eth0"]);
            command.args(["--tun", decapsulate::TUN]);
            let name = self.namespace(Role::RealServer(number));
            let process = Process::start(&name, own_group(&mut command), "ready ")?;
            let mut processes = self
                .processes
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            processes.push(process);
        }
        Ok(())
    }

    fn roles(&self) -> Vec<Role> {
        let servers = (1..=self.servers).map(Role::RealServer);
        [Role::Switch, Role::Client, Role::Director]
            .into_iter()
            .chain(servers)
            .collect()
    }

    fn namespaces(&self) -> Vec<String> {
        let roles = self.roles().into_iter();
        roles.map(|role| self.namespace(role)).collect()
    }

    /// Links, addresses and routes.
    fn connect(&self) -> Result<()> {
        let switch = self.namespace(Role::Switch);
        let batch = |name: &str, lines: &str| {
            namespace::ip(&["-n", name, "-batch", "-"], Some(lines)).map(drop)
        };
        for role in self.roles() {
            namespace::run_in(&self.namespace(role), || set_sysctls(role))??;
        }
        let mut links = String::new();
        for bridge in ["br_e", "br_lvs"] {
            let _ = writeln!(
                links,
                "link add dev {bridge} type bridge stp_state 0 forward_delay 0 mcast_snooping 0\n\
                 link set dev {bridge} up"
            );
        }
        for role in self.roles() {
            for (leg, bridge) in legs(role).iter().enumerate() {
                let _ = writeln!(
                    links,
                    "link add dev {role}-{leg} type veth peer name eth{leg} netns {} address {}\n\
                     link set dev {role}-{leg} master {bridge} up",
                    self.namespace(role),
                    mac(role, leg)
                );
            }
        }
        batch(&switch, &links)?;
        for role in self.roles() {
            let name = self.namespace(role);
            batch(&name, &(addresses(role) + &neighbours(role, self.servers)))?;
            if matches!(role, Role::RealServer(_)) {
                for (family, vips) in [("-4", VIPS[0]), ("-6", VIPS[1])] {
                    let rule = ["rule", "add", "from", vips, "table", "99"];
                    namespace::ip(&[&[family, "-n", &name], &rule[..]].concat(), None)?;
                }
            }
        }
        Ok(())
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        self.processes
            .get_mut()
            .unwrap_or_else(PoisonError::into_inner)
            .clear();
        if let Err(error) = namespace::delete(&self.namespaces()) {
            eprintln!(
                "pointsman-lab: the lab {} is not wholly gone: {error}",
                self.tag
            );
        }
        cleanup::forget(&self.tag);
    }
}

/// In a process group of its own, so that Ctrl-C reaches the lab first, which ends it.
fn own_group(command: &mut Command) -> &mut Command {
    use std::os::unix::process::CommandExt;
    command.process_group(0)
}

fn legs(role: Role) -> &'static [&'static str] {
    match role {
        Role::Client => &["br_e"],
        Role::Director => &["br_e", "br_lvs"],
        Role::RealServer(_) => &["br_lvs", "br_e"],
        Role::Switch | Role::Backup | Role::Router => &[],
    }
}

/// The hardware address of a node's leg.
fn mac(role: Role, leg: usize) -> Mac {
    let node = match role {
        Role::Client => 1,
        Role::RealServer(number) => 0x10 + number,
        _ => 2,
    };
    leg_mac(node, leg as u8)
}

fn set_sysctls(role: Role) -> Result<()> {
    let mut settings = vec![
        // Namespaces take these from the host; a lab must not depend on where it runs.
        ("net/ipv4/conf/all/rp_filter", "0"),
        ("net/ipv4/conf/default/rp_filter", "0"),
        ("net/ipv4/conf/all/send_redirects", "0"),
        ("net/ipv4/conf/default/send_redirects", "0"),
        ("net/ipv4/ip_forward", "0"),
        ("net/ipv6/conf/all/disable_ipv6", "0"),
        ("net/ipv6/conf/default/disable_ipv6", "0"),
        ("net/ipv6/conf/all/accept_dad", "0"),
        ("net/ipv6/conf/default/accept_dad", "0"),
        ("net/ipv6/conf/default/accept_ra", "0"),
        ("net/ipv6/conf/default/router_solicitations", "0"),
        // Sockets are bound to addresses that are local by a route alone.
        ("net/ipv4/ip_nonlocal_bind", "1"),
        ("net/ipv6/ip_nonlocal_bind", "1"),
    ];
    match role {
        Role::Switch => {
            settings.push(("net/ipv6/conf/all/disable_ipv6", "1"));
            settings.push(("net/ipv6/conf/default/disable_ipv6", "1"));
        }
        Role::Director => {
            settings.push(("net/ipv4/ip_forward", "1"));
            settings.push(("net/ipv6/conf/all/forwarding", "1"));
            settings.push(("net/ipv6/conf/default/forwarding", "1"));
        }
        // A port can be used again soon after its connection.
        Role::Client => settings.push(("net/ipv4/tcp_tw_reuse", "1")),
        // A VIP is nobody's but the director's on the wire.
        _ => {
            settings.push(("net/ipv4/conf/all/arp_ignore", "1"));
            settings.push(("net/ipv4/conf/all/arp_announce", "2"));
        }
    }
    for (key, value) in settings {
        sysctl::write(key, value)?;
    }
    let only_some_kernels_have: &[&str] = match role {
        Role::Switch => &[
            "net/bridge/bridge-nf-call-arptables",
            "net/bridge/bridge-nf-call-iptables",
            "net/bridge/bridge-nf-call-ip6tables",
        ],
        // A SYN is sent anew after 1, 2, 4 seconds, as it was before kernel 6.5.
        Role::Client => &["net/ipv4/tcp_syn_linear_timeouts"],
        _ => &[],
    };
    for key in only_some_kernels_have {
        match sysctl::write(key, "0") {
            Ok(()) | Err(sysctl::Error::Missing { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Lines for `ip -batch` inside a node.
fn addresses(role: Role) -> String {
    let mut text = String::new();
    let mut add = |line: &str| {
        text += line;
        text.push('\n');
    };
    if role != Role::Switch {
        add("link set dev lo up");
    }
    for leg in 0..legs(role).len() {
        add(&format!("link set dev eth{leg} up"));
    }
    match role {
        Role::Client => {
            add("address add 10.1.0.2/24 dev eth0");
            add("address add fd00:1::2/64 dev eth0 nodad");
            add("route add 0.0.0.0/0 via 10.1.0.1");
            add("route add ::/0 via fd00:1::1");
            for net in CLIENTS {
                add(&format!("route add local {net} dev lo"));
            }
        }
        Role::Director => {
            add("address add 10.1.0.1/24 dev eth0");
            add("address add fd00:1::1/64 dev eth0 nodad");
            add("address add 10.2.0.1/16 dev eth1");
            add("address add fd00:2::1/64 dev eth1 nodad");
            for net in VIPS {
                add(&format!("route add local {net} dev lo"));
            }
            for (net, via) in CLIENTS.iter().zip(["10.1.0.2", "fd00:1::2"]) {
                add(&format!("route add {net} via {via}"));
            }
        }
        Role::RealServer(number) => {
            add(&format!("address add 10.2.1.{number}/16 dev eth0"));
            add(&format!("address add fd00:2::1:{number}/64 dev eth0 nodad"));
            add("route add 0.0.0.0/0 via 10.2.0.1");
            add("route add ::/0 via fd00:2::1");
            add("route add 0.0.0.0/0 via 10.1.0.2 dev eth1 onlink table 99");
            add("route add ::/0 via fd00:1::2 dev eth1 onlink table 99");
            for net in VIPS {
                add(&format!("route add local {net} dev lo"));
            }
        }
        Role::Switch | Role::Backup | Role::Router => {}
    }
    text
}

/// Lines that tell a node its neighbours for good.
///
/// Scenarios are about balancing: who is asked must not depend on how fast a neighbour is found, nor
/// on whether the kernel's one table for all namespaces has room for it.
fn neighbours(role: Role, servers: u8) -> String {
    let director = |leg| mac(Role::Director, leg);
    let client = mac(Role::Client, 0);
    let mut known: Vec<(String, usize, Mac)> = Vec::new();
    match role {
        Role::Client => {
            for address in ["10.1.0.1", "fd00:1::1"] {
                known.push((address.to_owned(), 0, director(0)));
            }
        }
        Role::Director => {
            for address in ["10.1.0.2", "fd00:1::2"] {
                known.push((address.to_owned(), 0, client));
            }
            for number in 1..=servers {
                let addresses = server_addresses(number).into_iter().flatten();
                let server = mac(Role::RealServer(number), 0);
                known.extend(addresses.map(|address| (address.to_string(), 1, server)));
            }
        }
        Role::RealServer(_) => {
            for address in ["10.2.0.1", "fd00:2::1"] {
                known.push((address.to_owned(), 0, director(1)));
            }
            for address in ["10.1.0.2", "fd00:1::2"] {
                known.push((address.to_owned(), 1, client));
            }
        }
        Role::Switch | Role::Backup | Role::Router => {}
    }
    let line = |(address, leg, mac): &(String, usize, Mac)| {
        format!("neighbour add {address} lladdr {mac} dev eth{leg} nud permanent\n")
    };
    known.iter().map(line).collect()
}

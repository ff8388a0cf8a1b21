//! How a plan becomes a lab: everything that is set up in the kernel, in order.

use std::fmt::Write as _;

use pointsman_linux::netns::NetNs;
use pointsman_linux::offload::{self, Offload};
use pointsman_linux::sysctl;

use crate::address::{Cidr, Family};
use crate::error::Result;
use crate::lab::{Lab, to_alias};
use crate::topology::{Node, Role};
use crate::{bpf, cleanup, namespace};

/// Makes namespaces, links, addresses and routes, and sets sysctls.
pub(crate) fn create(lab: &Lab) -> Result<()> {
    cleanup::register(lab.tag(), lab.namespaces(), |names| {
        names
            .iter()
            .try_for_each(|name| NetNs::create(name).map(drop))
    })?;
    prepare_switch(lab)?;
    for node in &lab.topology().nodes {
        namespace::run_in(&lab.namespace(node.role), || set_sysctls(&node.sysctls))??;
    }
    let links = link_batch(lab);
    namespace::ip(
        &["-n", &lab.namespace(Role::Switch), "-batch", "-"],
        Some(&links),
    )?;
    for node in &lab.topology().nodes {
        let name = lab.namespace(node.role);
        namespace::run_in(&name, || set_sysctls(&node.leg_sysctls))??;
        namespace::ip(&["-n", &name, "-batch", "-"], Some(&node_batch(node)))?;
    }
    if lab.topology().options.wire_port.complete_checksums {
        make_wire_ports(lab)?;
    }
    Ok(())
}

fn prepare_switch(lab: &Lab) -> Result<()> {
    namespace::run_in(&lab.namespace(Role::Switch), || {
        // A switch has no addresses and filters nothing.
        set_sysctls(&[
            ("net/ipv6/conf/all/disable_ipv6".to_owned(), "1".to_owned()),
            (
                "net/ipv6/conf/default/disable_ipv6".to_owned(),
                "1".to_owned(),
            ),
        ])?;
        for table in ["arptables", "iptables", "ip6tables"] {
            match sysctl::write(&format!("net/bridge/bridge-nf-call-{table}"), "0") {
                // A kernel without br_netfilter.
                Ok(()) | Err(sysctl::Error::Missing { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    })?
}

/// Bridges, and a veth pair for every leg.
fn link_batch(lab: &Lab) -> String {
    let mut batch = format!("link set dev lo alias {}\n", to_alias(lab.topology()));
    for net in lab.topology().nets() {
        // Without snooping, multicast (neighbour discovery, VRRP) goes to all, as on a switch
        // without a querier.
        let _ = writeln!(
            batch,
            "link add dev {0} type bridge stp_state 0 forward_delay 0 mcast_snooping 0\n\
                 link set dev {0} up",
            net.bridge()
        );
    }
    for node in &lab.topology().nodes {
        let namespace = lab.namespace(node.role);
        for leg in &node.legs {
            let _ = writeln!(
                batch,
                "link add dev {port} mtu {mtu} type veth \
                     peer name {name} netns {namespace} address {mac} mtu {mtu}\n\
                     link set dev {port} master {bridge} up",
                port = leg.port,
                name = leg.name,
                mac = leg.mac,
                mtu = leg.mtu,
                bridge = leg.net.bridge(),
            );
        }
    }
    batch
}

fn make_wire_ports(lab: &Lab) -> Result<()> {
    let is_director = |node: &&Node| matches!(node.role, Role::Director | Role::Backup);
    let directors = lab.topology().nodes.iter().filter(is_director);
    let legs: Vec<_> = directors.flat_map(|node| &node.legs).collect();
    lab.run_in(Role::Switch, || {
        for leg in legs {
            let port = offload::Device::open(&leg.port)?;
            for offload in [Offload::TxChecksum, Offload::Tso, Offload::Gso] {
                port.set(offload, false)?;
            }
            bpf::attach_for_good(&leg.port, &bpf::XDP_PASS)?;
        }
        Ok(())
    })?
}

fn set_sysctls(sysctls: &[(String, String)]) -> Result<()> {
    for (key, value) in sysctls {
        sysctl::write(key, value)?;
    }
    Ok(())
}

/// Links up, addresses and routes of one node.
fn node_batch(node: &Node) -> String {
    let mut batch = String::from("link set dev lo up\n");
    // `nodad`: usable at once. `preferred_lft 0` keeps a virtual address from being chosen as the
    // source of the node's own connections.
    let options = |address: &Cidr| match Family::of(address.address) {
        Family::V4 => "",
        Family::V6 if address.length == 128 => " nodad preferred_lft 0",
        Family::V6 => " nodad",
    };
    for address in &node.loopback {
        let _ = writeln!(batch, "address add {address} dev lo{}", options(address));
    }
    for leg in &node.legs {
        let _ = writeln!(batch, "link set dev {} up", leg.name);
        for address in &leg.addresses {
            let _ = writeln!(
                batch,
                "address add {address} dev {}{}",
                leg.name,
                options(address)
            );
        }
    }
    for route in &node.routes {
        let to = match (route.to, Family::of(route.via)) {
            (Some(to), _) => to.to_string(),
            (None, Family::V4) => "0.0.0.0/0".to_owned(),
            (None, Family::V6) => "::/0".to_owned(),
        };
        let mtu = route
            .mtu
            .map(|mtu| format!(" mtu {mtu}"))
            .unwrap_or_default();
        let _ = writeln!(batch, "route add {to} via {}{mtu}", route.via);
    }
    batch
}

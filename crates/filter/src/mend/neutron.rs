//! The same change asked of neutron.

use std::net::IpAddr;

use super::commands::Commands;
use crate::address;

/// What a port of neutron is to be allowed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wish<'a> {
    /// The guest's link-layer address.
    pub(super) mac: &'a str,
    /// The guest's own addresses.
    pub(super) own: &'a [IpAddr],
    /// Virtual addresses.
    pub(super) vips: &'a [IpAddr],
    /// Link-layer addresses of virtual routers.
    pub(super) virtual_macs: &'a [u128],
    /// Whether it sends with the clients' addresses.
    pub(super) as_clients: bool,
    /// Whether ARP for the virtual addresses must stay with others.
    pub(super) is_real_server: bool,
    /// Whether it speaks VRRP.
    pub(super) speaks_vrrp: bool,
    /// Whether it gets tunnelled packets.
    pub(super) ends_tunnel: bool,
}

/// Commands for neutron.
pub(super) fn neutron(wish: &Wish<'_>) -> Commands {
    let mut commands = Commands::default();
    let mut pairs: Vec<String> = wish
        .vips
        .iter()
        .map(|vip| format!("ip-address={vip}"))
        .collect();
    for &mac in wish.virtual_macs {
        let mac = address::mac_text(mac);
        let addresses = wish.vips.iter().chain(wish.own);
        pairs.extend(addresses.map(|address| format!("ip-address={address},mac-address={mac}")));
    }
    let find = format!(
        "PORT=$(openstack port list --mac-address {} -f value -c ID)",
        wish.mac
    );
    commands.apply.push(find.clone());
    commands.undo.push(find);
    for pair in &pairs {
        let command = |verb| format!("openstack port {verb} --allowed-address {pair} \"$PORT\"");
        commands.apply.push(command("set"));
        commands.undo.push(command("unset"));
    }
    if wish.as_clients {
        let all = if wish.vips.iter().all(IpAddr::is_ipv6) {
            "::/0"
        } else {
            "0.0.0.0/0"
        };
        let pair =
            |verb| format!("openstack port {verb} --allowed-address ip-address={all} \"$PORT\"");
        commands.apply.push(pair("set"));
        commands.undo.push(pair("unset"));
        commands.notes.push(format!(
            "A pair for the virtual address alone is not enough here: this port sends packets with the \
             clients' addresses. The pair {all} lets it send with any address, to anywhere, and \
             widens every rule that names its security group as remote. The other ways: `openstack \
             port set --no-security-group --disable-port-security \"$PORT\"`, which protects \
             nothing any more, or tunnelling instead of direct routing, which needs neither."
        ));
        commands.notes.push(
            "This port sees half of each connection: a stateful security group drops the clients' \
             packets after the first as invalid. Create the group with --stateless."
                .into(),
        );
    }
    if wish.is_real_server {
        commands.notes.push(
            "neutron's pairs are for ARP too: with one, nothing but the real server's own arp_ignore \
             and arp_announce keeps it from answering for the virtual address."
                .into(),
        );
    }
    if wish.speaks_vrrp {
        commands.notes.push(
            "The security group must let VRRP in: `openstack security group rule create --protocol \
             112 GROUP`."
                .into(),
        );
    }
    if wish.ends_tunnel {
        commands.notes.push(
            "The security group must let IPIP in: `openstack security group rule create --protocol 4 \
             GROUP` (41 for IPv6)."
                .into(),
        );
    }
    commands
}

//! Flags that say who takes part: roles, virtual services, clients, real servers.

use std::net::{IpAddr, SocketAddr};

use clap::{Args, ValueEnum};
use pointsman_filter::catalogue::{self, Known, RealServer, Vip};
use pointsman_wire::Mac;

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Role {
    /// Takes clients' packets and hands them to real servers
    Director,
    /// Serves what a director hands it
    Realserver,
    /// Has the virtual address while it is master
    Vrrp,
}

impl From<Role> for catalogue::Role {
    fn from(role: Role) -> Self {
        match role {
            Role::Director => Self::Director,
            Role::Realserver => Self::RealServer,
            Role::Vrrp => Self::Vrrp,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Method {
    /// Direct routing: only link-layer addresses change
    Dr,
    /// IP in IP
    Tun,
    /// Address translation
    Nat,
}

impl From<Method> for catalogue::Method {
    fn from(method: Method) -> Self {
        match method {
            Method::Dr => Self::Direct,
            Method::Tun => Self::Tunnel,
            Method::Nat => Self::Masquerade,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Protocol {
    Tcp,
    Udp,
}

#[derive(Debug, Args)]
pub(crate) struct SceneFlags {
    /// What the guest is; may be repeated
    #[arg(long = "role", value_name = "ROLE", required = true)]
    pub(crate) roles: Vec<Role>,
    /// A virtual service, `192.0.2.208:80` or `[2001:db8::208]:80`; may be repeated
    #[arg(long = "vip", value_name = "ADDR:PORT", required = true)]
    pub(crate) vips: Vec<SocketAddr>,
    /// How the director hands packets to real servers
    #[arg(long, value_name = "METHOD", default_value = "dr")]
    pub(crate) method: Method,
    /// Transport of the virtual services
    #[arg(long, value_name = "PROTOCOL", default_value = "tcp")]
    pub(crate) protocol: Protocol,
    /// The virtual address has the virtual router's own MAC (keepalived's use_vmac)
    #[arg(long)]
    pub(crate) vmac: bool,
    /// Number of the virtual router [default: 51]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..))]
    pub(crate) vrid: Option<u8>,
    /// The guest's own address [default: from the filter's parameters]; may be repeated
    #[arg(long = "address", value_name = "ADDR")]
    pub(crate) addresses: Vec<IpAddr>,
    /// A client's address [default: one that nobody has]
    #[arg(long = "client", value_name = "ADDR")]
    pub(crate) clients: Vec<IpAddr>,
    /// The router between clients and guest [default: an address near the virtual one]
    #[arg(long = "gateway", value_name = "ADDR")]
    pub(crate) gateways: Vec<IpAddr>,
    /// The router's MAC
    #[arg(long, value_name = "MAC")]
    pub(crate) gateway_mac: Option<Mac>,
    /// A real server, `[MAC/]ADDR[:PORT]`; may be repeated
    #[arg(long = "real-server", value_name = "SERVER", value_parser = real_server)]
    pub(crate) real_servers: Vec<RealServer>,
}

impl SceneFlags {
    /// The virtual services.
    pub(crate) fn vips(&self) -> impl Iterator<Item = Vip> {
        let protocol = match self.protocol {
            Protocol::Tcp => catalogue::Protocol::Tcp,
            Protocol::Udp => catalogue::Protocol::Udp,
        };
        self.vips.iter().map(move |vip| Vip {
            address: vip.ip(),
            port: vip.port(),
            protocol,
        })
    }

    /// What is known of the scene around a guest with this link-layer address; addresses that its
    /// filter pins are its own unless others are told.
    pub(crate) fn known(&self, mac: Mac, pinned: &[IpAddr]) -> Known {
        Known {
            roles: self.roles.iter().map(|&role| role.into()).collect(),
            method: Some(self.method.into()),
            vips: self.vips().collect(),
            mac,
            addresses: [&self.addresses, pinned].concat(),
            clients: self.clients.clone(),
            gateways: self.gateways.clone(),
            gateway_mac: self.gateway_mac,
            real_servers: self.real_servers.clone(),
            vrid: self.vrid,
            vmac: self.vmac,
        }
    }
}

/// `[MAC/]ADDR[:PORT]`.
fn real_server(text: &str) -> Result<RealServer, String> {
    let (mac, place) = match text.split_once('/') {
        Some((mac, place)) => (Some(mac.parse::<Mac>().map_err(|e| e.to_string())?), place),
        None => (None, text),
    };
    let (address, port) = match (place.parse::<IpAddr>(), place.parse::<SocketAddr>()) {
        (Ok(address), _) => (address, None),
        (_, Ok(socket)) => (socket.ip(), Some(socket.port())),
        _ => return Err(format!("`{place}` is neither ADDR nor ADDR:PORT")),
    };
    Ok(RealServer { address, mac, port })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn real_servers_are_read_with_mac_and_port_or_without() {
        let mac = Some(Mac([2, 0, 0x73, 0xb6, 0x53, 0xe2]));
        for (text, mac, address, port) in [
            ("192.0.2.11", None, "192.0.2.11", None),
            ("192.0.2.11:8080", None, "192.0.2.11", Some(8080)),
            ("2:0:73:b6:53:e2/192.0.2.11", mac, "192.0.2.11", None),
            (
                "2:0:73:b6:53:e2/[2001:db8::1]:80",
                mac,
                "2001:db8::1",
                Some(80),
            ),
            ("2001:db8::1", None, "2001:db8::1", None),
        ] {
            let address = address.parse().unwrap();
            assert_eq!(real_server(text), Ok(RealServer { address, mac, port }));
        }
        for bad in [
            "",
            "server",
            "2:0:73/192.0.2.11",
            "192.0.2.11:x",
            "192.0.2.0/24",
        ] {
            assert!(real_server(bad).is_err(), "{bad}");
        }
    }
}

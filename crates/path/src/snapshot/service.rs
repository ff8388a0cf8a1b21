//! Virtual services of a node: Pointsman's, and those of the kernel's IPVS.

use std::net::{IpAddr, Ipv4Addr};

use pointsman_config::ipvsadm::arguments::Command;
use pointsman_config::ipvsadm::{Numeric, save};
use pointsman_director::model::{
    Change, ForwardingMethod, Persistence, Protocol, RealServer, SchedulerFlags, ServiceId,
    TunnelType, VirtualService,
};
use serde::{Deserialize, Serialize};

/// Who balances.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Balancer {
    /// A daemon of Pointsman.
    Pointsman,
    /// The kernel's IPVS.
    Kernel,
}

/// A virtual service and its real servers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Service {
    /// Who balances it.
    pub balancer: Balancer,
    /// The service.
    pub service: VirtualService,
    /// Its real servers.
    #[serde(default)]
    pub servers: Vec<RealServer>,
}

impl Service {
    /// Protocol, address and port; nothing for a service known by a mark.
    pub fn address(&self) -> Option<(Protocol, IpAddr, u16)> {
        match self.service.id {
            ServiceId::Address {
                protocol,
                address,
                port,
            } => Some((protocol, address, port)),
            ServiceId::Mark { .. } => None,
        }
    }

    /// Reads what `ipvsadm --save --numeric` prints.
    pub(crate) fn read_saved(balancer: Balancer, text: &str) -> Result<Vec<Self>, String> {
        let mut services: Vec<Self> = Vec::new();
        for line in save::lines(text) {
            let wrong = |what: &dyn std::fmt::Display| format!("line {}: {what}", line.number);
            match line.command(&Numeric) {
                Ok(Command::Change { change, .. }) => match change {
                    Change::AddService { service } => services.push(Self {
                        balancer,
                        service,
                        servers: Vec::new(),
                    }),
                    Change::AddServer { id, server } => {
                        let own = services.iter_mut().find(|own| own.service.id == id);
                        own.ok_or_else(|| wrong(&"a real server of no service"))?
                            .servers
                            .push(server);
                    }
                    _ => return Err(wrong(&"neither a service nor a real server")),
                },
                Ok(_) => return Err(wrong(&"neither a service nor a real server")),
                Err(error) => return Err(wrong(&error.message.trim_end())),
            }
        }
        Ok(services)
    }

    /// Reads `/proc/net/ip_vs`, whose addresses and ports are hexadecimal.
    pub(crate) fn read_proc(text: &str) -> Result<Vec<Self>, String> {
        let mut services: Vec<Self> = Vec::new();
        for (number, line) in text.lines().enumerate() {
            let words: Vec<&str> = line.split_whitespace().collect();
            let read = match words[..] {
                ["TCP" | "UDP" | "SCTP" | "FWM", ..] => {
                    read_service(&words).map(|service| services.push(service))
                }
                ["->", "RemoteAddress:Port", ..] => Some(()),
                ["->", endpoint, method, weight, ..] => services
                    .last_mut()
                    .and_then(|service| service.add_server(endpoint, method, weight)),
                _ => Some(()),
            };
            read.ok_or_else(|| {
                format!(
                    "line {}: `{line}` is not as the kernel writes it",
                    number + 1
                )
            })?;
        }
        Ok(services)
    }

    fn add_server(&mut self, endpoint: &str, method: &str, weight: &str) -> Option<()> {
        let (address, port) = read_endpoint(endpoint)?;
        if let ServiceId::Mark { ipv6, .. } = &mut self.service.id {
            *ipv6 |= address.is_ipv6();
        }
        self.servers.push(RealServer {
            address,
            port,
            method: match method {
                "Masq" => ForwardingMethod::Masquerade,
                "Tunnel" => ForwardingMethod::Tunnel,
                // `Local` is a real server on the director, reached by any method.
                "Route" | "Local" => ForwardingMethod::Direct,
                _ => return None,
            },
            weight: weight.parse().ok()?,
            upper: 0,
            lower: 0,
            tunnel: TunnelType::default(),
        });
        Some(())
    }
}

fn read_service(words: &[&str]) -> Option<Service> {
    let [kind, endpoint, scheduler, options @ ..] = words else {
        return None;
    };
    let id = if *kind == "FWM" {
        ServiceId::Mark {
            mark: u32::from_str_radix(endpoint, 16).ok()?,
            ipv6: false,
        }
    } else {
        let (address, port) = read_endpoint(endpoint)?;
        let protocol = match *kind {
            "TCP" => Protocol::Tcp,
            "UDP" => Protocol::Udp,
            _ => Protocol::Sctp,
        };
        ServiceId::Address {
            protocol,
            address,
            port,
        }
    };
    let place = options.iter().position(|word| *word == "persistent");
    let persistence = match place {
        Some(place) => {
            let timeout: u32 = options.get(place + 1)?.parse().ok()?;
            let netmask = u32::from_str_radix(options.get(place + 2)?, 16).ok()?;
            Some(if id.is_ipv6() {
                Persistence {
                    timeout,
                    prefix: u8::try_from(netmask.min(128)).ok()?,
                    netmask: 0,
                }
            } else {
                Persistence {
                    timeout,
                    prefix: netmask.leading_ones() as u8,
                    netmask,
                }
            })
        }
        None => None,
    };
    Some(Service {
        balancer: Balancer::Kernel,
        service: VirtualService {
            id,
            scheduler: (*scheduler).to_owned(),
            flags: SchedulerFlags::default(),
            persistence,
            one_packet: options.contains(&"ops"),
            engine: None,
        },
        servers: Vec::new(),
    })
}

fn read_endpoint(text: &str) -> Option<(IpAddr, u16)> {
    let (address, port) = text.rsplit_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    if let Some(address) = address.strip_prefix('[') {
        return Some((address.strip_suffix(']')?.parse().ok()?, port));
    }
    let address = u32::from_str_radix(address, 16).ok()?;
    Some((Ipv4Addr::from(address).into(), port))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PROC: &str = "\
IP Virtual Server version 1.2.1 (size=4096)
Prot LocalAddress:Port Scheduler Flags
  -> RemoteAddress:Port Forward Weight ActiveConn InActConn
TCP  C0A80721:0050 rr
  -> C0A8580C:0050      Route   1      0          0
  -> C0A8580B:0050      Tunnel  0      2          1
UDP  [2001:0db8:0000:0000:0000:0000:0000:0001]:0035 wlc
  -> [2001:0db8:0000:0000:0000:0000:0000:0002]:0035      Masq    3      0          0
FWM  0000000A wrr  persistent 360 FFFFFF00
";

    #[test]
    fn the_kernels_file_is_read() {
        let services = Service::read_proc(PROC).unwrap();
        let names: Vec<_> = services
            .iter()
            .map(|service| service.service.id.to_string())
            .collect();
        assert_eq!(
            names,
            ["TCP 192.168.7.33:80", "UDP [2001:db8::1]:53", "FWM 10"]
        );
        let servers = &services[0].servers;
        assert_eq!(servers[1].address.to_string(), "192.168.88.11");
        assert_eq!(servers[1].method, ForwardingMethod::Tunnel);
        assert_eq!(servers[1].weight, 0);
        let persistence = services[2].service.persistence.unwrap();
        assert_eq!((persistence.timeout, persistence.prefix), (360, 24));
    }

    #[test]
    fn a_save_file_is_read() {
        let text = "-A -t 192.0.2.1:80 -s rr\n-a -t 192.0.2.1:80 -r 198.51.100.2:80 -g -w 1\n";
        let services = Service::read_saved(Balancer::Pointsman, text).unwrap();
        assert_eq!(services[0].servers[0].address.to_string(), "198.51.100.2");
    }

    #[test]
    fn what_is_neither_is_refused_with_its_line() {
        for text in ["-C", "-a -t 192.0.2.1:80 -r 198.51.100.2:80 -g", "x"] {
            let error = Service::read_saved(Balancer::Kernel, text).unwrap_err();
            assert!(error.starts_with("line 1"), "{error}");
        }
        assert!(Service::read_proc("TCP  zz:0050 rr").is_err());
        assert!(Service::read_proc("  -> C0A8580C:0050 Route 1 0 0").is_err());
    }
}

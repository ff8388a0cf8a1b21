//! Gathers the options of one command line and turns them into a command.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use pointsman_director::model::{
    Change, ForwardingMethod, Persistence, Protocol, RealServer, SchedulerFlags, ServiceId,
    TunnelChecksum, TunnelType, VirtualService,
};

use super::acceptance::{GivenSet, TUNNEL_OPTIONS, check_tunnel};
use super::list::ListOptions;
use super::option::{Given, Meaning, Verb};
use super::{Command, StartDaemon, StopDaemon, SyncRole, UsageError};
use crate::ipvsadm::endpoint::{self, Endpoint};
use crate::ipvsadm::number::{decimal, inet_aton, leading_integer};
use crate::ipvsadm::resolve::Resolve;
use crate::ipvsadm::{DEFAULT_PERSISTENCE, DEFAULT_SCHEDULER, MAX_TIMEOUT, flags};

/// What a command line has said so far.
#[derive(Debug)]
pub(super) struct Request {
    verb: Verb,
    pub(super) given: GivenSet,
    role: SyncRole,
    timeouts: [u32; 3],
    service: Option<ServiceId>,
    scheduler: String,
    persistence: u32,
    netmask: u32,
    prefix: u8,
    engine: Option<String>,
    flag_list: Option<String>,
    flags: SchedulerFlags,
    server: Option<Endpoint>,
    /// The service's port when `-r` was read: what `-r` without a port means.
    server_port_default: u16,
    method: ForwardingMethod,
    weight: u32,
    upper: u32,
    lower: u32,
    tunnel_type: &'static str,
    tunnel_port: u16,
    interface: String,
    sync_id: u8,
    group: Option<IpAddr>,
    port: Option<u16>,
    ttl: Option<u8>,
    max_length: Option<u16>,
}

impl Request {
    /// Starts with a command and the command's own value.
    pub(super) fn new(verb: Verb, value: Option<&str>) -> Result<Self, UsageError> {
        let role = match (verb, value) {
            (Verb::StartDaemon | Verb::StopDaemon, Some("backup")) => SyncRole::Backup,
            (Verb::StartDaemon | Verb::StopDaemon, Some("master")) => SyncRole::Master,
            (Verb::StartDaemon, _) => {
                return Err(UsageError::new("illegal start-daemon parameter specified"));
            }
            (Verb::StopDaemon, _) => return Err(UsageError::new("illegal start_daemon specified")),
            _ => SyncRole::Master,
        };
        Ok(Self {
            verb,
            given: GivenSet::default(),
            role,
            timeouts: [0; 3],
            service: None,
            scheduler: DEFAULT_SCHEDULER.to_owned(),
            persistence: DEFAULT_PERSISTENCE,
            netmask: u32::MAX,
            prefix: 128,
            engine: None,
            flag_list: None,
            flags: SchedulerFlags::default(),
            server: None,
            server_port_default: 0,
            method: ForwardingMethod::Direct,
            weight: 1,
            upper: 0,
            lower: 0,
            tunnel_type: "ipip",
            tunnel_port: 0,
            interface: "eth0".to_owned(),
            sync_id: 0,
            group: None,
            port: None,
            ttl: None,
            max_length: None,
        })
    }

    /// Takes one option that is not a command.
    pub(super) fn take(
        &mut self,
        meaning: Meaning,
        value: &str,
        has_value: bool,
        names: &impl Resolve,
    ) -> Result<(), UsageError> {
        match meaning {
            Meaning::TcpService => self.take_service(Protocol::Tcp, value, names),
            Meaning::UdpService => self.take_service(Protocol::Udp, value, names),
            Meaning::SctpService => self.take_service(Protocol::Sctp, value, names),
            Meaning::MarkService => {
                self.mark_given(Given::Service)?;
                let mark = decimal(value, 1, u32::MAX).ok_or_else(|| {
                    UsageError::new(format_args!("invalid fwmark value `{value}' specified"))
                })?;
                self.service = Some(ServiceId::Mark { mark, ipv6: false });
                Ok(())
            }
            Meaning::Ipv6 => match &mut self.service {
                Some(ServiceId::Mark { ipv6, .. }) => {
                    *ipv6 = true;
                    self.prefix = 128;
                    Ok(())
                }
                _ => Err(UsageError::new("-6 used before -f\n")),
            },
            Meaning::Sort | Meaning::Verb(_) => Ok(()),
            Meaning::Method(method) => {
                self.mark_given(Given::Method)?;
                self.method = method;
                Ok(())
            }
            Meaning::Has(given) => {
                self.mark_given(given)?;
                self.take_value(given, value, has_value, names)
            }
        }
    }

    fn mark_given(&mut self, given: Given) -> Result<(), UsageError> {
        if self.given.insert(given) {
            return Ok(());
        }
        Err(UsageError::new(format_args!(
            "multiple '{}' options specified",
            given.name()
        )))
    }

    fn take_service(
        &mut self,
        protocol: Protocol,
        value: &str,
        names: &impl Resolve,
    ) -> Result<(), UsageError> {
        self.mark_given(Given::Service)?;
        let Endpoint { address, port } = endpoint::parse(value, Some(protocol), names)
            .ok_or_else(|| UsageError::new("illegal virtual server address[:port] specified"))?;
        // A netmask read before the family was known to be IPv6 is lost.
        self.prefix = 128;
        self.service = Some(ServiceId::Address {
            protocol,
            address,
            port: port.unwrap_or_default(),
        });
        Ok(())
    }

    fn take_value(
        &mut self,
        given: Given,
        value: &str,
        has_value: bool,
        names: &impl Resolve,
    ) -> Result<(), UsageError> {
        let number = |min, max, message: &str| {
            decimal(value, min, max).ok_or_else(|| UsageError::new(message))
        };
        match given {
            Given::Scheduler if !value.is_empty() => self.scheduler = clip(value, 15),
            Given::Persistent if has_value => self.persistence = timeout(value, 1)?,
            Given::Netmask => self.take_netmask(value, names)?,
            Given::Server => {
                let (protocol, port) = match self.service {
                    Some(ServiceId::Address { protocol, port, .. }) => (Some(protocol), port),
                    // Names of ports of a firewall-mark service are looked up as those of TCP.
                    Some(ServiceId::Mark { .. }) => (Some(Protocol::Tcp), 0),
                    None => (None, 0),
                };
                let server = endpoint::parse(value, protocol, names).ok_or_else(|| {
                    UsageError::new("illegal real server address[:port] specified")
                })?;
                self.server = Some(server);
                self.server_port_default = port;
            }
            Given::Weight => self.weight = number(0, i32::MAX as u32, "illegal weight specified")?,
            Given::UpperThreshold => {
                self.upper = number(0, i32::MAX as u32, "illegal u_threshold specified")?;
            }
            Given::LowerThreshold => {
                self.lower = number(0, i32::MAX as u32, "illegal l_threshold specified")?;
            }
            Given::McastInterface if !value.is_empty() => self.interface = clip(value, 15),
            Given::SyncId => self.sync_id = number(0, 255, "illegal syncid specified")? as u8,
            Given::Engine => self.engine = Some(clip(value, 16)).filter(|name| !name.is_empty()),
            Given::SchedulerFlags => self.flag_list = Some(value.to_owned()),
            Given::McastGroup => self.group = Some(multicast_group(value)?),
            Given::McastPort => {
                self.port = Some(number(1, 65535, "illegal mcast-port specified")? as u16);
            }
            Given::McastTtl => {
                self.ttl = Some(number(1, 255, "illegal mcast-ttl specified")? as u8);
            }
            Given::SyncMaxlen => {
                let max = 65535 - 20 - 8;
                self.max_length = Some(number(1, max, "illegal sync-maxlen specified")? as u16);
            }
            Given::TunType => {
                let known = ["ipip", "gue", "gre"]
                    .into_iter()
                    .find(|known| *known == value);
                self.tunnel_type =
                    known.ok_or_else(|| UsageError::new("illegal tunnel type specified"))?;
            }
            Given::TunPort => {
                self.tunnel_port = number(1, 65535, "illegal tunnel port specified")? as u16;
            }
            _ => {}
        }
        Ok(())
    }

    /// Reads `-M` by the family known so far.
    fn take_netmask(&mut self, value: &str, names: &impl Resolve) -> Result<(), UsageError> {
        if self.service.is_some_and(|service| service.is_ipv6()) {
            self.prefix = u8::try_from(leading_integer(value))
                .ok()
                .filter(|prefix| (1..=128).contains(prefix))
                .ok_or_else(|| UsageError::new("illegal ipv6 netmask specified"))?;
            return Ok(());
        }
        let named = || {
            if value.is_empty() {
                None
            } else {
                names.address(value)
            }
        };
        let mask = inet_aton(value)
            .or_else(named)
            .ok_or_else(|| UsageError::new("illegal virtual server persistent mask specified"))?;
        self.netmask = mask.to_bits();
        Ok(())
    }

    /// Takes the three values of `--set` from the words.
    pub(super) fn take_words<'a>(
        &mut self,
        words: &mut impl Iterator<Item = &'a str>,
    ) -> Result<(), UsageError> {
        if self.verb != Verb::Set {
            return Ok(());
        }
        let values = [words.next(), words.next(), words.next()];
        let [Some(tcp), Some(tcp_fin), Some(udp)] = values else {
            return Err(UsageError::new("--set option requires 3 timeout values"));
        };
        self.timeouts = [timeout(tcp, 0)?, timeout(tcp_fin, 0)?, timeout(udp, 0)?];
        Ok(())
    }

    /// Reads `-b`, which needs the scheduler, wherever it was written.
    pub(super) fn read_flags(&mut self) -> Result<(), UsageError> {
        if let Some(list) = &self.flag_list {
            self.flags = flags::parse(list, &self.scheduler).map_err(UsageError::new)?;
        }
        Ok(())
    }

    /// Makes the command, once its options are known to be the right ones.
    pub(super) fn finish(self) -> Result<Command, UsageError> {
        let plain = |change| {
            Ok(Command::Change {
                change,
                warnings: Vec::new(),
            })
        };
        match self.verb {
            Verb::AddService => plain(Change::AddService {
                service: self.into_service()?,
            }),
            Verb::EditService => plain(Change::EditService {
                service: self.into_service()?,
            }),
            Verb::DeleteService => plain(Change::DeleteService {
                id: self.service_id()?,
            }),
            Verb::AddServer | Verb::EditServer => self.into_server_change(),
            Verb::DeleteServer => {
                let server = self.server_endpoint()?;
                let port = server.port.unwrap_or(self.server_port_default);
                let (id, address) = (self.service_id()?, server.address);
                plain(Change::DeleteServer { id, address, port })
            }
            Verb::Flush => plain(Change::Clear),
            Verb::Zero => plain(Change::Zero { id: self.service }),
            Verb::Set => {
                let [tcp, tcp_fin, udp] = self.timeouts;
                plain(Change::SetTimeouts { tcp, tcp_fin, udp })
            }
            Verb::List => ListOptions::from_given(self.given, self.service).map(Command::List),
            Verb::Save => Ok(Command::Save {
                numeric: self.given.has(Given::Numeric),
            }),
            Verb::Restore => Ok(Command::Restore),
            Verb::StartDaemon => Ok(Command::StartDaemon(StartDaemon {
                role: self.role,
                interface: self.interface,
                sync_id: self.sync_id,
                group: self.group,
                port: self.port,
                ttl: self.ttl,
                max_length: self.max_length,
            })),
            Verb::StopDaemon => Ok(Command::StopDaemon(StopDaemon {
                role: self.role,
                sync_id: self.sync_id,
            })),
            Verb::Help => Ok(Command::Help),
            Verb::Version => Ok(Command::Version),
        }
    }

    /// The service, which the acceptance table demanded before.
    fn service_id(&self) -> Result<ServiceId, UsageError> {
        self.service.ok_or_else(UsageError::try_help)
    }

    /// The real server, which the acceptance table demanded before.
    fn server_endpoint(&self) -> Result<Endpoint, UsageError> {
        self.server.ok_or_else(UsageError::try_help)
    }

    fn into_service(self) -> Result<VirtualService, UsageError> {
        let id = self.service_id()?;
        let is_persistent = self.given.has(Given::Persistent);
        let one_packet = self.given.has(Given::OnePacket);
        if let ServiceId::Address { protocol, port, .. } = id {
            if port == 0 && !is_persistent {
                return Err(UsageError::new(
                    "Zero port specified for non-persistent service",
                ));
            }
            if one_packet && protocol != Protocol::Udp {
                return Err(UsageError::new(
                    "One-Packet Scheduling is only for UDP virtual services",
                ));
            }
        }
        let (netmask, prefix) = match id.is_ipv6() {
            true => (0, self.prefix),
            false => (self.netmask, self.netmask.leading_ones() as u8),
        };
        let timeout = self.persistence;
        Ok(VirtualService {
            id,
            scheduler: self.scheduler,
            flags: self.flags,
            persistence: is_persistent.then_some(Persistence {
                timeout,
                prefix,
                netmask,
            }),
            one_packet,
            engine: self.engine,
        })
    }

    fn into_server_change(self) -> Result<Command, UsageError> {
        let id = self.service_id()?;
        let Endpoint {
            address,
            port: written,
        } = self.server_endpoint()?;
        let is_tunnel = self.method == ForwardingMethod::Tunnel;
        if address.is_ipv6() != id.is_ipv6() && !is_tunnel {
            return Err(UsageError::new(
                "Different address family is allowed only for tunneling servers",
            ));
        }
        let tunnel = match is_tunnel {
            true => self.tunnel()?,
            false if self.given.has_any(&TUNNEL_OPTIONS) => {
                return Err(UsageError::new(
                    "Tunnel options conflict with forward method",
                ));
            }
            false => TunnelType::default(),
        };
        let mut port = written.unwrap_or(self.server_port_default);
        let mut warnings = Vec::new();
        if let ServiceId::Address { port: forced, .. } = id
            && self.method != ForwardingMethod::Masquerade
        {
            if written.is_some_and(|written| written != forced) {
                let server = endpoint::text(address, port, None, None::<&super::super::Numeric>);
                let how = if is_tunnel {
                    "a tunnel"
                } else {
                    "direct routing"
                };
                warnings.push(format!(
                    "real server {server} of {id}: {how} does not change ports, so port {forced} \
                     is used; use -m to reach another port"
                ));
            }
            port = forced;
        }
        let server = RealServer {
            address,
            port,
            method: self.method,
            weight: i32::try_from(self.weight).unwrap_or(i32::MAX),
            upper: self.upper,
            lower: self.lower,
            tunnel,
        };
        let change = match self.verb {
            Verb::EditServer => Change::EditServer { id, server },
            _ => Change::AddServer { id, server },
        };
        Ok(Command::Change { change, warnings })
    }

    fn tunnel(&self) -> Result<TunnelType, UsageError> {
        let kind = self.tunnel_type;
        check_tunnel(kind, self.given)
            .map_err(|breach| UsageError::breach(breach, &format!("'{kind}' tunnel type")))?;
        let checksum = match (
            self.given.has(Given::TunCsum),
            self.given.has(Given::TunRemcsum),
        ) {
            (true, _) => TunnelChecksum::Full,
            (false, true) => TunnelChecksum::Remote,
            (false, false) => TunnelChecksum::None,
        };
        Ok(match kind {
            "gue" => TunnelType::Gue {
                port: self.tunnel_port,
                checksum,
            },
            "gre" => TunnelType::Gre { checksum },
            _ => TunnelType::Ipip,
        })
    }
}

/// Cuts a name to the bytes the kernel has room for, at a character's boundary.
fn clip(name: &str, bytes: usize) -> String {
    name[..name.floor_char_boundary(bytes)].to_owned()
}

fn timeout(text: &str, min: u32) -> Result<u32, UsageError> {
    decimal(text, min, MAX_TIMEOUT)
        .ok_or_else(|| UsageError::new(format_args!("invalid timeout value `{text}' specified")))
}

fn multicast_group(text: &str) -> Result<IpAddr, UsageError> {
    let (family, group) = match text.contains(':') {
        true => ("IPv6", text.parse::<Ipv6Addr>().map(IpAddr::V6)),
        false => ("IPv4", text.parse::<Ipv4Addr>().map(IpAddr::V4)),
    };
    group
        .ok()
        .filter(IpAddr::is_multicast)
        .ok_or_else(|| UsageError::new(format_args!("invalid {family} mcast-group `{text}'")))
}

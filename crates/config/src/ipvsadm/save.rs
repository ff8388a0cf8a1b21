//! Save files: what `-S` prints and `-R` reads.

use std::io::{self, Write};
use std::net::{IpAddr, Ipv4Addr};

use pointsman_director::model::{
    ForwardingMethod, Persistence, Protocol, RealServer, ServiceId, ServiceView, TunnelChecksum,
    TunnelType, VirtualService,
};

use super::arguments::{Command, UsageError, parse};
use super::resolve::Resolve;
use super::{endpoint, flags, order};

#[cfg(test)]
mod tests;

/// Writes services and real servers as commands, one a line, sorted as `-L` sorts them.
///
/// As with ipvsadm, thresholds are not saved, marks from 2^31 on are printed as negative numbers
/// and flag 3 alone of `sh` or `mh` as an empty list; the latter two can't be read back.
pub fn write(
    out: &mut impl Write,
    services: &[ServiceView],
    numeric: bool,
    names: &impl Resolve,
) -> io::Result<()> {
    let names = (!numeric).then_some(names);
    for view in order::services(services) {
        let id = service_option(&view.service.id, names);
        write_service(out, &view.service, &id)?;
        for server in order::servers(&view.servers) {
            write_server(out, &server.server, &view.service.id, &id, names)?;
        }
    }
    Ok(())
}

fn service_option(id: &ServiceId, names: Option<&impl Resolve>) -> String {
    match *id {
        ServiceId::Address {
            protocol,
            address,
            port,
        } => {
            let option = match protocol {
                Protocol::Tcp => "-t",
                Protocol::Udp => "-u",
                Protocol::Sctp => "--sctp-service",
            };
            format!(
                "{option} {}",
                endpoint::text(address, port, Some(protocol), names)
            )
        }
        ServiceId::Mark { mark, ipv6 } => {
            format!("-f {}{}", mark as i32, if ipv6 { " -6" } else { "" })
        }
    }
}

fn write_service(out: &mut impl Write, service: &VirtualService, id: &str) -> io::Result<()> {
    write!(out, "-A {id} -s {}", service.scheduler)?;
    if let Some(persistence) = service.persistence {
        write!(out, " -p {}", persistence.timeout)?;
        if let Some(mask) = mask_text(&service.id, persistence) {
            write!(out, " -M {mask}")?;
        }
    }
    if let Some(engine) = &service.engine {
        write!(out, " --pe {engine}")?;
    }
    if service.one_packet {
        write!(out, " -o")?;
    }
    if let Some(flags) = flags::text(service.flags, &service.scheduler) {
        write!(out, " -b {flags}")?;
    }
    writeln!(out)
}

/// The client mask, `None` when every client is on its own.
pub(super) fn mask_text(id: &ServiceId, persistence: Persistence) -> Option<String> {
    match id.is_ipv6() {
        true if persistence.prefix != 128 => Some(persistence.prefix.to_string()),
        false if persistence.netmask != u32::MAX => {
            Some(Ipv4Addr::from_bits(persistence.netmask).to_string())
        }
        _ => None,
    }
}

fn write_server(
    out: &mut impl Write,
    server: &RealServer,
    service: &ServiceId,
    id: &str,
    names: Option<&impl Resolve>,
) -> io::Result<()> {
    let protocol = match service {
        ServiceId::Address { protocol, .. } => Some(*protocol),
        ServiceId::Mark { .. } => None,
    };
    let method = match server.method {
        ForwardingMethod::Masquerade => "-m",
        ForwardingMethod::Tunnel => "-i",
        ForwardingMethod::Direct => "-g",
    };
    let address: IpAddr = server.address;
    let endpoint = endpoint::text(address, server.port, protocol, names);
    write!(out, "-a {id} -r {endpoint} {method} -w {}", server.weight)?;
    if server.method == ForwardingMethod::Tunnel {
        let checksum = |checksum| match checksum {
            TunnelChecksum::None => "--tun-nocsum",
            TunnelChecksum::Full => "--tun-csum",
            TunnelChecksum::Remote => "--tun-remcsum",
        };
        match server.tunnel {
            TunnelType::Ipip => write!(out, " --tun-type ipip")?,
            TunnelType::Gue {
                port,
                checksum: sum,
            } => {
                write!(out, " --tun-type gue --tun-port {port} {}", checksum(sum))?;
            }
            TunnelType::Gre { checksum: sum } => {
                write!(out, " --tun-type gre {}", checksum(sum))?;
            }
        }
    }
    writeln!(out)
}

/// A line of a save file that says something, split into arguments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line<'a> {
    /// Number in the file, from 1.
    pub number: usize,
    /// The arguments, without any leading words `ipvsadm`.
    pub arguments: Vec<&'a str>,
}

impl Line<'_> {
    /// Reads the line's command as `-R` does.
    ///
    /// `-R` within `-R` is refused, and `-h` means `-v`. The first line that cannot be read ends a
    /// restore; what the lines before it changed stays changed.
    pub fn command(&self, names: &impl Resolve) -> Result<Command, UsageError> {
        match parse(&self.arguments, names)? {
            Command::Restore => Err(UsageError::try_help()),
            Command::Help => Ok(Command::Version),
            command => Ok(command),
        }
    }
}

/// Splits a save file into lines and each at its blanks; there is no quoting and no comment.
///
/// Lines without arguments are left out.
pub fn lines(text: &str) -> impl Iterator<Item = Line<'_>> {
    text.split('\n').enumerate().filter_map(|(index, line)| {
        let words = line
            .split([' ', '\t', '\r'])
            .filter(|word| !word.is_empty());
        let arguments: Vec<&str> = words.skip_while(|word| *word == "ipvsadm").collect();
        (!arguments.is_empty()).then_some(Line {
            number: index + 1,
            arguments,
        })
    })
}

//! `host:port` as ipvsadm reads and prints it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use pointsman_director::model::Protocol;

use super::number::{decimal, inet_aton};
use super::resolve::Resolve;

/// An address and, if one was written, a port in host order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Endpoint {
    /// The address.
    pub address: IpAddr,
    /// The port; 0 can be written too.
    pub port: Option<u16>,
}

/// Reads `host[:port]`, `[v6]:port` or a bare IPv6 address; `None` when it is none of these.
///
/// Brackets need a port after them. Around a host name or an IPv4 address they are let through,
/// and the port is then ignored, as ipvsadm does. A port name is known only with a protocol.
pub fn parse(text: &str, protocol: Option<Protocol>, names: &impl Resolve) -> Option<Endpoint> {
    if let Some(bracketed) = text.strip_prefix('[') {
        let (host, after) = bracketed.rsplit_once(']')?;
        let port = after.strip_prefix(':')?;
        return match host.parse::<Ipv6Addr>() {
            Ok(address) => {
                let port = Some(self::port(port, protocol, names)?);
                Some(Endpoint {
                    address: address.into(),
                    port,
                })
            }
            Err(_) => Some(Endpoint {
                address: host_v4(host, names)?,
                port: None,
            }),
        };
    }
    if let Ok(address) = text.parse::<Ipv6Addr>() {
        return Some(Endpoint {
            address: address.into(),
            port: None,
        });
    }
    // Digits alone are a port to ipvsadm, and a port alone is no endpoint.
    if text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    match text.rsplit_once(':') {
        Some((host, port)) => Some(Endpoint {
            address: host_v4(host, names)?,
            port: Some(self::port(port, protocol, names)?),
        }),
        None => Some(Endpoint {
            address: host_v4(text, names)?,
            port: None,
        }),
    }
}

fn host_v4(host: &str, names: &impl Resolve) -> Option<IpAddr> {
    let known = inet_aton(host);
    known
        .or_else(|| (!host.is_empty()).then(|| names.address(host))?)
        .map(IpAddr::V4)
}

fn port(text: &str, protocol: Option<Protocol>, names: &impl Resolve) -> Option<u16> {
    match decimal(text, 0, u16::MAX.into()) {
        Some(port) => u16::try_from(port).ok(),
        None if text.is_empty() => None,
        None => names.port(text, protocol?),
    }
}

/// Prints an address and a port, with names where `names` has some.
///
/// Firewall-mark services have no protocol, so their ports stay numbers.
pub fn text(
    address: IpAddr,
    port: u16,
    protocol: Option<Protocol>,
    names: Option<&impl Resolve>,
) -> String {
    let host = names.and_then(|names| names.host_name(address));
    let host = host.unwrap_or_else(|| address_text(address));
    let port = names
        .zip(protocol)
        .and_then(|(names, protocol)| names.port_name(port, protocol))
        .unwrap_or_else(|| port.to_string());
    match address {
        IpAddr::V4(_) => format!("{host}:{port}"),
        IpAddr::V6(_) => format!("[{host}]:{port}"),
    }
}

/// Prints an address as C's `inet_ntop` does: `::a.b.c.d` when only the last 32 bits are used.
fn address_text(address: IpAddr) -> String {
    match address {
        IpAddr::V6(v6) if matches!(v6.segments(), [0, 0, 0, 0, 0, 0, high, _] if high != 0) => {
            format!("::{}", Ipv4Addr::from_bits(v6.to_bits() as u32))
        }
        _ => address.to_string(),
    }
}

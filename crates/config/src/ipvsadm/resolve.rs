//! What ipvsadm asks the host: names of machines and of ports.

use std::net::{IpAddr, Ipv4Addr};

use pointsman_director::model::Protocol;

/// A source of names, as `gethostbyname` and `getservbyname` are.
///
/// Every method may answer `None`; names then stay unknown and addresses and ports are printed as
/// numbers.
pub trait Resolve {
    /// IPv4 address of a host name; ipvsadm never looks up IPv6 names.
    fn address(&self, name: &str) -> Option<Ipv4Addr>;

    /// Port, host order, of a service name such as `https`.
    fn port(&self, name: &str, protocol: Protocol) -> Option<u16>;

    /// Name of the host with this address.
    fn host_name(&self, address: IpAddr) -> Option<String>;

    /// Name of the service on this port, host order.
    fn port_name(&self, port: u16, protocol: Protocol) -> Option<String>;
}

/// Knows no name at all: numbers only.
#[derive(Debug, Clone, Copy, Default)]
pub struct Numeric;

impl Resolve for Numeric {
    fn address(&self, _name: &str) -> Option<Ipv4Addr> {
        None
    }

    fn port(&self, _name: &str, _protocol: Protocol) -> Option<u16> {
        None
    }

    fn host_name(&self, _address: IpAddr) -> Option<String> {
        None
    }

    fn port_name(&self, _port: u16, _protocol: Protocol) -> Option<String> {
        None
    }
}

impl<R: Resolve + ?Sized> Resolve for &R {
    fn address(&self, name: &str) -> Option<Ipv4Addr> {
        (**self).address(name)
    }

    fn port(&self, name: &str, protocol: Protocol) -> Option<u16> {
        (**self).port(name, protocol)
    }

    fn host_name(&self, address: IpAddr) -> Option<String> {
        (**self).host_name(address)
    }

    fn port_name(&self, port: u16, protocol: Protocol) -> Option<String> {
        (**self).port_name(port, protocol)
    }
}

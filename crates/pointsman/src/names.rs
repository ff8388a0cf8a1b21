//! Names of hosts and ports, as the host's resolver and `/etc/services` have them.

use std::{
    collections::HashMap,
    ffi::CStr,
    mem::{size_of, zeroed},
    net::{IpAddr, Ipv4Addr, ToSocketAddrs},
    sync::OnceLock,
};

use pointsman_config::ipvsadm::Resolve;
use pointsman_director::model::Protocol;

/// The host's names.
#[derive(Debug, Default)]
pub(crate) struct SystemNames {
    services: OnceLock<Services>,
}

/// What `/etc/services` says.
#[derive(Debug, Default)]
struct Services {
    ports: HashMap<(String, Protocol), u16>,
    names: HashMap<(u16, Protocol), String>,
}

impl Services {
    fn read(text: &str) -> Self {
        let mut services = Self::default();
        for line in text.lines() {
            let line = line.split('#').next().unwrap_or_default();
            let mut words = line.split_whitespace();
            let (Some(name), Some((port, protocol))) = (
                words.next(),
                words.next().and_then(|word| word.split_once('/')),
            ) else {
                continue;
            };
            let protocol = match protocol {
                "tcp" => Protocol::Tcp,
                "udp" => Protocol::Udp,
                "sctp" => Protocol::Sctp,
                _ => continue,
            };
            let Ok(port) = port.parse() else {
                continue;
            };
            // The first line that fits counts, as in the C library.
            services
                .names
                .entry((port, protocol))
                .or_insert_with(|| name.to_owned());
            for name in std::iter::once(name).chain(words) {
                services
                    .ports
                    .entry((name.to_owned(), protocol))
                    .or_insert(port);
            }
        }
        services
    }
}

impl SystemNames {
    fn services(&self) -> &Services {
        self.services.get_or_init(|| {
            let text = std::fs::read_to_string("/etc/services").unwrap_or_default();
            Services::read(&text)
        })
    }
}

impl Resolve for SystemNames {
    fn address(&self, name: &str) -> Option<Ipv4Addr> {
        let mut found = (name, 0).to_socket_addrs().ok()?;
        found.find_map(|address| match address.ip() {
            IpAddr::V4(address) => Some(address),
            IpAddr::V6(_) => None,
        })
    }

    fn port(&self, name: &str, protocol: Protocol) -> Option<u16> {
        let key = (name.to_owned(), protocol);
        self.services().ports.get(&key).copied()
    }

    fn host_name(&self, address: IpAddr) -> Option<String> {
        reverse(address)
    }

    fn port_name(&self, port: u16, protocol: Protocol) -> Option<String> {
        self.services().names.get(&(port, protocol)).cloned()
    }
}

/// The name of an address, if the resolver knows one.
fn reverse(address: IpAddr) -> Option<String> {
    // SAFETY: all-zero bytes are a valid value of this plain C structure.
    let mut socket: libc::sockaddr_storage = unsafe { zeroed() };
    let length = match address {
        IpAddr::V4(address) => {
            // SAFETY: the storage is large and aligned enough for every kind of socket address.
            let v4 = unsafe { &mut *(&raw mut socket).cast::<libc::sockaddr_in>() };
            v4.sin_family = libc::AF_INET as libc::sa_family_t;
            v4.sin_addr.s_addr = u32::from_ne_bytes(address.octets());
            size_of::<libc::sockaddr_in>()
        }
        IpAddr::V6(address) => {
            // SAFETY: as above.
            let v6 = unsafe { &mut *(&raw mut socket).cast::<libc::sockaddr_in6>() };
            v6.sin6_family = libc::AF_INET6 as libc::sa_family_t;
            v6.sin6_addr.s6_addr = address.octets();
            size_of::<libc::sockaddr_in6>()
        }
    };
    let mut name = [0 as libc::c_char; 1025];
    // SAFETY: both pointers come with the lengths of what they point to.
    let result = unsafe {
        libc::getnameinfo(
            (&raw const socket).cast(),
            length as libc::socklen_t,
            name.as_mut_ptr(),
            name.len() as libc::socklen_t,
            std::ptr::null_mut(),
            0,
            libc::NI_NAMEREQD,
        )
    };
    if result != 0 {
        return None;
    }
    // SAFETY: on success the buffer holds a string with its NUL.
    let name = unsafe { CStr::from_ptr(name.as_ptr()) };
    Some(name.to_string_lossy().into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn services_have_names_aliases_and_comments() {
        let services = Services::read(
            "# services\nhttp\t80/tcp  www # WorldWideWeb\nhttp-alt 80/tcp\ndomain 53/udp\nodd 1/dccp\nbad x/tcp\n",
        );
        assert_eq!(services.names[&(80, Protocol::Tcp)], "http");
        assert_eq!(services.ports[&("www".to_owned(), Protocol::Tcp)], 80);
        assert_eq!(
            services.ports.get(&("domain".to_owned(), Protocol::Tcp)),
            None
        );
        assert_eq!(services.names.len(), 2);
    }

    #[test]
    fn loopback_has_a_name() {
        // Every host file has it; the resolver needs no network for it.
        let names = SystemNames::default();
        let name = names.host_name(IpAddr::V4(Ipv4Addr::LOCALHOST)).unwrap();
        assert_eq!(names.address(&name), Some(Ipv4Addr::LOCALHOST));
    }
}

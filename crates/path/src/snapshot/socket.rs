//! Sockets that wait for clients.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde::{Deserialize, Serialize};

/// A socket that waits for connections or datagrams.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Socket {
    /// `tcp` or `udp`.
    pub protocol: String,
    /// Its address; unspecified for all addresses of the family.
    pub address: IpAddr,
    /// True for `*`: all addresses of both families.
    #[serde(default)]
    pub both: bool,
    /// The device that it is bound to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<String>,
    /// Its port, host order.
    pub port: u16,
    /// How many connections wait to be taken.
    #[serde(default)]
    pub waiting: u32,
    /// How many may wait.
    #[serde(default)]
    pub backlog: u32,
    /// The first program that has it open, if that was told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub program: Option<String>,
}

impl Socket {
    /// Whether clients of this address and port reach it.
    pub fn serves(&self, protocol: &str, address: IpAddr, port: u16) -> bool {
        self.protocol == protocol && self.port == port && self.takes(address)
    }

    /// Whether it is for this address.
    pub fn takes(&self, address: IpAddr) -> bool {
        self.both
            || self.address == address
            || self.address.is_unspecified() && self.address.is_ipv4() == address.is_ipv4()
    }

    /// Reads one line of `ss --no-header --numeric --listening --tcp --udp --processes`.
    pub(crate) fn read(line: &str) -> Option<Self> {
        let mut words = line.split_whitespace();
        let protocol = words.next()?.to_owned();
        let _state = words.next()?;
        let waiting = words.next()?.parse().ok()?;
        let backlog = words.next()?.parse().ok()?;
        let (address, port) = words.next()?.rsplit_once(':')?;
        let _peer = words.next()?;
        // users:(("nginx",pid=1,fd=2),...)
        let program = words
            .next()
            .and_then(|users| users.split('"').nth(1))
            .map(str::to_owned);
        let (address, device) = match address.split_once('%') {
            Some((address, device)) => (address, Some(device)),
            None => (address, None),
        };
        let both = address == "*";
        let bare = address.trim_start_matches('[').trim_end_matches(']');
        Some(Self {
            protocol,
            address: if both {
                Ipv6Addr::UNSPECIFIED.into()
            } else if address == "0.0.0.0" {
                Ipv4Addr::UNSPECIFIED.into()
            } else {
                bare.parse().ok()?
            },
            both,
            device: device.map(|device| device.trim_end_matches(']').to_owned()),
            port: port.parse().ok()?,
            waiting,
            backlog,
            program,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_ss_are_read() {
        let read = |line| Socket::read(line).unwrap();
        let all = read(
            "tcp   LISTEN 0      128          0.0.0.0:22        0.0.0.0:*    users:((\"sshd\",pid=7,fd=3))",
        );
        assert!(all.serves("tcp", "192.0.2.1".parse().unwrap(), 22));
        assert!(!all.takes("2001:db8::1".parse().unwrap()));
        assert_eq!(all.program.as_deref(), Some("sshd"));
        assert_eq!((all.waiting, all.backlog), (0, 128));
        let both = read("tcp LISTEN 0 4096 *:80 *:*");
        assert!(both.takes("192.0.2.1".parse().unwrap()));
        let v6 = read("tcp LISTEN 0 511 [::]:80 [::]:*");
        assert!(v6.takes("2001:db8::1".parse().unwrap()));
        assert!(!v6.takes("192.0.2.1".parse().unwrap()));
        let bound = read("udp UNCONN 0 0 127.0.0.53%lo:53 0.0.0.0:*");
        assert_eq!(bound.device.as_deref(), Some("lo"));
        let scoped = read("udp UNCONN 0 0 [fe80::1]%eth0:546 [::]:*");
        assert_eq!(scoped.address.to_string(), "fe80::1");
        assert!(Socket::read("Netid State Recv-Q").is_none());
    }
}

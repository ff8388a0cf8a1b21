//! Rules that say which routing table is asked.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::message::Request;
use super::{Error, NLM_F_ACK, NLM_F_REQUEST, Netlink};

/// Bytes of `struct fib_rule_hdr`.
const HEADER_LEN: usize = 12;
const NLM_F_CREATE: u16 = libc::NLM_F_CREATE as u16;
const NLM_F_EXCL: u16 = libc::NLM_F_EXCL as u16;
const FRA_DST: u16 = 1;
const FRA_SRC: u16 = 2;
const FRA_IIFNAME: u16 = 3;
const FRA_GOTO: u16 = 4;
const FRA_PRIORITY: u16 = 6;
const FRA_FWMARK: u16 = 10;
const FRA_FLOW: u16 = 11;
const FRA_TUN_ID: u16 = 12;
const FRA_SUPPRESS_IFGROUP: u16 = 13;
const FRA_SUPPRESS_PREFIXLEN: u16 = 14;
const FRA_TABLE: u16 = 15;
const FRA_FWMASK: u16 = 16;
const FRA_OIFNAME: u16 = 17;
const FRA_L3MDEV: u16 = 19;
const FRA_UID_RANGE: u16 = 20;
const FRA_PROTOCOL: u16 = 21;
const FRA_IP_PROTO: u16 = 22;
const FRA_SPORT_RANGE: u16 = 23;
const FRA_DPORT_RANGE: u16 = 24;
const FIB_RULE_INVERT: u32 = 2;

/// What is done with packets that a rule is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum RuleAction {
    /// This table is asked.
    Table(u32),
    /// The table of the packet's VRF is asked.
    Vrf,
    /// The rule with this preference is next.
    Goto(u32),
    /// The next rule is next.
    Nothing,
    /// They are dropped.
    Blackhole,
    /// They are dropped, and who sent them is told that nobody is there.
    Unreachable,
    /// They are dropped, and who sent them is told that it is not allowed.
    Prohibit,
}

impl RuleAction {
    /// `FR_ACT_*`.
    fn number(self) -> u8 {
        match self {
            Self::Table(_) | Self::Vrf => 1,
            Self::Goto(_) => 2,
            Self::Nothing => 3,
            Self::Blackhole => 6,
            Self::Unreachable => 7,
            Self::Prohibit => 8,
        }
    }
}

/// A rule to be made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewRule {
    /// True for IPv6.
    pub ipv6: bool,
    /// Lower ones are asked first.
    pub preference: u32,
    /// What is done.
    pub action: RuleAction,
    /// Network of the packet's source.
    pub from: Option<(IpAddr, u8)>,
    /// Network of the packet's destination.
    pub to: Option<(IpAddr, u8)>,
    /// True when it is about all packets but those.
    pub not: bool,
    /// Type of service.
    pub tos: u8,
    /// Firewall mark, and which bits of it count.
    pub mark: Option<(u32, Option<u32>)>,
    /// Name of the interface by which they come.
    pub incoming: Option<String>,
    /// Name of the interface to which their socket is bound.
    pub outgoing: Option<String>,
    /// Realms of what comes (upper half) and where it goes.
    pub realms: Option<u32>,
    /// Routes with prefixes of at most so many bits don't count.
    pub suppress_prefix: Option<u32>,
    /// Routes by interfaces of this group don't count.
    pub suppress_group: Option<u32>,
    /// Id of the tunnel by which they come.
    pub tunnel: Option<u64>,
    /// First and last user of the socket.
    pub users: Option<(u32, u32)>,
    /// IP protocol.
    pub protocol: Option<u8>,
    /// First and last source port.
    pub source_ports: Option<(u16, u16)>,
    /// First and last destination port.
    pub destination_ports: Option<(u16, u16)>,
    /// `RTPROT_*`: who made it.
    pub made_by: u8,
}

impl NewRule {
    fn request(&self, kind: u16, flags: u16) -> Request {
        let mut header = [0; HEADER_LEN];
        header[0] = if self.ipv6 {
            libc::AF_INET6
        } else {
            libc::AF_INET
        } as u8;
        header[1] = self.to.map_or(0, |(_, prefix)| prefix);
        header[2] = self.from.map_or(0, |(_, prefix)| prefix);
        header[3] = self.tos;
        header[7] = self.action.number();
        if self.not {
            header[8..].copy_from_slice(&FIB_RULE_INVERT.to_ne_bytes());
        }
        let mut request = Request::new(kind, NLM_F_REQUEST | NLM_F_ACK | flags, &header)
            .attribute(FRA_PRIORITY, &self.preference.to_ne_bytes())
            .attribute(FRA_PROTOCOL, &[self.made_by]);
        for (kind, address) in [(FRA_DST, self.to), (FRA_SRC, self.from)] {
            // A network of no bits is everybody, which goes without an address.
            if let Some((address, 1..)) = address {
                request = request.address(kind, address);
            }
        }
        let numbers = [
            (FRA_FWMARK, self.mark.map(|(mark, _)| mark)),
            (FRA_FWMASK, self.mark.and_then(|(_, mask)| mask)),
            (FRA_FLOW, self.realms),
            (FRA_SUPPRESS_PREFIXLEN, self.suppress_prefix),
            (FRA_SUPPRESS_IFGROUP, self.suppress_group),
        ];
        for (kind, number) in numbers {
            if let Some(number) = number {
                request = request.attribute(kind, &number.to_ne_bytes());
            }
        }
        request = match self.action {
            RuleAction::Table(table) => request.attribute(FRA_TABLE, &table.to_ne_bytes()),
            RuleAction::Vrf => request.attribute(FRA_L3MDEV, &[1]),
            RuleAction::Goto(preference) => request.attribute(FRA_GOTO, &preference.to_ne_bytes()),
            _ => request,
        };
        let names = [(FRA_IIFNAME, &self.incoming), (FRA_OIFNAME, &self.outgoing)];
        for (kind, name) in names {
            if let Some(name) = name {
                request = request.attribute(kind, format!("{name}\0").as_bytes());
            }
        }
        if let Some(id) = self.tunnel {
            request = request.attribute(FRA_TUN_ID, &id.to_be_bytes());
        }
        if let Some((first, last)) = self.users {
            let range = [first.to_ne_bytes(), last.to_ne_bytes()].concat();
            request = request.attribute(FRA_UID_RANGE, &range);
        }
        if let Some(protocol) = self.protocol {
            request = request.attribute(FRA_IP_PROTO, &[protocol]);
        }
        let ports = [
            (FRA_SPORT_RANGE, self.source_ports),
            (FRA_DPORT_RANGE, self.destination_ports),
        ];
        for (kind, ports) in ports {
            if let Some((first, last)) = ports {
                let range = [first.to_ne_bytes(), last.to_ne_bytes()].concat();
                request = request.attribute(kind, &range);
            }
        }
        request
    }

    fn name(&self, request: &str) -> String {
        format!("{request} with preference {}", self.preference)
    }
}

impl Netlink {
    /// Makes a rule; false when one that says the same is there already.
    pub fn rule_add(&mut self, rule: &NewRule) -> Result<bool, Error> {
        let request = rule.request(libc::RTM_NEWRULE, NLM_F_CREATE | NLM_F_EXCL);
        match self.exchange(&rule.name("RTM_NEWRULE"), &request, |_| {}) {
            Ok(_) => Ok(true),
            Err(error) if error.errno() == Some(libc::EEXIST) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Takes a rule away; false when there was none.
    pub fn rule_delete(&mut self, rule: &NewRule) -> Result<bool, Error> {
        let request = rule.request(libc::RTM_DELRULE, 0);
        match self.exchange(&rule.name("RTM_DELRULE"), &request, |_| {}) {
            Ok(_) => Ok(true),
            Err(error) if matches!(error.errno(), Some(libc::ENOENT | libc::ENODEV)) => Ok(false),
            Err(error) => Err(error),
        }
    }
}

//! Questions to the segment of who has an address, and their answers.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use pointsman_wire::build::{Frame, arp_request};
use pointsman_wire::{Mac, icmp};

/// Who has `target`? Asked in the name of `sender`.
pub fn question(mac: Mac, sender: IpAddr, target: IpAddr) -> Vec<u8> {
    match (sender, target) {
        (IpAddr::V4(sender), IpAddr::V4(target)) => arp_request(mac, sender, target),
        (IpAddr::V6(sender), IpAddr::V6(target)) => {
            let [.., a, b, c] = target.octets();
            let group = Ipv6Addr::from([0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, a, b, c]);
            // Behind the target the option with its link-layer address: type 1, one unit of 8 bytes.
            let body = [target.octets().as_slice(), &[1, 1], &mac.0].concat();
            Frame::ipv6(sender, group)
                .macs(mac, Mac([0x33, 0x33, 0xff, a, b, c]))
                .ttl(255)
                .icmp(icmp::V6_NEIGHBOR_SOLICITATION, 0, 0)
                .payload(&body)
                .build()
        }
        _ => Vec::new(),
    }
}

/// Who says, to which address, and from which link-layer address, where it is: an ARP reply, or a
/// neighbor advertisement.
pub fn answer(frame: &[u8]) -> Option<(IpAddr, IpAddr, Mac)> {
    let mac = Mac(frame.get(6..12)?.try_into().ok()?);
    let v4 = |at: usize| {
        let bytes: [u8; 4] = frame.get(at..at + 4)?.try_into().ok()?;
        Some(IpAddr::V4(Ipv4Addr::from(bytes)))
    };
    let v6 = |at: usize| {
        let bytes: [u8; 16] = frame.get(at..at + 16)?.try_into().ok()?;
        Some(IpAddr::V6(Ipv6Addr::from(bytes)))
    };
    match frame.get(12..14)? {
        [8, 6] if frame.get(20..22)? == [0, 2] => Some((v4(28)?, v4(38)?, mac)),
        [0x86, 0xdd] if *frame.get(20)? == 58 && *frame.get(54)? == 136 => {
            Some((v6(62)?, v6(38)?, mac))
        }
        _ => None,
    }
}

/// Lets ARP replies and neighbor advertisements through.
pub fn answers() -> Vec<libc::sock_filter> {
    let load = |size: u32, at: u32| (libc::BPF_LD | size | libc::BPF_ABS, 0, 0, at);
    let equal = |value, yes, no| (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, yes, no, value);
    let verdict = |length| (libc::BPF_RET | libc::BPF_K, 0, 0, length);
    [
        load(libc::BPF_H, 12),
        equal(0x0806, 0, 2),
        load(libc::BPF_H, 20),
        equal(2, 5, 6),
        equal(0x86dd, 0, 5),
        load(libc::BPF_B, 20),
        equal(58, 0, 3),
        load(libc::BPF_B, 54),
        equal(136, 0, 1),
        verdict(u32::MAX),
        verdict(0),
    ]
    .map(|(code, jt, jf, k)| libc::sock_filter {
        code: code as u16,
        jt,
        jf,
        k,
    })
    .to_vec()
}

#[cfg(test)]
mod tests {
    use pointsman_wire::build::{arp_reply, neighbor_announcement};

    use super::*;

    #[test]
    fn answers_say_who_and_to_whom() {
        let mac = Mac([2, 0, 0, 0, 0, 1]);
        let (a, b) = (Ipv4Addr::new(10, 0, 0, 1), Ipv4Addr::new(10, 0, 0, 2));
        let reply = arp_reply(mac, a, mac, b);
        assert_eq!(answer(&reply), Some((a.into(), b.into(), mac)));
        assert_eq!(answer(&question(mac, a.into(), b.into())), None);
        let host: Ipv6Addr = "fd00::1".parse().unwrap();
        let heard = answer(&neighbor_announcement(mac, host, false)).unwrap();
        assert_eq!(heard.0, IpAddr::V6(host));
        assert_eq!(answer(&question(mac, host.into(), host.into())), None);
        assert_eq!(answer(&[]), None);
    }
}

//! The operator's words as records hold them.

use std::net::IpAddr;

use crate::{
    model::{ForwardingMethod, ServiceId, VirtualService},
    record::{Address, ServiceKey, method, service_flag},
};

/// An address as records hold it.
pub fn address_words(address: IpAddr) -> Address {
    let mut words = [0; 4];
    match address {
        IpAddr::V4(address) => words[0] = u32::from_ne_bytes(address.octets()),
        IpAddr::V6(address) => {
            for (word, bytes) in words.iter_mut().zip(address.octets().chunks_exact(4)) {
                *word = u32::from_ne_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
            }
        }
    }
    words
}

/// An address from a record.
pub fn words_address(words: &Address, ipv6: bool) -> IpAddr {
    if !ipv6 {
        return IpAddr::from(words[0].to_ne_bytes());
    }
    let mut octets = [0; 16];
    for (bytes, word) in octets.chunks_exact_mut(4).zip(words) {
        bytes.copy_from_slice(&word.to_ne_bytes());
    }
    IpAddr::from(octets)
}

/// What a service is found by in the tables.
pub fn service_key(id: &ServiceId) -> ServiceKey {
    match id {
        ServiceId::Address {
            protocol,
            address,
            port,
        } => ServiceKey {
            address: address_words(*address),
            port: port.to_be(),
            protocol: protocol.number(),
            ipv6: u8::from(address.is_ipv6()),
        },
        ServiceId::Mark { mark, ipv6 } => ServiceKey {
            address: [*mark, 0, 0, 0],
            port: 0,
            protocol: 0,
            ipv6: u8::from(*ipv6),
        },
    }
}

/// The kernel's number of a forwarding method.
pub fn method_number(forwarding: ForwardingMethod) -> u8 {
    match forwarding {
        ForwardingMethod::Masquerade => method::MASQUERADE,
        ForwardingMethod::Tunnel => method::TUNNEL,
        ForwardingMethod::Direct => method::DIRECT,
    }
}

/// Scheduler flags as the kernel's bits.
pub(super) fn flag_bits(config: &VirtualService) -> u32 {
    let mut bits = 0;
    if config.flags.flag1 {
        bits |= service_flag::SCHED1;
    }
    if config.flags.flag2 {
        bits |= service_flag::SCHED2;
    }
    if config.flags.flag3 {
        bits |= service_flag::SCHED3;
    }
    bits
}

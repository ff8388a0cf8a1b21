//! The order of ipvsadm's lists.
//!
//! ipvsadm compares keys by a subtraction cut to 32 bits, which is no order at all across
//! 2^31 apart, so the result also depends on the algorithm: the C library's merge sort.

use std::cmp::Ordering;
use std::net::IpAddr;

use pointsman_director::model::{RealServer, ServerView, ServiceId, ServiceView};

/// Sorts services: firewall mark, family, protocol, address, port.
pub(crate) fn services(services: &[ServiceView]) -> Vec<&ServiceView> {
    merge_sort(services.iter().collect(), &|a, b| {
        compare_services(&a.service.id, &b.service.id)
    })
}

/// Sorts real servers: address, port.
pub(crate) fn servers(servers: &[ServerView]) -> Vec<&ServerView> {
    merge_sort(servers.iter().collect(), &|a, b| {
        compare_servers(&a.server, &b.server)
    })
}

fn compare_services(left: &ServiceId, right: &ServiceId) -> Ordering {
    let key = |id: &ServiceId| match *id {
        ServiceId::Address { protocol, port, .. } => (0, protocol.number().into(), port.into()),
        ServiceId::Mark { mark, .. } => (mark, 0, 0),
    };
    let family = |id: &ServiceId| if id.is_ipv6() { 10 } else { 2 };
    let (left_mark, left_protocol, left_port): (u32, u32, u32) = key(left);
    let (right_mark, right_protocol, right_port) = key(right);
    wrapping_order(left_mark, right_mark)
        .then_with(|| wrapping_order(family(left), family(right)))
        .then_with(|| wrapping_order(left_protocol, right_protocol))
        .then_with(|| match (left, right) {
            (ServiceId::Address { address: a, .. }, ServiceId::Address { address: b, .. }) => {
                compare_addresses(*a, *b)
            }
            _ => Ordering::Equal,
        })
        .then_with(|| wrapping_order(left_port, right_port))
}

fn compare_servers(left: &RealServer, right: &RealServer) -> Ordering {
    compare_addresses(left.address, right.address)
        .then_with(|| wrapping_order(left.port.into(), right.port.into()))
}

/// Compares word by word; the left address alone says how many words there are.
fn compare_addresses(left: IpAddr, right: IpAddr) -> Ordering {
    let count = if left.is_ipv6() { 4 } else { 1 };
    let pairs = words(left).into_iter().zip(words(right)).take(count);
    pairs
        .map(|(a, b)| wrapping_order(a, b))
        .find(|order| order.is_ne())
        .unwrap_or(Ordering::Equal)
}

fn words(address: IpAddr) -> [u32; 4] {
    match address {
        IpAddr::V4(address) => [address.to_bits(), 0, 0, 0],
        IpAddr::V6(address) => {
            let bits = address.to_bits();
            [96, 64, 32, 0].map(|shift| (bits >> shift) as u32)
        }
    }
}

fn wrapping_order(left: u32, right: u32) -> Ordering {
    (left.wrapping_sub(right) as i32).cmp(&0)
}

/// Stable merge sort, top down, the shorter half first; right even for a `compare` that is not
/// transitive, in that it makes the same comparisons as the C library.
fn merge_sort<T: Copy>(items: Vec<T>, compare: &impl Fn(T, T) -> Ordering) -> Vec<T> {
    if items.len() < 2 {
        return items;
    }
    let mut left = items;
    let right = left.split_off(left.len() / 2);
    let mut left = merge_sort(left, compare).into_iter().peekable();
    let mut right = merge_sort(right, compare).into_iter().peekable();
    let mut merged = Vec::with_capacity(left.len() + right.len());
    while let (Some(&a), Some(&b)) = (left.peek(), right.peek()) {
        let smaller = if compare(a, b).is_le() {
            left.next()
        } else {
            right.next()
        };
        merged.extend(smaller);
    }
    merged.extend(left);
    merged.extend(right);
    merged
}

//! Firewall marks of packets, made by the operator's rules.
//!
//! netfilter comes behind the programs, so its marks do not exist yet. The rules are walked only for
//! packets that no connection knows, and only while some service is known by a mark.

use crate::{
    headers::Headers,
    record::{Address, MARK_PORTS, MarkRuleRecord, PortSpan, mark_flag},
    tables::{Env, Tables},
};

/// The mark of a packet that came in by the device `ifindex`; 0 for none.
#[inline(always)]
pub fn of<T: Tables, E: Env>(tables: &T, env: &E, h: &Headers, ifindex: u32) -> u32 {
    let Some(settings) = tables.settings() else {
        return 0;
    };
    let first = settings.mark_rules >> 16;
    let count = settings.mark_rules & 0xffff;
    let mut mark = env.opaque(0);
    let mut next = env.opaque(0);
    env.repeat(count, |index| {
        if index < next {
            return true;
        }
        let Some(rule) = tables.mark_rule(first + index) else {
            return false;
        };
        if !matches(rule, h, ifindex, mark) {
            return true;
        }
        if rule.flags & mark_flag::SKIP != 0 {
            next = index.saturating_add(1).saturating_add(rule.value);
        } else {
            mark = (mark & !rule.mask) ^ rule.value;
        }
        true
    });
    mark
}

/// Whether a packet with the mark so far matches a rule: what most packets differ in comes first.
#[inline(always)]
fn matches(rule: &MarkRuleRecord, h: &Headers, ifindex: u32, mark: u32) -> bool {
    if !begins(
        &h.flow.destination,
        &rule.destination,
        &rule.destination_mask,
    ) {
        return false;
    }
    if rule.families & (1 << (h.flow.ipv6 & 1)) == 0 {
        return false;
    }
    if rule.protocol != 0 && rule.protocol != h.flow.protocol {
        return false;
    }
    if rule.ifindex != 0 && rule.ifindex != ifindex {
        return false;
    }
    let port = u16::from_be(h.flow.destination_port);
    let mut one = 0;
    let mut span = 0;
    while span < MARK_PORTS {
        one |= u32::from(is_in(port, rule.ports[span]));
        span += 1;
    }
    if one == 0 {
        return false;
    }
    if rule.flags & mark_flag::MORE == 0 {
        return true;
    }
    begins(&h.flow.source, &rule.source, &rule.source_mask)
        && is_in(u16::from_be(h.flow.source_port), rule.source_ports)
        && mark & rule.match_mask == rule.match_value
}

#[inline(always)]
fn begins(address: &Address, prefix: &Address, mask: &Address) -> bool {
    let differs = |word: usize| (address[word] ^ prefix[word]) & mask[word];
    differs(0) | differs(1) | differs(2) | differs(3) == 0
}

#[inline(always)]
fn is_in(port: u16, span: PortSpan) -> bool {
    span.low <= port && port <= span.high
}

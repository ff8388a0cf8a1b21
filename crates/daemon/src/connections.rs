//! Connections as `ipvsadm -Lc` shows them.

use std::{collections::HashMap, net::IpAddr};

use pointsman_director::{
    control::words_address,
    model::{ConnectionView, Protocol},
    record::{ConnectionRecord, FlowKey, connection_flag},
    sctp, tcp,
};

/// Nanoseconds of a second.
const SECOND: u64 = 1_000_000_000;

/// Addresses of real servers by index.
pub type Names = HashMap<u32, IpAddr>;

/// A connection for people, at `now` nanoseconds of the programs' clock; `None` when it is over or
/// its real server is not known.
pub fn view(
    key: &FlowKey,
    record: &ConnectionRecord,
    names: &Names,
    now: u64,
) -> Option<ConnectionView> {
    let template = record.is_template();
    // A template with connections outlives its time.
    let kept = template && record.word.load() & connection_flag::DEAD == 0;
    if record.is_over(now) && !(kept && record.members.load() != 0) {
        return None;
    }
    let ipv6 = key.ipv6 != 0;
    // As templates lie in the table.
    let protocol = if template {
        !key.protocol
    } else {
        key.protocol
    };
    let state = match Protocol::from_number(protocol) {
        _ if template && record.is_assured() => Some("ASSURED"),
        _ if template => Some("NONE"),
        Some(Protocol::Tcp) => tcp::NAMES.get(usize::from(record.state())).copied(),
        Some(Protocol::Udp) => Some("UDP"),
        Some(Protocol::Sctp) => sctp::NAMES.get(usize::from(record.state())).copied(),
        _ => None,
    };
    let left = record.expires.load().saturating_sub(now) / SECOND;
    Some(ConnectionView {
        protocol,
        expires: u32::try_from(left).unwrap_or(u32::MAX),
        state: state.unwrap_or("NONE").to_owned(),
        client: words_address(&key.source, ipv6),
        client_port: if template {
            0
        } else {
            u16::from_be(key.source_port)
        },
        address: words_address(&key.destination, ipv6),
        port: u16::from_be(key.destination_port),
        server: *names.get(&record.server)?,
        server_port: u16::from_be(record.server_port),
    })
}

#[cfg(test)]
mod tests {
    use pointsman_director::control::address_words;

    use super::*;

    fn key(protocol: u8) -> FlowKey {
        FlowKey {
            source: address_words("192.168.1.10".parse().unwrap()),
            destination: address_words("192.168.1.100".parse().unwrap()),
            source_port: 40005_u16.to_be(),
            destination_port: 8443_u16.to_be(),
            protocol,
            ..FlowKey::default()
        }
    }

    fn record(word: u32) -> ConnectionRecord {
        let record = ConnectionRecord {
            server: 3,
            server_port: 443_u16.to_be(),
            ..ConnectionRecord::default()
        };
        record.expires.store(1000 * SECOND);
        record.word.store(word);
        record
    }

    #[test]
    fn a_connection_reads_as_the_kernel_would_print_it() {
        let names = Names::from([(3, "10.1.0.12".parse().unwrap())]);
        let word = u32::from(tcp::state::FIN_WAIT) | connection_flag::INACTIVE;
        let view = view(&key(6), &record(word), &names, 100 * SECOND + 1).unwrap();
        assert_eq!(view.state, "FIN_WAIT");
        assert_eq!(view.expires, 899);
        assert_eq!(
            (view.client_port, view.port, view.server_port),
            (40005, 8443, 443)
        );
        assert_eq!(view.server, names[&3]);
    }

    #[test]
    fn a_template_reads_as_the_kernel_would_print_it() {
        let names = Names::from([(3, "10.1.0.12".parse().unwrap())]);
        let template = FlowKey {
            source_port: 0,
            protocol: !6,
            ..key(6)
        };
        let shown = |key: &FlowKey, record: &ConnectionRecord, now| {
            view(key, record, &names, now).map(|view| {
                let ends = (view.client_port, view.port, view.expires);
                (view.protocol, view.state, ends, view.address.to_string())
            })
        };
        let record = record(connection_flag::TEMPLATE);
        let address = "192.168.1.100".to_owned();
        let plain = (6, "NONE".to_owned(), (0, 8443, 1000), address.clone());
        assert_eq!(shown(&template, &record, 0), Some(plain));
        record.word.store(connection_flag::TEMPLATE | 1);
        let assured = (6, "ASSURED".to_owned(), (0, 8443, 1000), address);
        assert_eq!(shown(&template, &record, 0), Some(assured));
        assert_eq!(shown(&template, &record, 2000 * SECOND), None);
        record.members.store(1);
        assert!(shown(&template, &record, 2000 * SECOND).is_some());
        let mark = FlowKey {
            destination: [9_u32.to_be(), 0, 0, 0],
            destination_port: 0,
            protocol: !0,
            ..template
        };
        let by_mark = (0, "ASSURED".to_owned(), (0, 0, 1000), "0.0.0.9".to_owned());
        assert_eq!(shown(&mark, &record, 0), Some(by_mark));
    }

    #[test]
    fn udp_has_one_state_and_what_is_over_is_not_shown() {
        let names = Names::from([(3, "10.1.0.12".parse().unwrap())]);
        assert_eq!(view(&key(17), &record(0), &names, 0).unwrap().state, "UDP");
        assert_eq!(view(&key(17), &record(0), &names, 1000 * SECOND), None);
        assert_eq!(
            view(&key(17), &record(connection_flag::DEAD), &names, 0),
            None
        );
        assert_eq!(view(&key(17), &record(0), &Names::new(), 0), None);
    }
}

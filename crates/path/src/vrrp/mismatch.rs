//! What two virtual routers do not agree about.

use std::net::IpAddr;

use pointsman_wire::advert::{Authentication, Form};
use pointsman_wire::vrrp::HOP_LIMIT;

use super::Speaker;
use super::split::list;

/// What the two do not agree about, and what to do.
pub(super) fn mismatch(one: &Speaker, other: &Speaker) -> Option<(String, String)> {
    let both = |what: &str, a: &dyn std::fmt::Display, b: &dyn std::fmt::Display, fix: &str| {
        Some((format!("{what} {a} and {b}"), fix.to_owned()))
    };
    let (Some(a), Some(b)) = (one.advert(), other.advert()) else {
        let broken = [one, other].into_iter().find_map(|speaker| {
            let error = speaker.last.advert.as_ref().err()?;
            Some((speaker.source, error))
        });
        let (source, error) = broken?;
        return Some((
            format!("what {source} sends is no advertisement: {error}"),
            "use another version of its program".to_owned(),
        ));
    };
    let (version_a, version_b) = (a.form.version(), b.form.version());
    if version_a != version_b {
        return both(
            "VRRP versions",
            &version_a,
            &version_b,
            "set the same version (`version`, `vrrp_version`) on both",
        );
    }
    if one.vrid != other.vrid {
        return both(
            "virtual router ids",
            &one.vrid,
            &other.vrid,
            "set the same virtual_router_id on both",
        );
    }
    if let Some(found) = destinations(one, other) {
        return Some(found);
    }
    for speaker in [one, other] {
        let last = &speaker.last;
        if last.destination.is_multicast() && last.hop_limit != HOP_LIMIT {
            return Some((
                format!(
                    "what {} sends has hop limit {} instead of {HOP_LIMIT}",
                    speaker.source, last.hop_limit
                ),
                "find the router or rule that changes the hop limit".to_owned(),
            ));
        }
        if last.style.is_none() {
            return Some((
                format!("what {} sends has a wrong checksum", speaker.source),
                "see whether a card or a filter on the way changes it".to_owned(),
            ));
        }
    }
    if one.last.style != other.last.style {
        return Some((
            "one takes the checksum over a pseudo header (keepalived, FRR), the other does not (RFC 9568)"
                .to_owned(),
            "set v3_checksum_as_v2 (keepalived 2.2.8 and later) alike on both".to_owned(),
        ));
    }
    if let (
        Form::V2 {
            authentication: first,
            seconds,
        },
        Form::V2 {
            authentication: second,
            seconds: other_seconds,
        },
    ) = (a.form, b.form)
    {
        if first.kind() != second.kind() {
            return both(
                "authentication types",
                &kind(first),
                &kind(second),
                "set the same auth_type on both",
            );
        }
        if first != second {
            return Some((
                "their passwords differ".to_owned(),
                "set the same auth_pass on both".to_owned(),
            ));
        }
        if seconds != other_seconds {
            return both(
                "intervals of seconds",
                &seconds,
                &other_seconds,
                "set the same advert_int on both: version 2 wants it",
            );
        }
    }
    let sorted = |addresses: &[IpAddr]| {
        let mut sorted = addresses.to_vec();
        sorted.sort();
        sorted
    };
    if sorted(&a.addresses) != sorted(&b.addresses) {
        return both(
            "virtual addresses",
            &list(&a.addresses),
            &list(&b.addresses),
            "set the same virtual_ipaddress on both; others into virtual_ipaddress_excluded",
        );
    }
    None
}

fn kind(authentication: Authentication) -> String {
    match authentication {
        Authentication::None => "none".to_owned(),
        Authentication::Password(_) => "PASS".to_owned(),
        Authentication::Other(2) => "AH".to_owned(),
        Authentication::Other(other) => other.to_string(),
    }
}

/// Whether one sends where the other does not listen.
fn destinations(one: &Speaker, other: &Speaker) -> Option<(String, String)> {
    let (to_one, to_other) = (other.last.destination, one.last.destination);
    if to_one.is_multicast() != to_other.is_multicast() {
        return Some((
            format!("one sends to {to_one}, the other to {to_other}"),
            "set unicast_peer on both, or on neither".to_owned(),
        ));
    }
    if to_one.is_multicast() {
        return (to_one != to_other).then(|| {
            (
                format!("groups {to_one} and {to_other}"),
                "set the same group on both".to_owned(),
            )
        });
    }
    for (speaker, peer) in [(one, other), (other, one)] {
        let to = speaker.last.destination;
        if to != peer.source {
            return Some((
                format!(
                    "{} sends to {to}, and the other is {}",
                    speaker.source, peer.source
                ),
                "mend unicast_peer and unicast_src_ip".to_owned(),
            ));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use pointsman_wire::Mac;
    use pointsman_wire::advert::{Advert, ChecksumStyle};

    use super::super::AdvertFrame;
    use super::*;

    fn speaker(last: u8) -> Speaker {
        let source: IpAddr = [10, 0, 0, last].into();
        Speaker {
            source,
            vrid: 51,
            last: AdvertFrame {
                mac: Mac([2, 0, 0, 0, 0, last]),
                source,
                destination: [224, 0, 0, 18].into(),
                hop_limit: 255,
                vrid: 51,
                advert: Ok(Advert {
                    form: Form::V2 {
                        authentication: Authentication::None,
                        seconds: 1,
                    },
                    vrid: 51,
                    priority: 100,
                    addresses: vec![[10, 0, 0, 100].into()],
                }),
                style: Some(ChecksumStyle::Message),
            },
            times: Vec::new(),
            stopped: false,
            points: Default::default(),
            sample: 0,
        }
    }

    #[test]
    fn what_two_do_not_agree_about_is_told() {
        assert_eq!(mismatch(&speaker(1), &speaker(2)), None);
        type Change = fn(&mut Speaker);
        fn advert(speaker: &mut Speaker) -> &mut Advert {
            speaker.last.advert.as_mut().expect("an advertisement")
        }
        let changes: [(Change, &str); 10] = [
            (
                |it| advert(it).form = Form::V3 { centiseconds: 100 },
                "VRRP versions 2 and 3",
            ),
            (|it| it.vrid = 52, "virtual router ids 51 and 52"),
            (
                |it| it.last.destination = [10, 0, 0, 1].into(),
                "one sends to",
            ),
            (
                |it| it.last.destination = [224, 0, 0, 19].into(),
                "groups 224.0.0.19 and 224.0.0.18",
            ),
            (
                |it| it.last.hop_limit = 64,
                "10.0.0.2 sends has hop limit 64",
            ),
            (
                |it| it.last.style = None,
                "10.0.0.2 sends has a wrong checksum",
            ),
            (
                |it| it.last.style = Some(ChecksumStyle::PseudoHeader),
                "checksum over a pseudo header",
            ),
            (
                |it| {
                    advert(it).form = Form::V2 {
                        authentication: Authentication::Password([1; 8]),
                        seconds: 1,
                    };
                },
                "authentication types none and PASS",
            ),
            (
                |it| {
                    advert(it).form = Form::V2 {
                        authentication: Authentication::None,
                        seconds: 2,
                    };
                },
                "intervals of seconds 1 and 2",
            ),
            (
                |it| advert(it).addresses.push([10, 0, 0, 101].into()),
                "virtual addresses 10.0.0.100 and 10.0.0.100 10.0.0.101",
            ),
        ];
        for (change, wanted) in changes {
            let mut other = speaker(2);
            change(&mut other);
            let (what, fix) = mismatch(&speaker(1), &other).expect(wanted);
            assert!(what.contains(wanted), "{what}");
            assert!(!fix.is_empty());
        }
    }

    #[test]
    fn peers_have_to_be_each_other() {
        let pair = |to_one: u8, to_other: u8| {
            let (mut one, mut other) = (speaker(1), speaker(2));
            one.last.destination = [10, 0, 0, to_other].into();
            other.last.destination = [10, 0, 0, to_one].into();
            mismatch(&one, &other).map(|(what, _)| what)
        };
        assert_eq!(pair(1, 2), None);
        let wrong = pair(1, 9).expect("a mismatch");
        assert_eq!(
            wrong,
            "10.0.0.1 sends to 10.0.0.9, and the other is 10.0.0.2"
        );
    }
}

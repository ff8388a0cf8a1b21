//! `lvs_method`: how a real server is reached.

use pointsman_director::model::{ForwardingMethod, TunnelChecksum, TunnelType};

use super::super::document::Word;
use super::super::model::Method;
use super::super::reader::Reader;
use super::super::values;
use super::small;

/// `NAT`, `DR`, or `TUN [type ipip|gue port N|gre] [nocsum|csum|remcsum]`.
pub(super) fn read(reader: &mut Reader<'_>, words: &[Word]) -> Option<Method> {
    let (word, rest) = words.split_first()?;
    let method = match &*word.text {
        "NAT" => ForwardingMethod::Masquerade,
        "DR" => ForwardingMethod::Direct,
        "TUN" => ForwardingMethod::Tunnel,
        other => {
            let text = format!("`{other}`: a forwarding method is NAT, DR or TUN");
            reader.error(word.place, text);
            return None;
        }
    };
    let mut kind = "ipip";
    let mut port = None;
    let mut checksum = TunnelChecksum::None;
    let mut words = rest.iter();
    while let Some(word) = words.next() {
        match &*word.text {
            "type" if method == ForwardingMethod::Tunnel => match words.next() {
                Some(word) if ["ipip", "gue", "gre"].contains(&&*word.text) => kind = &word.text,
                Some(word) => {
                    let text = format!("`{}`: a tunnel is ipip, gue or gre", word.text);
                    reader.error(word.place, text);
                }
                None => reader.error(word.place, "`type` needs ipip, gue or gre".to_owned()),
            },
            "port" if method == ForwardingMethod::Tunnel => match words.next() {
                Some(word) => match values::whole(word, "port", 1, 65535) {
                    Ok(number) => port = Some(small(number)),
                    Err(fault) => reader.fault(fault),
                },
                None => reader.error(word.place, "`port` needs a number".to_owned()),
            },
            "nocsum" if method == ForwardingMethod::Tunnel => checksum = TunnelChecksum::None,
            "csum" if method == ForwardingMethod::Tunnel => checksum = TunnelChecksum::Full,
            "remcsum" if method == ForwardingMethod::Tunnel => checksum = TunnelChecksum::Remote,
            other => {
                let text = format!("`{other}`: nothing that is said of a forwarding method");
                reader.error(word.place, text);
            }
        }
    }
    let place = word.place;
    let tunnel = match (kind, port) {
        ("gue", Some(port)) => TunnelType::Gue { port, checksum },
        ("gue", None) => {
            reader.error(
                place,
                "a gue tunnel needs a port: `type gue port N`".to_owned(),
            );
            TunnelType::Ipip
        }
        (_, Some(_)) => {
            reader.error(place, "only gue tunnels have a port".to_owned());
            TunnelType::Ipip
        }
        ("gre", None) if checksum == TunnelChecksum::Remote => {
            reader.error(place, "gre tunnels have no remote checksums".to_owned());
            TunnelType::Gre {
                checksum: TunnelChecksum::None,
            }
        }
        ("gre", None) => TunnelType::Gre { checksum },
        _ => TunnelType::Ipip,
    };
    if tunnel != TunnelType::Ipip {
        let text = "gue and gre tunnels are refused by the director; only ipip is done".to_owned();
        reader.unsupported(place, text);
    }
    Some(Method { method, tunnel })
}

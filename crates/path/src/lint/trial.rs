//! Frames that show in a node's twin what is wrong with the node.

use pointsman_director::model::ForwardingMethod;
use pointsman_filter::catalogue::Role;
use pointsman_wire::Mac;

use super::firewall::kinds;
use super::site::{Site, Target};
use crate::finding::{Shows, Trial};
use crate::snapshot::{Link, Snapshot};

/// A frame of a role, put in at a link of a node.
pub(super) fn put_in(
    site: &Site<'_>,
    target: &Target<'_>,
    (node, role, method): (&Snapshot, Role, ForwardingMethod),
    id: &str,
    link: &Link,
    shows: Shows,
) -> Option<Trial> {
    let kinds = kinds(site, target, node, role, method);
    let kind = kinds.into_iter().find(|kind| kind.id == id)?;
    Some(addressed(kind.frame, link, shows))
}

/// A frame for a link, whoever it was for before.
pub(super) fn addressed(mut frame: Vec<u8>, link: &Link, shows: Shows) -> Trial {
    if let (Some(Mac(octets)), Some(destination)) = (link.mac, frame.first_chunk_mut()) {
        // Those for all stay so.
        if *destination != [u8::MAX; 6] {
            *destination = octets;
        }
    }
    Trial {
        frame,
        enters: true,
        port: Some(link.name.clone()),
        shows,
        tempting: Vec::new(),
    }
}

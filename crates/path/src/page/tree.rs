//! Which box hangs below which: trees along the ways, and the cables that close rings.

use std::collections::BTreeMap;

use super::scene::{Cable, CableEnd, Card};
use super::travel::Travel;
use crate::report::Report;
use crate::topology::Role;

/// Cables between drawn nodes, each once.
pub(super) fn cables(cards: &[Card<'_>]) -> Vec<Cable> {
    let mut cables: Vec<Cable> = Vec::new();
    let at = |name: &str| {
        let mut nodes = cards.iter().map(|card| card.node.map(|node| &*node.name));
        nodes.position(|own| own == Some(name))
    };
    for (card, node) in cards
        .iter()
        .enumerate()
        .filter_map(|(at, own)| Some((at, own.node?)))
    {
        for port in &node.ports {
            let Some(peer) = &port.peer else { continue };
            let Some(other) = at(&peer.node).filter(|other| *other != card) else {
                continue;
            };
            let known = cables.iter().any(|cable| {
                let is = |end: usize, card: usize, port: &str| {
                    (cable.ends[end].card, &*cable.ends[end].port) == (card, port)
                };
                (0..2).any(|end| is(end, card, &port.name) || is(end, other, &peer.port))
            });
            if !known {
                cables.push(cable((card, &port.name), (other, &peer.port), true));
            }
        }
    }
    cables
}

fn cable(one: (usize, &str), other: (usize, &str), known: bool) -> Cable {
    let ends = [one, other].map(|(card, port)| CableEnd {
        card,
        port: port.to_owned(),
        x: 0.0,
        top: false,
    });
    Cable {
        ends,
        straight: false,
        known,
        lanes: 0,
        around: 0,
    }
}

/// Boxes in the order in which ways come to them.
pub(super) fn order(travels: &[Travel], cards: &[Card<'_>]) -> Vec<usize> {
    let mut order: Vec<usize> = Vec::new();
    let places = travels.iter().flat_map(|travel| &travel.places);
    for (name, _) in places {
        let mut nodes = cards.iter().map(|card| card.node.map(|node| &*node.name));
        if let Some(at) = nodes.position(|own| own == Some(name))
            && !order.contains(&at)
        {
            order.push(at);
        }
    }
    order
}

/// Makes trees of boxes: each hangs below the one from which ways first come to it. Returns the roots.
pub(super) fn plant(
    cards: &mut Vec<Card<'_>>,
    cables: &mut Vec<Cable>,
    order: &[usize],
    report: &Report,
) -> Vec<usize> {
    let rank = |at: usize| {
        order
            .iter()
            .position(|own| *own == at)
            .unwrap_or(usize::MAX)
    };
    let prefer = |card: &Card<'_>| match card.node.map(|node| node.role) {
        Some(Role::Client) => 0,
        Some(Role::Gateway) => 1,
        Some(Role::Switch) => 2,
        Some(Role::Host) => 3,
        Some(Role::Director) => 4,
        _ => 5,
    };
    let mut parent: BTreeMap<usize, (usize, usize)> = BTreeMap::new();
    let mut placed: Vec<usize> = Vec::new();
    let mut roots = Vec::new();
    while placed.len() < cards.len() {
        let free = (0..cards.len()).filter(|at| !placed.contains(at));
        let Some(root) = free.min_by_key(|at| (prefer(&cards[*at]), rank(*at), *at)) else {
            break;
        };
        roots.push(root);
        placed.push(root);
        loop {
            // Next whom ways come to first; from the one placed last.
            let mut best: Option<(usize, usize, usize, usize)> = None;
            for (number, cable) in cables.iter().enumerate() {
                let [one, other] = [cable.ends[0].card, cable.ends[1].card];
                for (from, to) in [(one, other), (other, one)] {
                    let Some(age) = placed.iter().position(|own| *own == from) else {
                        continue;
                    };
                    let on_way = rank(to) != usize::MAX;
                    // Along a way from whom it was at before, off it from the first.
                    let age = if on_way { placed.len() - age } else { age };
                    let found = (rank(to), age, number, to);
                    if !placed.contains(&to) && best.is_none_or(|best| found < best) {
                        best = Some(found);
                    }
                }
            }
            let Some((.., number, child)) = best else {
                break;
            };
            let cable = &mut cables[number];
            cable.straight = true;
            let child_end = usize::from(cable.ends[1].card == child);
            cable.ends[child_end].top = true;
            let from = cable.ends[1 - child_end].card;
            parent.insert(child, (from, number));
            cards[from].children.push(child);
            cards[child].has_top = true;
            cards[child].depth = cards[from].depth + 1;
            placed.push(child);
        }
    }
    let rings = cables.iter_mut().filter(|cable| !cable.straight);
    for (around, cable) in rings.enumerate() {
        let [one, other] = [0, 1].map(|end| cards[cable.ends[end].card].depth);
        let lower = usize::from(other > one);
        if one != other {
            cable.ends[lower].top = true;
        }
        cable.around = around;
    }
    let has_client = cards
        .iter()
        .any(|card| card.node.is_some_and(|node| node.role == Role::Client));
    if roots.len() > 1 || !has_client {
        roots = vec![hang(cards, cables, &roots, !has_client, report)];
    }
    roots
}

/// Puts a box for what nobody read above all trees.
fn hang(
    cards: &mut Vec<Card<'_>>,
    cables: &mut Vec<Cable>,
    roots: &[usize],
    is_client: bool,
    report: &Report,
) -> usize {
    let root = cards.len();
    let mut lines = vec!["not looked at".to_owned()];
    if let (true, Some(client)) = (is_client, report.question.client) {
        lines.push(format!("client {client}"));
    }
    for card in cards.iter_mut() {
        card.depth += 1;
    }
    for child in roots {
        let mut own = cable((root, ""), (*child, ""), false);
        own.straight = true;
        own.ends[1].top = true;
        cables.push(own);
        cards[*child].has_top = true;
    }
    cards.push(Card {
        name: if is_client {
            "clients' side"
        } else {
            "between"
        }
        .to_owned(),
        lines,
        children: roots.to_vec(),
        ..Card::default()
    });
    root
}

/// Devices that ways touch and that no drawn cable ends at.
pub(super) fn tell_inner(cards: &mut [Card<'_>], cables: &[Cable], travels: &[Travel]) {
    for visit in travels.iter().flat_map(|travel| &travel.visits) {
        for device in &visit.inner {
            let mut ends = cables.iter().flat_map(|cable| &cable.ends);
            let is_port = ends.any(|end| end.card == visit.card && end.port == *device);
            let card = &mut cards[visit.card];
            if !is_port && !card.inner.contains(device) {
                card.inner.push(device.clone());
            }
        }
    }
}

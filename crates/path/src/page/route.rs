//! The corners of lines: along cables, within boxes, and to where they end.

use std::fmt::Write as _;

use super::scene::{Cable, LANE, RAIL, ROW, Scene, ZONE};
use super::travel::{Step, Visit};

/// How far lines swerve around corners.
const CORNER: f64 = 5.0;

/// A corner: how far from the left, how far from the top.
pub(super) type Dot = (f64, f64);

/// The corners of a cable from its first end to its second, moved aside.
pub(super) fn cable_dots(scene: &Scene<'_>, cable: &Cable, aside: f64) -> Vec<Dot> {
    let edge = |end: usize| {
        let own = &cable.ends[end];
        let card = &scene.cards[own.card];
        (
            own.x + aside,
            if own.top {
                card.y
            } else {
                card.y + card.height
            },
        )
    };
    let (one, other) = (edge(0), edge(1));
    if cable.straight {
        return vec![one, other];
    }
    // Around: through the free space below the upper box, and beside all if there are boxes between.
    let below = |depth: usize| {
        let layer = scene.cards.iter().filter(|card| card.depth == depth);
        layer.map(|card| card.y + card.height).fold(0.0, f64::max)
    };
    let depth = |end: usize| scene.cards[cable.ends[end].card].depth;
    let ring = 16.0 + 20.0 * cable.around as f64 + aside;
    let first = below(depth(0).min(depth(1))) + ring;
    if depth(0).abs_diff(depth(1)) <= 1 {
        return vec![one, (one.0, first), (other.0, first), other];
    }
    let upper_first = depth(0) < depth(1);
    let (upper, lower) = if upper_first {
        (one, other)
    } else {
        (other, one)
    };
    let last = below(depth(0).max(depth(1)) - 1) + ring;
    let beside = scene.width - 8.0 - 20.0 * cable.around as f64 - aside;
    let mut dots = vec![
        upper,
        (upper.0, first),
        (beside, first),
        (beside, last),
        (lower.0, last),
        lower,
    ];
    if !upper_first {
        dots.reverse();
    }
    dots
}

/// How far a lane is from the middle of its cable.
pub(super) fn aside(cable: &Cable, lane: usize) -> f64 {
    (lane as f64 - (cable.lanes.saturating_sub(1)) as f64 / 2.0) * LANE
}

/// Where a lane meets a box: at its edge.
fn door(scene: &Scene<'_>, step: Step) -> Dot {
    let cable = &scene.cables[step.cable];
    let end = &cable.ends[step.end];
    let card = &scene.cards[end.card];
    let y = if end.top {
        card.y
    } else {
        card.y + card.height
    };
    (end.x + aside(cable, step.lane), y)
}

/// Where a way is lost within a box.
pub(super) fn grave(scene: &Scene<'_>, visit: &Visit) -> Dot {
    let card = &scene.cards[visit.card];
    let x = match visit.enters {
        Some(step) => {
            let cable = &scene.cables[step.cable];
            let (x, half) = (cable.ends[step.end].x, cable.half() + 12.0);
            if cable.straight { x + half } else { x - half }
        }
        None => card.x + RAIL + 19.0,
    };
    (x, card.y + card.lost_top() + ROW / 2.0)
}

/// The corners of a way within a box.
pub(super) fn within(dots: &mut Vec<Dot>, scene: &Scene<'_>, visit: &Visit, turn: f64) {
    let card = &scene.cards[visit.card];
    let enters = visit.enters.map(|step| door(scene, step));
    let leaves = visit.leaves.map(|step| door(scene, step));
    dots.extend(enters);
    let mut x = enters.map(|(x, _)| x);
    for device in &visit.inner {
        let Some(at) = card.inner.iter().position(|own| own == device) else {
            continue;
        };
        let y = card.y + card.inner_top() + ROW * at as f64 + ROW / 2.0;
        let chip = card.x + ZONE;
        dots.extend(x.map(|x| (x, y)));
        dots.push((chip - 4.0, y));
        x = Some(chip - 4.0);
    }
    if visit.lost.is_some() {
        let (to, y) = grave(scene, visit);
        dots.extend(x.map(|x| (x, y)));
        dots.push((to, y));
        return;
    }
    match (x, leaves) {
        (Some(from), Some((to, edge))) => {
            if (from - to).abs() > 0.5 || enters.is_some_and(|(_, y)| (y - edge).abs() < 0.5) {
                dots.push((from, turn));
                dots.push((to, turn));
            }
            dots.push((to, edge));
        }
        (Some(from), None) if visit.inner.is_empty() => dots.push((from, turn)),
        (None, Some((to, edge))) => {
            dots.push((to, turn));
            dots.push((to, edge));
        }
        _ => {}
    }
}

/// The first half of a line.
pub(super) fn half(dots: &[Dot]) -> Vec<Dot> {
    match dots {
        [(ax, ay), (bx, by)] => vec![(*ax, *ay), ((ax + bx) / 2.0, (ay + by) / 2.0)],
        _ => dots[..dots.len().min(2)].to_vec(),
    }
}

/// A path through these corners, with the corners rounded.
pub(super) fn rounded(dots: &[Dot]) -> String {
    let mut path = String::new();
    for (at, (x, y)) in dots.iter().copied().enumerate() {
        let next = dots.get(at + 1).copied();
        let before = at.checked_sub(1).map(|at| dots[at]);
        let (Some(before), Some(next)) = (before, next) else {
            let _ = write!(path, "{}{x:.1},{y:.1}", if at == 0 { "M" } else { "L" });
            continue;
        };
        let towards = |(tx, ty): Dot| {
            let length = ((tx - x).powi(2) + (ty - y).powi(2)).sqrt();
            let part = if length > 0.0 {
                CORNER.min(length / 2.0) / length
            } else {
                0.0
            };
            (x + (tx - x) * part, y + (ty - y) * part)
        };
        let ((ax, ay), (bx, by)) = (towards(before), towards(next));
        let _ = write!(path, "L{ax:.1},{ay:.1}Q{x:.1},{y:.1} {bx:.1},{by:.1}");
    }
    path
}

//! Where things are in the drawing: nodes as boxes in layers, each above what is behind it.
//!
//! The first node of the way is on top. A box is as wide as everything that hangs below it, so that cables run
//! straight down; those that close a ring go around. All lengths are CSS pixels.

use super::markup::cut;
use super::travel::{Travel, travels};
use super::tree::{cables, order, plant, tell_inner};
use crate::finding::Finding;
use crate::report::{Report, Status};
use crate::topology::{Node, Role, Topology};

/// Most nodes that are drawn.
const NODES: usize = 40;
/// Most findings named in one box.
const FLAGS: usize = 3;
/// From a box's left side to its ports.
pub(super) const RAIL: f64 = 21.0;
/// From a box's left side to its text, which lines must not cross.
pub(super) const ZONE: f64 = 44.0;
/// Between lines on the same cable.
pub(super) const LANE: f64 = 9.0;
/// Between boxes side by side.
const GAP: f64 = 10.0;
/// Between layers.
const CHANNEL: f64 = 38.0;
/// Heights of rows.
const LABEL: f64 = 15.0;
const NAME: f64 = 18.0;
const SMALL: f64 = 14.0;
pub(super) const FLAG: f64 = 23.0;
pub(super) const ROW: f64 = 22.0;
/// Most characters of a device's name.
pub(super) const PORT_NAME: usize = 15;
/// Widths of a character: bold names, and the smaller fixed pitch.
const WIDE: f64 = 8.2;
pub(super) const NARROW: f64 = 6.5;

/// Everything that is drawn.
pub(super) struct Scene<'a> {
    pub(super) cards: Vec<Card<'a>>,
    pub(super) cables: Vec<Cable>,
    pub(super) travels: Vec<Travel>,
    pub(super) width: f64,
    pub(super) height: f64,
    /// What all names begin and end with, and the drawing leaves out.
    pub(super) common: (String, String),
    /// How many nodes are not drawn.
    pub(super) left_out: usize,
}

/// A finding's place in the drawing.
pub(super) struct Flag<'a> {
    pub(super) number: usize,
    pub(super) is_cause: bool,
    pub(super) finding: &'a Finding,
}

/// A node as a box.
#[derive(Default)]
pub(super) struct Card<'a> {
    /// None for what nobody read.
    pub(super) node: Option<&'a Node>,
    pub(super) name: String,
    pub(super) lines: Vec<String>,
    pub(super) flags: Vec<Flag<'a>>,
    pub(super) flags_more: usize,
    /// Devices without a cable that packets were seen at.
    pub(super) inner: Vec<String>,
    pub(super) depth: usize,
    pub(super) children: Vec<usize>,
    pub(super) x: f64,
    pub(super) y: f64,
    pub(super) width: f64,
    pub(super) height: f64,
    /// What the ports of cables that go around take from the right side.
    pub(super) extra_top: f64,
    pub(super) extra_bottom: f64,
    pub(super) has_top: bool,
    pub(super) turns: usize,
    pub(super) losses: usize,
}

/// A cable between two boxes.
pub(super) struct Cable {
    pub(super) ends: [CableEnd; 2],
    /// False for one that goes around.
    pub(super) straight: bool,
    /// False where nobody read how they are connected.
    pub(super) known: bool,
    /// Lines that go along it.
    pub(super) lanes: usize,
    /// Its number among those that go around.
    pub(super) around: usize,
}

/// An end of a cable.
pub(super) struct CableEnd {
    pub(super) card: usize,
    pub(super) port: String,
    pub(super) x: f64,
    pub(super) top: bool,
}

impl<'a> Scene<'a> {
    /// Lays out what a report tells; none if it tells of no node.
    pub(super) fn new(report: &'a Report) -> Option<Self> {
        let topology = report.topology.as_ref()?;
        let mut travels = travels(report);
        let (nodes, left_out) = chosen(topology, &travels, report);
        if nodes.is_empty() {
            return None;
        }
        let common = common(&nodes);
        let mut cards: Vec<Card<'_>> = nodes
            .iter()
            .map(|node| card(node, report, &common))
            .collect();
        let mut cables = cables(&cards);
        let order = order(&travels, &cards);
        let roots = plant(&mut cards, &mut cables, &order, report);
        for travel in &mut travels {
            travel.find_visits(&cards, &mut cables);
        }
        for cable in cables.iter().filter(|cable| !cable.straight) {
            for end in &cable.ends {
                let card = &mut cards[end.card];
                if end.top {
                    card.extra_top += cable.slot(end);
                } else {
                    card.extra_bottom += cable.slot(end);
                }
            }
        }
        tell_inner(&mut cards, &cables, &travels);
        for travel in &travels {
            for visit in &travel.visits {
                cards[visit.card].turns += 1;
                cards[visit.card].losses += usize::from(visit.lost.is_some());
            }
        }
        let mut scene = Self {
            cards,
            cables,
            travels,
            width: 0.0,
            height: 0.0,
            common,
            left_out,
        };
        scene.place(&roots);
        Some(scene)
    }

    fn place(&mut self, roots: &[usize]) {
        for at in 0..self.cards.len() {
            self.cards[at].height = self.cards[at].rows();
        }
        let mut x = 1.0;
        for root in roots {
            let width = self.spread(*root, x);
            x += width + GAP;
        }
        let rings = self.cables.iter().filter(|cable| !cable.straight).count();
        let deepest = self.cards.iter().map(|card| card.depth).max().unwrap_or(0);
        let far = |cable: &&Cable| {
            let [one, other] = [0, 1].map(|end| self.cards[cable.ends[end].card].depth);
            !cable.straight && one.abs_diff(other) > 1
        };
        let margin = match self.cables.iter().filter(far).count() {
            0 => 0.0,
            _ => 12.0 + 20.0 * rings as f64,
        };
        self.width = x - GAP + margin + 1.0;
        let mut y = 1.0;
        for depth in 0..=deepest {
            let layer = || (0..self.cards.len()).filter(|at| self.cards[*at].depth == depth);
            let height = layer().map(|at| self.cards[at].height).fold(0.0, f64::max);
            let layer: Vec<usize> = layer().collect();
            for at in layer {
                self.cards[at].y = y;
            }
            y += height + self.channel(depth);
        }
        let bottom = self.cards.iter().map(|card| card.y + card.height);
        let below = self.channel(deepest) - CHANNEL;
        self.height = bottom.fold(0.0, f64::max) + below + 1.0;
        for at in 0..self.cables.len() {
            for end in 0..2 {
                self.cables[at].ends[end].x = self.port_x(at, end);
            }
        }
    }

    /// The free space below a layer: cables that go around cross it.
    fn channel(&self, depth: usize) -> f64 {
        let crossing = self.cables.iter().filter(|cable| {
            let depth_of = |end: usize| self.cards[cable.ends[end].card].depth;
            let (upper, lower) = (depth_of(0).min(depth_of(1)), depth_of(0).max(depth_of(1)));
            !cable.straight && (depth == upper || depth + 1 == lower && lower > upper + 1)
        });
        let most = crossing.map(|cable| cable.around + 1).max();
        CHANNEL + most.map_or(0.0, |most| 8.0 + 20.0 * most as f64)
    }

    /// Gives a box and all below it their columns; returns its width.
    fn spread(&mut self, at: usize, x: f64) -> f64 {
        let mut below = 0.0;
        for child in self.cards[at].children.clone() {
            if below > 0.0 {
                below += GAP;
            }
            below += self.spread(child, x + below);
        }
        let card = &self.cards[at];
        let width = card.need().max(below + card.extra_bottom);
        self.cards[at].x = x;
        self.cards[at].width = width;
        width
    }

    fn port_x(&self, cable: usize, end: usize) -> f64 {
        let cable_at = &self.cables[cable];
        if cable_at.straight {
            // Above the lower box's rail.
            let [one, other] = [&cable_at.ends[0], &cable_at.ends[1]];
            let lower = if one.top { one } else { other };
            return self.cards[lower.card].x + RAIL;
        }
        let own = &cable_at.ends[end];
        let before = self.cables[..cable].iter().filter(|other| !other.straight);
        let before = before.flat_map(|other| other.ends.iter().map(move |end| (other, end)));
        let before = before.filter(|(_, other)| other.card == own.card && other.top == own.top);
        let taken: f64 = before.map(|(other, end)| other.slot(end)).sum();
        let card = &self.cards[own.card];
        card.x + card.width - 8.0 - cable_at.half() - taken
    }
}

impl Card<'_> {
    /// The least width that its text needs.
    fn need(&self) -> f64 {
        let small = |text: &String| text.chars().count() as f64 * NARROW;
        let flags = self
            .flags
            .iter()
            .map(|flag| (flag.finding.code.name().len() + 3) as f64 * NARROW + 10.0);
        let lines = self.lines.iter().map(small);
        let inner = self.inner.iter().map(|name| small(name) + 16.0);
        // `never seen at` and a device.
        let lost = (self.losses > 0).then_some(24.0 + 22.0 * NARROW);
        let text = flags
            .chain(lines)
            .chain(inner)
            .chain(lost)
            .fold(0.0, f64::max);
        let name = self.name.chars().count() as f64 * WIDE;
        (ZONE + text.max(name) + 10.0 + self.extra_top.max(self.extra_bottom)).max(124.0)
    }

    fn rows(&self) -> f64 {
        self.turn() + self.turn_height() / 2.0 + if self.has_bottom() { LABEL } else { 4.0 }
    }

    fn has_bottom(&self) -> bool {
        !self.children.is_empty() || self.extra_bottom > 0.0
    }

    pub(super) fn text_top(&self) -> f64 {
        if self.has_top || self.extra_top > 0.0 {
            LABEL + 4.0
        } else {
            6.0
        }
    }

    pub(super) fn lines_top(&self) -> f64 {
        self.text_top() + NAME
    }

    pub(super) fn flags_top(&self) -> f64 {
        self.lines_top() + SMALL * self.lines.len() as f64 + 4.0
    }

    pub(super) fn inner_top(&self) -> f64 {
        let more = if self.flags_more > 0 { SMALL } else { 0.0 };
        self.flags_top() + FLAG * self.flags.len() as f64 + more
    }

    pub(super) fn lost_top(&self) -> f64 {
        self.inner_top() + ROW * self.inner.len() as f64
    }

    /// The middle of the row where lines turn.
    pub(super) fn turn(&self) -> f64 {
        self.lost_top() + ROW * self.losses as f64 + self.turn_height() / 2.0
    }

    fn turn_height(&self) -> f64 {
        12.0 + LANE * self.turns.clamp(1, 6) as f64
    }
}

impl Cable {
    /// Half of what its lines take, and a bit.
    pub(super) fn half(&self) -> f64 {
        self.lanes.saturating_sub(1) as f64 * LANE / 2.0 + 7.0
    }

    /// What a port of a cable that goes around takes, with its name.
    fn slot(&self, end: &CableEnd) -> f64 {
        let name = end.port.chars().count().min(PORT_NAME) as f64;
        2.0 * self.half() + name * NARROW + 12.0
    }
}

/// Nodes worth drawing: those of the ways, of the question and of findings, else all.
fn chosen<'a>(
    topology: &'a Topology,
    travels: &[Travel],
    report: &Report,
) -> (Vec<&'a Node>, usize) {
    let findings: Vec<&Finding> = report.cause.iter().chain(&report.also).collect();
    let is_used = |node: &&Node| {
        let mut places = travels.iter().flat_map(|travel| &travel.places);
        let asked = [Role::Client, Role::Director, Role::RealServer].contains(&node.role);
        asked
            || places.any(|(name, _)| *name == node.name)
            || findings.iter().any(|finding| finding.node == node.name)
    };
    let mut nodes: Vec<&Node> = topology.nodes.iter().filter(is_used).collect();
    let mut way = |from: usize, to: usize| {
        let (Some(from), Some(to)) = (nodes.get(from), nodes.get(to)) else {
            return;
        };
        for stop in topology.way(&from.name, &to.name).unwrap_or_default() {
            if !nodes.iter().any(|node| node.name == stop.node.name) {
                nodes.push(stop.node);
            }
        }
    };
    for to in 1..topology.nodes.len().min(NODES) {
        way(0, to);
    }
    if nodes.is_empty() {
        nodes.extend(&topology.nodes);
    }
    nodes.truncate(NODES);
    let left_out = topology.nodes.len() - nodes.len();
    (nodes, left_out)
}

/// What all names begin with up to a dash, and end with from a point on.
fn common(nodes: &[&Node]) -> (String, String) {
    let names: Vec<&str> = nodes.iter().map(|node| &*node.name).collect();
    let [first, rest @ ..] = &names[..] else {
        return Default::default();
    };
    if rest.is_empty() {
        return Default::default();
    }
    let beginning = first.rfind('-').map_or("", |at| &first[..=at]);
    let beginning = (0..=beginning.len())
        .rev()
        .filter(|end| beginning[..*end].ends_with('-'))
        .map(|end| &beginning[..end])
        .find(|text| {
            names
                .iter()
                .all(|name| name.len() > text.len() && name.starts_with(text))
        });
    let ends = first.match_indices('.').map(|(at, _)| &first[at..]);
    let mut ends = ends.filter(|text| {
        names
            .iter()
            .all(|name| name.len() > text.len() && name.ends_with(text))
    });
    let beginning = beginning.unwrap_or_default();
    let end = ends.next().unwrap_or_default();
    let fits = names
        .iter()
        .all(|name| name.len() > beginning.len() + end.len());
    let end = if fits { end } else { "" };
    (beginning.to_owned(), end.to_owned())
}

fn shortened<'b>(name: &'b str, (beginning, end): &(String, String)) -> &'b str {
    let name = name.strip_prefix(beginning.as_str()).unwrap_or(name);
    name.strip_suffix(end.as_str()).unwrap_or(name)
}

fn card<'a>(node: &'a Node, report: &'a Report, common: &(String, String)) -> Card<'a> {
    let is_broken = report.verdict.status != Status::Healthy;
    let findings = report.cause.iter().chain(&report.also).enumerate();
    let mut flags: Vec<Flag<'_>> = findings
        .filter(|(_, finding)| finding.node == node.name)
        .map(|(at, finding)| Flag {
            number: at + 1,
            is_cause: is_broken && at == 0 && report.cause.is_some(),
            finding,
        })
        .collect();
    let flags_more = flags.len().saturating_sub(FLAGS);
    flags.truncate(FLAGS);
    let role = match node.role {
        Role::Client => "client",
        Role::Gateway => "gateway",
        Role::Switch => "switch",
        Role::Host => "host",
        Role::Director => "director",
        Role::RealServer => "real server",
        Role::Other => "",
    };
    let name = cut(shortened(&node.name, common), 22);
    let mut lines = Vec::new();
    if !role.is_empty() && role != name {
        lines.push(role.to_owned());
    }
    let vip = report.question.service.ip();
    let has_vip = node.addresses.contains(&vip);
    let own = node
        .addresses
        .iter()
        .filter(|own| **own != vip && own.is_ipv4() == vip.is_ipv4());
    let shown = if node.role == Role::Gateway { 0 } else { 2 };
    lines.extend(own.take(shown).map(|own| cut(&own.to_string(), 26)));
    if has_vip {
        lines.push(cut(&format!("VIP {vip}"), 30));
    }
    Card {
        node: Some(node),
        name,
        lines,
        flags,
        flags_more,
        ..Card::default()
    }
}

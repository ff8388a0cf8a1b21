//! The drawing as SVG: boxes, cables, the ways of packets, and where they end.

use std::fmt::Write as _;

use super::markup::{cut, escaped};
use super::route::{Dot, aside, cable_dots, grave, half, rounded, within};
use super::scene::{Cable, Card, FLAG, LANE, NARROW, PORT_NAME, ROW, Scene, ZONE};
use super::travel::{Kind, Travel};
use crate::report::Report;

/// The drawing with its caption and legend; nothing if there is nothing to draw.
pub(super) fn drawing(report: &Report) -> String {
    let Some(scene) = Scene::new(report) else {
        return String::new();
    };
    let (width, height) = (scene.width.ceil(), scene.height.ceil());
    let mut svg = String::new();
    let _ = write!(
        svg,
        "<figure class=\"drawing\"><div class=\"scroll\"><svg xmlns=\"http://www.w3.org/2000/svg\" role=\"img\" \
         aria-labelledby=\"drawn\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" height=\"{height}\" \
         style=\"max-width:100%;min-width:{}px\"><title id=\"drawn\">{}</title>",
        (width * 0.8).floor(),
        escaped(&words(report, &scene))
    );
    for cable in &scene.cables {
        let _ = write!(
            svg,
            "<path class=\"cable{}\" d=\"{}\"/>",
            if cable.known { "" } else { " unread" },
            rounded(&cable_dots(&scene, cable, 0.0))
        );
    }
    for card in &scene.cards {
        frame(&mut svg, card);
    }
    // What was seen lies over what was not.
    for kind in [Kind::Ahead, Kind::Answer, Kind::Request] {
        for travel in scene.travels.iter().filter(|travel| travel.kind == kind) {
            line(&mut svg, &scene, travel);
        }
    }
    for card in &scene.cards {
        label(&mut svg, card);
    }
    for cable in &scene.cables {
        ports(&mut svg, &scene, cable);
    }
    for travel in &scene.travels {
        losses(&mut svg, &scene, travel);
    }
    svg += "</svg></div>";
    caption(&mut svg, &scene, report);
    svg + "</figure>\n"
}

/// The drawing in words, for those who don't see it.
fn words(report: &Report, scene: &Scene<'_>) -> String {
    let mut words = format!("The way to {}. ", report.question.service);
    for travel in scene
        .travels
        .iter()
        .filter(|travel| travel.kind != Kind::Ahead)
    {
        let mut nodes: Vec<&str> = Vec::new();
        for visit in &travel.visits {
            nodes.push(&scene.cards[visit.card].name);
        }
        let _ = write!(
            words,
            "{}: {}",
            if travel.kind == Kind::Request {
                "Requests"
            } else {
                "Answers"
            },
            nodes.join(", ")
        );
        words += match &travel.lost {
            Some(_) => "; they end there. ",
            None => ". ",
        };
    }
    words
}

fn frame(svg: &mut String, card: &Card<'_>) {
    let class = match card.flags.first() {
        None if card.node.is_none() => "unread",
        None => "plain",
        Some(flag) if flag.is_cause => "cause",
        Some(_) => "also",
    };
    let _ = write!(
        svg,
        "<rect class=\"node {class}\" x=\"{:.1}\" y=\"{:.1}\" width=\"{:.1}\" height=\"{:.1}\" rx=\"7\"/>",
        card.x, card.y, card.width, card.height
    );
}

fn label(svg: &mut String, card: &Card<'_>) {
    let x = card.x + ZONE;
    let full = card.node.map_or("", |node| &*node.name);
    let _ = write!(
        svg,
        "<g><title>{}</title><text class=\"name\" x=\"{x:.1}\" y=\"{:.1}\">{}</text></g>",
        escaped(full),
        card.y + card.text_top() + 11.0,
        escaped(&card.name)
    );
    for (at, text) in card.lines.iter().enumerate() {
        let class = if text.starts_with("VIP ") {
            "line vip"
        } else {
            "line"
        };
        let _ = write!(
            svg,
            "<text class=\"{class}\" x=\"{x:.1}\" y=\"{:.1}\">{}</text>",
            card.y + card.lines_top() + 10.0 + 14.0 * at as f64,
            escaped(text)
        );
    }
    for (at, flag) in card.flags.iter().enumerate() {
        let y = card.y + card.flags_top() + FLAG * at as f64;
        let text = format!("{} {}", flag.number, flag.finding.code);
        let class = if flag.is_cause { "cause" } else { "also" };
        let width = text.chars().count() as f64 * NARROW + 12.0;
        let _ = write!(
            svg,
            "<a href=\"#finding-{}\"><rect class=\"flag {class}\" x=\"{:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" \
             height=\"18\" rx=\"4\"/><text class=\"flag {class}\" x=\"{:.1}\" y=\"{:.1}\">{}</text></a>",
            flag.number,
            x - 2.0,
            x + 4.0,
            y + 13.0,
            escaped(&text)
        );
    }
    if card.flags_more > 0 {
        let _ = write!(
            svg,
            "<text class=\"line\" x=\"{x:.1}\" y=\"{:.1}\">and {} more</text>",
            card.y + card.inner_top() - 4.0,
            card.flags_more
        );
    }
    for (at, name) in card.inner.iter().enumerate() {
        let y = card.y + card.inner_top() + ROW * at as f64;
        let text = cut(name, PORT_NAME);
        let width = text.chars().count() as f64 * NARROW + 12.0;
        let _ = write!(
            svg,
            "<rect class=\"port\" x=\"{x:.1}\" y=\"{:.1}\" width=\"{width:.1}\" height=\"17\" rx=\"3\"/>\
             <text class=\"portname\" x=\"{:.1}\" y=\"{:.1}\">{}</text>",
            y + 2.0,
            x + 6.0,
            y + 14.0,
            escaped(&text)
        );
    }
}

/// Both ports of a cable, with their names.
fn ports(svg: &mut String, scene: &Scene<'_>, cable: &Cable) {
    if !cable.known {
        return;
    }
    let half = cable.half();
    for end in &cable.ends {
        let card = &scene.cards[end.card];
        let (edge, text) = if end.top {
            (card.y, card.y + 13.0)
        } else {
            (card.y + card.height, card.y + card.height - 5.0)
        };
        let guilty = card
            .flags
            .iter()
            .any(|flag| flag.finding.link.as_ref() == Some(&end.port));
        let class = match card.flags.first() {
            Some(flag) if guilty && flag.is_cause => "port cause",
            Some(_) if guilty => "port also",
            _ => "port",
        };
        let (x, anchor) = if cable.straight {
            (end.x + half + 4.0, "start")
        } else {
            (end.x - half - 4.0, "end")
        };
        let _ = write!(
            svg,
            "<rect class=\"{class}\" x=\"{:.1}\" y=\"{:.1}\" width=\"{:.1}\" height=\"6\" rx=\"2\"/>\
             <text class=\"portname\" x=\"{x:.1}\" y=\"{text:.1}\" text-anchor=\"{anchor}\">{}</text>",
            end.x - half,
            edge - 3.0,
            2.0 * half,
            escaped(&cut(&end.port, PORT_NAME))
        );
    }
}

fn line(svg: &mut String, scene: &Scene<'_>, travel: &Travel) {
    let mut turns = vec![0_usize; scene.cards.len()];
    // Lines of other ways turn in the same boxes.
    for other in &scene.travels {
        if std::ptr::eq(other, travel) {
            break;
        }
        for visit in &other.visits {
            turns[visit.card] += 1;
        }
    }
    let mut pieces: Vec<Vec<Dot>> = Vec::new();
    let mut dots: Vec<Dot> = Vec::new();
    let mut arrows = Vec::new();
    for visit in &travel.visits {
        if visit.enters.is_none() && !dots.is_empty() {
            pieces.push(std::mem::take(&mut dots));
        }
        let card = &scene.cards[visit.card];
        let number = turns[visit.card];
        turns[visit.card] += 1;
        let middle = card.turns.saturating_sub(1) as f64 / 2.0;
        let turn = card.y + card.turn() + (number as f64 - middle) * LANE;
        within(&mut dots, scene, visit, turn);
        let Some(step) = visit.leaves else { continue };
        let cable = &scene.cables[step.cable];
        let mut along = cable_dots(scene, cable, aside(cable, step.lane));
        if step.end == 1 {
            along.reverse();
        }
        if visit.lost_beyond.is_some() {
            along = half(&along);
        }
        // In the middle of the longest part.
        let pairs = along.windows(2).map(|pair| (pair[0], pair[1]));
        let length = |((ax, ay), (bx, by)): (Dot, Dot)| (ax - bx).abs() + (ay - by).abs();
        let longest = pairs.max_by(|one, other| length(*one).total_cmp(&length(*other)));
        arrows.extend(longest.filter(|_| visit.lost_beyond.is_none()));
        dots.extend(along);
    }
    pieces.push(dots);
    let class = travel.kind.class();
    for dots in pieces.iter().filter(|dots| dots.len() > 1) {
        let _ = write!(svg, "<path class=\"way {class}\" d=\"{}\"/>", rounded(dots));
    }
    for ((ax, ay), (bx, by)) in arrows {
        let (x, y) = ((ax + bx) / 2.0, (ay + by) / 2.0);
        let turned = if (ax - bx).abs() > (ay - by).abs() {
            if bx > ax { -90 } else { 90 }
        } else if by > ay {
            0
        } else {
            180
        };
        let _ = write!(
            svg,
            "<path class=\"arrow {class}\" transform=\"translate({x:.1} {y:.1}) rotate({turned})\" \
             d=\"M-4.5,-3.5 4.5,-3.5 0,5z\"/>"
        );
    }
    // Where it begins and where it arrives.
    let ends = [
        pieces.first().and_then(|dots| dots.first()),
        pieces.last().and_then(|dots| dots.last()),
    ];
    let lost = travel.lost.is_some();
    for (at, dot) in ends.into_iter().enumerate() {
        if let Some((x, y)) = dot.filter(|_| travel.kind != Kind::Ahead && !(at == 1 && lost)) {
            let _ = write!(
                svg,
                "<circle class=\"end {class}\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"4\"/>"
            );
        }
    }
}

/// Crosses where ways end, with what is known.
fn losses(svg: &mut String, scene: &Scene<'_>, travel: &Travel) {
    for visit in &travel.visits {
        let (place, words) = match (&visit.lost, &visit.lost_beyond, visit.leaves) {
            (Some(words), ..) => (grave(scene, visit), words),
            (None, Some(words), Some(step)) => {
                let cable = &scene.cables[step.cable];
                let mut along = cable_dots(scene, cable, aside(cable, step.lane));
                if step.end == 1 {
                    along.reverse();
                }
                let Some(place) = half(&along).last().copied() else {
                    continue;
                };
                (place, words)
            }
            _ => continue,
        };
        let (x, y) = place;
        let around = visit.enters.or(visit.leaves);
        let right = around.is_none_or(|step| scene.cables[step.cable].straight);
        let (at, anchor) = if right {
            (x + 13.0, "start")
        } else {
            (x - 13.0, "end")
        };
        let _ = write!(
            svg,
            "<circle class=\"lost\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"8.5\"/>\
             <path class=\"cross\" d=\"M{:.1},{:.1}l7,7m0,-7l-7,7\"/>\
             <text class=\"lost\" x=\"{at:.1}\" y=\"{:.1}\" text-anchor=\"{anchor}\">{}</text>",
            x - 3.5,
            y - 3.5,
            y + 4.0,
            escaped(&cut(words, 30))
        );
    }
}

fn caption(svg: &mut String, scene: &Scene<'_>, report: &Report) {
    *svg += "<figcaption><ul class=\"legend\">";
    let mut item = |class: &str, words: &str| {
        let _ = write!(
            svg,
            "<li><svg width=\"30\" height=\"12\" aria-hidden=\"true\">{class}</svg>{words}</li>"
        );
    };
    let of = |kind: Kind| {
        scene
            .travels
            .iter()
            .any(|own| own.kind == kind && own.visits.len() > 1)
    };
    let way = |class: &str| format!("<path class=\"way {class}\" d=\"M1,6H29\"/>");
    if of(Kind::Request) {
        item(&way("request"), "requests, as captured");
    }
    if of(Kind::Answer) {
        item(&way("answer"), "answers, as captured");
    }
    if of(Kind::Ahead) {
        let words = if report.courses.is_some() {
            "where packets were to go"
        } else {
            "the way that packets were to take; nothing was captured"
        };
        item(&way("ahead"), words);
    }
    if scene.travels.iter().any(|travel| travel.lost.is_some()) {
        let cross = "<circle class=\"lost\" cx=\"15\" cy=\"6\" r=\"5.5\"/><path class=\"cross\" d=\"M12.5,3.5l5,5m0,-5l-5,5\"/>";
        item(cross, "packets end here");
    }
    if scene.cables.iter().any(|cable| !cable.known) {
        item(
            "<path class=\"cable unread\" d=\"M1,6H29\"/>",
            "connected in a way that nobody read",
        );
    }
    *svg += "</ul>";
    let (beginning, end) = &scene.common;
    let left_out: Vec<&str> = [beginning, end]
        .into_iter()
        .filter(|own| !own.is_empty())
        .map(|own| &**own)
        .collect();
    if !left_out.is_empty() {
        let _ = write!(
            svg,
            "<p>Names are drawn without <code>{}</code>.</p>",
            escaped(&left_out.join("…"))
        );
    }
    if scene.left_out > 0 {
        let _ = write!(
            svg,
            "<p>{} more of the nodes that were read {} not drawn: no way of packets was found to lead there.</p>",
            scene.left_out,
            if scene.left_out == 1 { "is" } else { "are" }
        );
    }
    *svg += "</figcaption>";
}

//! Fault labs in words for people, and as JSON for programs.

use std::fmt::Write as _;

use pointsman_path::snapshot::Origin;
use pointsman_path::topology::{self, Peer, Port, Protocol, Topology};
use serde_json::{Value, json};

use super::action::Action;
use super::fault_lab::{FaultLab, Outcome, namespace_name};
use super::site::Site;
use super::{Blocker, Fault, Request};

/// Who is there and how they are connected, for a doctor: nothing of what is wrong.
pub fn topology(fault: &Fault, tag: &str) -> Topology {
    let site = &fault.site;
    let nodes = site.nodes.iter().map(|node| topology::Node {
        name: node.name.to_owned(),
        role: node.role,
        at: Origin::Netns(namespace_name(tag, node.name)),
        addresses: Vec::new(),
        ports: ports(site, node.name),
    });
    Topology {
        schema: topology::SCHEMA.to_owned(),
        vip: Some(site.vip.into()),
        protocol: protocol(fault.request),
        client: Some(site.client.into()),
        asker: Some(site.asker.to_owned()),
        nodes: nodes.collect(),
    }
}

fn ports(site: &Site, node: &str) -> Vec<Port> {
    let mut ports = Vec::new();
    for [one, other] in &site.cables {
        for (end, far) in [(one, other), (other, one)] {
            if end.node == node {
                ports.push(Port {
                    name: end.port.clone(),
                    mac: Some(end.mac.to_string()),
                    bridge: end.bridge.map(str::to_owned),
                    peer: Some(Peer {
                        node: far.node.to_owned(),
                        port: far.port.clone(),
                    }),
                });
            }
        }
    }
    ports
}

const fn protocol(request: Request) -> Protocol {
    match request {
        Request::Udp => Protocol::Udp,
        Request::Get | Request::Post(_) => Protocol::Tcp,
    }
}

/// A fault with everything that is known about it, the answers included.
pub fn catalogue_entry(fault: &Fault) -> Value {
    let steps = |actions: &[Action]| -> Vec<Value> {
        actions
            .iter()
            .map(|action| json!({"node": action.node(), "do": action.to_string()}))
            .collect()
    };
    let blockers: Vec<Value> = fault
        .blockers
        .iter()
        .map(|blocker| {
            json!({
                "code": blocker.code,
                "node": blocker.guilty.node,
                "port": blocker.guilty.port,
                "rule": blocker.guilty.rule,
                "breaks": steps(&blocker.breaks),
                "cure": steps(&blocker.cure),
                "undo": steps(&blocker.undo),
                "tempting": steps(&blocker.tempting),
                "witness": blocker.witness.map(|witness| json!({
                    "node": witness.node,
                    "command": witness.command,
                    "line": witness.line,
                })),
            })
        })
        .collect();
    json!({
        "name": fault.name,
        "title": fault.title,
        "vip": fault.vip().to_string(),
        "protocol": protocol(fault.request),
        "client": fault.site.client.to_string(),
        "curl_exit": if fault.is_healthy() { 0 } else { fault.exit },
        "note": fault.note,
        "before": steps(&fault.before),
        "blockers": blockers,
    })
}

/// One line each.
pub fn list(title: &str, faults: &[Fault]) -> String {
    let mut text = format!("{title}\n");
    for fault in faults {
        let _ = writeln!(text, "  {:24} {}", fault.name, fault.title);
    }
    text
}

/// The command that a request is.
pub fn question(fault: &Fault) -> String {
    let vip = fault.vip();
    match fault.request {
        Request::Get => format!("curl http://{vip}/"),
        Request::Post(length) => {
            format!("head -c {length} /dev/zero | curl --data-binary @- http://{vip}/echo")
        }
        Request::Udp => format!("a datagram to {vip}"),
    }
}

/// How a request ended.
pub fn ending(outcome: &Outcome) -> String {
    // The answer to a large question is as large.
    let text: String = outcome.text.chars().take(80).collect();
    match outcome.exit {
        0 => format!("answered: {text}"),
        exit => format!("failed, exit code {exit}: {text}"),
    }
}

/// Steps as one would type them on the lab's host.
pub fn steps(lab: &FaultLab, actions: &[Action]) -> String {
    let mut text = String::new();
    for action in actions {
        let _ = match action.node() {
            None => writeln!(text, "  {action}"),
            Some(node) => {
                let before = match action {
                    Action::Director { .. } => director_environment(lab),
                    _ => String::new(),
                };
                let namespace = lab.namespace(node);
                writeln!(text, "  ip netns exec {namespace} {before}{action}")
            }
        };
    }
    text
}

/// The command that shows the fault at work.
pub fn witness(lab: &FaultLab, blocker: &Blocker) -> String {
    let Some(witness) = blocker.witness else {
        return String::new();
    };
    let before = match witness.command.starts_with("pointsman ") {
        true => director_environment(lab),
        false => String::new(),
    };
    let namespace = lab.namespace(witness.node);
    format!(
        " witness\n  ip netns exec {namespace} {before}{}\n",
        witness.command
    )
}

/// What leads `pointsman` to the lab's director.
fn director_environment(lab: &FaultLab) -> String {
    lab.director().map_or(String::new(), |director| {
        let (_, socket) = director.program();
        format!("env POINTSMAN_SOCKET={} ", socket.display())
    })
}

/// Where everything is in a lab that stands.
pub fn standing(lab: &FaultLab) -> String {
    let fault = lab.fault();
    let site = &fault.site;
    let mut text = format!("lab {}: {}, {}\n\n", lab.tag(), fault.name, fault.title);
    for node in &site.nodes {
        let _ = write!(text, "  {:10} {:28}", node.name, lab.namespace(node.name));
        for end in site.cables.iter().flatten() {
            if end.node == node.name {
                let bridge = end.bridge.map(|name| format!(" on {name}"));
                let _ = write!(
                    text,
                    " {} ({}){}",
                    end.port,
                    end.mac,
                    bridge.unwrap_or_default()
                );
            }
        }
        text += "\n";
    }
    let asker = lab.namespace(site.asker);
    let _ = write!(
        text,
        "\nask        ip netns exec {asker} {}\nenter      ip netns exec {asker} bash\n",
        question(fault)
    );
    if lab.director().is_some() {
        let _ = writeln!(
            text,
            "director   ip netns exec {} {}pointsman ipvsadm -Ln",
            lab.namespace("director"),
            director_environment(lab)
        );
    }
    for blocker in &fault.blockers {
        let _ = write!(
            text,
            "\n{} at {} {}: {}\n{} cure\n{} undo\n{}",
            blocker.code,
            blocker.guilty.node,
            blocker.guilty.port,
            blocker.guilty.rule,
            witness(lab, blocker),
            steps(lab, &blocker.cure),
            steps(lab, &blocker.undo)
        );
    }
    let _ = writeln!(text, "\ntake it down: pointsman lab down {}", lab.tag());
    text
}

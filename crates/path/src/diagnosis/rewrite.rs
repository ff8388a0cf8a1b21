//! Packets that are translated while they cross a bridge, before they come to who is to translate them.

use super::{Observed, Witness, counted, witnessed};
use crate::catalogue::Code;
use crate::finding::{Confidence, Finding, Fix, Shows, Trial};
use crate::ladder::Headers;
use crate::observation::Way;
use crate::snapshot::Snapshot;

/// A packet that was translated on a bridge, to be tried in the node's twin.
pub(super) fn trial(finding: &Finding, observed: &Observed<'_>) -> Option<Trial> {
    let points = &observed.ladder.points;
    let conversations = observed.ladder.conversations.iter();
    let packets = conversations.flat_map(|one| &one.packets);
    let mut pairs = packets.flat_map(|packet| packet.hops.windows(2));
    let pair = pairs.find(|pair| {
        let (input, output) = (&points[pair[0].point], &points[pair[1].point]);
        let flow = |at: usize| pair[at].headers.ip().and_then(|ip| ip.flow());
        input.node == finding.node
            && input.bridge.is_some()
            && input.bridge == output.bridge
            && pair[0].way.is_in()
            && flow(0) != flow(1)
    })?;
    let seen = observed.recording.observations.get(pair[0].observation)?;
    Some(Trial {
        frame: seen.bytes.clone(),
        enters: true,
        port: Some(points[pair[0].point].device.clone()),
        shows: Shows::Untouched(observed.service),
        tempting: without_range(observed.before.node(&finding.node)?, observed),
    })
}

/// What cures only where the bridge tags frames earlier: kube-proxy without --cluster-cidr.
fn without_range(node: &Snapshot, observed: &Observed<'_>) -> Vec<Fix> {
    let vip = observed.service.ip().to_string();
    let saved = node
        .rules
        .iptables
        .iter()
        .flat_map(|saved| saved.text.lines());
    let mut rules = saved.filter_map(|line| {
        // Counters first, then the rule; comments would need a shell.
        let rule = &line[line.find("-A KUBE-SVC-")? + 3..];
        let fits = rule.contains(" ! -s ") && rule.contains(&vip);
        let (chain, test) = rule.split_once(' ').filter(|_| fits)?;
        let (before, rest) = test.split_once("-m comment --comment \"")?;
        let (_, after) = rest.split_once("\" ")?;
        let test = format!("{before}{after}");
        (rule.ends_with("-j KUBE-MARK-MASQ")).then(|| (chain.to_owned(), test))
    });
    let fix = rules.next().map(|(chain, test)| Fix {
        words: "no --cluster-cidr for kube-proxy, whose rule this is: others stay".to_owned(),
        commands: vec![format!("iptables -t nat -D {chain} 1")],
        undo: vec![format!("iptables -t nat -I {chain} 1 {test}")],
        ..Fix::default()
    });
    fix.into_iter().collect()
}

/// A bridge whose node takes others' answers for its own.
pub(super) fn find(observed: &Observed<'_>) -> Option<Finding> {
    let points = &observed.ladder.points;
    let conversations = observed.ladder.conversations.iter();
    let packets = conversations.flat_map(|one| &one.packets);
    let mut rewritten = packets
        .flat_map(|packet| packet.hops.windows(2))
        .filter_map(|pair| {
            let (Headers::Ip(old), Headers::Ip(new)) = (&pair[0].headers, &pair[1].headers) else {
                return None;
            };
            let (old, new) = (old.flow()?, new.flow()?);
            let (input, output) = (&points[pair[0].point], &points[pair[1].point]);
            let crosses = input.node == output.node
                && input.bridge.is_some()
                && input.bridge == output.bridge
                && pair[0].way.is_in()
                && pair[1].way == Way::Out;
            (crosses && old != new).then_some((input, output, old, new))
        });
    let (input, output, old, new) = rewritten.next()?;
    let count = 1 + rewritten.count();
    let node = observed.after.node(&input.node)?;
    let bridge = input.bridge.as_deref().unwrap_or_default();
    // Who translates back the port alone leaves the addresses to the one who comes after.
    let code = if old.source == new.source {
        Code::BridgeDestinationNat
    } else {
        Code::BridgeFullNat
    };
    let words = format!(
        "{} translates packets from {} while they cross {bridge}, before they come to it",
        input.node, old.source
    );
    let fact = format!(
        "{} from {} to {} at {input} left by {output} from {} to {}",
        counted(count, "packet"),
        old.source,
        old.destination,
        new.source,
        new.destination
    );
    let command = format!("pointsman capture --vip {}", observed.service);
    let path = if old.source.is_ipv4() {
        "net.bridge.bridge-nf-call-iptables"
    } else {
        "net.bridge.bridge-nf-call-ip6tables"
    };
    let mut finding = Finding::new(code, &input.node, words)
        .at(&input.device)
        .with(Confidence::Likely)
        .because(
            format!("{path} gives bridged packets to the rules of IP"),
            format!("sysctl {path}"),
        )
        .mended_by(
            "bridged packets past iptables, if no filter of guests or containers needs it",
            [format!("sysctl -w {path}=0")],
            [format!("sysctl -w {path}=1")],
        );
    finding
        .evidence
        .push(witnessed(Witness::Capture, fact, command));
    // Connection tracking says the same: what it awaits from there is what came.
    let awaited = [
        format!("src={}", old.source.ip()),
        format!("dst={}", old.destination.ip()),
        format!("sport={}", old.source.port()),
        format!("dport={}", old.destination.port()),
    ];
    let tracked = node.connections.iter().find(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        awaited.iter().all(|word| words.contains(&word.as_str()))
    });
    if let Some(line) = tracked {
        let fact = format!("the node tracks that connection itself: {}", line.trim());
        finding
            .evidence
            .push(witnessed(Witness::Trace, fact, "conntrack --dump"));
    }
    Some(finding)
}

//! `pointsman status` and `pointsman verdicts`.

use std::{fmt::Write, path::Path};

use anyhow::{Context, Result};
use pointsman_daemon::{
    client::Client,
    health::HealthStatus,
    status::{Status, VerdictCount},
};

pub(crate) fn status(socket: &Path, json: bool) -> Result<()> {
    let status = connect(socket)?.status()?;
    match json {
        true => println!("{}", serde_json::to_string_pretty(&status)?),
        false => print!("{}", status_text(&status)),
    }
    Ok(())
}

pub(crate) fn verdicts(socket: &Path, json: bool) -> Result<()> {
    let verdicts = connect(socket)?.verdicts()?;
    match json {
        true => println!("{}", serde_json::to_string_pretty(&verdicts)?),
        false => print!("{}", verdicts_text(&verdicts)),
    }
    Ok(())
}

pub(crate) fn connect(socket: &Path) -> Result<Client> {
    Client::connect(socket).context("is `pointsman run` running?")
}

fn status_text(status: &Status) -> String {
    let mut text = String::new();
    let origin = match status.origin.as_str() {
        "taken-over" => "having taken over from a daemon before",
        _ => "from a fresh start",
    };
    let _ = writeln!(
        text,
        "pointsman {}, up {}, {origin}",
        status.version,
        duration(status.uptime)
    );
    for interface in &status.interfaces {
        let _ = writeln!(
            text,
            "interface    {} by {}: {}",
            interface.name, interface.hook, interface.why
        );
    }
    let table = status.connections;
    let _ = writeln!(
        text,
        "connections  {} of {} of each address family",
        table.used, table.capacity
    );
    let answers = &status.answers;
    let _ = writeln!(
        text,
        "ICMP errors  {} sent, {} withheld by the rate limit, {} not allowed, {} failed",
        answers.sent, answers.limited, answers.silent, answers.failed
    );
    if answers.fragmented != 0 || answers.unfragmented != 0 {
        let _ = writeln!(
            text,
            "fragmenting  {} packets sent in fragments, {} dropped that could not be",
            answers.fragmented, answers.unfragmented
        );
    }
    for router in &status.routers {
        let master = match router.master {
            Some(master) if router.state == "BACKUP" => format!(", master is {master}"),
            _ => String::new(),
        };
        let _ = writeln!(
            text,
            "router       {} {} on {}, id {}, priority {}{master}",
            router.name, router.state, router.interface, router.vrid, router.priority
        );
        if router.believed == Some(false) {
            let _ = writeln!(
                text,
                "NOT BELIEVED {} has its addresses, and neighbors do not answer them",
                router.name
            );
        }
    }
    for session in &status.bfd.sessions {
        let why = match session.state.as_str() {
            "Down" if session.downs > 0 => format!(", {}", session.diagnostic),
            _ => String::new(),
        };
        let _ = writeln!(
            text,
            "BFD          {} {} with {}{why}",
            session.name, session.state, session.neighbor
        );
    }
    for service in &status.health {
        text += &health_text(service);
    }
    let _ = writeln!(text, "pins         {}", status.pin_dir);
    let state = &status.state;
    let _ = match (&state.path, state.saved_ago) {
        (None, _) => writeln!(text, "state        not kept"),
        (Some(path), None) => writeln!(text, "state        {path}, not written yet"),
        (Some(path), Some(ago)) => {
            writeln!(text, "state        {path}, written {} ago", duration(ago))
        }
    };
    for (what, why) in [("DAMAGED", &state.damage), ("NOT SAVED", &state.error)] {
        if let Some(why) = why {
            let _ = writeln!(text, "{what:<13}{why}");
        }
    }
    for path in &state.aside {
        let _ = writeln!(text, "set aside    {path}");
    }
    text
}

/// A service whose real servers are checked, and which of them are down, and why.
fn health_text(health: &HealthStatus) -> String {
    let up = health.servers.iter().filter(|server| server.up).count();
    let mut text = format!(
        "checks       {}: {up} of {} real servers up",
        health.service,
        health.servers.len()
    );
    for (is_so, words) in [
        (!health.quorum, "no quorum"),
        (health.sorry, "the sorry server serves"),
    ] {
        if is_so {
            text += &format!(", {words}");
        }
    }
    text.push('\n');
    for server in &health.servers {
        for check in &server.checks {
            let state = match (check.up, check.tried) {
                (true, _) => continue,
                (false, false) => "not tried yet",
                (false, true) => check.failure.as_deref().unwrap_or("failed"),
            };
            let _ = writeln!(
                text,
                "DOWN         {}: {}: {state}",
                server.server, check.check
            );
        }
    }
    text
}

fn duration(seconds: u64) -> String {
    let (days, hours) = (seconds / 86400, seconds / 3600 % 24);
    let (minutes, seconds) = (seconds / 60 % 60, seconds % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, _) => format!("{minutes} min {seconds} s"),
        (0, _, _) => format!("{hours} h {minutes} min"),
        _ => format!("{days} d {hours} h"),
    }
}

fn verdicts_text(verdicts: &[VerdictCount]) -> String {
    let mut text = String::new();
    for action in ["forward", "pass", "drop"] {
        let of = verdicts.iter().filter(|verdict| verdict.action == action);
        let met: Vec<_> = of.filter(|verdict| verdict.count != 0).collect();
        let total: u64 = met.iter().map(|verdict| verdict.count).sum();
        let _ = writeln!(text, "{action:<9}{total:>14}");
        for verdict in met {
            let _ = writeln!(
                text,
                "  {:<18}{:>12}  {}",
                verdict.reason, verdict.count, verdict.explanation
            );
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verdicts_are_grouped_and_zeroes_left_out() {
        let count = |reason: &str, action: &str, count| VerdictCount {
            reason: reason.to_owned(),
            action: action.to_owned(),
            count,
            explanation: "Because.".to_owned(),
        };
        let all = [
            count("not-ip", "pass", 3),
            count("direct", "forward", 2),
            count("tunnel", "forward", 0),
        ];
        let text = verdicts_text(&all);
        assert_eq!(
            text,
            "forward               2\n  direct                       2  Because.\n\
             pass                  3\n  not-ip                       3  Because.\n\
             drop                  0\n"
        );
    }

    #[test]
    fn durations_have_two_units() {
        assert_eq!(duration(59), "59 s");
        assert_eq!(duration(61), "1 min 1 s");
        assert_eq!(duration(3 * 3600 + 120), "3 h 2 min");
        assert_eq!(duration(86400 * 2 + 3600), "2 d 1 h");
    }
}

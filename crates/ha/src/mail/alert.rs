//! What mails tell, in the words of keepalived 2.2.7.

use crate::health::{HealthNotice, Occasion};
use crate::vrrp::{Event, Notice, Scope};

/// What happened, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alert {
    /// The subject without the host's name: `VRRP Instance VI_1 - Entering MASTER state`.
    pub subject: String,
    /// The text.
    pub text: String,
}

/// Of what a mail can tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Told<'a> {
    /// A virtual router or a sync group.
    Router(&'a Notice),
    /// A real server or a quorum, where no check is the cause.
    Health(&'a HealthNotice),
    /// A check of a real server that fails or succeeds now.
    Check {
        /// The virtual service, as keepalived names it.
        service: &'a str,
        /// The real server.
        server: &'a str,
        /// Whether it is up, whatever this check says.
        up: bool,
        /// What the check says.
        says: &'a str,
    },
}

impl Alert {
    /// The mail about it; none is sent about what checks tell themselves.
    pub fn new(told: Told<'_>) -> Option<Self> {
        match told {
            Told::Router(notice) => router(notice),
            Told::Health(notice) => health(notice),
            Told::Check {
                service,
                server,
                up,
                says,
            } => Some(self::server(service, server, up, says)),
        }
    }
}

fn router(notice: &Notice) -> Option<Alert> {
    let (subject, text) = match (notice.scope, notice.event) {
        (Scope::Instance, Event::Master) => (
            "Entering MASTER state",
            "VRRP Instance is now owning VRRP VIPs",
        ),
        (Scope::Instance, Event::Backup) => (
            "Entering BACKUP state",
            "VRRP Instance is no longer owning VRRP VIPs",
        ),
        (Scope::Instance, Event::Fault) => (
            "Entering FAULT state",
            "VRRP Instance is no longer owning VRRP VIPs",
        ),
        (Scope::Instance, Event::Stop) => ("Stopping", "VRRP Instance stopping"),
        (Scope::Instance, Event::Deleted) => ("Deleted", "VRRP Deleted at reload"),
        (Scope::Group, Event::Master) => (
            "Entering MASTER state",
            "All VRRP group instances are now in MASTER state",
        ),
        (Scope::Group, Event::Backup) => (
            "Entering BACKUP state",
            "All VRRP group instances are now in BACKUP state",
        ),
        (Scope::Group, Event::Fault) => (
            "Entering FAULT state",
            "All VRRP group instances are now in FAULT state",
        ),
        (Scope::Group, Event::Stop) => ("Stopping", "All VRRP group instances are now stopping"),
        _ => return None,
    };
    let kind = match notice.scope {
        Scope::Instance => "Instance",
        Scope::Group => "Group",
    };
    Some(Alert {
        subject: format!("VRRP {kind} {} - {subject}", notice.name),
        text: format!("=> {text} <="),
    })
}

fn health(notice: &HealthNotice) -> Option<Alert> {
    let service = &notice.service;
    if let Some(name) = &notice.server {
        let says = match notice.occasion {
            // Its check tells of it.
            Occasion::Begin | Occasion::Change => return None,
            Occasion::Removal => "Removing",
            Occasion::End => "Shutting down",
        };
        return Some(server(service, name, notice.up, says));
    }
    let text = match (notice.occasion, &notice.standing) {
        (Occasion::End | Occasion::Removal, _) | (_, None) => "Shutting down".to_owned(),
        (occasion, Some(standing)) => {
            let what = match (occasion, notice.up) {
                (Occasion::Begin, true) => "Starting with quorum up",
                (Occasion::Begin, false) => "Starting with quorum down",
                (_, true) => "Gained quorum",
                (_, false) => "Lost quorum",
            };
            let (quorum, hysteresis) = (standing.quorum, standing.hysteresis);
            let counts = match notice.up {
                true => quorum.saturating_add(hysteresis),
                false => quorum.saturating_sub(hysteresis),
            };
            // Also of a quorum that is lost it says plus, and less or equal.
            format!("{what} {quorum}+{hysteresis}={counts} <= {}", standing.live)
        }
    };
    Some(Alert {
        subject: format!("Virtualserver {service} - {}", word(notice.up)),
        text: format!("=> {text} <="),
    })
}

fn server(service: &str, name: &str, up: bool, says: &str) -> Alert {
    Alert {
        subject: format!(
            "Realserver {name} of virtual server {service} - {}",
            word(up)
        ),
        text: format!("=> {says} <="),
    }
}

fn word(up: bool) -> &'static str {
    if up { "UP" } else { "DOWN" }
}

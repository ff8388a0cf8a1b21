//! Mails of a configuration.

use nix::unistd::User;
use pointsman_config::keepalived::Configuration;
use pointsman_config::keepalived::model::ServiceKey;
use pointsman_ha::health::{HealthNotice, Occasion};
use pointsman_ha::mail::{Alert, Told};

use super::PlannedService;
use crate::mail::{MailConfig, Mailer};

/// Where mails go; none without a server and somebody who gets them.
pub(super) fn config(configuration: &Configuration) -> Option<MailConfig> {
    let global = &configuration.global;
    let mail = &global.mail;
    let server = mail.server.clone()?;
    if mail.recipients.is_empty() {
        return None;
    }
    let host = host_name();
    let user = || {
        let user = User::from_uid(nix::unistd::geteuid()).ok().flatten();
        user.map_or_else(|| "root".to_owned(), |user| user.name)
    };
    Some(MailConfig {
        server,
        hello: mail.hello.clone().unwrap_or_else(|| host.clone()),
        timeout: mail.timeout,
        sender: match &mail.sender {
            Some(sender) => sender.clone(),
            None => format!("{}@{host}", user()),
        },
        host: global.router_id.clone().unwrap_or(host),
        recipients: mail.recipients.clone(),
        faults: mail.faults,
        checkers: mail.checkers,
    })
}

fn host_name() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    match name.trim() {
        "" => "localhost".to_owned(),
        name => name.to_owned(),
    }
}

/// Tells of real servers that were up and are no longer configured.
pub(super) fn tell_removed<'a>(
    mailer: &Mailer,
    before: impl Iterator<Item = &'a PlannedService>,
    after: &[PlannedService],
) {
    for old in before {
        let key: ServiceKey = old.origin.key();
        let new = after.iter().find(|new| new.origin.key() == key);
        let known = old.minded.known();
        let servers = old.minded.service.servers.iter().zip(&old.origin.servers);
        for (server, origin) in servers.filter(|(_, origin)| origin.alert) {
            let stays = new.is_some_and(|new| {
                let servers = &new.minded.service.servers;
                servers.iter().any(|one| one.name == server.name)
            });
            let checks = known.servers.get(&server.name);
            let was_up = checks.is_none_or(|checks| checks.iter().all(|check| check.up));
            if stays || !was_up || !origin.alert {
                continue;
            }
            let notice = HealthNotice {
                service: old.minded.service.name.clone(),
                server: Some(server.name.clone()),
                up: false,
                occasion: Occasion::Removal,
                standing: None,
            };
            mailer.post(|_| true, || Alert::new(Told::Health(&notice)));
        }
    }
}

//! Mails: what `global_defs` says of them.

use std::time::Duration;

use super::super::document::Word;
use super::super::model::{Configuration, Global, Mail, Places};
use super::super::reader::{Entry, Reader};
use super::super::values::{self, Value};
use super::{names, small};

/// Where mail servers listen.
const PORT: u16 = 25;

/// Takes a keyword of `global_defs` that is about mails.
pub(super) fn read(reader: &mut Reader<'_>, mail: &mut Mail, entry: &Entry<'_>) {
    let word = |word: &Word| Some(word.text.clone());
    match (entry.keyword.name, entry.value) {
        ("notification_email", Value::Block(_, block)) => {
            mail.recipients.extend(names(block).filter_map(word));
            if mail.recipients.is_empty() {
                let text = "an empty `notification_email`: nobody gets mails".to_owned();
                reader.warning(entry.place, text);
            }
        }
        ("notification_email_from", Value::Word(from)) => mail.sender = word(from),
        ("smtp_server", Value::Words([server, rest @ ..])) => {
            let port = match rest.first() {
                None => PORT,
                Some(word) => match values::whole(word, "port", 1, 65535) {
                    Ok(port) => small(port),
                    Err(fault) => return reader.fault(fault),
                },
            };
            mail.server = Some((server.text.clone(), port));
        }
        ("smtp_helo_name", Value::Word(name)) => mail.hello = word(name),
        ("smtp_connect_timeout", Value::Whole(seconds)) => {
            mail.timeout = Duration::from_secs(small(seconds));
        }
        ("smtp_alert", Value::Switch(on)) => mail.alert = Some(on),
        ("smtp_alert_vrrp", Value::Switch(on)) => mail.alert_vrrp = Some(on),
        ("smtp_alert_checker", Value::Switch(on)) => mail.alert_checker = Some(on),
        ("no_email_faults", _) => mail.faults = false,
        ("no_checker_emails", Value::Switch(on)) => mail.checkers = !on,
        _ => {}
    }
}

/// What a block says of mails about itself.
pub(super) fn own(entry: &Entry<'_>, own: &mut Option<bool>) {
    if let ("smtp_alert", Value::Switch(on)) = (entry.keyword.name, entry.value) {
        *own = Some(on);
    }
}

/// Says when mails are asked for that nobody can get.
pub(super) fn check(reader: &mut Reader<'_>, configuration: &Configuration) {
    let Global { mail, places, .. } = &configuration.global;
    let (keyword, missing) = match (&mail.recipients[..], &mail.server) {
        ([], None) => ("smtp_alert", "`notification_email` and `smtp_server`"),
        ([], Some(_)) => ("smtp_server", "`notification_email`"),
        (_, None) => ("notification_email", "`smtp_server`"),
        (_, Some(_)) => return,
    };
    let text = || format!("`{keyword}`: no mail is sent without {missing}");
    if keyword != "smtp_alert" {
        if let Some(place) = places.of(keyword) {
            reader.warning(place, text());
        }
        return;
    }
    let wanted = |places: &Places, is_on: bool| places.of(keyword).filter(|_| is_on);
    let routers = configuration.instances.iter();
    let groups = configuration.sync_groups.iter();
    let services = configuration.services.iter();
    let servers = services.clone().flat_map(|service| &service.servers);
    let first = wanted(places, mail.alert == Some(true))
        .into_iter()
        .chain(routers.filter_map(|one| wanted(&one.places, one.alert)))
        .chain(groups.filter_map(|one| wanted(&one.places, one.alert)))
        .chain(services.filter_map(|one| wanted(&one.places, one.alert)))
        .chain(servers.filter_map(|one| wanted(&one.places, one.alert)));
    for place in first.collect::<Vec<_>>() {
        reader.warning(place, text());
    }
}

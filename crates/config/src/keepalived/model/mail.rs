//! Mails that tell what happens.

use std::time::Duration;

/// What `global_defs` says of mails.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mail {
    /// Who gets them (`notification_email`).
    pub recipients: Vec<String>,
    /// Whom they are from (`notification_email_from`); none is this program's user at the host.
    pub sender: Option<String>,
    /// Address or name of the mail server, and its port (`smtp_server`).
    pub server: Option<(String, u16)>,
    /// The name with which it is greeted (`smtp_helo_name`); none is the host's.
    pub hello: Option<String>,
    /// How long each of its answers may take (`smtp_connect_timeout`).
    pub timeout: Duration,
    /// `smtp_alert`.
    pub alert: Option<bool>,
    /// `smtp_alert_vrrp`.
    pub alert_vrrp: Option<bool>,
    /// `smtp_alert_checker`.
    pub alert_checker: Option<bool>,
    /// False when none is sent about virtual routers in fault (`no_email_faults`).
    pub faults: bool,
    /// False when none is sent about checks that change nothing for a real server (`no_checker_emails`).
    pub checkers: bool,
}

impl Mail {
    /// Whether mails are sent about a virtual router or sync group that says this.
    pub fn about_router(&self, own: Option<bool>) -> bool {
        own.or(self.alert_vrrp).or(self.alert).unwrap_or(false)
    }

    /// Whether mails are sent about a virtual service that says this.
    pub fn about_service(&self, own: Option<bool>) -> bool {
        own.or(self.alert_checker).or(self.alert).unwrap_or(false)
    }

    /// Whether mails are sent about a real server that says this.
    pub fn about_server(&self, own: Option<bool>) -> bool {
        own.or(self.alert_checker).or(self.alert).unwrap_or(true)
    }
}

impl Default for Mail {
    fn default() -> Self {
        Self {
            recipients: Vec::new(),
            sender: None,
            server: None,
            hello: None,
            timeout: Duration::from_secs(30),
            alert: None,
            alert_vrrp: None,
            alert_checker: None,
            faults: true,
            checkers: true,
        }
    }
}

//! A mail as a mail server gets it (RFC 5322, RFC 5321).

use super::Alert;

/// Header lines are folded before they are longer, in bytes; RFC 5322 ends at 998.
const LINE: usize = 900;
const DAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
const MONTHS: [&str; 12] = [
    "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
];

/// An alert with its sender and those who get it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Letter {
    /// When it happened, seconds since 1970, UTC.
    pub time: u64,
    /// Name of this host in the subject (`router_id`).
    pub host: String,
    /// Whom it is from.
    pub sender: String,
    /// Who gets it.
    pub recipients: Vec<String>,
    /// What happened.
    pub alert: Alert,
}

impl Letter {
    /// Its subject.
    pub fn subject(&self) -> String {
        clean(&format!("[{}] {}", self.host, self.alert.subject))
    }

    /// What follows `DATA`, with the line that ends it.
    pub fn text(&self) -> Vec<u8> {
        let mut lines = vec![
            format!("Date: {}", date(self.time)),
            format!("From: {}", clean(&self.sender)),
            format!("Subject: {}", self.subject()),
            "X-Mailer: Pointsman".to_owned(),
        ];
        let mut to = "To: ".to_owned();
        for (at, recipient) in self.recipients.iter().enumerate() {
            let recipient = clean(recipient);
            if at > 0 {
                to.push(',');
                if to.len() + recipient.len() > LINE {
                    lines.push(std::mem::take(&mut to));
                }
                to.push(' ');
            }
            to += &recipient;
        }
        lines.push(to);
        lines.push(String::new());
        lines.extend(self.alert.text.lines().map(clean));
        let mut text = Vec::new();
        for line in lines {
            // A line of one dot ends the text.
            if line.starts_with('.') {
                text.push(b'.');
            }
            text.extend_from_slice(line.as_bytes());
            text.extend_from_slice(b"\r\n");
        }
        text.extend_from_slice(b".\r\n");
        text
    }
}

/// The address alone of `Name <address>`.
pub(super) fn envelope(written: &str) -> String {
    let inner = written.rsplit_once('<').map(|(_, rest)| rest);
    let address = match inner.and_then(|rest| rest.split_once('>')) {
        Some((address, _)) => address,
        None => written,
    };
    clean(address).trim().to_owned()
}

/// The text on one line: what would begin another header or command is a blank.
pub(super) fn clean(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect()
}

/// `Sat, 21 Nov 2026 21:11:27 +0000`, of seconds since 1970.
fn date(time: u64) -> String {
    let (days, seconds) = (time / 86_400, time % 86_400);
    let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    let weekday = DAYS[(days % 7) as usize];
    let (mut year, mut day) = (1970, days);
    loop {
        let length = if is_leap(year) { 366 } else { 365 };
        // Some ten thousand years: whoever sets a clock to more gets that year.
        if day < length || year > 9999 {
            break;
        }
        day -= length;
        year += 1;
    }
    let mut month = 0;
    while month < 11 && day >= month_length(year, month) {
        day -= month_length(year, month);
        month += 1;
    }
    let month = MONTHS[month];
    format!(
        "{weekday}, {:02} {month} {year} {hour:02}:{minute:02}:{second:02} +0000",
        day + 1
    )
}

fn month_length(year: u64, month: usize) -> u64 {
    match month {
        1 if is_leap(year) => 29,
        1 => 28,
        3 | 5 | 8 | 10 => 30,
        _ => 31,
    }
}

fn is_leap(year: u64) -> bool {
    year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_the_calendar() {
        // From `date -u -R -d @SECONDS`.
        for (time, wanted) in [
            (0, "Thu, 01 Jan 1970 00:00:00 +0000"),
            (951_782_399, "Mon, 28 Feb 2000 23:59:59 +0000"),
            (951_782_400, "Tue, 29 Feb 2000 00:00:00 +0000"),
            (951_868_800, "Wed, 01 Mar 2000 00:00:00 +0000"),
            (1_795_295_487, "Sat, 21 Nov 2026 21:11:27 +0000"),
            (4_107_542_399, "Sun, 28 Feb 2100 23:59:59 +0000"),
            (4_107_542_400, "Mon, 01 Mar 2100 00:00:00 +0000"),
            (1_735_689_599, "Tue, 31 Dec 2024 23:59:59 +0000"),
        ] {
            assert_eq!(date(time), wanted);
        }
        assert!(date(u64::MAX).ends_with("+0000"));
    }

    fn letter() -> Letter {
        Letter {
            time: 1_795_295_487,
            host: "west\nBcc: all".to_owned(),
            sender: "a@example.org".to_owned(),
            recipients: vec!["b@example.org".to_owned(), "C <c@example.org>".to_owned()],
            alert: Alert {
                subject: "VRRP Instance V - Stopping".to_owned(),
                text: "=> VRRP Instance stopping <=\n.\n..x".to_owned(),
            },
        }
    }

    #[test]
    fn a_text_has_no_header_and_no_end_but_its_own() {
        let text = String::from_utf8(letter().text()).expect("text");
        assert_eq!(
            text,
            "Date: Sat, 21 Nov 2026 21:11:27 +0000\r\nFrom: a@example.org\r\n\
             Subject: [west Bcc: all] VRRP Instance V - Stopping\r\nX-Mailer: Pointsman\r\n\
             To: b@example.org, C <c@example.org>\r\n\r\n\
             => VRRP Instance stopping <=\r\n..\r\n...x\r\n.\r\n"
        );
    }

    #[test]
    fn many_recipients_are_folded() {
        let mut letter = letter();
        letter.recipients = (0..200)
            .map(|n| format!("somebody.{n}@mail.example.org"))
            .collect();
        let text = String::from_utf8(letter.text()).expect("text");
        assert!(text.lines().all(|line| line.len() < 998));
        assert!(text.contains(",\r\n somebody."));
    }

    #[test]
    fn an_address_is_found_within_its_name() {
        for (written, wanted) in [
            ("a@b", "a@b"),
            ("Some One <a@b>", "a@b"),
            ("<a@b> ", "a@b"),
            ("a@b>\r\nDATA", "a@b>  DATA"),
        ] {
            assert_eq!(envelope(written), wanted);
        }
    }
}

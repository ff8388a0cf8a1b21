//! A report as one HTML document that needs nothing else: no script, no network, no other file.
//!
//! Everything that comes from a report is escaped; what the report lacks is left out rather than shown empty.

mod course;
mod drawing;
mod finding;
mod markup;
mod route;
mod scene;
mod travel;
mod tree;

use std::fmt::Write as _;

use crate::finding::{Confidence, Finding, Fix};
use crate::report::{Report, Status, endings};
use markup::{capital, escaped, prose};

/// How it looks, on screens and on paper.
const STYLE: &str = include_str!("page/style.css");

impl Report {
    /// The report as an HTML document.
    pub fn html(&self) -> String {
        let (class, word) = match self.verdict.status {
            Status::Healthy => ("healthy", "Healthy"),
            Status::Fault => ("fault", "Fault"),
            Status::Unknown => ("unknown", "Unknown"),
        };
        let title = format!("{word}: {}", self.question.service);
        let mut page = format!(
            "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
             <meta name=\"color-scheme\" content=\"light dark\">\n\
             <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'; img-src data:\">\n\
             <link rel=\"icon\" href=\"data:,\">\n\
             <title>{}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n<main>\n",
            escaped(&title)
        );
        self.header(&mut page, class, word);
        let drawing = drawing::drawing(self);
        let cure = self.cure();
        let _ = writeln!(page, "<div class=\"first\">\n{cure}{drawing}</div>");
        course::section(&mut page, self);
        self.findings(&mut page);
        self.not_observed(&mut page);
        self.methods(&mut page);
        self.footer(&mut page);
        page + "</main>\n</body>\n</html>\n"
    }

    fn header(&self, page: &mut String, class: &str, word: &str) {
        let question = &self.question;
        let _ = write!(
            page,
            "<header class=\"verdict {class}\">\n<p class=\"asked\">Does <b>{} {}</b> answer{}?</p>\n\
             <h1><span class=\"badge\">{word}</span> {}</h1>\n",
            escaped(&question.protocol.to_uppercase()),
            escaped(&question.service.to_string()),
            question.client.map_or_else(String::new, |client| format!(
                " <b>{}</b>",
                escaped(&client.to_string())
            )),
            prose(&self.verdict.summary)
        );
        let mut facts = Vec::new();
        if let Some(code) = self.verdict.code {
            facts.push(format!(
                "<code class=\"code\">{code}</code> {} {}",
                self.verdict.confidence.map_or_else(String::new, confidence),
                prose(&capital(code.entry().title))
            ));
        }
        if !self.sent.is_empty() {
            facts.push(format!(
                "{}: <b>{}</b>",
                escaped(&self.sent),
                escaped(&endings(&self.outcomes))
            ));
        } else {
            facts.push("Nothing was sent.".to_owned());
        }
        for fact in facts {
            let _ = writeln!(page, "<p class=\"fact\">{fact}</p>");
        }
        *page += "</header>\n";
    }

    /// What to do, of all that stands in the way.
    fn cure(&self) -> String {
        let numbered = self.cause.iter().chain(&self.also).enumerate();
        let blockers: Vec<(usize, &Finding)> = numbered
            .filter(|(at, one)| {
                let is_cause = *at == 0 && self.cause.is_some();
                is_cause || one.confidence >= Confidence::Likely
            })
            .collect();
        let mut text = String::new();
        for (at, blocker) in &blockers {
            let _ = write!(
                text,
                "<li value=\"{}\"><p><a href=\"#finding-{}\">{}</a> on <b>{}</b></p>",
                at + 1,
                at + 1,
                blocker.code,
                escaped(&blocker.node)
            );
            match best(blocker) {
                Some(fix) => {
                    let _ = write!(
                        text,
                        "<p>{} {}</p>",
                        finding::tried(fix, &blocker.node),
                        prose(&fix.words)
                    );
                    text += &finding::typed(fix, &blocker.node);
                }
                None => text += "<p>No fix is known for this one.</p>",
            }
            text += "</li>";
        }
        if text.is_empty() {
            return String::new();
        }
        let rest = 1 + self.also.len() - blockers.len().min(1 + self.also.len());
        let rest = if self.cause.is_some() {
            rest
        } else {
            rest.saturating_sub(1)
        };
        let rest = match rest {
            0 => String::new(),
            1 => "<p class=\"quiet\">One more finding is possible; it is below.</p>".to_owned(),
            _ => {
                format!("<p class=\"quiet\">{rest} more findings are possible; they are below.</p>")
            }
        };
        let heading = match (self.verdict.status, blockers.len()) {
            (Status::Healthy, _) => "Worth mending",
            (_, 1) => "What mends it",
            _ => "What mends it: all of these",
        };
        format!("<section class=\"cure\">\n<h2>{heading}</h2>\n<ol>{text}</ol>\n{rest}</section>\n")
    }

    fn findings(&self, page: &mut String) {
        let findings: Vec<&Finding> = self.cause.iter().chain(&self.also).collect();
        if findings.is_empty() {
            return;
        }
        *page += "<section>\n<h2>Findings</h2>\n";
        for (at, one) in findings.into_iter().enumerate() {
            let is_cause = at == 0 && self.cause.is_some();
            finding::article(page, at + 1, one, is_cause);
        }
        *page += "</section>\n";
    }

    fn not_observed(&self, page: &mut String) {
        if self.not_observed.is_empty() {
            return;
        }
        *page += "<section>\n<h2>Not looked at</h2>\n<ul class=\"unseen\">\n";
        for gap in &self.not_observed {
            let _ = writeln!(
                page,
                "<li><b>{}</b>, because {}</li>",
                prose(&gap.what),
                prose(&gap.because)
            );
        }
        *page += "</ul>\n</section>\n";
    }

    fn methods(&self, page: &mut String) {
        if self.methods.is_empty() {
            return;
        }
        *page += "<section>\n<h2>Methods</h2>\n<ul class=\"unseen\">\n";
        for method in &self.methods {
            let (name, note) = (escaped(&method.name), prose(&method.note));
            let did = if method.ran {
                ":"
            } else {
                " did not run, because"
            };
            let _ = writeln!(page, "<li><b>{name}</b>{did} {note}</li>");
        }
        *page += "</ul>\n</section>\n";
    }

    fn footer(&self, page: &mut String) {
        let changes = if self.changes.is_empty() {
            "The doctor changed nothing that it did not take back.".to_owned()
        } else {
            format!(
                "Changed and not taken back: {}.",
                escaped(&self.changes.join("; "))
            )
        };
        let _ = write!(page, "<footer>\n<p>{changes}");
        if self.redacted {
            *page += " Names of hosts, MAC addresses and public addresses were replaced by others.";
        }
        let when = match self.taken {
            0 => String::new(),
            taken => format!(" on {} UTC", date(taken)),
        };
        let _ = write!(
            page,
            "</p>\n<p>Made by {}{when}. <code>pointsman doctor --explain CODE</code> tells more of a code.</p>\n</footer>\n",
            escaped(&self.tool)
        );
    }
}

/// The fix to be tried first: one that helped, else one of which nobody knows that it does not.
fn best(finding: &Finding) -> Option<&Fix> {
    let helped = |fix: &&Fix| fix.tested.is_some_and(|tested| tested.after == tested.of);
    let may_help = |fix: &&Fix| fix.tested.is_none_or(|tested| tested.after > 0);
    let fixes = || finding.fixes.iter();
    fixes().find(helped).or_else(|| fixes().find(may_help))
}

fn confidence(confidence: Confidence) -> String {
    format!("<span class=\"pill {confidence}\">{confidence}</span>")
}

/// A time, milliseconds since 1970, as `2026-01-31 12:00`.
fn date(taken: u64) -> String {
    let minutes = taken / 60_000;
    let (days, minutes) = (minutes / 1440, minutes % 1440);
    // Years begin in March, so that leap days come last.
    let days = days + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let (month, next) = if month < 10 {
        (month + 3, 0)
    } else {
        (month - 9, 1)
    };
    let year = year + era * 400 + next;
    format!(
        "{year:04}-{month:02}-{day:02} {:02}:{:02}",
        minutes / 60,
        minutes % 60
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_those_of_the_calendar() {
        for (taken, expected) in [
            (1, "1970-01-01 00:00"),
            (951_782_400_000, "2000-02-29 00:00"),
            (1_709_251_199_000, "2024-02-29 23:59"),
            (1_767_225_600_000, "2026-01-01 00:00"),
        ] {
            assert_eq!(date(taken), expected);
        }
    }
}

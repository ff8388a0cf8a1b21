//! Conversations with mail servers, and what mails tell.

use std::time::Duration;

use pointsman_ha::health::{HealthOutput, ServerConfig, ServiceConfig, ServiceHealth};
use pointsman_ha::mail::{Alert, Dialogue, Fault, Letter, Sent, Told};
use pointsman_ha::vrrp::{Event, Notice, Scope};

const LIMIT: Duration = Duration::from_secs(30);
const START: Duration = Duration::from_secs(7);

fn letter(recipients: &[&str]) -> Letter {
    Letter {
        time: 0,
        host: "west".to_owned(),
        sender: "Pointsman <from@example.org>".to_owned(),
        recipients: recipients.iter().map(|one| (*one).to_owned()).collect(),
        alert: Alert {
            subject: "VRRP Instance V - Stopping".to_owned(),
            text: "=> VRRP Instance stopping <=".to_owned(),
        },
    }
}

fn said(dialogue: &mut Dialogue) -> String {
    String::from_utf8(dialogue.poll_output().unwrap_or_default()).expect("text")
}

/// Has the server say each of these, and returns what is said to it.
fn converse(dialogue: &mut Dialogue, answers: &[&str]) -> Vec<String> {
    answers
        .iter()
        .map(|answer| {
            dialogue.handle_input(answer.as_bytes(), START);
            said(dialogue)
        })
        .collect()
}

#[test]
fn letters_follow_each_other_by_one_connection() {
    let mut dialogue = Dialogue::new("host", LIMIT, START);
    dialogue.send(letter(&["a@example.org", "B <b@example.org>"]), START);
    assert_eq!(said(&mut dialogue), "", "the server greets first");
    let heard = converse(
        &mut dialogue,
        &[
            "220 wel",
            "come\r\n",
            "250-many\r\n250 words\r\n",
            "250 ok\r\n",
            "250 ok\r\n",
            "251 elsewhere\n",
            "354 go\r\n",
        ],
    );
    assert_eq!(
        heard[..6],
        [
            "",
            "HELO host\r\n",
            "MAIL FROM:<from@example.org>\r\n",
            "RCPT TO:<a@example.org>\r\n",
            "RCPT TO:<b@example.org>\r\n",
            "DATA\r\n",
        ]
    );
    assert!(heard[6].ends_with("\r\n\r\n=> VRRP Instance stopping <=\r\n.\r\n"));
    assert_eq!(dialogue.poll_outcome(), None);
    assert_eq!(dialogue.poll_timeout(), Some(START + LIMIT));
    dialogue.handle_input(b"250 queued\r\n", START);
    let refused = Vec::new();
    assert_eq!(dialogue.poll_outcome(), Some(Ok(Sent { refused })));
    assert_eq!(dialogue.poll_timeout(), None, "nothing is waited for");
    dialogue.send(letter(&["c@example.org"]), START);
    assert_eq!(said(&mut dialogue), "MAIL FROM:<from@example.org>\r\n");
    converse(&mut dialogue, &["250\r\n", "250\r\n", "354\r\n", "250\r\n"]);
    assert!(matches!(dialogue.poll_outcome(), Some(Ok(_))));
    dialogue.quit(START);
    assert_eq!(said(&mut dialogue), "QUIT\r\n");
    assert!(!dialogue.is_over());
    dialogue.handle_input(b"221 bye\r\n", START);
    assert!(dialogue.is_over());
}

#[test]
fn what_a_server_refuses_is_told_and_the_others_get_it() {
    let mut dialogue = Dialogue::new("host", LIMIT, START);
    dialogue.send(letter(&["bad@x", "good@x", "worse@x"]), START);
    let heard = converse(
        &mut dialogue,
        &[
            "220 a\r\n",
            "250 b\r\n",
            "250 c\r\n",
            "550 who\r\n",
            "250 d\r\n",
            "550 no\r\n",
            "354\r\n",
            "250\r\n",
        ],
    );
    assert_eq!(heard[5], "DATA\r\n");
    let pair = |name: &str, words: &str| (name.to_owned(), words.to_owned());
    let refused = vec![pair("bad@x", "550 who"), pair("worse@x", "550 no")];
    assert_eq!(dialogue.poll_outcome(), Some(Ok(Sent { refused })));
    // At each step, what was refused ends the letter and the conversation.
    let fine = ["220", "250", "250", "250", "354", "250"];
    let names = [
        "the connection",
        "HELO",
        "MAIL FROM",
        "RCPT TO",
        "DATA",
        "the text",
    ];
    for (at, name) in names.into_iter().enumerate() {
        let mut dialogue = Dialogue::new("host", LIMIT, START);
        dialogue.send(letter(&["a@x"]), START);
        for code in &fine[..at] {
            dialogue.handle_input(format!("{code} fine\r\n").as_bytes(), START);
        }
        said(&mut dialogue);
        dialogue.handle_input(b"554 \x1b[1mno\r\n", START);
        let answer = "554  [1mno".to_owned();
        let fault = Fault::Refused { what: name, answer };
        assert_eq!(dialogue.poll_outcome(), Some(Err(fault)));
        assert_eq!(said(&mut dialogue), "QUIT\r\n");
        // Nobody waits for long for the farewell.
        let due = dialogue.poll_timeout().expect("a deadline");
        assert!(due <= START + Duration::from_secs(1));
        dialogue.handle_timeout(due);
        assert!(dialogue.is_over());
        assert_eq!(dialogue.poll_outcome(), None);
    }
}

#[test]
fn silence_floods_and_closed_connections_end_a_conversation() {
    for steps in 0..6 {
        let begin = || {
            let mut dialogue = Dialogue::new("host", LIMIT, START);
            dialogue.send(letter(&["a@x"]), START);
            for code in &["220", "250", "250", "250", "354"][..steps] {
                dialogue.handle_input(format!("{code} fine\r\n").as_bytes(), START);
            }
            dialogue
        };
        let mut dialogue = begin();
        let due = dialogue.poll_timeout().expect("a deadline");
        assert_eq!(due, START + LIMIT);
        // One byte now and then is no answer.
        dialogue.handle_input(b"2", due - Duration::from_secs(1));
        assert_eq!(dialogue.poll_timeout(), Some(due));
        dialogue.handle_timeout(due - Duration::from_nanos(1));
        assert_eq!(dialogue.poll_outcome(), None);
        dialogue.handle_timeout(due);
        let outcome = dialogue.poll_outcome();
        assert!(
            matches!(outcome, Some(Err(Fault::Silent { .. }))),
            "{outcome:?}"
        );
        assert!(dialogue.is_over() && dialogue.poll_output().is_none());
        for flood in [&b"250-more\r\n"[..], b"x"] {
            let mut dialogue = begin();
            for _ in 0..10_000 {
                dialogue.handle_input(flood, START);
            }
            let outcome = dialogue.poll_outcome();
            assert!(
                matches!(outcome, Some(Err(Fault::Endless { .. }))),
                "{outcome:?}"
            );
            assert!(dialogue.is_over());
        }
        let mut dialogue = begin();
        dialogue.handle_end(START);
        let outcome = dialogue.poll_outcome();
        assert!(
            matches!(outcome, Some(Err(Fault::Closed { .. }))),
            "{outcome:?}"
        );
        assert!(dialogue.is_over() && dialogue.poll_timeout().is_none());
        // Nobody hears a letter now, which is told at once.
        dialogue.send(letter(&["a@x"]), START);
        assert!(matches!(
            dialogue.poll_outcome(),
            Some(Err(Fault::Closed { .. }))
        ));
    }
}

#[test]
fn mails_about_virtual_routers_are_keepalived_s() {
    let alert = |scope, event| {
        let notice = Notice {
            scope,
            name: "N".to_owned(),
            event,
            priority: 100,
        };
        Alert::new(Told::Router(&notice)).map(|alert| (alert.subject, alert.text))
    };
    // Recorded from keepalived 2.2.7.
    for (scope, event, subject, text) in [
        (
            Scope::Instance,
            Event::Master,
            "VRRP Instance N - Entering MASTER state",
            "=> VRRP Instance is now owning VRRP VIPs <=",
        ),
        (
            Scope::Instance,
            Event::Fault,
            "VRRP Instance N - Entering FAULT state",
            "=> VRRP Instance is no longer owning VRRP VIPs <=",
        ),
        (
            Scope::Instance,
            Event::Deleted,
            "VRRP Instance N - Deleted",
            "=> VRRP Deleted at reload <=",
        ),
        (
            Scope::Group,
            Event::Backup,
            "VRRP Group N - Entering BACKUP state",
            "=> All VRRP group instances are now in BACKUP state <=",
        ),
        (
            Scope::Group,
            Event::Stop,
            "VRRP Group N - Stopping",
            "=> All VRRP group instances are now stopping <=",
        ),
    ] {
        assert_eq!(
            alert(scope, event),
            Some((subject.to_owned(), text.to_owned()))
        );
    }
    for event in [
        Event::MasterRxLowerPri,
        Event::MasterPriority,
        Event::BackupPriority,
    ] {
        assert_eq!(alert(Scope::Instance, event), None);
    }
}

#[test]
fn mails_about_quorums_are_keepalived_s() {
    let server = |number: u8, weight| ServerConfig {
        name: format!("[127.0.0.1]:tcp:{number}"),
        weight,
        inhibit: false,
        checkers: vec![true],
    };
    let mut health = ServiceHealth::new(ServiceConfig {
        name: "[10.9.0.50]:tcp:80".to_owned(),
        quorum: 3,
        hysteresis: 1,
        omega: true,
        sorry_server: false,
        sorry_inhibit: false,
        servers: vec![server(1, 2), server(2, 3), server(3, 1)],
    });
    let told = |health: &mut ServiceHealth| {
        let mut told = Vec::new();
        while let Some(output) = health.poll_output() {
            if let HealthOutput::Notify(notice) = output
                && let Some(alert) = Alert::new(Told::Health(&notice))
            {
                told.push(format!("{}: {}", alert.subject, alert.text));
            }
        }
        told
    };
    // Recorded from keepalived 2.2.7, with its signs.
    let name = "Virtualserver [10.9.0.50]:tcp:80";
    assert_eq!(
        told(&mut health),
        [format!(
            "{name} - UP: => Starting with quorum up 3+1=4 <= 6 <="
        )]
    );
    health.handle_checker(1, 0, false);
    assert_eq!(told(&mut health), [""; 0], "checks tell of real servers");
    health.handle_checker(0, 0, false);
    assert_eq!(
        told(&mut health),
        [format!("{name} - DOWN: => Lost quorum 3+1=2 <= 1 <=")]
    );
    health.handle_checker(1, 0, true);
    assert_eq!(
        told(&mut health),
        [format!("{name} - UP: => Gained quorum 3+1=4 <= 4 <=")]
    );
    health.stop();
    let down = |number: u8| {
        format!(
            "Realserver [127.0.0.1]:tcp:{number} of virtual server [10.9.0.50]:tcp:80 - DOWN: => Shutting down <="
        )
    };
    assert_eq!(
        told(&mut health),
        [
            down(2),
            down(3),
            format!("{name} - DOWN: => Shutting down <=")
        ]
    );
}

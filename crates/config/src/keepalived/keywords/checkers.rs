//! What stands in checkers.

use super::Arguments::{
    Address, Block as Opens, Nothing, OneOf, Seconds, Several, Switch, Whole, Word, Words,
};
use super::Block::{BfdCheck, Dns, File, Http, Https, Misc, Ping, Smtp, SmtpHost, Tcp, Udp, Url};
use super::{Arguments, Block, Keyword, no, own, yes};

const INT: i64 = i32::MAX as i64;
const U32: i64 = u32::MAX as i64;
const FOREVER: u64 = u32::MAX as u64;
const AGES: u64 = u64::MAX - 1;

/// When a check is made.
const TIMING: [(&str, Arguments, &str); 6] = [
    ("alpha", Switch, "the real server's"),
    ("retry", Whole(0, U32), "the real server's"),
    ("delay_before_retry", Seconds(0, AGES), "the real server's"),
    ("warmup", Seconds(0, AGES), "the real server's"),
    ("delay_loop", Seconds(1, AGES), "the real server's"),
    ("log_all_failures", Switch, "checker_log_all_failures"),
];

/// Where and from where it connects.
const CONNECTION: [(&str, Arguments, &str); 7] = [
    ("connect_ip", Address, "the real server's"),
    ("connect_port", Whole(1, 65535), "the real server's"),
    ("bindto", Address, "the kernel's choice"),
    ("bind_port", Whole(1, 65535), "the kernel's choice"),
    ("bind_if", Word, "none"),
    ("connect_timeout", Seconds(1, FOREVER), "the real server's"),
    ("fwmark", Whole(0, U32), "none"),
];

/// Each checker with its timing, those that connect with their connection, and what is their own.
pub(super) const CHECKERS: &[Keyword] = &rows();

const TIMED: [Block; 9] = [Tcp, Http, Https, Smtp, Dns, Misc, Udp, Ping, SmtpHost];
const CONNECTED: [Block; 8] = [Tcp, Http, Https, Smtp, Dns, Udp, Ping, SmtpHost];
const COUNT: usize =
    TIMED.len() * TIMING.len() + CONNECTED.len() * (CONNECTION.len() + 1) + OWN.len();

const fn rows() -> [Keyword; COUNT] {
    let mut rows = [OWN[0]; COUNT];
    let mut at = 0;
    let mut block = 0;
    while block < TIMED.len() {
        let mut row = 0;
        while row < TIMING.len() {
            let (name, arguments, default) = TIMING[row];
            rows[at] = yes(TIMED[block], name, arguments, default);
            at += 1;
            row += 1;
        }
        block += 1;
    }
    block = 0;
    while block < CONNECTED.len() {
        let mut row = 0;
        while row < CONNECTION.len() {
            let (name, arguments, default) = CONNECTION[row];
            rows[at] = yes(CONNECTED[block], name, arguments, default);
            at += 1;
            row += 1;
        }
        rows[at] = own(CONNECTED[block], "vip_check", Switch);
        at += 1;
        block += 1;
    }
    let mut row = 0;
    while row < OWN.len() {
        rows[at] = OWN[row];
        at += 1;
        row += 1;
    }
    rows
}

const PROTOCOLS: &[&str] = &["1.0", "1.0C", "1.0c", "1.1"];

const OWN: [Keyword; 38] = [
    yes(Http, "http_protocol", OneOf(PROTOCOLS), "1.0"),
    yes(Https, "http_protocol", OneOf(PROTOCOLS), "1.0"),
    yes(Http, "fast_recovery", Switch, "off"),
    yes(Https, "fast_recovery", Switch, "off"),
    yes(Http, "virtualhost", Word, "the real server's"),
    yes(Https, "virtualhost", Word, "the real server's"),
    yes(Http, "enable_sni", Switch, "off"),
    yes(Https, "enable_sni", Switch, "off"),
    yes(Http, "nb_get_retry", Whole(0, U32), "the real server's"),
    yes(Https, "nb_get_retry", Whole(0, U32), "the real server's"),
    yes(Http, "url", Opens(Url), ""),
    yes(Https, "url", Opens(Url), ""),
    yes(Url, "path", Word, "none, it is needed"),
    yes(Url, "digest", Word, "none"),
    yes(Url, "status_code", Words, "200-299"),
    yes(Url, "virtualhost", Word, "the checker's"),
    yes(Url, "regex", Word, "none"),
    yes(Url, "regex_no_match", Nothing, "off"),
    yes(Url, "regex_options", Words, "none"),
    no(
        Url,
        "regex_stack",
        Words,
        "the stack of regular expressions is not theirs to set; they need none",
    ),
    yes(Url, "regex_min_offset", Whole(0, INT), "0"),
    yes(Url, "regex_max_offset", Whole(0, INT), "no end"),
    yes(Smtp, "helo_name", Word, "smtpchecker.keepalived.org"),
    yes(Smtp, "host", Opens(SmtpHost), ""),
    yes(Dns, "type", Word, "SOA"),
    yes(Dns, "name", Word, "`.`"),
    yes(Misc, "misc_path", Word, "none, it is needed"),
    yes(Misc, "misc_timeout", Whole(0, 4294), "delay_loop"),
    yes(Misc, "misc_dynamic", Nothing, "off"),
    yes(Misc, "user", Several, "script_user"),
    yes(BfdCheck, "name", Word, "none, it is needed"),
    yes(BfdCheck, "alpha", Switch, "the real server's"),
    yes(Udp, "payload", Several, "some bytes by chance"),
    yes(Udp, "require_reply", Words, "off"),
    yes(Udp, "min_reply_length", Whole(0, 65535), "0"),
    yes(Udp, "max_reply_length", Whole(0, 65535), "255"),
    yes(File, "track_file", Word, "none, it is needed"),
    yes(File, "weight", Several, "the file's"),
];

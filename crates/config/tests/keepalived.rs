//! The text of keepalived.conf: words, blocks, files, conditions, parameters, repetitions, places.

use std::collections::BTreeMap;

use pointsman_config::keepalived::{Diagnostic, Document, Environment, Severity, Statement, read};
use proptest::prelude::*;

/// Files in memory; `*` at the end of a pattern matches all names that begin so.
#[derive(Default)]
struct Files(BTreeMap<&'static str, &'static str>);

impl Environment for Files {
    fn include(&mut self, pattern: &str, from: &str) -> Result<Vec<(String, String)>, String> {
        let folder = from.rsplit_once('/').map_or("", |(folder, _)| folder);
        let pattern = if pattern.starts_with('/') {
            pattern.to_owned()
        } else {
            format!("{folder}/{pattern}")
        };
        if pattern.ends_with("secret") {
            return Err("permission denied".to_owned());
        }
        let matches = |name: &str| match pattern.strip_suffix('*') {
            Some(start) => name.starts_with(start),
            None => name == pattern,
        };
        let files = self.0.iter().filter(|(name, _)| matches(name));
        Ok(files.map(|(n, t)| (n.to_string(), t.to_string())).collect())
    }

    fn variable(&mut self, name: &str) -> Option<String> {
        (name == "ROLE").then(|| "edge".to_owned())
    }

    fn random(&mut self, least: u64, most: u64) -> u64 {
        least + (most - least) / 2
    }
}

fn parse(text: &str) -> (Document, Vec<Diagnostic>) {
    read(
        "/etc/keepalived/keepalived.conf",
        text,
        "west",
        &mut Files::default(),
    )
}

/// The statements on one line, `(...)` around blocks, `'...'` around quoted words.
fn flat(statements: &[Statement]) -> String {
    let statement = |statement: &Statement| {
        let words = statement.words.iter().map(|word| match word.quoted {
            true => format!("'{}'", word.text),
            false => word.text.clone(),
        });
        let mut text = words.collect::<Vec<_>>().join(" ");
        if let Some(block) = &statement.block {
            text += &format!(" ({})", flat(block));
        }
        text
    };
    statements
        .iter()
        .map(statement)
        .collect::<Vec<_>>()
        .join("; ")
}

/// What a text without faults says.
fn says(text: &str) -> String {
    let (document, diagnostics) = parse(text);
    assert_eq!(diagnostics, [], "{text}");
    flat(&document.statements)
}

/// What is wrong with a text.
fn faults(text: &str) -> Vec<String> {
    let (_, diagnostics) = parse(text);
    let short = |d: &Diagnostic| {
        d.to_string()
            .replace("/etc/keepalived/keepalived.conf:", "")
    };
    diagnostics.iter().map(short).collect()
}

#[test]
fn blocks_open_on_the_line_or_the_next() {
    assert_eq!(
        says(
            "global_defs {\n  router_id R1\n}\nvrrp_instance VI_1\n{\n  virtual_ipaddress { 10.0.0.1/24 dev eth0\n 10.0.0.2 }\n}\n"
        ),
        "global_defs (router_id R1); vrrp_instance VI_1 (virtual_ipaddress (10.0.0.1/24 dev eth0; 10.0.0.2))"
    );
    assert_eq!(says("a {\n}\nb\n"), "a (); b");
    assert_eq!(says(""), "");
}

#[test]
fn comments_begin_anywhere_but_in_quotes() {
    assert_eq!(
        says("# one\n! two's\npriority 100# three\nauth_pass \"a#b!c\" ! four \"\n  \t\n"),
        "priority 100; auth_pass 'a#b!c'"
    );
    assert_eq!(says("auth_pass a${_HASH}b${_BANG}\n"), "auth_pass a#b!");
}

#[test]
fn quotes_join_and_escapes_are_resolved() {
    assert_eq!(
        says(r#"script "/bin/check 'a b'" x"y z"w 'p"q' "" "#),
        "script '/bin/check 'a b'' 'xy zw' 'p\"q' ''"
    );
    let (document, diagnostics) = parse(r#"s "\\ \" \t \x41 \x4 \101 \7 \cA \E \q \x" c\d"#);
    assert_eq!(diagnostics, []);
    assert_eq!(
        document.statements[0].words[1].text,
        "\\ \" \t A \u{4} A \u{7} \u{1} \u{1b} q x"
    );
    assert_eq!(document.statements[0].words[2].text, "c\\d");
    // Quoted braces are words.
    assert_eq!(says("a \"{\" '}'\n"), "a '{' '}'");
}

#[test]
fn words_know_their_places() {
    let (document, _) = parse("a  b\n\n c {\n\td \"e f\"g h\n}");
    let d = &document.statements[1].block.as_ref().expect("a block")[0];
    let places: Vec<_> = [&document.statements[0], &document.statements[1], d]
        .iter()
        .flat_map(|statement| &statement.words)
        .map(|word| (word.text.as_str(), word.place.line, word.place.column))
        .collect();
    let expected = [
        ("a", 1, 1),
        ("b", 1, 4),
        ("c", 3, 2),
        ("d", 4, 2),
        ("e fg", 4, 4),
        ("h", 4, 11),
    ];
    assert_eq!(places, expected);
    // Of a parameter it is where it is used.
    let (document, _) = parse("$NET=10.0.0\n\n  a ${NET}.1 b $NET\n");
    let places = document.statements[0]
        .words
        .iter()
        .map(|w| (w.place.line, w.place.column));
    assert_eq!(
        places.collect::<Vec<_>>(),
        [(3, 3), (3, 5), (3, 14), (3, 16)]
    );
}

#[test]
fn faults_are_told_with_their_places() {
    assert_eq!(faults("a {\n  b {\n}\n"), ["1:3: error: `{` without a `}`"]);
    assert_eq!(
        faults("a\n }\n"),
        ["2:2: error: `}` without a `{` before it"]
    );
    assert_eq!(
        faults("{\n b\n}\n"),
        ["1:1: error: `{` without a keyword before it"]
    );
    assert_eq!(faults("a {\n}\n{\n}\n").len(), 1);
    assert_eq!(
        faults("a \"b\n"),
        ["1:3: error: a quote that does not end on its line"]
    );
    // What is right besides is still read.
    let (document, _) = parse("a {\n b 'c\n}\nd\n");
    assert_eq!(flat(&document.statements), "a (b 'c'); d");
}

#[test]
fn conditions_choose_lines() {
    assert_eq!(
        says(
            "@west priority 150\n@east priority 100\n@^west a\n@^east b\nunicast_peer {\n @^east 10.0.0.1\n @^west 10.0.0.2\n}\n"
        ),
        "priority 150; b; unicast_peer (10.0.0.1)"
    );
    // One for a line.
    assert_eq!(says("@west @east b\n"), "@east b");
}

#[test]
fn parameters_are_filled_in_where_they_are_used() {
    // Recursively, and by what they are at that time.
    assert_eq!(
        says("$BASE=10.2.${SUB}\n$SUB=0\n${BASE}.100/32\n$SUB=10\n${BASE}.100/32\n"),
        "10.2.0.100/32; 10.2.10.100/32"
    );
    // `$NAME` only before white space; what is not defined stays.
    assert_eq!(
        says("$A=1\nx $A $A.2 ${A}.3 $B ${B} \"${A} $A\"\n"),
        "x 1 $A.2 1.3 $B ${B} '1 $A'"
    );
    assert_eq!(says("$E=\na${E}b $E c\n"), "ab c");
    assert_eq!(
        says("@west $P=240\n@east $P=200\npriority $P\n"),
        "priority 240"
    );
    assert_eq!(says("$IF=@east\n$IF a\n$IF=@west\n$IF b\n"), "b");
    assert_eq!(
        says("a ${_PWD}/x ${_INSTANCE} ${_RANDOM} ${_RANDOM 10 20} ${_ENV ROLE} ${_ENV NONE}\n"),
        "a /etc/keepalived/x west 16383 15 edge ${_ENV NONE}"
    );
}

#[test]
fn values_of_several_lines() {
    let text = "$RS= \\\n  real_server 10.0.0.${N} 80 { \\\n    weight 1 \\\n  }\n\
                $VS= \\\nvirtual_server 10.0.1.1 80 { \\\n$N=1 \\\n$RS \\\n$N=2 \\\n$RS \\\n}\n\
                $VS\nend\n";
    assert_eq!(
        says(text),
        "virtual_server 10.0.1.1 80 (real_server 10.0.0.1 80 (weight 1); \
         real_server 10.0.0.2 80 (weight 1)); end"
    );
    // One whose condition does not hold is not there, with all its lines; elsewhere a backslash is a
    // character.
    assert_eq!(says("@east $A= \\\nx \\\ny\n$A\na \\\nb\n"), "$A; a \\; b");
}

#[test]
fn sequences_and_lists_repeat_a_line() {
    assert_eq!(says("~SEQ(N, 0, 3) a.${N}\n"), "a.0; a.1; a.2; a.3");
    assert_eq!(says("~SEQ(N,3) a $N\n"), "a 1; a 2; a 3");
    assert_eq!(says("~SEQ(N,-2) $N\n"), "-1; -2");
    assert_eq!(says("~SEQ(N,5,-2,0) $N\n"), "5; 3; 1");
    assert_eq!(says("~SEQ(N,3,1) $N\n"), "3; 2; 1");
    assert_eq!(
        says("~SEQx(N,0x90,0x10,192) f:${N}\n"),
        "f:90; f:a0; f:b0; f:c0"
    );
    assert_eq!(
        says("~LST(A, x, y) ~SEQ(B,1,2) ${A}${B}\n"),
        "x1; x2; y1; y2"
    );
    assert_eq!(
        says("~LST({IP, ID}, {10,1},{20,4}) 10.0.${IP}.${ID}\n"),
        "10.0.10.1; 10.0.20.4"
    );
    let value = "$VI= \\\nvi V${I} { \\\n priority ${I}0 \\\n}\n";
    assert_eq!(
        says(&format!(
            "{value}~SEQ(I,1,2) $VI\n@west ~SEQ(I,3,3) $VI\n@east ~SEQ(I,4,4) $VI\n"
        )),
        "vi V1 (priority 10); vi V2 (priority 20); vi V3 (priority 30)"
    );
    for (text, fault) in [
        (
            "~SEQ(N) a",
            "`N` wants one to three numbers: [start, [step,]] end",
        ),
        (
            "~SEQ(N,1,0,3) a",
            "the sequence `N` has step 0 and would never end",
        ),
        ("~SEQ(N,x) a", "`x` is not a number"),
        (
            "~SEQ(N,9999999999) a",
            "the sequence `N` has 9999999999 turns, 100000 is the most",
        ),
        (
            "~SEQ(1,2) a",
            "`1` is no name of a parameter: letters, digits and _, no digit first",
        ),
        ("~LST(A) b", "the list `A` has no values"),
        ("~LST({A,B},{1,2},{3}) b", "`3`: 1 values for 2 names"),
        ("~FOO(A) b", "`~FOO` is neither ~SEQ nor ~SEQx nor ~LST"),
        ("~SEQ(A,1 b", "`~SEQ(` without a `)`"),
    ] {
        assert_eq!(faults(text), [format!("1:1: error: {fault}")]);
    }
}

#[test]
fn files_are_included_where_they_are_named() {
    let mut files = Files(BTreeMap::from([
        ("/etc/keepalived/a.conf", "in_a\ninclude d/b.conf\n$X=1\n"),
        ("/etc/keepalived/d/b.conf", "in_b\n  in_b_too ${_PWD}\n"),
        ("/etc/keepalived/v1.conf", "v1 $X\n"),
        ("/etc/keepalived/v2.conf", "}\n"),
    ]));
    let text = "first\ninclude a.conf\nlast {\ninclude v*\n";
    let (document, diagnostics) = read("/etc/keepalived/k.conf", text, "west", &mut files);
    assert_eq!(diagnostics, []);
    assert_eq!(
        flat(&document.statements),
        "first; in_a; in_b; in_b_too /etc/keepalived/d; last (v1 1)"
    );
    let place = document.statements[3].words[0].place;
    assert_eq!(
        document.files[place.file as usize],
        "/etc/keepalived/d/b.conf"
    );
    assert_eq!((place.line, place.column), (2, 3));
}

#[test]
fn includes_forgive_as_much_as_they_say() {
    use Severity::{Error, Warning};
    for (keyword, secret, missing) in [
        ("include", Warning, Warning),
        ("includer", Error, Warning),
        ("includem", Error, Error),
        ("includew", Error, Error),
        ("includeb", Error, Warning),
        ("includea", Error, Error),
    ] {
        let (_, diagnostics) = parse(&format!("{keyword} secret\n  {keyword} missing\n"));
        let severities: Vec<_> = diagnostics.iter().map(|d| d.severity).collect();
        assert_eq!(severities, [secret, missing], "{keyword}");
        assert_eq!(
            diagnostics[0].text,
            "cannot include `secret`: permission denied"
        );
        assert_eq!((diagnostics[1].line, diagnostics[1].column), (2, 3));
        assert_eq!(diagnostics[1].text, "no file matches `missing`");
    }
}

#[test]
fn include_check_says_what_is_not_forgiven() {
    use Severity::{Error, Warning};
    for (options, severities) in [
        ("", [Error; 4]),
        ("readable", [Error, Warning, Warning, Warning]),
        ("match", [Error, Error, Warning, Warning]),
        ("wildcard_match", [Error, Error, Error, Warning]),
        ("brace_match readable", [Error, Warning, Warning, Error]),
    ] {
        let text = format!(
            "global_defs {{\n include_check {options}\n}}\ninclude secret\ninclude missing\n\
             include missing.*\ninclude {{missing,}}\n"
        );
        let said: Vec<_> = parse(&text).1.iter().map(|d| d.severity).collect();
        assert_eq!(said, severities, "{options}");
    }
    let (_, said) = parse("include_check nosuch\ninclude secret\n");
    assert_eq!(said[0].column, 15, "{said:?}");
    assert_eq!(said[1].severity, Warning, "{said:?}");
}

#[test]
fn what_contains_itself_ends() {
    assert!(faults("$A=x $A\n$A\n")[0].contains("does one contain itself?"));
    assert!(faults("$A=${A}${A}\n$A\n")[0].contains("contain itself?"));
    let doubling = "$A= \\\n$A \\\n$A\n$A\nafter\n";
    let said = faults(doubling);
    assert_eq!(said.len(), 1, "{said:?}");
    let (document, _) = parse(doubling);
    assert_eq!(flat(&document.statements), "after");
    let mut files = Files(BTreeMap::from([("/etc/self", "x\ninclude self\n")]));
    let (document, diagnostics) = read("/etc/k", "include self\n", "west", &mut files);
    assert_eq!(document.statements.len(), 32);
    assert!(diagnostics[0].text.contains("nested 32 deep"));
}

proptest! {
    #[test]
    fn any_text_is_read(text in "([a-c${}~@\\\\\"'#!=(), \n]|include |SEQ|LST|\\$A=|\\$\\{A\\}|~SEQ\\(A,3\\) ){0,80}") {
        let (document, _) = parse(&text);
        // All places are in the text.
        let lines = text.lines().count() as u32;
        let mut all: Vec<&Statement> = document.statements.iter().collect();
        while let Some(statement) = all.pop() {
            prop_assert!(!statement.words.is_empty());
            for word in &statement.words {
                prop_assert!((1..=lines).contains(&word.place.line));
                let line = text.lines().nth(word.place.line as usize - 1).unwrap_or_default();
                prop_assert!((1..=line.chars().count() as u32).contains(&word.place.column));
            }
            all.extend(statement.block.iter().flatten());
        }
    }
}

//! Lines of recordings from what ipvsadm prints.

use crate::oracle::recording::Recording;

/// `list`, `stats` and `save`: the words of each line that matters, apart by tabs.
pub(crate) fn words(recording: &mut Recording, step: usize, operation: &str, text: &str) {
    for line in text.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        if !is_heading(&words) {
            recording.add(step, [&[operation, "-", "-"], &words[..]].concat());
        }
    }
}

/// `conns`: protocol, ends, real server, state and expiry, sorted.
pub(crate) fn connections(recording: &mut Recording, step: usize, text: &str) {
    let mut rows: Vec<Vec<String>> = text.lines().filter_map(connection).collect();
    rows.sort();
    for row in rows {
        let begin = ["conns".to_owned(), "-".to_owned()];
        recording.add(step, begin.into_iter().chain(row));
    }
}

/// A line of `ipvsadm -Lnc` as `proto source virtual real state expire=MM:SS` and what is more.
pub(crate) fn connection(line: &str) -> Option<Vec<String>> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let [protocol, expire, state, source, virtual_, real, more @ ..] = &words[..] else {
        return None;
    };
    if is_heading(&words) || !expire.contains(':') {
        return None;
    }
    let expire = format!("expire={expire}");
    let row = [protocol, source, virtual_, real, state, &expire.as_str()];
    let row = row.into_iter().copied().chain(more.iter().copied());
    Some(row.map(str::to_owned).collect())
}

/// Titles of listings.
fn is_heading(words: &[&str]) -> bool {
    matches!(
        words,
        [] | ["IP", "Virtual", "Server", ..]
            | ["IPVS", "connection", "entries", ..]
            | ["Prot", "LocalAddress:Port", ..]
            | ["->", "RemoteAddress:Port", ..]
            | ["pro", "expire", ..]
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn titles_are_left_out_and_words_kept() {
        let mut recording = Recording::default();
        let text = "IP Virtual Server version 1.2.1 (size=4096)\n\
             Prot LocalAddress:Port Scheduler Flags\n  -> RemoteAddress:Port Forward Weight\n\
             TCP  10.99.0.1:80 rr persistent 10\n  -> 10.2.1.4:80   Masq    1      3          0\n";
        words(&mut recording, 7, "list", text);
        let rows: Vec<String> = recording
            .rows
            .iter()
            .map(|row| row.cells.join(" "))
            .collect();
        assert_eq!(
            rows,
            [
                "list - - TCP 10.99.0.1:80 rr persistent 10",
                "list - - -> 10.2.1.4:80 Masq 1 3 0"
            ]
        );
    }

    #[test]
    fn connections_are_sorted_and_their_columns_put_in_order() {
        let mut recording = Recording::default();
        let text = "IPVS connection entries\n\
            pro expire state       source             virtual            destination\n\
            TCP 14:59  ESTABLISHED 10.64.0.2:20001    10.99.0.1:80       10.2.1.2:80\n\
            TCP 00:09  ASSURED     10.64.0.1:0        10.99.0.1:80       10.2.1.3:80\n";
        connections(&mut recording, 1, text);
        assert_eq!(
            recording.rows[0].cells.join(" "),
            "conns - TCP 10.64.0.1:0 10.99.0.1:80 10.2.1.3:80 ASSURED expire=00:09"
        );
        assert_eq!(recording.rows.len(), 2);
    }
}

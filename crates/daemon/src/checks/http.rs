//! `HTTP_GET` and `SSL_GET`: pages that are as they have to be.

use std::ops::RangeInclusive;

use md5::{Digest, Md5};
use regex::bytes::Regex;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::{ANSWER_MAX, Failure, Target, Tls};

/// The head of an answer is no longer than this, bytes.
const HEAD_MAX: usize = 64 << 10;

/// A check by HTTP.
#[derive(Debug, Clone, PartialEq)]
pub struct HttpCheck {
    /// Where it goes; each page gets a connection, and the whole time.
    pub target: Target,
    /// How the connection is secured, if it is.
    pub tls: Option<Tls>,
    /// The version that is asked for.
    pub version: HttpVersion,
    /// The pages.
    pub urls: Vec<Url>,
}

/// What the request says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum HttpVersion {
    /// `HTTP/1.0`.
    #[default]
    V10,
    /// `HTTP/1.0` with `Connection: close`; keepalived's `1.0C`.
    V10Close,
    /// `HTTP/1.1`.
    V11,
}

/// A page, and how it has to be.
#[derive(Debug, Clone, PartialEq)]
pub struct Url {
    /// Its path.
    pub path: String,
    /// The `Host` that is asked for; address and port if none.
    pub host: Option<String>,
    /// Status codes that are right.
    pub codes: Vec<RangeInclusive<u16>>,
    /// MD5 of its body.
    pub digest: Option<[u8; 16]>,
    /// What its body has to match, or not to.
    pub pattern: Option<Pattern>,
}

/// What a body has to match.
#[derive(Debug, Clone)]
pub struct Pattern {
    /// The expression.
    pub regex: Regex,
    /// True when it must not match (`regex_no_match`).
    pub absent: bool,
    /// It begins no earlier, bytes (`regex_min_offset`).
    pub least: usize,
    /// It begins no later, bytes, if there is an end (`regex_max_offset`).
    pub most: Option<usize>,
}

impl Pattern {
    /// True when the expression matches where it may begin.
    fn matches(&self, body: &[u8]) -> bool {
        if self.least > body.len() {
            return false;
        }
        let found = self.regex.find_at(body, self.least);
        found.is_some_and(|found| self.most.is_none_or(|most| found.start() <= most))
    }
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.regex.as_str() == other.regex.as_str()
            && (self.absent, self.least, self.most) == (other.absent, other.least, other.most)
    }
}

impl Url {
    /// A page that has only to be there.
    pub fn new(path: &str) -> Self {
        Self {
            path: path.to_owned(),
            host: None,
            codes: vec![200..=299],
            digest: None,
            pattern: None,
        }
    }
}

impl HttpCheck {
    pub(super) async fn make(&self) -> Result<(), Failure> {
        for url in &self.urls {
            self.target.within(self.get(url)).await?;
        }
        Ok(())
    }

    async fn get(&self, url: &Url) -> Result<(), Failure> {
        let connected = self.target.connect().await?;
        let (stream, _ticket) = (connected.socket, connected.ticket);
        let request = self.request(url);
        let (head, body) = match &self.tls {
            Some(tls) => {
                let stream = tls.connect(stream, &self.target).await?;
                exchange(stream, &request).await?
            }
            None => exchange(stream, &request).await?,
        };
        judge(url, &head, &body)
    }

    /// The request in keepalived's very words.
    fn request(&self, url: &Url) -> String {
        let (version, close) = match self.version {
            HttpVersion::V10 => ("1.0", ""),
            HttpVersion::V10Close => ("1.0", "Connection: close\r\n"),
            HttpVersion::V11 => ("1.1", "Connection: close\r\n"),
        };
        let host = match &url.host {
            Some(host) => host.clone(),
            None => self.target.to.to_string(),
        };
        format!(
            "GET {} HTTP/{version}\r\nUser-Agent: KeepAliveClient\r\n{close}Host: {host}\r\n\r\n",
            url.path
        )
    }
}

/// Sends the request and reads the answer: the head, and the body as far as the head says it goes.
async fn exchange(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    request: &str,
) -> Result<(String, Vec<u8>), Failure> {
    let sent = stream.write_all(request.as_bytes()).await;
    sent.map_err(Failure::broken("sending the request"))?;
    let mut bytes = Vec::new();
    let mut end = None;
    loop {
        let body = bytes.len() - end.map_or(0, |(head, _)| head);
        match end {
            Some((_, Some(length))) if body >= length => break,
            None if bytes.len() > HEAD_MAX => {
                return Err(Failure::Wrong("the answer's head does not end".into()));
            }
            _ if bytes.len() > ANSWER_MAX => {
                return Err(Failure::Wrong("the answer does not end".into()));
            }
            _ => {}
        }
        let read = stream.read_buf(&mut bytes).await;
        match read {
            Ok(0) => break,
            // Many servers end without TLS's own goodbye.
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => break,
            read => read.map_err(Failure::broken("reading the answer"))?,
        };
        if end.is_none() {
            end = find_body(&bytes).map(|head| (head, content_length(&bytes[..head])));
        }
    }
    let Some((head, length)) = end else {
        return Err(Failure::Wrong("the answer ends within its head".into()));
    };
    let mut body = bytes.split_off(head);
    if let Some(length) = length {
        if body.len() < length {
            return Err(Failure::Wrong(format!(
                "the answer ends after {} of {length} bytes",
                body.len()
            )));
        }
        body.truncate(length);
    }
    Ok((String::from_utf8_lossy(&bytes).into_owned(), body))
}

/// Where the body begins.
fn find_body(bytes: &[u8]) -> Option<usize> {
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n")?;
    Some(end + 4)
}

fn content_length(head: &[u8]) -> Option<usize> {
    let head = String::from_utf8_lossy(head);
    head.lines().skip(1).find_map(|line| {
        let (name, value) = line.split_once(':')?;
        let named = name.trim().eq_ignore_ascii_case("content-length");
        named.then(|| value.trim().parse().ok())?
    })
}

fn judge(url: &Url, head: &str, body: &[u8]) -> Result<(), Failure> {
    let status = head.lines().next().unwrap_or_default();
    let code = status.strip_prefix("HTTP/").and_then(|rest| {
        let (_, rest) = rest.split_once(' ')?;
        rest.get(..3)?.parse::<u16>().ok()
    });
    let Some(code) = code else {
        let status: String = status.chars().take(80).collect();
        return Err(Failure::Wrong(format!("{status:?} is no answer of HTTP")));
    };
    if !url.codes.iter().any(|range| range.contains(&code)) {
        return Err(Failure::Wrong(format!("{} has status {code}", url.path)));
    }
    if let Some(wanted) = url.digest {
        let found: [u8; 16] = Md5::digest(body).into();
        if found != wanted {
            let hex: String = found.iter().map(|byte| format!("{byte:02x}")).collect();
            return Err(Failure::Wrong(format!("{} has digest {hex}", url.path)));
        }
    }
    if let Some(pattern) = &url.pattern
        && pattern.matches(body) == pattern.absent
    {
        let what = if pattern.absent {
            "matches"
        } else {
            "does not match"
        };
        let regex = &pattern.regex;
        return Err(Failure::Wrong(format!("{} {what} {regex}", url.path)));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_keepaliveds() {
        let to = "192.0.2.1:80".parse().expect("an address");
        let mut check = HttpCheck {
            target: Target::new(to, std::time::Duration::from_secs(1)),
            tls: None,
            version: HttpVersion::V10,
            urls: Vec::new(),
        };
        let mut url = Url::new("/health");
        assert_eq!(
            check.request(&url),
            "GET /health HTTP/1.0\r\nUser-Agent: KeepAliveClient\r\nHost: 192.0.2.1:80\r\n\r\n"
        );
        check.version = HttpVersion::V11;
        check.target.to = "[2001:db8::1]:8080".parse().expect("an address");
        assert!(
            check
                .request(&url)
                .ends_with("Connection: close\r\nHost: [2001:db8::1]:8080\r\n\r\n")
        );
        url.host = Some("example.org".to_owned());
        assert!(check.request(&url).ends_with("Host: example.org\r\n\r\n"));
    }

    #[test]
    fn answers_are_judged() {
        let mut url = Url::new("/");
        let ok = |url: &Url, head: &str, body: &[u8]| judge(url, head, body).is_ok();
        assert!(ok(&url, "HTTP/1.1 204 No Content", b""));
        for head in [
            "HTTP/1.1 301 Moved",
            "HTTP/1.1",
            "SSH-2.0",
            "",
            "HTTP/1.1 20",
        ] {
            assert!(!ok(&url, head, b""), "{head}");
        }
        url.codes = vec![301..=301, 403..=404];
        assert!(ok(&url, "HTTP/1.0 404 Not Found", b""));
        url.codes = vec![200..=200];
        url.digest = Some(Md5::digest(b"hello").into());
        assert!(ok(&url, "HTTP/1.0 200 OK", b"hello"));
        assert!(!ok(&url, "HTTP/1.0 200 OK", b"hullo"));
        url.digest = None;
        let regex = Regex::new("w[oa]rks").expect("an expression");
        for absent in [false, true] {
            let regex = regex.clone();
            url.pattern = Some(Pattern {
                regex,
                absent,
                least: 0,
                most: None,
            });
            assert_eq!(ok(&url, "HTTP/1.0 200 OK", b"it works\xff"), !absent);
            assert_eq!(ok(&url, "HTTP/1.0 200 OK", b"it fails"), absent);
        }
    }

    #[test]
    fn a_match_begins_where_it_may() {
        let matches = |regex: &str, least, most| {
            let regex = Regex::new(regex).expect("an expression");
            let absent = false;
            Pattern {
                regex,
                absent,
                least,
                most,
            }
            .matches(b"one two one")
        };
        assert!(matches("one", 0, Some(0)));
        assert!(matches("one", 1, None) && matches("one", 8, Some(8)));
        assert!(!matches("one", 1, Some(7)) && !matches("one", 9, None));
        assert!(!matches("two", 0, Some(3)) && matches("two", 0, Some(4)));
        // What stands before is seen: this is not the beginning.
        assert!(!matches("^two", 4, None));
        assert!(!matches("", 12, None) && matches("", 11, None));
    }
}

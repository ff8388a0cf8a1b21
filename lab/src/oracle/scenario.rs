//! A scenario: configuration and steps, as a file `NAME.json` says them.

use std::collections::{BTreeSet, HashMap};
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use crate::error::{LabError, Result};
use crate::oracle::site;
use crate::oracle::step::{Flow, Step};

/// What is done, in order.
#[derive(Debug, Clone, PartialEq)]
pub struct Scenario {
    /// Its name, also that of its file.
    pub name: String,
    /// What it is about.
    pub description: String,
    /// Lines for ipvsadm, the first steps.
    pub setup: Vec<String>,
    /// The steps after those.
    pub steps: Vec<Step>,
    /// Ports of the real servers besides those that the steps name.
    pub ports: Vec<u16>,
}

impl Scenario {
    /// Reads a file.
    pub fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path)
            .map_err(LabError::io(format!("cannot read {}", path.display())))?;
        Self::parse(&text).map_err(|error| LabError::Answer(format!("{}: {error}", path.display())))
    }

    /// Reads a scenario; the error says which step is wrong, and how.
    pub fn parse(text: &str) -> Result<Self, String> {
        let value: Value = serde_json::from_str(text).map_err(|error| error.to_string())?;
        let object = value.as_object().ok_or("a scenario is a JSON object")?;
        let known = ["name", "description", "setup", "steps", "ports"];
        if let Some(key) = object.keys().find(|key| !known.contains(&key.as_str())) {
            return Err(format!(
                "nobody knows what {key:?} means; a scenario has {}",
                known.join(", ")
            ));
        }
        let name = object
            .get("name")
            .and_then(Value::as_str)
            .ok_or("the name is missing")?;
        let description = match object.get("description") {
            None => "",
            Some(value) => value.as_str().ok_or("the description is no text")?,
        };
        let setup = lines(object.get("setup"), "setup")?;
        let texts = lines(object.get("steps"), "steps")?;
        let mut steps = Vec::new();
        for (index, text) in texts.iter().enumerate() {
            let step = Step::parse(text)
                .map_err(|error| format!("step {} {text:?}: {error}", setup.len() + index + 1))?;
            steps.push(step);
        }
        let scenario = Self {
            name: name.to_owned(),
            description: description.to_owned(),
            setup,
            steps,
            ports: ports(object.get("ports"))?,
        };
        scenario.check_ids()?;
        Ok(scenario)
    }

    /// The scenario as a file says it.
    pub fn to_json(&self) -> String {
        let steps: Vec<String> = self.steps.iter().map(Step::to_string).collect();
        let mut value = json!({
            "name": self.name,
            "description": self.description,
            "setup": self.setup,
            "steps": steps,
        });
        if !self.ports.is_empty() {
            value["ports"] = json!(self.ports);
        }
        format!("{value:#}\n")
    }

    /// All steps, those of the setup first; the first is number 1 in recordings.
    pub fn all_steps(&self) -> Vec<Step> {
        let setup = self.setup.iter().cloned().map(Step::Ipvsadm);
        setup.chain(self.steps.iter().cloned()).collect()
    }

    /// Time that the steps ask to wait.
    pub fn sleeps(&self) -> Duration {
        let time = |step: &Step| match step {
            Step::Sleep(time) => *time,
            _ => Duration::ZERO,
        };
        self.steps.iter().map(time).sum()
    }

    /// Every port that it names: real servers listen on all of them, TCP and UDP.
    pub fn all_ports(&self) -> BTreeSet<u16> {
        let mut ports: BTreeSet<u16> = self.ports.iter().copied().collect();
        for step in self.all_steps() {
            match step {
                Step::Open(flow) | Step::Udp(flow) => {
                    ports.insert(flow.destination.port());
                }
                Step::Ipvsadm(words) => {
                    let named = words.split_whitespace().filter_map(port_of);
                    ports.extend(named.filter(|port| *port != 0));
                }
                _ => {}
            }
        }
        ports
    }

    /// How many real servers it needs: up to the highest that it names in any way.
    pub fn servers(&self) -> u8 {
        let steps = self.all_steps();
        let text: Vec<String> = steps.iter().map(Step::to_string).collect();
        let text = text.join("\n");
        let named = |number: &u8| {
            let Some([four, six]) = site::server_addresses(*number) else {
                return false;
            };
            let [four, six] = [four.to_string(), six.to_string()];
            [four, six].iter().any(|address| mentions(&text, address))
                || steps
                    .iter()
                    .any(|step| matches!(step, Step::OnServer { server, .. } if server == number))
        };
        (1..=site::SERVERS).filter(named).max().unwrap_or(1)
    }

    /// Whether any real server may be reached through a tunnel.
    pub fn has_tunnels(&self) -> bool {
        self.all_steps().iter().any(|step| match step {
            Step::Ipvsadm(words) => words.split_whitespace().any(|word| {
                let short = word.starts_with('-') && !word.starts_with("--") && word.contains('i');
                short || word.starts_with("--ipip") || word.starts_with("--tun")
            }),
            _ => false,
        })
    }

    /// Refuses steps that speak of a connection nobody opened, and sockets with two sources.
    fn check_ids(&self) -> Result<(), String> {
        let mut opened: HashMap<&str, &Flow> = HashMap::new();
        let mut sockets: HashMap<&str, SocketAddr> = HashMap::new();
        for (index, step) in self.steps.iter().enumerate() {
            let wrong = |error: String| {
                let number = self.setup.len() + index + 1;
                Err(format!("step {number} \"{step}\": {error}"))
            };
            match step {
                Step::Open(flow) => {
                    opened.insert(&flow.id, flow);
                }
                Step::Udp(flow) => {
                    let source = *sockets.entry(&flow.id).or_insert(flow.source);
                    if source != flow.source {
                        return wrong(format!("the socket {} is bound to {source}", flow.id));
                    }
                }
                Step::Close(id) | Step::Reset(id) | Step::Send(id)
                    if !opened.contains_key(id.as_str()) =>
                {
                    return wrong(format!("no step before opens {id}"));
                }
                _ => {}
            }
        }
        Ok(())
    }
}

fn lines(value: Option<&Value>, what: &str) -> Result<Vec<String>, String> {
    let wrong = || format!("{what} is no list of texts");
    let list = value.ok_or_else(|| format!("{what} is missing"))?;
    let list = list.as_array().ok_or_else(wrong)?;
    list.iter()
        .map(|line| line.as_str().map(str::to_owned).ok_or_else(wrong))
        .collect()
}

fn ports(value: Option<&Value>) -> Result<Vec<u16>, String> {
    let Some(value) = value else {
        return Ok(Vec::new());
    };
    let port = |value: &Value| {
        value
            .as_u64()
            .and_then(|port| u16::try_from(port).ok())
            .filter(|port| *port != 0)
            .ok_or_else(|| format!("{value} is no port"))
    };
    let list = value.as_array().ok_or("ports is no list of numbers")?;
    list.iter().map(port).collect()
}

/// The port of a word like `10.99.0.1:80`, `[fd00::1]:80` or `-r10.2.1.1:80`.
fn port_of(word: &str) -> Option<u16> {
    let (host, port) = word.rsplit_once(':')?;
    let host_like = host.ends_with(']') || host.contains('.');
    port.parse().ok().filter(|_| host_like)
}

/// Whether the address stands in the text and is not the beginning of another.
fn mentions(text: &str, address: &str) -> bool {
    text.match_indices(address).any(|(at, _)| {
        let more = text[at + address.len()..].chars().next();
        !more.is_some_and(|next| next.is_ascii_hexdigit())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(steps: &str) -> Result<Scenario, String> {
        Scenario::parse(&format!(
            r#"{{"name": "x", "description": "d",
                "setup": ["-A -t 10.99.0.1:0 -s rr", "-a -t 10.99.0.1:0 -r 10.2.1.12:8080 -m",
                          "-a -t 10.99.0.1:0 -r [fd00:2::1:3]:81 -i"],
                "steps": {steps}, "ports": [7]}}"#
        ))
    }

    #[test]
    fn a_scenario_says_what_it_needs() {
        let scenario = parse(
            r#"["open c0 10.64.0.1:20000 10.99.0.1:443", "sleep 2", "close c0", "sleep 0.5",
                "udp a 10.64.0.1:1 10.99.0.1:53"]"#,
        )
        .unwrap();
        assert_eq!(scenario.all_steps().len(), 8);
        assert_eq!(scenario.sleeps(), Duration::from_millis(2500));
        assert_eq!(
            scenario.all_ports().into_iter().collect::<Vec<_>>(),
            [7, 53, 81, 443, 8080]
        );
        // 10.2.1.12 is not 10.2.1.1.
        assert_eq!(scenario.servers(), 3);
        assert!(scenario.has_tunnels());
        assert_eq!(Scenario::parse(&scenario.to_json()).unwrap(), scenario);
    }

    #[test]
    fn an_error_names_the_step() {
        let error = parse(r#"["list", "jump c0"]"#).unwrap_err();
        assert!(error.contains("step 5 \"jump c0\""), "{error}");
        let error = parse(r#"["send c0"]"#).unwrap_err();
        assert!(error.contains("no step before opens c0"), "{error}");
        let error =
            parse(r#"["udp a 10.64.0.1:1 10.99.0.1:53", "udp a 10.64.0.2:1 10.99.0.1:53"]"#)
                .unwrap_err();
        assert!(error.contains("bound to 10.64.0.1:1"), "{error}");
        let error =
            Scenario::parse(r#"{"name": "x", "steps": [], "setup": [], "pots": []}"#).unwrap_err();
        assert!(error.contains("pots"), "{error}");
    }
}

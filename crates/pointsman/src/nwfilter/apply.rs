//! `pointsman nwfilter apply`: a filter at a port, enforced by the kernel.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::Args;
use pointsman_filter::diagnostic::{Diagnostic, Place};
use pointsman_filter::nwfilter::{
    Binding, Enforced, Installed, Learning, Library, Parameters, Reference, Tracking, enforce,
    script_of_removal,
};
use pointsman_linux::netlink::Netlink;
use pointsman_linux::{nft, sysctl};
use pointsman_wire::Mac;

use super::source;

pub(crate) const LONG_ABOUT: &str = "\
Enforce a filter at a port, by nftables, without libvirt

The rules of the port are one table, `pointsman_PORT` in the family bridge, loaded as a whole: what was in \
force before is so until all of the new is, and stays if the kernel refuses. The same filter again changes \
nothing. Tables of others are left alone; an accept here does not undo a drop of theirs.

Where IP is not given, it is learned as CTRL_IP_LEARNING says: `any` (the first IPv4 source that the guest \
sends; for a director that is a client's, so give IP), `dhcp` (`pointsman nwfilter learn` watches), `none`. \
Rules that ask for the state of connections need nf_conntrack_bridge, or net.bridge.bridge-nf-call-iptables.

    pointsman nwfilter apply --port vnet0 --filter clean-traffic --mac 52:54:00:12:34:56 --param IP=192.0.2.10";

#[derive(Debug, Args)]
pub(crate) struct ApplyFlags {
    /// The guest's port of a bridge: its tap or veth on the host
    #[arg(long, value_name = "PORT", value_parser = super::port)]
    port: String,
    /// The filter's name
    #[arg(long, value_name = "NAME")]
    filter: String,
    /// A value for a variable of the filter; repeated for a list
    #[arg(long = "param", value_name = "NAME=VALUE", value_parser = parameter)]
    parameters: Vec<(String, String)>,
    /// The guest's MAC, the value of $MAC
    #[arg(long, value_name = "MAC")]
    mac: Option<Mac>,
    /// libvirt's filters: a directory of XML files, or one file; may be repeated
    #[arg(long, value_name = "DIR", default_value = source::FILTERS)]
    filters: Vec<PathBuf>,
    /// Print what would be loaded, and load nothing
    #[arg(long)]
    print: bool,
    /// Load the rules even if they are in force already; counters begin again
    #[arg(long)]
    reload: bool,
}

/// `NAME=VALUE`. libvirt leaves out silently what it does not take.
fn parameter(text: &str) -> Result<(String, String), String> {
    let Some((name, value)) = text.split_once('=') else {
        return Err("write NAME=VALUE".into());
    };
    if !Parameters::new().add(name, value) {
        let advice = if value.contains('/') {
            "; a filter takes single addresses: name each"
        } else {
            ""
        };
        return Err(format!(
            "a name has letters, digits and `_`, a value also `.` and `:`{advice}"
        ));
    }
    Ok((name.to_owned(), value.to_owned()))
}

pub(crate) fn run(flags: &ApplyFlags) -> Result<ExitCode> {
    let (library, unread) = source::library(&flags.filters)?;
    let binding = flags.binding()?;
    let with_unread = |error: Diagnostic| {
        let mut lines = vec![error.to_string()];
        lines.extend(unread.iter().map(Diagnostic::to_string));
        anyhow::anyhow!(lines.join("\n"))
    };
    let mut enforced = flags
        .compile(&library, &binding, Tracking::Bridge)
        .map_err(with_unread)?;
    if !enforced.warnings.is_empty() {
        let lines: Vec<String> = enforced
            .warnings
            .iter()
            .map(Diagnostic::to_string)
            .collect();
        bail!(
            "the filter does not say what it seems to say, so it is not enforced:\n{}",
            lines.join("\n")
        );
    }
    let port = &flags.port;
    if enforced.tracked.iter().any(Option::is_some)
        && tracking(&enforced.tracked)? == Tracking::Marks
    {
        enforced = flags
            .compile(&library, &binding, Tracking::Marks)
            .map_err(with_unread)?;
    }
    if flags.print {
        print!("{}", enforced.script);
        return Ok(ExitCode::SUCCESS);
    }
    if let Some(warning) = not_bridged(port)? {
        eprintln!("pointsman: {warning}");
    }
    let _turn = nft::lock()?;
    let installed = super::installed()?;
    let before = installed.iter().find(|one| one.port == *port);
    if before.is_some_and(|before| before.is(&enforced.digest, enforced.rules)) && !flags.reload {
        println!("{port}: {} was in force already", flags.filter);
        return Ok(ExitCode::SUCCESS);
    }
    let script = script(&enforced, &installed, before);
    nft::load(&script).with_context(|| match before {
        Some(before) => format!("{port}: {} stays in force", before.filter),
        None => format!("{port}: still without rules of ours"),
    })?;
    let learning = match enforced.learning {
        Some(learning) => format!(", address learned ({})", super::learning_name(learning)),
        None => String::new(),
    };
    println!("{port}: {} in force{learning}", flags.filter);
    if enforced.learning == Some(Learning::Any) {
        eprintln!(
            "pointsman: the first IPv4 source that {port} sends is taken for its own address; a \
             director sends with its clients': for one, give IP"
        );
    }
    Ok(ExitCode::SUCCESS)
}

impl ApplyFlags {
    fn binding(&self) -> Result<Binding> {
        let mut parameters = Parameters::new();
        for (name, value) in &self.parameters {
            parameters.add(name, value);
        }
        let told = parameters.get("MAC").and_then(|list| list.first());
        let mac = match (self.mac, told) {
            (Some(_), Some(_)) => bail!("give the MAC with --mac or with --param, not both"),
            (Some(mac), None) => mac.to_string(),
            (None, Some(told)) => told.clone(),
            (None, None) => String::new(),
        };
        Ok(Binding {
            port: Some(self.port.clone()),
            mac,
            filter: Reference {
                filter: self.filter.clone(),
                parameters,
                place: Place::new("command line", 0, 0),
            },
            owner: None,
            warnings: Vec::new(),
        })
    }

    fn compile(
        &self,
        library: &Library,
        binding: &Binding,
        tracking: Tracking,
    ) -> Result<Enforced, Diagnostic> {
        enforce(library, binding, &self.port, tracking)
    }
}

/// What is loaded: the rules, what was learned before if it still holds, and what nobody needs any more.
fn script(enforced: &Enforced, installed: &[Installed], before: Option<&Installed>) -> String {
    let mut script = enforced.script.clone();
    let learning = enforced.learning.map(super::learning_name);
    if let Some(before) = before {
        let same = |name: &str| before.values(name).eq(enforced.values(name));
        if learning.is_some() && before.learning.as_deref() == learning && same("MAC") {
            script += &before.script_of_learned();
        }
        let others = installed.iter().filter(|one| one.port != before.port);
        if before.by_marks && !enforced.by_marks && !others.clone().any(|one| one.by_marks) {
            script += &script_of_removal(&[], true);
        }
    }
    script
}

/// How rules get to know the state of connections here.
fn tracking(tracked: &[Option<Place>; 2]) -> Result<Tracking> {
    const PROBE: &str =
        "table bridge pointsman_/probe {\n\tchain probe {\n\t\tct state new accept\n\t}\n}\n";
    match nft::check(PROBE) {
        Ok(()) => return Ok(Tracking::Bridge),
        Err(nft::Error::Refused { .. }) => {}
        Err(other) => return Err(other.into()),
    }
    for (place, version) in tracked.iter().zip(["ip", "ip6"]) {
        let Some(place) = place else { continue };
        let key = format!("net.bridge.bridge-nf-call-{version}tables");
        match sysctl::read(&key) {
            Ok(value) if value == "1" => {}
            Ok(_) => bail!(
                "{place}: this rule asks for the state of connections, and this kernel has no \
                 nf_conntrack_bridge; {key} is 0, so bridged packets have no state: \
                 `sysctl -w {key}=1`"
            ),
            Err(_) => bail!(
                "{place}: this rule asks for the state of connections, and this kernel has neither \
                 nf_conntrack_bridge nor {key}: `modprobe nf_conntrack_bridge`, or \
                 `modprobe br_netfilter`"
            ),
        }
    }
    Ok(Tracking::Marks)
}

/// Why nothing is filtered at a port that is there; an error if it is not.
fn not_bridged(port: &str) -> Result<Option<String>> {
    let mut netlink = Netlink::new()?;
    let link = netlink.link_by_name(port)?;
    let master = match link.master {
        Some(index) => netlink.link_by_index(index)?.kind,
        None => None,
    };
    Ok((master.as_deref() != Some("bridge"))
        .then(|| format!("{port} is not a port of a bridge: the rules do nothing until it is one")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_that_libvirt_would_leave_out_are_refused() {
        let good = parameter("IP=10.9.0.1").unwrap();
        assert_eq!(good, ("IP".to_owned(), "10.9.0.1".to_owned()));
        assert!(
            parameter("IP=10.9.0.0/24")
                .unwrap_err()
                .contains("single addresses")
        );
        for bad in ["IP", "I-P=1", "IP=", "=1", "IP=a b"] {
            assert!(parameter(bad).is_err(), "{bad}");
        }
    }
}

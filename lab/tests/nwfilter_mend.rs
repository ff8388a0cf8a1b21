//! Changes of filters, made and taken back by a real libvirt with the commands that are shown.

use pointsman_filter::catalogue::{
    self, Known, Method, Need, Protocol, RealServer, Role, Scene, Vip,
};
use pointsman_filter::judge::Verdict;
use pointsman_filter::mend::{Mend, Outcome, Question, Source, Wishes, mend};
use pointsman_filter::model::Ruleset;
use pointsman_filter::nwfilter::{Backend, Library, read_bindings};
use pointsman_filter::route::{Host, Port};
use pointsman_filter::{ebtables, iptables, nft};
use pointsman_lab::libvirt::Libvirt;
use pointsman_lab::namespace;

const PORT: &str = "vnet7";
/// Where documents lie, as the daemon sees files.
const FOLDER: &str = "/run/mend";

/// nova's filter of a guest, defined without saying a uuid.
const INSTANCE: &str = "<filter name='nova-instance-1-020073b653c8' chain='root'>
  <filterref filter='own-base'>
    <parameter name='IP' value='192.0.2.200'/>
  </filterref>
</filter>
";
const BASE: &str = "<filter name='own-base'><filterref filter='no-mac-spoofing'/><filterref \
    filter='no-ip-spoofing'/><filterref filter='no-arp-spoofing'/></filter>";

#[test]
fn libvirt_makes_each_change_and_takes_it_back() {
    let Some((libvirt, backend)) = Libvirt::with_port(PORT).unwrap() else {
        return;
    };
    for filter in [BASE, INSTANCE] {
        libvirt.define(filter).unwrap();
    }
    let clean = "<filterref filter='clean-traffic'><parameter name='IP' \
                 value='192.0.2.200'/></filterref>";
    let nova = "<filterref filter='nova-instance-1-020073b653c8'/>";
    let learning = "<filterref filter='clean-traffic'/>";
    let all = [
        (clean, Role::Director, Method::Direct, false, false),
        (clean, Role::Vrrp, Method::Direct, false, true),
        (nova, Role::Director, Method::Direct, false, false),
        (clean, Role::Director, Method::Direct, true, false),
        (clean, Role::Director, Method::Masquerade, false, false),
        (clean, Role::RealServer, Method::Direct, false, false),
        (learning, Role::Vrrp, Method::Direct, false, false),
    ];
    // libvirt takes seconds to install rules; every run makes the first three changes.
    let number = if std::env::var_os("POINTSMAN_SEEDS").is_some() {
        all.len()
    } else {
        3
    };
    for (reference, role, method, v6, vmac) in all.into_iter().take(number) {
        let known = known(role, method, v6, vmac);
        let what = format!("{reference} {role:?} {method:?} IPv6 {v6} vmac {vmac}");
        change(&libvirt, backend, reference, &known).unwrap_or_else(|error| {
            panic!("{what}: {error}");
        });
    }
}

fn known(role: Role, method: Method, v6: bool, vmac: bool) -> Known {
    let address = |v4: &str, other: &str| if v6 { other } else { v4 }.parse().unwrap();
    Known {
        roles: vec![role],
        method: Some(method),
        vips: vec![Vip {
            address: address("192.0.2.208", "2001:db8::208"),
            port: 80,
            protocol: Protocol::Tcp,
        }],
        mac: "02:00:73:b6:53:c8".parse().unwrap(),
        addresses: vec![
            "192.0.2.200".parse().unwrap(),
            "2001:db8::200".parse().unwrap(),
        ],
        real_servers: vec![RealServer {
            address: address("192.0.2.11", "2001:db8::11"),
            mac: None,
            port: None,
        }],
        vrid: Some(51),
        vmac,
        ..Known::default()
    }
}

type Anyhow<T> = Result<T, Box<dyn std::error::Error>>;

/// Binds, makes the change, looks at the rules, takes it back, looks again.
fn change(libvirt: &Libvirt, backend: Backend, reference: &str, known: &Known) -> Anyhow<()> {
    let binding = format!(
        "<filterbinding>\n  <owner><name>director</name><uuid>6f5a3c1e-0000-4000-8000-000000000001\
         </uuid></owner>\n  <portdev name='{PORT}'/>\n  <mac address='02:00:73:b6:53:c8'/>\n  \
         {reference}\n</filterbinding>\n"
    );
    libvirt.bind(&binding)?;
    let before = dump(libvirt, backend)?;
    let answer = ask(&library(libvirt)?, &binding, known, backend)?;
    if answer.outcome != Outcome::Change {
        return Err(format!("{:?}", answer.outcome).into());
    }
    libvirt.run("mkdir", &["-p", FOLDER])?;
    for document in &answer.documents {
        write(libvirt, &document.file, &document.after)?;
        if let Some(before) = &document.before {
            write(libvirt, &document.before_file(), before)?;
        }
    }
    obey(libvirt, &answer.virsh.apply)?;
    let after = dump(libvirt, backend)?;
    let host = Host {
        call_iptables: true,
        call_ip6tables: true,
        ..Host::default()
    };
    let port = Port {
        name: PORT,
        bridge: None,
        peer: None,
    };
    for kind in catalogue::kinds(&Scene::new(known)) {
        let by = |rules: &Ruleset| kind.judge(port, rules, &host).map(|one| one.verdict);
        let (was, is) = (by(&before)?, by(&after)?);
        let is_excused = kind.id == "vip-to-others";
        if kind.need == Need::Must && is != Verdict::Pass
            || kind.need == Need::MustNot
                && was == Verdict::Drop
                && is != Verdict::Drop
                && !is_excused
        {
            return Err(format!("{}: {was} before, {is} after", kind.words).into());
        }
    }
    obey(libvirt, &answer.virsh.undo)?;
    let again = dump(libvirt, backend)?;
    if texts(&again) != texts(&before) {
        return Err(format!("{:#?} is not {:#?}", texts(&again), texts(&before)).into());
    }
    libvirt.unbind(PORT)?;
    libvirt.run("rm", &["-r", FOLDER])?;
    Ok(())
}

fn ask(library: &Library, binding: &str, known: &Known, backend: Backend) -> Anyhow<Mend> {
    Ok(mend(&Question {
        library,
        binding: &read_bindings("binding", binding)?[0],
        source: Source {
            file: "binding",
            text: binding,
            number: 0,
        },
        known,
        backends: &[backend],
        wishes: Wishes::default(),
    })?)
}

/// All filters, as the daemon prints them, but nova's without its uuid, as nova has it.
fn library(libvirt: &Libvirt) -> Anyhow<Library> {
    let mut library = Library::new();
    for line in libvirt.virsh(&["nwfilter-list"], "")?.lines() {
        if let Some(name) = line.split_whitespace().nth(1) {
            library.add(name, &libvirt.virsh(&["nwfilter-dumpxml", name], "")?)?;
        }
    }
    library.add("instance", INSTANCE)?;
    Ok(library)
}

fn write(libvirt: &Libvirt, name: &str, text: &str) -> Anyhow<()> {
    let mut command = libvirt.command("tee");
    namespace::run(command.arg(format!("{FOLDER}/{name}")), Some(text))?;
    Ok(())
}

/// Runs commands in the folder of the documents.
fn obey(libvirt: &Libvirt, commands: &[String]) -> Anyhow<()> {
    let script = format!("set -e\ncd {FOLDER}\n{}\n", commands.join("\n"));
    let mut command = libvirt.command("env");
    command.args(["VIRSH_DEFAULT_CONNECT_URI=nwfilter:///system", "sh", "-s"]);
    namespace::run(&mut command, Some(&script))?;
    Ok(())
}

fn dump(libvirt: &Libvirt, backend: Backend) -> Anyhow<Ruleset> {
    if backend == Backend::Nftables {
        let text = libvirt.run("nft", &["-j", "list", "ruleset"])?;
        return Ok(nft::read("nft", &text)?);
    }
    let mut rules = ebtables::read_save("ebtables", &libvirt.save("ebtables-save")?)?;
    for (tool, version) in [
        ("iptables-save", iptables::Version::V4),
        ("ip6tables-save", iptables::Version::V6),
    ] {
        rules.extend(iptables::read_save(version, tool, &libvirt.save(tool)?)?);
    }
    Ok(rules)
}

/// The rules of the port, each chain's by itself; empty chains that stay behind count for nothing.
fn texts(rules: &Ruleset) -> Vec<String> {
    let mut texts: Vec<String> = rules
        .tables
        .iter()
        .flat_map(|table| &table.chains)
        .filter(|chain| !chain.rules.is_empty())
        .map(|chain| {
            let rules = chain.rules.iter().map(|rule| rule.text.as_str());
            format!("{}: {}", chain.name, rules.collect::<Vec<_>>().join(" | "))
        })
        .collect();
    texts.sort();
    texts
}

//! `pointsman nwfilter mend`: the smallest change of a filter that lets a role work.

mod report;

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::Args;
use pointsman_filter::mend::{Mend, MendError, Outcome, Question, Source, Wishes, mend, pinned};
use pointsman_filter::nwfilter::{Backend, read_bindings};

use super::scene::SceneFlags;
use super::source::{self, SourceFlags};

pub(crate) const LONG_ABOUT: &str = "\
Find the smallest change of a guest's filter that lets a role work

Nothing is changed: the change is shown as differences of XML, with the commands that make it and those \
that take it back. It is written, read again and judged, for both of libvirt's backends: everything that \
the role needs passes, and what was stopped before is stopped as before. A table shows what passes now, \
with the change, with the VIP merely added to the list of addresses, and without a filter.

Exit codes: 0 there is a change, or nothing to change; 1 no safe change was found; 2 the question could \
not be answered.

    virsh dumpxml director > director.xml
    pointsman nwfilter mend --domain director.xml --role director --vip 192.0.2.208:80 --out change
    sh change/apply.sh";

#[derive(Debug, Args)]
pub(crate) struct MendFlags {
    #[command(flatten)]
    scene: SceneFlags,
    #[command(flatten)]
    source: SourceFlags,
    /// Let a director send with clients' addresses to the MACs of the real servers only
    /// (`--real-server MAC/ADDR`)
    #[arg(long)]
    tight: bool,
    /// Let later fragments pass, which have no ports: then all ports of the VIP pass
    #[arg(long)]
    fragments: bool,
    /// Let ICMP errors about connections pass, such as that a path is too narrow
    #[arg(long)]
    icmp: bool,
    /// Write the files, and apply.sh and undo.sh, into this directory
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// As JSON
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(flags: &MendFlags) -> Result<ExitCode> {
    let Some(domain) = &flags.source.domain else {
        bail!("which guest? Name its XML with --domain");
    };
    let guest = flags.source.guest(domain)?;
    let file = domain.display().to_string();
    let text = source::text(domain)?;
    let number = read_bindings(&file, &text)?
        .iter()
        .position(|binding| binding.filter.place == guest.binding.filter.place)
        .context("the file changed while it was read")?;
    let known = flags
        .scene
        .known(guest.mac, &pinned(&guest.library, &guest.binding));
    let backends = match flags.source.backend {
        Some(backend) => vec![backend.into()],
        None => vec![Backend::Ebiptables, Backend::Nftables],
    };
    let question = Question {
        library: &guest.library,
        binding: &guest.binding,
        source: Source {
            file: &file,
            text: &text,
            number,
        },
        known: &known,
        backends: &backends,
        wishes: Wishes {
            tight: flags.tight,
            fragments: flags.fragments,
            icmp: flags.icmp,
        },
    };
    let answer = mend(&question).map_err(|error| match error {
        MendError::NoVrid => anyhow::anyhow!("{error}: say --vrid"),
        MendError::NoServers => anyhow::anyhow!("{error}: say --real-server MAC/ADDR"),
        error => {
            let unread = guest.unread.iter().map(|one| format!("\n{one}"));
            anyhow::anyhow!("{error}{}", unread.collect::<String>())
        }
    })?;
    if let Some(folder) = &flags.out
        && answer.outcome == Outcome::Change
    {
        write(folder, &answer)?;
    }
    if flags.json {
        let json = report::json(&question, &answer);
        println!("{}", serde_json::to_string_pretty(&json)?);
    } else {
        print!("{}", report::text(&question, &answer, flags.out.as_deref()));
    }
    Ok(match answer.outcome {
        Outcome::Nothing | Outcome::Change => ExitCode::SUCCESS,
        Outcome::None(_) => ExitCode::FAILURE,
    })
}

/// Writes what is before and after, and the commands. Files that are there stay: they may be the way back
/// from an earlier change.
fn write(folder: &Path, answer: &Mend) -> Result<()> {
    let mut files = Vec::new();
    for document in &answer.documents {
        files.push((document.file.clone(), document.after.clone(), 0o644));
        if let Some(before) = &document.before {
            files.push((document.before_file(), before.clone(), 0o644));
        }
    }
    for (name, commands) in [
        ("apply.sh", &answer.virsh.apply),
        ("undo.sh", &answer.virsh.undo),
    ] {
        let text = format!(
            "#!/bin/sh\nset -e\ncd \"$(dirname \"$0\")\"\n{}\n",
            commands.join("\n")
        );
        files.push((name.to_owned(), text, 0o755));
    }
    if let Some((name, ..)) = files.iter().find(|(name, ..)| folder.join(name).exists()) {
        bail!(
            "{} is there already, perhaps as the way back from an earlier change; choose another \
             directory",
            folder.join(name).display()
        );
    }
    std::fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
    for (name, text, mode) in files {
        let path = folder.join(name);
        OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(mode)
            .open(&path)
            .and_then(|mut file| file.write_all(text.as_bytes()))
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

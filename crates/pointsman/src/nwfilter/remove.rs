//! `pointsman nwfilter remove`: a port without rules of ours.

use std::process::ExitCode;

use anyhow::Result;
use clap::Args;
use pointsman_filter::nwfilter::{Installed, script_of_removal};
use pointsman_linux::nft;

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub(crate) struct RemoveFlags {
    /// The port, which may be gone already
    #[arg(long, value_name = "PORT", value_parser = super::port)]
    port: Option<String>,
    /// Every port
    #[arg(long)]
    all: bool,
}

pub(crate) fn run(flags: &RemoveFlags) -> Result<ExitCode> {
    let _turn = nft::lock()?;
    let installed = super::installed()?;
    let (going, staying): (Vec<&Installed>, Vec<&Installed>) = installed
        .iter()
        .partition(|one| flags.all || flags.port.as_ref() == Some(&one.port));
    if going.is_empty() {
        let port = flags.port.as_deref().unwrap_or("no port");
        println!("{port}: has no rules of ours");
        return Ok(ExitCode::SUCCESS);
    }
    let marked = |ports: &[&Installed]| ports.iter().any(|one| one.by_marks);
    nft::load(&script_of_removal(
        &going,
        marked(&going) && !marked(&staying),
    ))?;
    for one in going {
        println!("{}: {} removed", one.port, one.filter);
    }
    Ok(ExitCode::SUCCESS)
}

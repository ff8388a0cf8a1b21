//! Flags that say where a guest's filter is written, and reading it.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};
use pointsman_filter::diagnostic::Diagnostic;
use pointsman_filter::nwfilter::{self, Binding, Compiled, Library, compile, read_bindings};
use pointsman_wire::Mac;

/// Where libvirt keeps its filters.
pub(crate) const FILTERS: &str = "/etc/libvirt/nwfilter";
/// What a port is called whose guest does not run.
const PORT: &str = "vnet0";

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Backend {
    /// ebtables, iptables and ip6tables
    #[value(alias = "iptables")]
    Ebtables,
    /// nftables, since libvirt 12
    Nftables,
}

impl From<Backend> for nwfilter::Backend {
    fn from(backend: Backend) -> Self {
        match backend {
            Backend::Ebtables => Self::Ebiptables,
            Backend::Nftables => Self::Nftables,
        }
    }
}

#[derive(Debug, Args)]
pub(crate) struct SourceFlags {
    /// The guest: what `virsh dumpxml` or `virsh nwfilter-binding-dumpxml` printed
    #[arg(long, value_name = "FILE")]
    pub(crate) domain: Option<PathBuf>,
    /// libvirt's filters: a directory of XML files, or one file; may be repeated
    #[arg(long, value_name = "DIR", default_value = FILTERS)]
    pub(crate) filters: Vec<PathBuf>,
    /// The guest's port, if it has several [default: the interface with a filter]
    #[arg(long, value_name = "PORT")]
    pub(crate) port: Option<String>,
    /// The guest's MAC, if it has several interfaces
    #[arg(long, value_name = "MAC")]
    pub(crate) mac: Option<Mac>,
    /// How libvirt installs rules [default: ebtables; `mend` is for both]
    #[arg(long, value_name = "BACKEND")]
    pub(crate) backend: Option<Backend>,
}

/// A guest's interface, its filter, and all that the filter may refer to.
#[derive(Debug)]
pub(crate) struct Guest {
    pub(crate) library: Library,
    pub(crate) binding: Binding,
    /// The port's name, a usual one if the guest does not run.
    pub(crate) port: String,
    pub(crate) mac: Mac,
    /// Filters that could not be read.
    pub(crate) unread: Vec<Diagnostic>,
}

impl Guest {
    /// The rules that libvirt makes of the filter.
    pub(crate) fn compile(&self, backend: Option<Backend>) -> Result<Compiled> {
        let backend = backend.unwrap_or(Backend::Ebtables);
        compile(&self.library, &self.binding, &self.port, backend.into()).map_err(|error| {
            let mut lines = vec![error.to_string()];
            lines.extend(self.unread.iter().map(Diagnostic::to_string));
            anyhow::anyhow!(lines.join("\n"))
        })
    }
}

impl SourceFlags {
    /// Reads the guest that is meant, from this file.
    pub(crate) fn guest(&self, domain: &Path) -> Result<Guest> {
        self.guest_of(&domain.display().to_string(), &text(domain)?)
    }

    /// Reads the guest that is meant, from this text.
    pub(crate) fn guest_of(&self, file: &str, text: &str) -> Result<Guest> {
        let bindings = read_bindings(file, text)?;
        let binding = self.chosen(bindings).with_context(|| file.to_owned())?;
        let (library, unread) = library(&self.filters)?;
        let port = self
            .port
            .clone()
            .or_else(|| binding.port.clone())
            .unwrap_or_else(|| PORT.to_owned());
        let mac = binding.mac.parse()?;
        Ok(Guest {
            library,
            binding,
            port,
            mac,
            unread,
        })
    }

    fn chosen(&self, mut bindings: Vec<Binding>) -> Result<Binding> {
        let names = |bindings: &[Binding]| {
            let name = |binding: &Binding| match &binding.port {
                Some(port) => format!("{port} ({})", binding.mac),
                None => binding.mac.clone(),
            };
            bindings.iter().map(name).collect::<Vec<_>>().join(", ")
        };
        if bindings.is_empty() {
            bail!(
                "no interface has a <filterref>, so libvirt filters nothing at this guest; what \
                 else does is in the host's rules (`--rules`)"
            );
        }
        let all = names(&bindings);
        if let Some(mac) = self.mac {
            bindings.retain(|binding| binding.mac.parse() == Ok(mac));
        }
        // A guest that does not run has no port names, so `--port` only names it.
        if let Some(port) = &self.port
            && bindings.iter().any(|binding| binding.port.is_some())
        {
            bindings.retain(|binding| binding.port.as_ref() == Some(port));
        }
        match bindings.len() {
            0 => bail!("no interface with a filter is the one asked for; there are {all}"),
            1 => Ok(bindings.remove(0)),
            _ => bail!(
                "several interfaces have a filter; choose one with --port or --mac: {}",
                names(&bindings)
            ),
        }
    }
}

/// All filters of directories and files, and what could not be read.
pub(crate) fn library(places: &[PathBuf]) -> Result<(Library, Vec<Diagnostic>)> {
    let mut library = Library::new();
    let mut unread = Vec::new();
    for place in places {
        let mut files = vec![place.clone()];
        if place.is_dir() {
            let entries = fs::read_dir(place).with_context(|| place.display().to_string())?;
            files = entries
                .map(|entry| Ok(entry?.path()))
                .collect::<Result<_>>()?;
            files.retain(|file| file.extension().is_some_and(|extension| extension == "xml"));
            files.sort();
        } else if !place.exists() {
            bail!(
                "{}: there are no filters of libvirt; name a directory of them with --filters \
                 (`virsh nwfilter-dumpxml NAME` prints one)",
                place.display()
            );
        }
        for file in files {
            if let Err(error) = library.add(&file.display().to_string(), &text(&file)?) {
                unread.push(error);
            }
        }
    }
    Ok((library, unread))
}

/// A file's text.
pub(crate) fn text(file: &Path) -> Result<String> {
    let bytes = fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

//! Links: attached, pinned, replaced, removed.

use std::{
    fs, io,
    os::{fd::AsFd, unix::fs::symlink},
    path::{Path, PathBuf},
};

use aya::programs::{
    TcAttachType,
    tc::{NlOptions, SchedClassifierLink, TcAttachOptions, TcHandle, qdisc_add_clsact},
};
use pointsman_linux::netlink::Link;

use crate::{
    bpf::{self, ATTACH_TCX_INGRESS, ATTACH_XDP, TCX_FIRST, XDP_DRIVER},
    error::Error,
    hook::Hook,
    object::{Object, TCX, XDP, text_of},
};

/// A device that the director's program is attached to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attachment {
    /// Interface name.
    pub interface: String,
    /// Its index.
    pub ifindex: u32,
    /// Where.
    pub hook: Hook,
    /// Why there, in words.
    pub why: String,
}

/// Priority and handle of our filter on a clsact qdisc; a filter there outlives its maker.
const PRIORITY: u16 = 49_000;
const HANDLE: u32 = 0x706d;

/// Where a device's link is pinned. By index: bpffs takes no dots, and interface names have them.
fn link_pin(pins: &Path, ifindex: u32, hook: Hook) -> PathBuf {
    pins.join(format!("link-{}-{ifindex}", hook.name()))
}

/// The mark that the clsact qdisc of a device is ours to remove.
fn qdisc_mark(pins: &Path, ifindex: u32) -> PathBuf {
    pins.join(format!("qdisc-{ifindex}"))
}

/// Attaches the program, or replaces that of a link pinned before.
pub(crate) fn attach(
    object: &mut Object,
    pins: &Path,
    link: &Link,
    hook: Hook,
) -> Result<Hook, Error> {
    let failed = |hook: Hook, reason: String| Error::Attach {
        interface: link.name.clone(),
        hook: hook.name(),
        reason,
    };
    // One hook a device: a director attached twice would see its own packets twice.
    for other in [Hook::Xdp, Hook::Tcx] {
        if other != hook {
            remove_pin(&link_pin(pins, link.index, other))
                .map_err(|error| failed(other, error.to_string()))?;
        }
    }
    let (name, attach_type, flags) = match hook {
        Hook::Xdp => (XDP, ATTACH_XDP, XDP_DRIVER),
        Hook::Tcx => (TCX, ATTACH_TCX_INGRESS, TCX_FIRST),
        Hook::Clsact => return attach_clsact(object, pins, link),
    };
    let pin = link_pin(pins, link.index, hook);
    let program = object.program_fd(name)?;
    if let Ok(old) = bpf::open_pinned(&pin) {
        let alive = bpf::link_ifindex(old.as_fd()).is_ok_and(|index| index == link.index);
        if alive && bpf::link_update(old.as_fd(), program).is_ok() {
            return Ok(hook);
        }
        // Its device is gone, and the number given to another.
        remove_pin(&pin).map_err(|error| failed(hook, error.to_string()))?;
    }
    let created = match bpf::link_create(program, link.index, attach_type, flags) {
        Ok(created) => created,
        Err(error) if hook == Hook::Tcx && error.raw_os_error() == Some(libc::EINVAL) => {
            return attach_clsact(object, pins, link);
        }
        Err(error) => return Err(failed(hook, explain(hook, &error))),
    };
    bpf::pin(created.as_fd(), &pin).map_err(|error| failed(hook, format!("pinning: {error}")))?;
    Ok(hook)
}

fn explain(hook: Hook, error: &io::Error) -> String {
    let hint = match (hook, error.raw_os_error()) {
        (Hook::Xdp, Some(libc::EOPNOTSUPP)) => {
            "the driver has no native XDP; use --hook tcx (generic XDP is slower than tcx)"
        }
        (Hook::Xdp, Some(libc::EBUSY)) => {
            "another XDP program is attached; `bpftool net` shows it, --hook tcx works beside it"
        }
        (Hook::Xdp, Some(libc::ERANGE)) => "the device's MTU is too large for its native XDP",
        (_, Some(libc::EPERM)) => "not permitted; CAP_BPF and CAP_NET_ADMIN are needed",
        _ => return error.to_string(),
    };
    format!("{error}: {hint}")
}

fn attach_clsact(object: &mut Object, pins: &Path, link: &Link) -> Result<Hook, Error> {
    let failed = |reason: String| Error::Attach {
        interface: link.name.clone(),
        hook: Hook::Clsact.name(),
        reason,
    };
    if qdisc_add_clsact(&link.name).is_ok() {
        symlink("clsact", qdisc_mark(pins, link.index))
            .map_err(|error| failed(format!("noting the qdisc: {error}")))?;
    }
    let classifier = object.classifier()?;
    // Replacing is atomic, and fails when there is nothing to replace.
    let old = SchedClassifierLink::attached(
        &link.name,
        TcAttachType::Ingress,
        PRIORITY,
        TcHandle::from(HANDLE),
        None,
    );
    if let Ok(old) = old
        && let Ok(id) = classifier.attach_to_link(old)
    {
        forget(classifier.take_link(id));
        return Ok(Hook::Clsact);
    }
    let options = TcAttachOptions::Netlink(NlOptions {
        priority: PRIORITY,
        handle: TcHandle::from(HANDLE),
        ..NlOptions::default()
    });
    let id = classifier
        .attach_with_options(&link.name, TcAttachType::Ingress, options)
        .map_err(|error| failed(text_of(&error)))?;
    forget(classifier.take_link(id));
    Ok(Hook::Clsact)
}

/// A filter of clsact stays when its owner goes; dropping the handle would remove it.
fn forget<T, E>(link: Result<T, E>) {
    if let Ok(link) = link {
        std::mem::forget(link);
    }
}

fn remove_pin(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// What was found and removed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DetachReport {
    /// Links, by the name of their pin.
    pub links: Vec<String>,
    /// Devices whose clsact qdisc or filter was removed, by index.
    pub qdiscs: Vec<u32>,
    /// Maps.
    pub maps: usize,
}

/// Removes links, filters, qdiscs of ours and all pins below `pin_dir`, of every layout.
pub(crate) fn detach(pin_dir: &Path, links: &[Link]) -> Result<DetachReport, Error> {
    let mut report = DetachReport::default();
    let failed = |source| Error::PinDirectory {
        path: pin_dir.to_owned(),
        source,
    };
    let layouts = match fs::read_dir(pin_dir) {
        Ok(layouts) => layouts,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(report),
        Err(error) => return Err(failed(error)),
    };
    for layout in layouts {
        let layout = layout.map_err(failed)?.path();
        if !layout
            .file_name()
            .is_some_and(|name| name.to_string_lossy().starts_with("layout-"))
        {
            continue;
        }
        let mut pins: Vec<PathBuf> = fs::read_dir(&layout)
            .map_err(failed)?
            .map(|entry| entry.map(|entry| entry.path()))
            .collect::<Result<_, _>>()
            .map_err(failed)?;
        // Links before maps: no program may run on maps that are going.
        pins.sort_by_key(|pin| !is_named(pin, "link-"));
        for pin in pins {
            let name = pin
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned();
            if let Some(ifindex) = name.strip_prefix("qdisc-").and_then(|i| i.parse().ok()) {
                remove_qdisc(links, ifindex);
                report.qdiscs.push(ifindex);
            } else if name.starts_with("link-") {
                report.links.push(name);
            } else {
                report.maps += 1;
            }
            fs::remove_file(&pin).map_err(failed)?;
        }
        fs::remove_dir(&layout).map_err(failed)?;
    }
    for link in links {
        remove_filter(link);
    }
    let _ = fs::remove_dir(pin_dir);
    Ok(report)
}

fn is_named(path: &Path, prefix: &str) -> bool {
    path.file_name()
        .is_some_and(|name| name.to_string_lossy().starts_with(prefix))
}

/// Removes our filter from a clsact qdisc that was there before us.
fn remove_filter(link: &Link) {
    let ours = SchedClassifierLink::attached(
        &link.name,
        TcAttachType::Ingress,
        PRIORITY,
        TcHandle::from(HANDLE),
        None,
    );
    // Dropping the link object detaches it; where there is none, that is no error.
    drop(ours);
}

fn remove_qdisc(links: &[Link], ifindex: u32) {
    let Some(link) = links.iter().find(|link| link.index == ifindex) else {
        return;
    };
    // `tc` is the one tool that removes a qdisc; without it only an empty qdisc stays.
    let _ = std::process::Command::new("tc")
        .args(["qdisc", "del", "dev", &link.name, "clsact"])
        .stderr(std::process::Stdio::null())
        .status();
}

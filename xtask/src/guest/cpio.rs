//! A writer for the cpio "newc" archives that Linux unpacks as its first root file system.

use std::io::{self, Write};

const TYPE_DIRECTORY: u32 = 0o040_000;
const TYPE_FILE: u32 = 0o100_000;
const TYPE_SYMLINK: u32 = 0o120_000;

/// Writes entries one after the other; `finish` adds the trailer.
///
/// The kernel makes no missing parent directories: write a directory before what is in it.
pub(crate) struct Writer<W: Write> {
    inner: W,
    entries: u32,
}

impl<W: Write> Writer<W> {
    pub(crate) fn new(inner: W) -> Self {
        Self { inner, entries: 0 }
    }

    pub(crate) fn directory(&mut self, path: &str) -> io::Result<()> {
        self.entry(path, TYPE_DIRECTORY | 0o755, &[])
    }

    pub(crate) fn file(&mut self, path: &str, permissions: u32, data: &[u8]) -> io::Result<()> {
        self.entry(path, TYPE_FILE | permissions & 0o7777, data)
    }

    pub(crate) fn symlink(&mut self, path: &str, target: &str) -> io::Result<()> {
        self.entry(path, TYPE_SYMLINK | 0o777, target.as_bytes())
    }

    pub(crate) fn finish(mut self) -> io::Result<W> {
        self.entry("TRAILER!!!", 0, &[])?;
        self.inner.flush()?;
        Ok(self.inner)
    }

    fn entry(&mut self, path: &str, mode: u32, data: &[u8]) -> io::Result<()> {
        let size = u32::try_from(data.len()).map_err(|_| {
            let text = format!("{path} is larger than the 4 GiB a cpio entry can hold");
            io::Error::new(io::ErrorKind::InvalidInput, text)
        })?;
        let name = path.trim_start_matches('/');
        self.entries += 1;
        // ino, mode, uid, gid, nlink, mtime, size, device and rdevice pairs, name size, checksum
        let name_size = name.len() as u32 + 1;
        let fields = [
            self.entries,
            mode,
            0,
            0,
            1,
            0,
            size,
            0,
            0,
            0,
            0,
            name_size,
            0,
        ];
        let mut header = String::from("070701");
        for field in fields {
            header.push_str(&format!("{field:08x}"));
        }
        header.push_str(name);
        header.push('\0');
        self.padded(header.as_bytes())?;
        self.padded(data)
    }

    fn padded(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.inner.write_all(bytes)?;
        self.inner
            .write_all(&[0; 3][..bytes.len().wrapping_neg() % 4])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};

    #[test]
    fn the_cpio_program_reads_what_is_written() {
        let mut writer = Writer::new(Vec::new());
        writer.directory("/etc").unwrap();
        writer.file("/etc/odd", 0o640, b"12345").unwrap();
        writer.symlink("/etc/link", "odd").unwrap();
        let archive = writer.finish().unwrap();
        assert_eq!(archive.len() % 4, 0);

        let mut child = Command::new("cpio")
            .args(["--list", "--verbose", "--numeric-uid-gid", "--quiet"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("cpio is installed");
        child.stdin.take().unwrap().write_all(&archive).unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success());
        let listing = String::from_utf8(output.stdout).unwrap();
        let lines: Vec<&str> = listing.lines().collect();
        assert_eq!(lines.len(), 3, "{listing}");
        assert!(
            lines[0].starts_with("drwxr-xr-x") && lines[0].ends_with(" etc"),
            "{listing}"
        );
        assert!(
            lines[1].starts_with("-rw-r-----") && lines[1].contains(" 5 "),
            "{listing}"
        );
        assert!(lines[2].ends_with(" etc/link -> odd"), "{listing}");
    }
}

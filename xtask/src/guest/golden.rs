//! Records what the real ipvsadm says on the real kernel, for the tests that compare ours with it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use super::{GuestCommand, cache_directory, run};

/// The interpreter of golden files.
const SCRIPT: &str = include_str!("golden.sh");

/// Makes the two namespaces that `crates/pointsman/tests/support/host.rs` makes, and runs the
/// interpreter in the director's; `FILE...`.
const JOB: &str = r##"
mkdir -p /tmp /var/run/netns
ipvsadm -Ln >/dev/null
for file; do
    ip netns add director
    ip netns add server
    ip -n director link add eth0 type veth peer name eth0 netns server
    number=1
    for name in director server; do
        ip -n $name link set eth0 addrgenmode none
        ip -n $name link set lo up
        ip -n $name address add 10.9.0.$number/24 dev eth0
        ip -n $name address add fd09::$number/64 dev eth0 nodad
        ip -n $name link set eth0 up
        number=2
    done
    echo "#: file ${file##*/}"
    ip netns exec director sh /golden/record.sh "$file"
    ip netns del director
    ip netns del server
done
"##;

/// Begins the text of a file in what the guest prints.
const FILE_LINE: &str = "#: file ";

const USAGE: &str = "\
usage: cargo xtask golden [NAME...]

Runs the commands of crates/pointsman/tests/golden/NAME.txt (default: of every file there) with the
real ipvsadm in the guest and writes the files anew, with what it said.
";

/// The verb `golden`.
pub(crate) fn main(args: Vec<String>) -> ExitCode {
    if matches!(args.first().map(String::as_str), Some("--help" | "-h")) {
        print!("{USAGE}");
        return ExitCode::SUCCESS;
    }
    if let Some(option) = args.iter().find(|word| word.starts_with('-')) {
        eprintln!("xtask golden: there is no option `{option}`\n\n{USAGE}");
        return ExitCode::from(2);
    }
    match record(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask golden: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn record(names: &[String]) -> Result<()> {
    let directory = directory();
    let files = files(&directory, names)?;
    let mut command = GuestCommand::new("sh");
    command.args = vec!["-c".to_owned(), JOB.to_owned(), "golden".to_owned()];
    for file in &files {
        let name = file.file_name().context("a file without name")?;
        let guest = Path::new("/golden").join(name);
        command.args.push(guest.display().to_string());
        command.files.push((file.clone(), guest));
    }
    let cache = cache_directory();
    let script = cache.join(format!("record-{}.sh", std::process::id()));
    fs::create_dir_all(&cache)?;
    fs::write(&script, SCRIPT).with_context(|| script.display().to_string())?;
    command
        .files
        .push((script.clone(), "/golden/record.sh".into()));
    command.with = ["ipvsadm", "ipvsadm-save", "ipvsadm-restore", "ip", "bash"]
        .map(str::to_owned)
        .into();
    command.stream = false;
    command.timeout = Duration::from_secs(3600);
    let output = run(&command);
    let _ = fs::remove_file(&script);
    let output = output?;
    let text = String::from_utf8(output.output).context("ipvsadm says what is no text")?;
    ensure!(
        output.status == 0,
        "recording ended with status {}: {text}",
        output.status
    );
    write(&directory, files.len(), &text)
}

/// Writes the files that the guest's output consists of; none unless all are there.
fn write(directory: &Path, expected: usize, text: &str) -> Result<()> {
    let mut recorded: Vec<(&str, String)> = Vec::new();
    for line in text.split_inclusive('\n') {
        match (line.strip_prefix(FILE_LINE), recorded.last_mut()) {
            (Some(name), _) => recorded.push((name.trim_end(), String::new())),
            (None, Some((_, content))) => content.push_str(line),
            (None, None) => bail!("unexpected: {line}"),
        }
    }
    ensure!(
        recorded.len() == expected,
        "{} of {expected} files were recorded",
        recorded.len()
    );
    for (name, content) in recorded {
        let path = directory.join(name);
        fs::write(&path, content).with_context(|| path.display().to_string())?;
        println!("recorded {}", path.display());
    }
    Ok(())
}

fn directory() -> PathBuf {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .unwrap_or(Path::new("."));
    workspace.join("crates/pointsman/tests/golden")
}

fn files(directory: &Path, names: &[String]) -> Result<Vec<PathBuf>> {
    if !names.is_empty() {
        let named = names
            .iter()
            .map(|name| directory.join(format!("{name}.txt")));
        return Ok(named.collect());
    }
    let mut files = Vec::new();
    for entry in fs::read_dir(directory).with_context(|| directory.display().to_string())? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "txt") {
            files.push(path);
        }
    }
    files.sort();
    ensure!(!files.is_empty(), "no file in {}", directory.display());
    Ok(files)
}

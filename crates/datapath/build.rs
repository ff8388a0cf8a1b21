//! Builds the eBPF object, for its own target and with its own flags.
//!
//! Inputs: `POINTSMAN_BPF_OBJECTS` names a folder with ready objects and skips the build; `BPF_LINKER` names the
//! linker, which otherwise is looked for in `target/tools/bin` and in `PATH`.

use std::{
    env,
    ffi::OsString,
    path::{Path, PathBuf},
    process::Command,
};

const PACKAGE: &str = "pointsman-datapath-ebpf";
const TARGET: &str = "bpfel-unknown-none";
/// The programs, those that only the bench runs, the doctor's witness, and what takes connections of
/// another director.
const OBJECTS: [(&str, &str); 4] = [
    ("pointsman-datapath", "director.o"),
    ("pointsman-bench", "bench.o"),
    ("pointsman-drops", "drops.o"),
    ("pointsman-adopt", "adopt.o"),
];

fn main() {
    println!("cargo::rerun-if-env-changed=POINTSMAN_BPF_OBJECTS");
    println!("cargo::rerun-if-env-changed=BPF_LINKER");
    let folder = match env::var_os("POINTSMAN_BPF_OBJECTS") {
        Some(path) => {
            let path = PathBuf::from(path);
            println!("cargo::rerun-if-changed={}", path.display());
            path
        }
        None => build(),
    };
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    for (object, name) in OBJECTS {
        let object = folder.join(object);
        if let Err(error) = std::fs::copy(&object, out.join(name)) {
            fail(&format!("can't copy {}: {error}", object.display()));
        }
    }
}

fn build() -> PathBuf {
    let manifest = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets it"));
    let root = manifest.join("../..");
    for source in [
        "crates/datapath-ebpf",
        "crates/director/src",
        "crates/wire/src",
        "Cargo.toml",
    ] {
        println!("cargo::rerun-if-changed={}", root.join(source).display());
    }
    let linker = linker(&root);
    // An own target folder: the outer cargo holds the lock on the usual one.
    let target = root.join("target/bpf");
    let mut flags = vec![
        "-Ctarget-cpu=v3".to_owned(),
        "-Cdebuginfo=2".to_owned(),
        "-Clink-arg=--btf".to_owned(),
        // Without it copies become calls to memcpy, and the verifier sees three times as much.
        "-Clink-arg=--disable-expand-memcpy-in-order".to_owned(),
    ];
    flags.push(format!("-Clinker={}", linker.display()));
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo")));
    cargo
        .current_dir(&root)
        .args([
            "build",
            "--package",
            PACKAGE,
            "--target",
            TARGET,
            "--profile",
            "bpf",
        ])
        .arg("-Zbuild-std=core")
        .arg("--target-dir")
        .arg(&target)
        // -Zbuild-std on the pinned stable toolchain; only for this nested build.
        .env("RUSTC_BOOTSTRAP", "1")
        .env("CARGO_ENCODED_RUSTFLAGS", flags.join("\x1f"))
        .env_remove("RUSTFLAGS")
        .env_remove("RUSTC_WRAPPER")
        .env_remove("RUSTC_WORKSPACE_WRAPPER")
        .env_remove("CARGO_TARGET_DIR")
        .env_remove("CARGO_BUILD_TARGET");
    match cargo.status() {
        Ok(status) if status.success() => {}
        Ok(status) => fail(&format!(
            "building {PACKAGE} for {TARGET} ended with {status}"
        )),
        Err(error) => fail(&format!("can't run cargo: {error}")),
    }
    target.join(TARGET).join("bpf")
}

fn linker(root: &Path) -> PathBuf {
    if let Some(linker) = env::var_os("BPF_LINKER") {
        return linker.into();
    }
    let own = root.join("target/tools/bin/bpf-linker");
    if own.exists() {
        return own;
    }
    let path = env::var_os("PATH").unwrap_or_default();
    match env::split_paths(&path)
        .map(|dir| dir.join("bpf-linker"))
        .find(|p| p.exists())
    {
        Some(found) => found,
        None => fail("bpf-linker is missing: run `cargo xtask setup`, or set BPF_LINKER"),
    }
}

fn fail(message: &str) -> ! {
    println!("cargo::error={message}");
    std::process::exit(1);
}

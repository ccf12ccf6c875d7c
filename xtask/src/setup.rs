//! Installs what building and testing skep needs beyond a Rust toolchain.
//!
//! Two routes lead to the same eBPF object. Where rustup has a nightly with `rust-src`, that toolchain compiles `core`
//! for the BPF target; elsewhere Debian's compiler brings a `core` built for it. Both link with `bpf-linker`.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};

use crate::interop;
use crate::run::{checked, succeeds};

/// Debian packages for building and what each is for.
const TOOLS: [(&str, &str); 3] = [
    ("ca-certificates", "package downloads"),
    ("gcc", "C parts of zstd and ring, and linking"),
    ("libc6-dev", "linking"),
];

/// What the tests want on top.
const TEST_TOOLS: [(&str, &str); 21] = [
    ("gdb", "a test takes a probe out of the running agent"),
    ("util-linux", "tests drop capabilities with setpriv"),
    ("mount", "tests mount small disks"),
    ("podman", "tests run containers"),
    ("conmon", "podman's monitor"),
    ("runc", "podman's and containerd's runtime"),
    ("containerd", "tests run pods"),
    ("containernetworking-plugins", "containerd and podman ask for them"),
    ("iptables", "likewise"),
    ("catatonit", "what a pod's sandbox runs"),
    ("busybox-static", "what the containers run"),
    ("systemd-container", "tests run a systemd in a box"),
    ("systemd", "which is this one"),
    ("iproute2", "tests make networks of their own"),
    ("nftables", "tests block addresses in them"),
    ("dbus", "the box's systemd is spoken to by it"),
    ("procps", "tests look processes up"),
    ("postgresql", "tests check a PostgreSQL of their own"),
    ("redis-server", "and a Redis"),
    ("prometheus-alertmanager", "tests have alerts arrive there"),
    ("python3-aiosmtpd", "and as mails here"),
];

/// What `cargo xtask interop` wants.
const INTEROP_TOOLS: [(&str, &str); 1] = [("python3-venv", "interop tests read the history with other engines")];

/// What a benchmark compares with.
const PEERS: [(&str, &str); 1] = [("bpftrace", "bench overhead compares with it")];

/// What `cargo xtask bench healing` breaks things in.
const BOX_TOOLS: [(&str, &str); 7] = [
    ("systemd-container", "the host that is broken is a box"),
    ("systemd", "which runs in it"),
    ("dbus", "by which it is spoken to"),
    ("iproute2", "it has a network of its own"),
    ("util-linux", "likewise"),
    ("mount", "disks of its own, for `bench found`"),
    ("e2fsprogs", "a file system on them"),
];

/// What `cargo xtask vm` wants on top.
const VM_TOOLS: [(&str, &str); 8] = [
    ("qemu-system-x86", "machines for other kernels"),
    ("busybox-static", "their small file system"),
    ("binutils", "strip for what goes into it"),
    ("cpio", "packing it"),
    ("openssl", "certificates for the agent in it"),
    ("mmdebstrap", "their file system with systemd"),
    ("debian-archive-keyring", "kernels of other releases"),
    ("apt", "fetching those"),
];

/// The compiler for the BPF target where rustup has none.
const BPF_COMPILER: [(&str, &str); 3] = [
    ("rustc-web", "compiler"),
    ("cargo-web", "cargo that goes with it"),
    ("libstd-rust-web-dev-bpf", "core for the BPF target"),
];

/// What `bpf-linker` stands on.
const LLVM: [(&str, &str); 5] = [
    ("rust-web-llvm", "LLVM of that compiler"),
    ("llvm-22-dev", "headers and libraries for bpf-linker"),
    ("libpolly-22-dev", "LLVM's polly, which llvm-config names"),
    ("g++", "bpf-linker links LLVM's C++ library"),
    ("zlib1g-dev", "LLVM's compression"),
];

const LLVM_PREFIX: &str = "/usr/lib/llvm-22";
const BPF_LINKER_VERSION: &str = "0.13.0";

/// Where Debian keeps its own compiler; rustup's comes first on most paths.
const DEBIAN_CARGO: &str = "/usr/bin/cargo";
const DEBIAN_BPF_CORE: &str = "/usr/lib/rustlib/bpfel-unknown-none";

/// Installs whatever building and testing lack, saying each step first. Running it again changes nothing.
pub(crate) fn run() -> Result<()> {
    ensure_build()?;
    ensure_tests()?;
    println!("setup: everything is there");
    Ok(())
}

/// Installs what building lacks, if anything.
pub(crate) fn ensure_build() -> Result<()> {
    install(&missing(&TOOLS))?;
    if prebuilt_object() {
        println!("setup: SKEP_EBPF_OBJECT is set, no BPF toolchain is needed");
        return Ok(());
    }
    prepare_bpf()
}

/// Installs what the tests lack on top of [`ensure_build`], if anything.
pub(crate) fn ensure_tests() -> Result<()> {
    install(&missing(&[&TEST_TOOLS[..], &INTEROP_TOOLS].concat()))?;
    for component in ["rustfmt", "clippy"] {
        let tool = if component == "clippy" { "clippy" } else { "fmt" };
        ensure!(
            succeeds(Command::new("cargo").args([tool, "--version"])),
            "cargo {tool} is missing: run `rustup component add {component}`"
        );
    }
    ensure_vm()?;
    ensure_interop()
}

/// Installs what the other engines need, and the engines, if anything lacks.
pub(crate) fn ensure_interop() -> Result<()> {
    install(&missing(&INTEROP_TOOLS))?;
    interop::prepare(&target_folder()?)
}

/// Installs a Java, which Spark wants, if there is none.
pub(crate) fn ensure_java() -> Result<()> {
    if succeeds(Command::new("java").arg("-version")) {
        return Ok(());
    }
    install(&[("default-jre-headless", "Spark runs on it")])
}

/// Installs what the benchmarks compare with, if it lacks; `run` leaves it out, nothing else needs it.
pub(crate) fn ensure_peers() -> Result<()> {
    install(&missing(&PEERS))
}

/// Installs what a box for `cargo xtask bench healing` lacks, if anything.
pub(crate) fn ensure_box() -> Result<()> {
    install(&missing(&BOX_TOOLS))
}

/// Installs what a Python environment is made with, if it lacks.
pub(crate) fn ensure_python() -> Result<()> {
    install(&missing(&[("python3-venv", "engines with a Python interface")]))
}

/// Installs what the machines of `cargo xtask vm` lack, if anything.
pub(crate) fn ensure_vm() -> Result<()> {
    install(&missing(&VM_TOOLS))
}

fn prepare_bpf() -> Result<()> {
    if !nightly_has_source() && !debian_has_bpf() {
        install(&missing(&BPF_COMPILER))?;
        ensure!(
            debian_has_bpf(),
            "{DEBIAN_BPF_CORE} is still missing: this Debian's compiler has no BPF target; install a rustup nightly with \
             rust-src, or set SKEP_EBPF_OBJECT to a prebuilt object"
        );
    }
    if bpf_linker().is_none() {
        install(&missing(&LLVM))?;
        println!("setup: cargo install bpf-linker {BPF_LINKER_VERSION}");
        checked(
            Command::new("cargo")
                .env("LLVM_PREFIX", LLVM_PREFIX)
                .args(["install", "bpf-linker", "--locked", "--version", BPF_LINKER_VERSION])
                .args(["--no-default-features", "--features", "llvm-22"]),
        )?;
    }
    Ok(())
}

fn prebuilt_object() -> bool {
    std::env::var_os("SKEP_EBPF_OBJECT").is_some()
}

fn nightly_has_source() -> bool {
    let listed = Command::new("rustup").args(["component", "list", "--installed", "--toolchain", "nightly"]).output();
    listed.is_ok_and(|output| String::from_utf8_lossy(&output.stdout).lines().any(|line| line == "rust-src"))
}

fn debian_has_bpf() -> bool {
    Path::new(DEBIAN_CARGO).exists() && Path::new(DEBIAN_BPF_CORE).exists()
}

fn bpf_linker() -> Option<PathBuf> {
    let home = std::env::var_os("CARGO_HOME")
        .map(PathBuf::from)
        .or_else(|| std::env::var_os("HOME").map(|home| Path::new(&home).join(".cargo")));
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(home.map(|home| home.join("bin")))
        .map(|folder| folder.join("bpf-linker"))
        .find(|file| file.exists())
}

/// Those of `packages` that dpkg does not have.
fn missing(packages: &[(&'static str, &'static str)]) -> Vec<(&'static str, &'static str)> {
    packages.iter().copied().filter(|(name, _)| !is_installed(name)).collect()
}

fn is_installed(package: &str) -> bool {
    let output = Command::new("dpkg-query")
        .args(["--show", "--showformat", "${db:Status-Status}", package])
        .stderr(Stdio::null())
        .output();
    output.is_ok_and(|output| output.stdout == b"installed")
}

fn install(packages: &[(&str, &str)]) -> Result<()> {
    if packages.is_empty() {
        return Ok(());
    }
    if !succeeds(Command::new("apt-get").arg("--version")) {
        let names: Vec<_> = packages.iter().map(|(name, reason)| format!("{name} ({reason})")).collect();
        bail!(
            "this system has no apt-get and setup knows only Debian and its kin; install what stands for: {}. For the \
             eBPF object a rustup nightly with rust-src and bpf-linker will do, or SKEP_EBPF_OBJECT with a prebuilt one",
            names.join(", ")
        );
    }
    for (name, reason) in packages {
        println!("setup: apt-get install {name} ({reason})");
    }
    checked(apt().args(["update", "-qq"])).context("cannot refresh apt's lists (are you root?)")?;
    checked(apt().args(["install", "-y", "-qq", "--no-install-recommends"]).args(packages.iter().map(|(name, _)| name)))
}

fn apt() -> Command {
    let mut apt = Command::new("apt-get");
    apt.env("DEBIAN_FRONTEND", "noninteractive").args(["-o", "DPkg::Lock::Timeout=500"]).stdin(Stdio::null());
    apt
}

/// Where cargo puts what it builds.
pub(crate) fn target_folder() -> Result<PathBuf> {
    match std::env::var_os("CARGO_TARGET_DIR") {
        Some(folder) => Ok(std::path::absolute(folder)?),
        None => Ok(repository().join("target")),
    }
}

/// The repository's top folder.
pub(crate) fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("."))
}

//! Builds the probes for the BPF target and puts the object where `src/probe/object.rs` embeds it.
//!
//! * `SKEP_EBPF_OBJECT=path`: a prebuilt object, for packagers.
//! * else rustup's nightly with `rust-src`, which compiles `core` for BPF itself;
//! * else Debian's `/usr/bin/rustc`, which has `core` for BPF ready (package `libstd-rust-web-dev-bpf`).
//!
//! Both need `bpf-linker`. Where neither is there, `cargo xtask setup` brings one.

use std::{
    env,
    ffi::OsString,
    fmt, fs, io,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

/// Variables cargo sets for this build, which would lead the nested one astray.
const FOREIGN: [&str; 9] = [
    "CARGO",
    "CARGO_BUILD_TARGET",
    "CARGO_ENCODED_RUSTFLAGS",
    "CARGO_MAKEFLAGS",
    "RUSTC",
    "RUSTC_WORKSPACE_WRAPPER",
    "RUSTC_WRAPPER",
    "RUSTDOC",
    "RUSTUP_TOOLCHAIN",
];

const CRATE: &str = "skep-agent-ebpf";

fn main() -> ExitCode {
    match build() {
        Ok(()) => ExitCode::SUCCESS,
        Err(fault) => {
            println!("cargo::error={fault}");
            ExitCode::FAILURE
        }
    }
}

fn build() -> Result<(), Fault> {
    println!("cargo::rerun-if-env-changed=SKEP_EBPF_OBJECT");
    println!("cargo::rerun-if-changed=build.rs");
    let out = PathBuf::from(variable("OUT_DIR")?);
    let object = out.join("skep-agent-ebpf.o");
    if let Some(prebuilt) = env::var_os("SKEP_EBPF_OBJECT").filter(|path| !path.is_empty()) {
        let prebuilt = PathBuf::from(prebuilt);
        println!("cargo::rerun-if-changed={}", prebuilt.display());
        return copy(&prebuilt, &object);
    }
    let root = PathBuf::from(variable("CARGO_MANIFEST_DIR")?).join("..");
    let source = root.join("agent-ebpf");
    for part in ["agent-ebpf/src", "agent-ebpf/Cargo.toml", "agent-ebpf/Cargo.lock", "common/src", "common/Cargo.toml"]
    {
        println!("cargo::rerun-if-changed={}", root.join(part).display());
    }
    let target = match variable("CARGO_CFG_TARGET_ENDIAN")?.to_str() {
        Some("big") => "bpfeb-unknown-none",
        _ => "bpfel-unknown-none",
    };
    let arch = variable("CARGO_CFG_TARGET_ARCH")?;
    let toolchain = Toolchain::find(target)?;
    let nested = out.join("ebpf");
    toolchain.build(&source, &nested, target, &arch.to_string_lossy())?;
    copy(&nested.join(target).join("release").join(CRATE), &object)
}

/// What compiles for the BPF target.
enum Toolchain {
    /// rustup's nightly with `rust-src`.
    Nightly,
    /// A distribution's compiler with a prebuilt `core`.
    Distribution,
}

impl Toolchain {
    fn find(target: &str) -> Result<Self, Fault> {
        if !answers(Command::new("bpf-linker").arg("--version").env("PATH", search_path())) {
            return Err(Fault::NoLinker);
        }
        if nightly_has_source() {
            return Ok(Self::Nightly);
        }
        if distribution_has_core(target) { Ok(Self::Distribution) } else { Err(Fault::NoToolchain) }
    }

    fn command(&self) -> Command {
        match self {
            Self::Nightly => {
                let mut command = Command::new("rustup");
                command.args(["run", "nightly", "cargo", "build", "-Z", "build-std=core"]);
                command
            }
            Self::Distribution => {
                let mut command = Command::new("/usr/bin/cargo");
                command.arg("build");
                command
            }
        }
    }

    fn build(&self, source: &Path, nested: &Path, target: &str, arch: &str) -> Result<(), Fault> {
        let mut command = self.command();
        command.args(["--release", "--locked", "--target", target]).arg("--target-dir").arg(nested);
        command.current_dir(source);
        for name in FOREIGN {
            command.env_remove(name);
        }
        // The intrinsics the probes' library stands on are not stable; the flag lets a stable compiler use them.
        if matches!(self, Self::Distribution) {
            command.env("RUSTC", "/usr/bin/rustc").env("RUSTC_BOOTSTRAP", "1");
        }
        // The third version of the instructions has those of 32 bits, which kernels know since 5.1.
        let flags = "-C target-cpu=v3 -C debuginfo=2 -C link-arg=--btf";
        command.env("RUSTFLAGS", format!("{flags} --cfg=bpf_target_arch=\"{arch}\""));
        command.env("PATH", search_path());
        let status = command.status().map_err(Fault::Cargo)?;
        if status.success() { Ok(()) } else { Err(Fault::Compile) }
    }
}

/// The path with cargo's own folder at its end, where `cargo install` puts the linker.
fn search_path() -> OsString {
    let home = env::var_os("CARGO_HOME")
        .map(PathBuf::from)
        .or_else(|| env::var_os("HOME").map(|home| Path::new(&home).join(".cargo")));
    let path = env::var_os("PATH").unwrap_or_default();
    let folders = env::split_paths(&path).chain(home.map(|home| home.join("bin")));
    env::join_paths(folders).unwrap_or(path)
}

fn nightly_has_source() -> bool {
    let output = Command::new("rustup")
        .args(["run", "nightly", "rustc", "--print", "sysroot"])
        .env_remove("RUSTUP_TOOLCHAIN")
        .env_remove("RUSTC")
        .output();
    let Ok(output) = output else { return false };
    let sysroot = PathBuf::from(String::from_utf8_lossy(&output.stdout).trim());
    output.status.success() && sysroot.join("lib/rustlib/src/rust/library/core/src/lib.rs").is_file()
}

fn distribution_has_core(target: &str) -> bool {
    let output = Command::new("/usr/bin/rustc").args(["--print", "target-libdir", "--target", target]).output();
    let Ok(output) = output else { return false };
    let folder = PathBuf::from(String::from_utf8_lossy(&output.stdout).trim());
    output.status.success()
        && Path::new("/usr/bin/cargo").exists()
        && fs::read_dir(folder).is_ok_and(|mut entries| {
            entries.any(|entry| entry.is_ok_and(|entry| entry.file_name().to_string_lossy().starts_with("libcore")))
        })
}

fn answers(command: &mut Command) -> bool {
    command.output().is_ok_and(|output| output.status.success())
}

fn variable(name: &'static str) -> Result<OsString, Fault> {
    env::var_os(name).ok_or(Fault::Variable(name))
}

fn copy(from: &Path, to: &Path) -> Result<(), Fault> {
    fs::copy(from, to).map(drop).map_err(|source| Fault::Copy { path: from.to_owned(), source })
}

/// Why there is no object.
enum Fault {
    Variable(&'static str),
    NoLinker,
    NoToolchain,
    Cargo(io::Error),
    Compile,
    Copy { path: PathBuf, source: io::Error },
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Variable(name) => write!(f, "cargo did not set {name}"),
            Self::NoLinker => {
                write!(f, "the probes cannot be built: there is no bpf-linker; run: cargo xtask setup")
            }
            Self::NoToolchain => write!(
                f,
                "the probes cannot be built: neither rustup's nightly with rust-src nor a distribution's rustc with \
                 core for BPF is here; run: cargo xtask setup (or set SKEP_EBPF_OBJECT to a prebuilt object)"
            ),
            Self::Cargo(source) => write!(f, "the probes cannot be built: cargo did not start: {source}"),
            Self::Compile => write!(f, "the probes did not build; cargo's own messages are above"),
            Self::Copy { path, source } => write!(f, "the object {} cannot be read: {source}", path.display()),
        }
    }
}

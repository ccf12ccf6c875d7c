//! `cargo xtask fixture`: what a release leaves behind, for the tests of those after it.
//!
//! The release's programs are built from its commit, in a work tree of their own. The agent becomes part of the repository,
//! so it is built for size, and no path of this machine stays in it.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::run::{cargo, checked};
use crate::setup;

/// Builds `commit` and writes `tests/fixtures/release-VERSION`.
pub(crate) fn run(commit: &str) -> Result<()> {
    setup::ensure_build()?;
    let release = Release::check_out(commit, &setup::target_folder()?.join("fixture"))?;
    println!("== programs of {commit}");
    checked(release.cargo().args(["build", "--quiet", "--workspace", "--bin", "skep-collector"]))?;
    let collector = release.built.join("debug/skep-collector");
    let agent = release.agent()?;
    println!("== their data");
    checked(cargo().args(["build", "--quiet", "--workspace", "--bin", "skep-chaos"]))?;
    let to = setup::repository().join("tests/fixtures").join(format!("release-{}", version(&collector)?));
    let mut write = Command::new(setup::target_folder()?.join("debug/skep-chaos"));
    write.arg("fixture").arg("--collector").arg(&collector).arg("--agent").arg(&agent).arg("--to").arg(&to);
    checked(&mut write)?;
    println!("{} is there; say in its README.md which commit it is of", to.display());
    Ok(())
}

/// A commit, checked out.
struct Release {
    tree: PathBuf,
    built: PathBuf,
}

impl Release {
    fn check_out(commit: &str, folder: &Path) -> Result<Self> {
        let release = Self { tree: folder.join("tree"), built: folder.join("built") };
        let mut git = Command::new("git");
        git.current_dir(setup::repository());
        if release.tree.exists() {
            git.arg("-C").arg(&release.tree).args(["checkout", "--quiet", "--detach", commit]);
        } else {
            fs::create_dir_all(folder)?;
            git.args(["worktree", "add", "--force", "--detach"]).arg(&release.tree).arg(commit);
        }
        checked(&mut git)?;
        Ok(release)
    }

    fn cargo(&self) -> Command {
        let mut cargo = Command::new("cargo");
        cargo.current_dir(&self.tree).env("CARGO_TARGET_DIR", &self.built);
        cargo
    }

    /// The agent, for size.
    fn agent(&self) -> Result<PathBuf> {
        let mut build = self.cargo();
        // Not as `RUSTC_WRAPPER`: the agent's build takes that from the nested one that makes the probes.
        build.env("CARGO_BUILD_RUSTC_WRAPPER", self.wrapper()?);
        build.args(["build", "--quiet", "--package", "skep-agent", "--release"]);
        for setting in ["opt-level=\"z\"", "lto=\"fat\"", "codegen-units=1", "strip=\"symbols\""] {
            build.arg("--config").arg(format!("profile.release.{setting}"));
        }
        checked(&mut build)?;
        let agent = self.built.join("release/skep-agent");
        no_paths(&agent, &self.tree)?;
        Ok(agent)
    }

    /// A program in front of the compiler, that calls this machine's folders by other names.
    fn wrapper(&self) -> Result<PathBuf> {
        let folders = [
            (self.tree.clone(), "skep"),
            (home("CARGO_HOME", ".cargo")?.join("registry/src"), "crates"),
            (home("RUSTUP_HOME", ".rustup")?.join("toolchains"), "rust"),
        ];
        let flags = folders.map(|(folder, name)| format!("--remap-path-prefix='{}'={name}", folder.display()));
        fs::create_dir_all(&self.built)?;
        let path = self.built.join("rustc-without-paths");
        fs::write(&path, format!("#!/bin/sh\nexec \"$@\" {}\n", flags.join(" ")))?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
        Ok(path)
    }
}

fn home(variable: &str, otherwise: &str) -> Result<PathBuf> {
    let set = std::env::var_os(variable).map(PathBuf::from);
    let home = || std::env::var_os("HOME").map(|home| Path::new(&home).join(otherwise));
    set.or_else(home).with_context(|| format!("neither {variable} nor HOME is set"))
}

/// Fails when the program names a folder of this machine.
fn no_paths(program: &Path, tree: &Path) -> Result<()> {
    let bytes = fs::read(program).with_context(|| format!("cannot read {}", program.display()))?;
    let user = home("HOME", "")?;
    for folder in [tree, user.as_path()] {
        let name = folder.to_string_lossy().trim_end_matches('/').to_owned() + "/";
        let found = bytes.windows(name.len()).any(|window| window == name.as_bytes());
        ensure!(!found, "{} names {name}", program.display());
    }
    Ok(())
}

fn version(program: &Path) -> Result<String> {
    let output = Command::new(program).arg("--version").output()?;
    let text = String::from_utf8(output.stdout)?;
    Ok(text.split_whitespace().nth(1).with_context(|| format!("{} has no version", program.display()))?.to_owned())
}

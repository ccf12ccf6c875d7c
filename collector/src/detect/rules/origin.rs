//! Where the program or its script comes from.

use super::Rule;
use crate::detect::exec::{Exec, base_name, plain_name};
use crate::detect::finding::Severity;

const PROGRAM: &[&str] = &["exe", "filename", "argv", "parent_exe", "flags"];

/// The rules of this file.
pub static RULES: &[Rule] = &[
    Rule {
        id: "exec-memfd",
        title: "program run from memory, without a file",
        severity: Severity::Critical,
        attack: &["T1620"],
        looks_at: PROGRAM,
        benign: "runc and crun copy themselves into memory before they start a container; they are left out",
        matches: |exec| exec.has("memfd") && !is_runtime_copy(exec),
    },
    Rule {
        id: "exec-deleted",
        title: "program run whose file is deleted",
        severity: Severity::High,
        attack: &["T1070.004"],
        looks_at: PROGRAM,
        benign: "a daemon that executes itself again after an upgrade replaced its file",
        matches: |exec| exec.has("deleted") && !exec.has("memfd") && !is_runtime_copy(exec),
    },
    Rule {
        id: "exec-dev-shm",
        title: "program run from shared memory (/dev/shm)",
        severity: Severity::High,
        attack: &["T1059.004", "T1036.005"],
        looks_at: PROGRAM,
        benign: "rare: a build or test that uses /dev/shm as a fast scratch folder",
        matches: |exec| below(exec.path(), &["/dev/shm/", "/dev/mqueue/"]) && !exec.has("memfd"),
    },
    Rule {
        id: "exec-hidden",
        title: "program run from a hidden file or folder",
        severity: Severity::Medium,
        attack: &["T1564.001"],
        looks_at: PROGRAM,
        benign: "language tool chains and editors keep programs in dot folders of a home directory; those are left out",
        matches: |exec| is_hidden(exec.path()) && !exec.has("memfd"),
    },
    Rule {
        id: "exec-volatile",
        title: "program run from a folder anybody may write to",
        severity: Severity::Medium,
        attack: &["T1059.004"],
        looks_at: PROGRAM,
        benign: "installers and compilers that try out what they have just built; build tools among the ancestors are \
                 left out",
        matches: |exec| {
            below(exec.path(), VOLATILE) && !exec.has("memfd") && !is_hidden(exec.path()) && !below_builder(exec)
        },
    },
    Rule {
        id: "script-volatile",
        title: "interpreter runs a script from a folder anybody may write to",
        severity: Severity::Medium,
        attack: &["T1059"],
        looks_at: &["exe", "argv", "cwd", "parent_exe"],
        benign: "provisioning and CI tools that copy a script to /tmp; build tools among the ancestors are left out",
        matches: script_in_volatile_folder,
    },
];

/// Folders anybody may write to.
pub(super) const VOLATILE: &[&str] = &["/tmp/", "/var/tmp/", "/run/user/", "/run/shm/", "/var/lock/", "/run/lock/"];

/// Programs below which running what was just made, unpacked or copied is the point.
const BUILDERS: &[&str] = &[
    "make",
    "gmake",
    "cmake",
    "ctest",
    "ninja",
    "meson",
    "cargo",
    "rustc",
    "go",
    "gcc",
    "cc",
    "configure",
    "dpkg",
    "apt-get",
    "apt",
    "rpm",
    "dnf",
    "yum",
    "pip",
    "npm",
    "mvn",
    "gradle",
    "dpkg-buildpackage",
    "debootstrap",
    "ansible",
    "puppet",
    "chef-client",
    "salt-minion",
    "gitlab-runner",
    "Runner.Worker",
    "cloud-init",
    "frontend",
    "dpkg-preconfigure",
];

/// Dot folders where tool chains keep programs.
const KNOWN_DOT_FOLDERS: &[&str] = &[
    ".cargo",
    ".rustup",
    ".local",
    ".npm",
    ".nvm",
    ".pyenv",
    ".rbenv",
    ".asdf",
    ".venv",
    ".virtualenvs",
    ".vscode",
    ".vscode-server",
    ".cursor-server",
    ".gem",
    ".cache",
    ".config",
    ".go",
    ".deno",
    ".bun",
    ".sdkman",
    ".dotnet",
    ".tox",
    ".nox",
    ".git",
    ".linuxbrew",
    ".nix-profile",
    ".krew",
    ".volta",
    ".pnpm",
    ".yarn",
    ".poetry",
    ".build",
    ".libs",
    ".steam",
    ".mozilla",
    ".wine",
    ".conda",
    ".ansible",
    ".github",
    ".terraform",
    ".jenkins",
    ".m2",
    ".gradle",
];

pub(super) fn below(path: &str, folders: &[&str]) -> bool {
    folders.iter().any(|folder| path.starts_with(folder))
}

/// A file or folder whose name starts with a dot, other than where tool chains keep programs.
fn is_hidden(path: &str) -> bool {
    path.split('/').any(|part| {
        part.len() > 1 && part.starts_with('.') && part != ".." && !KNOWN_DOT_FOLDERS.contains(&part)
            || part.starts_with(". ")
    })
}

pub(super) fn below_builder(exec: &Exec<'_>) -> bool {
    exec.ancestors
        .iter()
        .chain([&exec.parent])
        .any(|ancestor| BUILDERS.contains(&plain_name(ancestor)) || BUILDERS.contains(&base_name(ancestor)))
}

/// runc and crun seal a copy of themselves in memory and run it as `runc init`, from a runtime's shim.
fn is_runtime_copy(exec: &Exec<'_>) -> bool {
    let shims = ["runc", "crun", "containerd-shim-runc-v", "conmon", "dockerd", "podman", "buildah", "containerd"];
    shims.contains(&plain_name(exec.parent)) && exec.is_any(&["runc", "crun"]) && exec.argv.contains(&"init")
}

fn script_in_volatile_folder(exec: &Exec<'_>) -> bool {
    let Some(script) = exec.script_file() else { return false };
    let volatile = ["/dev/shm/"];
    let from = |path: &str| below(path, VOLATILE) || below(path, &volatile);
    let found = from(script) || !script.starts_with('/') && from(&format!("{}/", exec.cwd));
    found && !below_builder(exec)
}

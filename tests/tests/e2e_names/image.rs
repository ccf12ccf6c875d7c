//! An image from scratch: a static busybox, and catatonit as what a pod's sandbox runs.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// Its name.
pub(crate) const NAME: &str = "localhost/skep-names:1";

/// Runs a command to its end; fails the test when it fails.
pub(crate) fn run(command: &mut Command) -> Output {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}; run cargo xtask setup"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    output
}

/// Podman with storage of its own.
#[derive(Debug)]
pub(crate) struct Podman {
    folder: PathBuf,
}

impl Podman {
    /// Prepares `folder` and imports the image.
    pub(crate) fn prepare(folder: &Path) -> Self {
        // crun refuses hybrid hosts; the limits podman would set need a capability that a build machine may lack.
        let settings = "[containers]\ndefault_ulimits = [\"nofile=4096:4096\", \"nproc=4096:4096\"]\n\
                        [engine]\ncgroup_manager = \"cgroupfs\"\nruntime = \"runc\"\nevents_logger = \"file\"\n";
        std::fs::write(folder.join("containers.conf"), settings).expect("written");
        let root = folder.join("rootfs");
        std::fs::create_dir_all(root.join("bin")).expect("made");
        std::fs::copy("/bin/busybox", root.join("bin/busybox")).expect("busybox-static is installed");
        let catatonit = ["/usr/bin/catatonit", "/usr/libexec/podman/catatonit"];
        let catatonit = catatonit.iter().find(|path| Path::new(path).exists()).expect("catatonit is installed");
        std::fs::copy(catatonit, root.join("pause")).expect("copied");
        let archive = folder.join("rootfs.tar");
        run(Command::new("tar").arg("-C").arg(&root).arg("-cf").arg(&archive).arg("."));
        let podman = Self { folder: folder.to_owned() };
        run(podman
            .command(&["import", "--quiet", "--change", "ENTRYPOINT [\"/pause\",\"-P\"]"])
            .arg(&archive)
            .arg(NAME));
        podman
    }

    /// `podman ARGS`.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new("podman");
        command.env("CONTAINERS_CONF", self.folder.join("containers.conf"));
        for (flag, name) in [("--root", "storage"), ("--runroot", "run"), ("--tmpdir", "tmp")] {
            command.arg(flag).arg(self.folder.join(name));
        }
        command.args(["--storage-driver", "vfs"]).args(args);
        command
    }

    /// Makes a container without starting it, and returns its id.
    pub(crate) fn create(&self, program: &[&str]) -> String {
        let options = ["create", "--network", "none", "--entrypoint", "/bin/busybox", NAME];
        let output = run(&mut self.command(&[&options, program].concat()));
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    /// The image as an archive that containerd imports.
    pub(crate) fn archive(&self) -> PathBuf {
        let archive = self.folder.join("image.tar");
        run(self.command(&["save", "--quiet", "--format", "docker-archive", "-o"]).arg(&archive).arg(NAME));
        archive
    }
}

impl Drop for Podman {
    fn drop(&mut self) {
        // The folder goes with the test; what still runs must not stay.
        self.command(&["rm", "--all", "--force", "--time", "0"]).output().ok();
    }
}

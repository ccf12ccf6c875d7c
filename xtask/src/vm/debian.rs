//! Kernels of Debian releases, with an apt of their own: the system's lists and sources stay as they are.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

/// The package that always depends on a release's newest kernel. The cloud flavour is the smallest.
const NEWEST: &str = "linux-image-cloud-amd64";
const MIRROR: &str = "http://deb.debian.org";
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// How old what was downloaded may be before the mirror is asked again.
const FRESH: Duration = Duration::from_secs(24 * 3600);

/// A Debian release.
#[derive(Debug, Clone, Copy)]
pub(super) struct Suite {
    pub(super) name: &'static str,
    /// Whether it has security updates apart.
    security: bool,
}

impl Suite {
    pub(super) const BULLSEYE: Self = Self { name: "bullseye", security: true };
    pub(super) const BOOKWORM: Self = Self { name: "bookworm", security: true };
    pub(super) const TRIXIE: Self = Self { name: "trixie", security: true };
    pub(super) const SID: Self = Self { name: "sid", security: false };
}

/// A kernel on this disk.
#[derive(Debug)]
pub(super) struct Kernel {
    pub(super) image: PathBuf,
    /// As `uname -r` says.
    pub(super) release: String,
}

/// The newest kernel of a release; the one downloaded before while it is fresh, or when the mirror does not answer.
pub(super) fn kernel(suite: Suite, folder: &Path) -> Result<Kernel> {
    let place = folder.join("kernels").join(suite.name);
    let cached = cached(&place);
    if let Some(kernel) = &cached
        && age(&kernel.image).is_some_and(|age| age < FRESH)
    {
        return cached.context("it was just there");
    }
    match (download(suite, folder, &place), cached) {
        (Ok(kernel), _) => Ok(kernel),
        (Err(error), Some(kernel)) => {
            println!("the mirror has no newer kernel for us ({error:#}): taking the one downloaded before");
            Ok(kernel)
        }
        (Err(error), None) => Err(error),
    }
}

fn cached(place: &Path) -> Option<Kernel> {
    let release = fs::read_to_string(place.join("release")).ok()?;
    let image = place.join("vmlinuz");
    image.exists().then_some(Kernel { image, release })
}

fn age(file: &Path) -> Option<Duration> {
    fs::metadata(file).ok()?.modified().ok()?.elapsed().ok()
}

fn download(suite: Suite, folder: &Path, place: &Path) -> Result<Kernel> {
    let apt = Apt::new(suite, folder)?;
    apt.get(&["update", "-qq"]).context("the mirror's lists cannot be had")?;
    let newest = apt.depends(NEWEST)?.into_iter().find(|name| name.starts_with("linux-image-"));
    let image = newest.with_context(|| format!("{NEWEST} depends on no kernel"))?;
    // Since 2026 the image is in a package of its own, and what was called so only gathers the parts.
    let parts = apt.depends(&image)?;
    let package = parts.into_iter().find(|name| name.starts_with("linux-binary-")).unwrap_or(image);
    let deb = apt.download(&package)?;
    let unpacked = apt.folder.join("unpacked");
    crate::run::checked(Command::new("dpkg-deb").arg("--extract").arg(&deb).arg(&unpacked))?;
    let found = find_image(&unpacked)?;
    fs::create_dir_all(place)?;
    fs::copy(&found.image, place.join("vmlinuz"))?;
    fs::write(place.join("release"), &found.release)?;
    fs::remove_dir_all(&unpacked)?;
    fs::remove_file(&deb)?;
    Ok(Kernel { image: place.join("vmlinuz"), release: found.release })
}

/// `boot/vmlinuz-RELEASE` or `usr/lib/modules/RELEASE/vmlinuz`.
fn find_image(unpacked: &Path) -> Result<Kernel> {
    let boot = fs::read_dir(unpacked.join("boot")).into_iter().flatten().flatten();
    let boot = boot.filter_map(|entry| {
        let release = entry.file_name().to_str()?.strip_prefix("vmlinuz-")?.to_owned();
        Some(Kernel { image: entry.path(), release })
    });
    let modules = fs::read_dir(unpacked.join("usr/lib/modules")).into_iter().flatten().flatten();
    let modules = modules.filter_map(|entry| {
        let image = entry.path().join("vmlinuz");
        let release = entry.file_name().to_str()?.to_owned();
        image.exists().then_some(Kernel { image, release })
    });
    boot.chain(modules).next().context("the package has no kernel in it")
}

/// apt with lists, sources and status of its own.
struct Apt {
    folder: PathBuf,
    options: Vec<String>,
}

impl Apt {
    fn new(suite: Suite, folder: &Path) -> Result<Self> {
        let folder = folder.join("apt").join(suite.name);
        fs::create_dir_all(folder.join("lists/partial"))?;
        fs::create_dir_all(folder.join("cache/archives/partial"))?;
        fs::write(folder.join("status"), "")?;
        fs::write(folder.join("sources.list"), sources(suite))?;
        let at = folder.display();
        let options = [
            format!("Dir::Etc::sourcelist={at}/sources.list"),
            "Dir::Etc::sourceparts=/dev/null".to_owned(),
            format!("Dir::State::lists={at}/lists"),
            format!("Dir::State::status={at}/status"),
            format!("Dir::Cache={at}/cache"),
            "APT::Architecture=amd64".to_owned(),
            "APT::Sandbox::User=root".to_owned(),
            "Acquire::Retries=3".to_owned(),
            // What has left support is not signed anew.
            "Acquire::Check-Valid-Until=false".to_owned(),
            "Acquire::Languages=none".to_owned(),
        ];
        let options = options.into_iter().flat_map(|option| ["-o".to_owned(), option]).collect();
        Ok(Self { folder, options })
    }

    fn get(&self, arguments: &[&str]) -> Result<()> {
        let mut command = Command::new("apt-get");
        let output = command
            .current_dir(&self.folder)
            .args(&self.options)
            .args(arguments)
            .stdin(Stdio::null())
            .output()
            .context("cannot run apt-get")?;
        let complaint = String::from_utf8_lossy(&output.stderr);
        // A list that cannot be had is a warning to apt.
        if !output.status.success() || complaint.lines().any(|line| line.starts_with("W: Failed to fetch")) {
            let first = complaint.lines().next().unwrap_or("it does not say why");
            bail!("apt-get {}: {first}", arguments.join(" "));
        }
        Ok(())
    }

    /// Names a package depends on.
    fn depends(&self, package: &str) -> Result<Vec<String>> {
        let output = Command::new("apt-cache").args(&self.options).args(["depends", package]).output();
        let output = output.context("cannot run apt-cache")?;
        ensure!(output.status.success(), "there is no package {package}");
        let text = String::from_utf8_lossy(&output.stdout);
        Ok(text.lines().filter_map(|line| line.trim().strip_prefix("Depends: ")).map(str::to_owned).collect())
    }

    fn download(&self, package: &str) -> Result<PathBuf> {
        println!("downloading {package}");
        self.get(&["download", package])?;
        let named = |path: &PathBuf| {
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            name.starts_with(&format!("{package}_")) && name.ends_with(".deb")
        };
        let found = fs::read_dir(&self.folder)?.flatten().map(|entry| entry.path()).find(named);
        found.with_context(|| format!("apt-get download left no {package}"))
    }
}

fn sources(suite: Suite) -> String {
    let name = suite.name;
    let mut text = format!("deb [signed-by={KEYRING}] {MIRROR}/debian {name} main\n");
    if suite.security {
        text.push_str(&format!("deb [signed-by={KEYRING}] {MIRROR}/debian-security {name}-security main\n"));
    }
    text
}

//! Reads and writes a cgroup's cpu limit.
//!
//! Values are kept as the text the kernel shows, so that what is put back is what was there: v1 `QUOTA PERIOD` in
//! microseconds from two files (quota -1 is no limit), v2 the two words of `cpu.max` (`max` is no limit).

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

use super::hierarchy::Version;

const V1_QUOTA: &str = "cpu.cfs_quota_us";
const V1_PERIOD: &str = "cpu.cfs_period_us";
const V2_MAX: &str = "cpu.max";

/// The kernel takes no quota below a millisecond.
const LEAST_QUOTA_US: u64 = 1_000;

/// The kernel's period where none was set.
const DEFAULT_PERIOD_US: u64 = 100_000;

/// Why a limit could not be read or written.
#[derive(Debug, Error)]
pub enum LimitError {
    /// The operating system refused.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file does not say what it should.
    #[error("{} says {text:?}, which is no limit", path.display())]
    NotALimit {
        /// Which file.
        path: PathBuf,
        /// What it says.
        text: String,
    },
    /// The kernel took the value and shows another.
    #[error("wrote {written:?} and read back {found:?}")]
    NotTaken {
        /// What was written.
        written: String,
        /// What is there.
        found: String,
    },
}

impl LimitError {
    /// The same, with the file said to be in `dir`: people know a held folder by its path.
    pub fn within(mut self, dir: &Path) -> Self {
        if let Self::Io { path, .. } | Self::NotALimit { path, .. } = &mut self
            && let Some(name) = path.file_name()
        {
            *path = dir.join(name);
        }
        self
    }

    /// Whether the cgroup is not there any more.
    pub fn is_gone(&self) -> bool {
        match self {
            // A read of a cgroup that was removed while its file was open says "no such device".
            Self::Io { source, .. } => {
                source.kind() == io::ErrorKind::NotFound
                    || source.raw_os_error() == Some(rustix::io::Errno::NODEV.raw_os_error())
            }
            _ => false,
        }
    }
}

/// A cpu limit: quota and period.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limit {
    /// Microseconds of cpu in a period; `None` is no limit.
    pub quota_us: Option<u64>,
    /// Length of a period in microseconds.
    pub period_us: u64,
}

impl Limit {
    /// So many thousandths of a core, with the period there is.
    pub fn of_millicores(millicores: u32, period_us: u64) -> Self {
        let quota_us = (u64::from(millicores) * period_us / 1000).max(LEAST_QUOTA_US);
        Self { quota_us: Some(quota_us), period_us }
    }

    /// Cores it allows; infinite when it is none.
    pub fn cores(&self) -> f64 {
        self.quota_us.map_or(f64::INFINITY, |quota_us| quota_us as f64 / self.period_us as f64)
    }

    /// The text of this limit in a hierarchy of this version.
    pub fn text(&self, version: Version) -> String {
        match (version, self.quota_us) {
            (Version::V1, None) => format!("-1 {}", self.period_us),
            (Version::V2, None) => format!("max {}", self.period_us),
            (_, Some(quota_us)) => format!("{quota_us} {}", self.period_us),
        }
    }

    /// The inverse of [`Limit::text`], for either version.
    pub fn parse(text: &str) -> Option<Self> {
        let mut words = text.split_whitespace();
        let quota_us = match words.next()? {
            "-1" | "max" => None,
            number => Some(number.parse().ok()?),
        };
        let period_us = words.next().map_or(Some(DEFAULT_PERIOD_US), |word| word.parse().ok())?;
        (period_us > 0 && words.next().is_none()).then_some(Self { quota_us, period_us })
    }
}

/// The limit of the cgroup in `dir`.
///
/// # Errors
/// [`LimitError::Io`] ([`LimitError::is_gone`]) and [`LimitError::NotALimit`].
pub fn read(version: Version, dir: &Path) -> Result<Limit, LimitError> {
    let (path, text) = match version {
        Version::V1 => {
            let quota = read_file(&dir.join(V1_QUOTA))?;
            let period = read_file(&dir.join(V1_PERIOD))?;
            (dir.join(V1_QUOTA), format!("{} {}", quota.trim(), period.trim()))
        }
        Version::V2 => (dir.join(V2_MAX), read_file(&dir.join(V2_MAX))?),
    };
    Limit::parse(&text).ok_or(LimitError::NotALimit { path, text })
}

/// Sets the limit of the cgroup in `dir` and reads it back.
///
/// # Errors
/// [`LimitError`]. After [`LimitError::NotTaken`] the limit is what `found` says.
pub fn write(version: Version, dir: &Path, limit: &Limit) -> Result<(), LimitError> {
    match version {
        Version::V1 => {
            // Only the quota is ever ours; the period is as it was found, and is written back only if it changed.
            if read(version, dir)?.period_us != limit.period_us {
                write_file(&dir.join(V1_PERIOD), &limit.period_us.to_string())?;
            }
            let quota = limit.quota_us.map_or_else(|| "-1".to_owned(), |quota_us| quota_us.to_string());
            write_file(&dir.join(V1_QUOTA), &quota)?;
        }
        Version::V2 => write_file(&dir.join(V2_MAX), &limit.text(version))?,
    }
    let found = read(version, dir)?;
    if found == *limit {
        return Ok(());
    }
    Err(LimitError::NotTaken { written: limit.text(version), found: found.text(version) })
}

fn read_file(path: &Path) -> Result<String, LimitError> {
    fs::read_to_string(path).map_err(|source| LimitError::Io { action: "read", path: path.to_owned(), source })
}

fn write_file(path: &Path, text: &str) -> Result<(), LimitError> {
    // Never creates: a file that is not there belongs to a cgroup that is gone.
    let written = fs::OpenOptions::new().write(true).truncate(true).open(path).and_then(|mut file| {
        use std::io::Write;
        file.write_all(text.as_bytes())
    });
    written.map_err(|source| LimitError::Io { action: "write", path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_come_back() {
        for (version, text, quota_us) in [
            (Version::V1, "-1 100000", None),
            (Version::V1, "25000 100000", Some(25_000)),
            (Version::V2, "max 100000", None),
            (Version::V2, "5000 50000", Some(5_000)),
        ] {
            let limit = Limit::parse(text).unwrap();
            assert_eq!(limit.quota_us, quota_us);
            assert_eq!(limit.text(version), text);
        }
        assert_eq!(Limit::parse("max").unwrap().period_us, DEFAULT_PERIOD_US);
        for text in ["", "x 1", "1 2 3", "1 0", "-2 100000"] {
            assert_eq!(Limit::parse(text), None, "{text}");
        }
    }

    #[test]
    fn millicores_become_a_quota_the_kernel_takes() {
        assert_eq!(Limit::of_millicores(250, 100_000).quota_us, Some(25_000));
        assert_eq!(Limit::of_millicores(2500, 100_000).quota_us, Some(250_000));
        assert_eq!(Limit::of_millicores(1, 100_000).quota_us, Some(LEAST_QUOTA_US));
        assert!((Limit::of_millicores(250, 50_000).cores() - 0.25).abs() < 1e-9);
        assert!(Limit { quota_us: None, period_us: 1 }.cores().is_infinite());
    }

    #[test]
    fn the_unified_file_is_written_whole_and_a_missing_one_is_not_made() {
        let dir = tempfile::tempdir().unwrap();
        let limit = Limit::of_millicores(500, 100_000);
        assert!(write(Version::V2, dir.path(), &limit).unwrap_err().is_gone());
        assert!(!dir.path().join(V2_MAX).exists());
        fs::write(dir.path().join(V2_MAX), "max 100000").unwrap();
        write(Version::V2, dir.path(), &limit).unwrap();
        assert_eq!(fs::read_to_string(dir.path().join(V2_MAX)).unwrap(), "50000 100000");
        assert_eq!(read(Version::V2, dir.path()).unwrap(), limit);
    }
}

//! Which collectors write to this history, and which are gone.
//!
//! Each puts a small file beside the tables again and again; when it did last is told by the clock of the place, the same
//! for all. Those that were silent for long are gone, and the first by name of those that are not keeps their files in
//! order. Should two do so for a moment, or should one come back, nothing is wrong: a file goes in or out by one commit, and
//! only once.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde_json::json;
use thiserror::Error;

use crate::folder::{self, FolderError};
use crate::history::SharedPlace;
use crate::history::location::LocationError;

/// Folder of the signs of life, beside the tables'.
const FOLDER: &str = "_collectors";

/// Who has been silent for so long does not take over others' files.
const ALIVE: Duration = Duration::from_secs(300);

/// Why it is not known who is there.
#[derive(Debug, Error)]
pub enum AliveError {
    /// The data folder.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// Where the history is.
    #[error(transparent)]
    Location(#[from] LocationError),
    /// The place does not answer.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Not to be declared gone.
    #[error("collector {collector} gave a sign of life {seconds} s ago; stop it, and ask again when {} s are over", ALIVE.as_secs())]
    Alive {
        /// Which.
        collector: String,
        /// When.
        seconds: u64,
    },
    /// Not known here.
    #[error("no collector {collector} gives signs of life in {}; the ones there are: {known}", path.display())]
    Unknown {
        /// Which.
        collector: String,
        /// Where.
        path: PathBuf,
        /// Those there are.
        known: String,
    },
}

/// The signs of life of all collectors of one history.
#[derive(Debug, Clone)]
pub struct Signs {
    place: SharedPlace,
    folder: PathBuf,
}

/// Declares a collector gone that wrote to the same history as the one of the data folder `data`.
///
/// # Errors
/// [`AliveError`].
pub fn declare_gone(data: &Path, collector: &str) -> Result<(), AliveError> {
    if !data.is_dir() {
        return Err(FolderError::Absent { path: data.to_owned() }.into());
    }
    let opened = folder::location(data)?.open(&std::env::temp_dir())?;
    Signs::new(opened.place, &opened.root).declare_gone(collector)
}

/// How long a collector has been silent.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Silence {
    collector: String,
    last: SystemTime,
}

impl Signs {
    /// Of the collectors of the history below `root`.
    pub fn new(place: SharedPlace, root: &Path) -> Self {
        Self { place, folder: root.join(FOLDER) }
    }

    /// Gives a sign of life of `collector`, and says whose files it is to keep in order: those of `writers` that are gone
    /// for `after`.
    ///
    /// # Errors
    /// [`AliveError::Io`]; nobody is taken for gone then.
    pub fn beat(
        &self,
        collector: &str,
        after: Option<Duration>,
        writers: &BTreeSet<String>,
    ) -> Result<BTreeSet<String>, AliveError> {
        let path = self.path(collector);
        let sign = json!({ "collector": collector, "version": env!("CARGO_PKG_VERSION") }).to_string();
        self.place.put(&path, sign.as_bytes(), collector).map_err(|source| io("write", &path, source))?;
        let Some(after) = after else { return Ok(BTreeSet::new()) };
        Ok(gone(collector, after, writers, &self.silences()?))
    }

    /// Declares a collector gone that has been silent for a while.
    ///
    /// # Errors
    /// [`AliveError`].
    pub fn declare_gone(&self, collector: &str) -> Result<(), AliveError> {
        let silences = self.silences()?;
        let Some(silence) = silences.iter().find(|silence| silence.collector == collector) else {
            let known: Vec<_> = silences.into_iter().map(|silence| silence.collector).collect();
            return Err(AliveError::Unknown {
                collector: collector.to_owned(),
                path: self.folder.clone(),
                known: known.join(", "),
            });
        };
        let since = SystemTime::now().duration_since(silence.last).unwrap_or_default();
        if since < ALIVE {
            return Err(AliveError::Alive { collector: collector.to_owned(), seconds: since.as_secs() });
        }
        let path = self.path(collector);
        self.place.remove(&path).map_err(|source| io("remove", &path, source))
    }

    fn silences(&self) -> Result<Vec<Silence>, AliveError> {
        let names = self.place.list(&self.folder).map_err(|source| io("list", &self.folder, source))?;
        let mut silences = Vec::new();
        for collector in names.iter().filter_map(|name| name.strip_suffix(".json")) {
            let path = self.path(collector);
            let about = self.place.about(&path).map_err(|source| io("examine", &path, source))?;
            if let Some(last) = about.and_then(|about| about.modified) {
                silences.push(Silence { collector: collector.to_owned(), last });
            }
        }
        Ok(silences)
    }

    fn path(&self, collector: &str) -> PathBuf {
        self.folder.join(format!("{collector}.json"))
    }
}

/// Those of `writers` whose files `own` has to keep in order. A writer without a sign of life was declared gone, or was
/// there before there were signs.
fn gone(own: &str, after: Duration, writers: &BTreeSet<String>, silences: &[Silence]) -> BTreeSet<String> {
    let last = |collector: &str| silences.iter().find(|silence| silence.collector == collector).map(|s| s.last);
    let Some(now) = last(own) else { return BTreeSet::new() };
    let silent_for = |last: SystemTime| now.duration_since(last).unwrap_or_default();
    let mut alive = silences.iter().filter(|silence| silent_for(silence.last) < ALIVE).map(|s| s.collector.as_str());
    if alive.any(|other| other < own) {
        return BTreeSet::new();
    }
    let is_gone = |writer: &&String| last(writer).is_none_or(|last| silent_for(last) >= after);
    writers.iter().filter(|writer| *writer != own).filter(is_gone).cloned().collect()
}

fn io(action: &'static str, path: &Path, source: std::io::Error) -> AliveError {
    AliveError::Io { action, path: path.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::history::Folders;

    #[test]
    fn the_first_of_those_alive_takes_over_from_those_that_were_silent_for_long() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
        let silence = |collector: &str, hours: u64| Silence {
            collector: collector.to_owned(),
            last: now - Duration::from_secs(hours * 3600),
        };
        let silences = [silence("aa", 30), silence("bb", 2), silence("cc", 0), silence("dd", 0)];
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<BTreeSet<_>>();
        let writers = names(&["00", "aa", "bb", "cc", "dd"]);
        let day = Duration::from_secs(24 * 3600);
        assert_eq!(gone("cc", day, &writers, &silences), names(&["00", "aa"]));
        assert_eq!(gone("dd", day, &writers, &silences), names(&[]), "cc does it");
        assert_eq!(gone("cc", Duration::from_secs(3600), &writers, &silences), names(&["00", "aa", "bb"]));
        assert_eq!(gone("ee", day, &writers, &silences), names(&[]), "not before it gave a sign itself");
    }

    #[test]
    fn a_collector_is_not_declared_gone_while_it_gives_signs() {
        let temp = tempfile::tempdir().unwrap();
        let signs = Signs::new(Arc::new(Folders::default()), temp.path());
        let writers = BTreeSet::from(["aa".to_owned(), "bb".to_owned()]);
        let day = Some(Duration::from_secs(24 * 3600));
        assert_eq!(signs.beat("bb", day, &writers).unwrap(), BTreeSet::from(["aa".to_owned()]));
        signs.beat("aa", day, &writers).unwrap();
        assert!(signs.beat("bb", day, &writers).unwrap().is_empty());
        assert!(matches!(signs.declare_gone("aa"), Err(AliveError::Alive { .. })));
        let said = signs.declare_gone("zz").unwrap_err().to_string();
        assert!(said.contains("aa, bb") || said.contains("bb, aa"), "{said}");
        let old = SystemTime::now() - Duration::from_secs(3600);
        let file = std::fs::File::options().write(true).open(temp.path().join("_collectors/aa.json")).unwrap();
        file.set_modified(old).unwrap();
        signs.declare_gone("aa").unwrap();
        assert_eq!(signs.beat("bb", day, &writers).unwrap(), BTreeSet::from(["aa".to_owned()]));
    }
}

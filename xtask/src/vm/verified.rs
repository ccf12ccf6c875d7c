//! How many instructions each kernel's verifier goes through for each program, kept in `verified.toml`.
//!
//! It is what loading costs, and how near a program is to the million at which the kernel refuses it.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use super::transcript::Check;
use crate::setup;

const FILE: &str = "xtask/src/vm/verified.toml";
const HEAD: &str = "# Instructions the verifier went through for each program, by kernel. `cargo xtask vm` fails when one of \
                    them rises by\n# more than a tenth; `cargo xtask vm --record` writes this file.\n";

/// By boot, then by program.
type Counts = BTreeMap<String, BTreeMap<String, u64>>;

/// The file, and whether to write it anew.
#[derive(Debug)]
pub(super) struct Verified {
    counts: Counts,
    record: bool,
}

impl Verified {
    pub(super) fn read(record: bool) -> Result<Self> {
        let path = path();
        let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        Ok(Self { counts: parse(&text)?, record })
    }

    /// Compares what doctor found in a boot, or notes it. Returns what is worth saying.
    pub(super) fn compare(&mut self, boot: &str, doctor: &[Check]) -> Result<String> {
        let verifier = doctor.iter().find(|check| check.name == "verifier").context("doctor loaded no program")?;
        let found: BTreeMap<String, u64> = verifier.figures.iter().cloned().collect();
        if found.is_empty() {
            return Ok(verifier.detail.clone());
        }
        if self.record {
            self.counts.insert(boot.to_owned(), found);
            return Ok(format!("{}, recorded", verifier.detail));
        }
        let faults = faults(self.counts.get(boot).unwrap_or(&BTreeMap::new()), &found);
        if !faults.is_empty() {
            bail!("{}; if that is as it should be: cargo xtask vm --record --kernel {boot}", faults.join(", "));
        }
        Ok(verifier.detail.clone())
    }

    /// Writes the file, if that was asked for.
    pub(super) fn write(&self) -> Result<()> {
        if self.record {
            std::fs::write(path(), text(&self.counts))?;
            println!("wrote {FILE}");
        }
        Ok(())
    }
}

fn path() -> PathBuf {
    setup::repository().join(Path::new(FILE))
}

/// What differs too much.
fn faults(recorded: &BTreeMap<String, u64>, found: &BTreeMap<String, u64>) -> Vec<String> {
    let gone = recorded.keys().filter(|name| !found.contains_key(*name)).map(|name| format!("{name} was not loaded"));
    let changed = found.iter().filter_map(|(name, now)| match recorded.get(name) {
        None => Some(format!("{name} is not recorded")),
        Some(before) if now * 10 > before * 11 => {
            Some(format!("{name} takes the verifier {now} instructions, not {before}"))
        }
        Some(_) => None,
    });
    gone.chain(changed).collect()
}

fn parse(text: &str) -> Result<Counts> {
    toml::from_str(text).with_context(|| format!("{FILE} cannot be read"))
}

fn text(counts: &Counts) -> String {
    let mut text = HEAD.to_owned();
    for (boot, programs) in counts {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "\n[\"{boot}\"]");
        for (name, count) in programs {
            let _ = writeln!(text, "{name} = {count}");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(pairs: &[(&str, u64)]) -> BTreeMap<String, u64> {
        pairs.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect()
    }

    #[test]
    fn a_rise_of_more_than_a_tenth_is_a_fault() {
        let recorded = counts(&[("a", 1000), ("b", 50)]);
        assert!(faults(&recorded, &counts(&[("a", 1100), ("b", 10)])).is_empty());
        assert_eq!(
            faults(&recorded, &counts(&[("a", 1101), ("c", 5)])),
            ["b was not loaded", "a takes the verifier 1101 instructions, not 1000", "c is not recorded"]
        );
    }

    #[test]
    fn what_is_written_is_read_back() {
        let all = Counts::from([("6.1".to_owned(), counts(&[("sys_enter", 33)])), ("newest".to_owned(), counts(&[]))]);
        assert_eq!(parse(&text(&all)).unwrap(), all);
    }

    #[test]
    fn the_committed_file_can_be_read() {
        assert!(Verified::read(false).is_ok());
    }
}

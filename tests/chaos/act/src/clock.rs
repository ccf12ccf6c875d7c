//! A wall clock that steps for one process alone.
//!
//! The host's clock is everybody's. What a process reads of it goes through the C library, and a small library in front of
//! that adds what a file says; it is compiled with the compiler that every Rust program is linked with.

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

const SOURCE: &str = include_str!("clock.c");

/// Seconds in a day.
const DAY_S: i64 = 86_400;

/// By how much a clock may be off: a little, past what commands and clocks allow, past an hour's budget, past what is
/// remembered of commands.
pub(crate) const STEPS_S: [i64; 8] = [5, -5, 90, -90, 2 * 3600, -2 * 3600, DAY_S + 7200, -(DAY_S + 7200)];

/// Compiles the library into `folder`.
pub(crate) fn compile(folder: &Path) -> Result<PathBuf> {
    let (source, library) = (folder.join("clock.c"), folder.join("clock.so"));
    fs::write(&source, SOURCE)?;
    let cc = Command::new("cc").args(["-shared", "-fPIC", "-O1", "-o"]).arg(&library).arg(&source).output();
    let output = cc.context("cc, which every Rust program is linked with")?;
    ensure!(output.status.success(), "cc: {}", String::from_utf8_lossy(&output.stderr));
    Ok(library)
}

/// The clock of one program, over all of its lives.
#[derive(Debug)]
pub(crate) struct Clock {
    library: PathBuf,
    path: PathBuf,
    /// By how many seconds it is off.
    pub(crate) off_s: i64,
}

impl Clock {
    /// One that is right.
    pub(crate) fn new(library: &Path, folder: &Path, name: &str) -> Result<Self> {
        let path = folder.join(format!("{name}.clock"));
        fs::write(&path, 0i64.to_ne_bytes())?;
        Ok(Self { library: library.to_owned(), path, off_s: 0 })
    }

    /// What the program needs in its environment.
    pub(crate) fn environment(&self) -> [(&'static str, PathBuf); 2] {
        [("LD_PRELOAD", self.library.clone()), ("SKEP_CHAOS_CLOCK", self.path.clone())]
    }

    /// Is off by so much from now on.
    pub(crate) fn set(&mut self, off_s: i64) -> Result<()> {
        // In place: the programs have the file open.
        fs::File::options().write(true).open(&self.path)?.write_all_at(&off_s.to_ne_bytes(), 0)?;
        self.off_s = off_s;
        Ok(())
    }
}

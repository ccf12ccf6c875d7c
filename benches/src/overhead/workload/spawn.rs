//! Programs that come and go.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Result, ensure};
use tempfile::TempDir;

use super::Work;
use crate::overhead::arguments::OverheadArguments;
use crate::tiny;

struct Spawn {
    _folder: TempDir,
    program: PathBuf,
}

pub(super) fn start(_: &OverheadArguments) -> Result<Box<dyn Work>> {
    let folder = tempfile::tempdir()?;
    let program = tiny::write_exit(folder.path())?;
    Ok(Box::new(Spawn { _folder: folder, program }))
}

impl Work for Spawn {
    fn repeat(&mut self, times: u32) -> Result<()> {
        for _ in 0..times {
            let status = Command::new(&self.program).status()?;
            ensure!(status.success(), "{} ended with {status}", self.program.display());
        }
        Ok(())
    }
}

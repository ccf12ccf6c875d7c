//! System calls that do next to nothing.

use std::fs::File;
use std::io::Read;

use anyhow::{Context, Result};

use super::Work;
use crate::overhead::arguments::OverheadArguments;

struct Getppid;

pub(super) fn getppid(_: &OverheadArguments) -> Result<Box<dyn Work>> {
    Ok(Box::new(Getppid))
}

impl Work for Getppid {
    fn repeat(&mut self, times: u32) -> Result<()> {
        for _ in 0..times {
            std::hint::black_box(rustix::process::getppid());
        }
        Ok(())
    }
}

struct ReadOneByte {
    file: File,
}

pub(super) fn read_one_byte(_: &OverheadArguments) -> Result<Box<dyn Work>> {
    let path = "/dev/zero";
    Ok(Box::new(ReadOneByte { file: File::open(path).context(path)? }))
}

impl Work for ReadOneByte {
    fn repeat(&mut self, times: u32) -> Result<()> {
        let mut byte = [0];
        for _ in 0..times {
            self.file.read_exact(&mut byte)?;
        }
        Ok(())
    }
}

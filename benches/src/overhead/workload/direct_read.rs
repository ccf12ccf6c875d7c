//! Reads that reach the disk.

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::{FileExt, OpenOptionsExt};

use anyhow::{Context, Result};
use tempfile::NamedTempFile;

use super::Work;
use crate::overhead::arguments::OverheadArguments;

const BLOCK: usize = 4096;
const BLOCKS: u64 = 16_384;

/// A buffer as direct reads want it.
#[repr(C, align(4096))]
struct Page([u8; BLOCK]);

struct DirectRead {
    _named: NamedTempFile,
    file: File,
    page: Box<Page>,
    place: u64,
}

pub(super) fn start(arguments: &OverheadArguments) -> Result<Box<dyn Work>> {
    let disk = &arguments.disk;
    let mut named = NamedTempFile::new_in(disk).with_context(|| format!("no file in {}", disk.display()))?;
    for block in 0..BLOCKS {
        named.write_all(&[block as u8; BLOCK])?;
    }
    named.as_file().sync_all()?;
    let file = File::options()
        .read(true)
        .custom_flags(libc::O_DIRECT)
        .open(named.path())
        .with_context(|| format!("{} is on no disk that reads directly; give --disk", disk.display()))?;
    Ok(Box::new(DirectRead { _named: named, file, page: Box::new(Page([0; BLOCK])), place: 1 }))
}

impl Work for DirectRead {
    fn repeat(&mut self, times: u32) -> Result<()> {
        for _ in 0..times {
            // Knuth's generator; the low bits are not random enough.
            self.place = self.place.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let block = (self.place >> 33) % BLOCKS;
            self.file.read_exact_at(&mut self.page.0, block * BLOCK as u64)?;
        }
        Ok(())
    }
}

//! Parts of a Parquet file, wherever it is, as the decoder asks for them.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Read};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::{Bytes, BytesMut};
use parquet::errors::{ParquetError, Result};
use parquet::file::reader::{ChunkReader, Length};

/// What is asked for at once of a file far away: a page of most columns, or a footer.
const BLOCK_BYTES: u64 = 256 << 10;

/// Blocks kept of one file: those of the few columns that are read beside each other.
const BLOCKS_KEPT: usize = 8;

/// A file of which parts can be read.
#[derive(Debug)]
pub enum PartReader {
    /// On a disk.
    Near(File),
    /// Far away.
    Far(Arc<Blocks>),
}

/// Reads a range of a file far away.
pub trait Ranges: std::fmt::Debug + Send + Sync {
    /// Bytes `from..to`, all of which are there.
    ///
    /// # Errors
    /// As the place says.
    fn range(&self, from: u64, to: u64) -> io::Result<Bytes>;
}

/// A file far away, read block by block.
#[derive(Debug)]
pub struct Blocks {
    ranges: Box<dyn Ranges>,
    bytes: u64,
    kept: Mutex<VecDeque<(u64, Bytes)>>,
}

impl PartReader {
    /// A file far away of so many bytes.
    pub fn far(ranges: Box<dyn Ranges>, bytes: u64) -> Self {
        Self::Far(Arc::new(Blocks { ranges, bytes, kept: Mutex::default() }))
    }
}

impl Blocks {
    /// From `at` to the end of the block that is in; nothing at the end of the file.
    fn rest_of_block(&self, at: u64) -> io::Result<Bytes> {
        if at >= self.bytes {
            return Ok(Bytes::new());
        }
        let number = at / BLOCK_BYTES;
        let from = number * BLOCK_BYTES;
        let block = match self.kept(number) {
            Some(block) => block,
            None => {
                let block = self.ranges.range(from, self.bytes.min(from + BLOCK_BYTES))?;
                let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
                if kept.len() >= BLOCKS_KEPT {
                    kept.pop_front();
                }
                kept.push_back((number, block.clone()));
                block
            }
        };
        let skip = usize::try_from(at - from).unwrap_or(usize::MAX).min(block.len());
        Ok(block.slice(skip..))
    }

    fn kept(&self, number: u64) -> Option<Bytes> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let at = kept.iter().position(|(kept, _)| *kept == number)?;
        // What was used last goes last.
        let used = kept.remove(at)?;
        let block = used.1.clone();
        kept.push_back(used);
        Some(block)
    }

    fn bytes(&self, start: u64, length: usize) -> Result<Bytes> {
        let end = start.saturating_add(length as u64);
        if end > self.bytes {
            return Err(ParquetError::EOF(format!("bytes {start} to {end} of a file of {}", self.bytes)));
        }
        if length as u64 > BLOCK_BYTES {
            return Ok(self.ranges.range(start, end)?);
        }
        let first = self.rest_of_block(start)?;
        if first.len() >= length {
            return Ok(first.slice(..length));
        }
        let mut bytes = BytesMut::with_capacity(length);
        bytes.extend_from_slice(&first);
        while bytes.len() < length {
            let next = self.rest_of_block(start + bytes.len() as u64)?;
            if next.is_empty() {
                return Err(ParquetError::EOF(format!("the file breaks off before {end}")));
            }
            bytes.extend_from_slice(&next[..next.len().min(length - bytes.len())]);
        }
        Ok(bytes.freeze())
    }
}

impl Length for PartReader {
    fn len(&self) -> u64 {
        match self {
            Self::Near(file) => file.len(),
            Self::Far(blocks) => blocks.bytes,
        }
    }
}

impl ChunkReader for PartReader {
    type T = Box<dyn Read + Send>;

    fn get_read(&self, start: u64) -> Result<Self::T> {
        Ok(match self {
            Self::Near(file) => Box::new(file.get_read(start)?),
            Self::Far(blocks) => Box::new(FarRead { blocks: Arc::clone(blocks), at: start, rest: Bytes::new() }),
        })
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<Bytes> {
        match self {
            Self::Near(file) => file.get_bytes(start, length),
            Self::Far(blocks) => blocks.bytes(start, length),
        }
    }
}

/// A file far away as a stream.
#[derive(Debug)]
struct FarRead {
    blocks: Arc<Blocks>,
    at: u64,
    rest: Bytes,
}

impl Read for FarRead {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.rest.is_empty() {
            self.rest = self.blocks.rest_of_block(self.at)?;
        }
        let count = into.len().min(self.rest.len());
        into[..count].copy_from_slice(&self.rest.split_to(count));
        self.at += count as u64;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct Counting(Vec<u8>, Arc<Mutex<usize>>);

    impl Ranges for Counting {
        fn range(&self, from: u64, to: u64) -> io::Result<Bytes> {
            *self.1.lock().unwrap() += 1;
            Ok(Bytes::copy_from_slice(&self.0[from as usize..to as usize]))
        }
    }

    #[test]
    fn parts_are_those_of_the_file_and_asked_for_once() {
        let all: Vec<u8> = (0..BLOCK_BYTES * 2 + 77).map(|n| (n % 251) as u8).collect();
        let asked = Arc::new(Mutex::new(0));
        let file = PartReader::far(Box::new(Counting(all.clone(), Arc::clone(&asked))), all.len() as u64);
        let edge = BLOCK_BYTES as usize;
        for (start, length) in [(0, 10), (edge - 5, 10), (edge, 7), (all.len() - 8, 8)] {
            assert_eq!(file.get_bytes(start as u64, length).unwrap(), all[start..start + length]);
        }
        assert_eq!(*asked.lock().unwrap(), 3, "each block once");
        let mut rest = Vec::new();
        file.get_read(edge as u64 - 3).unwrap().read_to_end(&mut rest).unwrap();
        assert_eq!(rest, all[edge - 3..]);
        assert_eq!(*asked.lock().unwrap(), 3);
        assert_eq!(file.get_bytes(1, edge * 2).unwrap(), all[1..=edge * 2]);
        assert!(file.get_bytes(all.len() as u64 - 3, 4).is_err());
    }
}

//! Bits of the WAL that flip while nobody runs, and which batches they are in.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::Result;
use skep_collector::wal::Record;
use skep_collector::wal::record::decode;
use skep_seglog::sim::SimDisk;
use skep_seglog::{Entry, Log, Position, SegmentId, Storage};

use super::collector::WAL;
use skep_chaos_ground::Dice;

/// A batch, by its node and its number.
pub(super) type Batch = (String, u64);

/// What was flipped.
#[derive(Debug, Default)]
pub(super) struct Rot {
    /// Batches with a wrong bit.
    pub(super) batches: BTreeSet<Batch>,
    /// Segments whose snapshot has one. There are two of each; who loses both knows of nothing any more.
    snapshots: BTreeSet<SegmentId>,
}

impl Rot {
    /// Flips a bit of the WAL somewhere, if there is any; returns whether.
    pub(super) fn flip(&mut self, disk: &SimDisk, dice: &mut Dice) -> Result<bool> {
        let names = disk.list(Path::new(WAL))?;
        let Some(id) = names.get(dice.below(names.len() as u64) as usize).and_then(|name| SegmentId::parse(name))
        else {
            return Ok(false);
        };
        let path = id.path(Path::new(WAL));
        let size = disk.size(&path).unwrap_or(0) as u64;
        let offset = dice.below(size);
        let hit = entry_at(disk, Position { segment: id, offset })?.map(|entry| decode(&entry.payload)).transpose()?;
        match hit {
            Some(Record::Envelope(envelope)) => {
                self.batches.insert((envelope.node, envelope.seq));
            }
            Some(Record::Offsets(_)) if !self.snapshots.insert(id) => return Ok(false),
            // A snapshot for the first time, a file's header, or what was damaged before.
            Some(Record::Offsets(_)) | None => {}
        }
        disk.flip(&path, offset as usize);
        Ok(size > 0)
    }
}

/// The whole entry this byte is in.
fn entry_at(disk: &SimDisk, place: Position) -> Result<Option<Entry>> {
    let (log, _) = Log::open_read_only(disk.clone(), Path::new(WAL))?;
    let mut entries = log.read(Position { offset: 0, ..place }).flatten();
    Ok(entries.find(|entry| entry.position <= place && place < entry.end))
}

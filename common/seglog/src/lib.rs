//! Checksummed append-only segments: the agent's spool and the collector's write-ahead log stand on it.
//!
//! * [`format`]: the bytes on disk, and what recovery may do to them.
//! * [`storage`]: the few file operations used, as a trait, and the real disk behind it.
//! * [`sim`]: a disk in memory that loses power, tears writes, fills up, fails `fsync`, for tests here and in the daemons.
//! * [`read`]: entries out of segments, with faults as values.
//! * [`log`]: append, sync, seal, remove.
//!
//! Invariants: an entry is read only if it is whole; nothing is appended to a file that was written before the present
//! open; a failed `fdatasync` ends the log's life; damage is reported, never stepped over in silence.

#![forbid(unsafe_code)]

pub mod format;

pub mod storage;

pub mod sim;

pub mod read;

pub mod log;

pub use format::{Position, SegmentId};
pub use log::{Log, LogError, Options, SegmentInfo, Trim};
pub use read::{Entry, Fault, ReadError, Reader};
pub use storage::{Disk, SegmentFile, Shared, Storage};

//! Batches and segments that cannot be used are kept for somebody to look at.
//!
//! ```text
//! quarantine/<node>-<stream>-<seq>.envelope   batches as they came; [`MAX_FILES`] and [`MAX_BYTES`] at most
//! quarantine/wal/<segment>.seg                damaged segments of the WAL
//! ```

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use prost::Message;
use skep_wire::v1;

use crate::history::parquet_file::{create_dir_durably, sync_dir};

/// Most batches kept: a node gone mad must not fill the disk.
const MAX_FILES: usize = 1000;

/// Most bytes of batches kept, for the same reason.
const MAX_BYTES: u64 = 1 << 30;

/// Below the quarantine: segments, which are few and do not count against the batches.
const SEGMENTS: &str = "wal";

/// Writes `envelope` into `folder` as it came; returns where. Blocks.
///
/// # Errors
/// The file system refused, or the folder holds [`MAX_FILES`] or [`MAX_BYTES`] already.
pub fn keep_envelope(folder: &Path, envelope: &v1::Envelope) -> io::Result<PathBuf> {
    keep_bounded(folder, envelope, MAX_BYTES)
}

fn keep_bounded(folder: &Path, envelope: &v1::Envelope, max_bytes: u64) -> io::Result<PathBuf> {
    let name = format!("{}-{}-{}.envelope", plain(&envelope.node), plain(&envelope.stream), envelope.seq);
    let path = folder.join(name);
    create_dir_durably(folder)?;
    let bytes = envelope.encode_to_vec();
    check_room(folder, &path, bytes.len() as u64, max_bytes)?;
    put(&path, |file| file.write_all(&bytes))?;
    Ok(path)
}

/// Copies a damaged WAL segment into `folder`; returns where. Blocks.
///
/// # Errors
/// The file system refused.
pub fn keep_copy(folder: &Path, file: &Path) -> io::Result<PathBuf> {
    let name = file.file_name().ok_or(io::ErrorKind::InvalidInput)?;
    let folder = folder.join(SEGMENTS);
    let path = folder.join(name);
    if !path.exists() {
        create_dir_durably(&folder)?;
        let mut original = File::open(file)?;
        put(&path, |copy| io::copy(&mut original, copy).map(|_| ()))?;
    }
    Ok(path)
}

/// Refuses when `bytes` more, in place of what `path` holds, would be too much.
fn check_room(folder: &Path, path: &Path, bytes: u64, max_bytes: u64) -> io::Result<()> {
    let (mut files, mut sum) = (0, bytes);
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let about = entry.metadata()?;
        if about.is_file() && entry.path() != path {
            files += 1;
            sum = sum.saturating_add(about.len());
        }
    }
    if files >= MAX_FILES || sum > max_bytes {
        let what = format!("{} holds all it may: {files} batches", folder.display());
        return Err(io::Error::other(what));
    }
    Ok(())
}

/// Puts a file in place whole and durable.
fn put(path: &Path, write: impl FnOnce(&mut File) -> io::Result<()>) -> io::Result<()> {
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(".tmp");
    let temporary = PathBuf::from(temporary);
    let mut file = File::create(&temporary)?;
    let written = write(&mut file).and_then(|()| file.sync_all()).and_then(|()| std::fs::rename(&temporary, path));
    if written.is_err() {
        // Nothing to be done if this fails too.
        let _left_behind = std::fs::remove_file(&temporary).is_err();
    }
    written?;
    sync_dir(path.parent().unwrap_or(Path::new(".")))
}

/// What comes from a peer, fit for a file name.
fn plain(text: &str) -> String {
    text.chars().take(80).map(|c| if c.is_ascii_alphanumeric() || c == '-' { c } else { '_' }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn envelope(seq: u64, bytes: usize) -> v1::Envelope {
        v1::Envelope { node: "n".to_owned(), seq, payload: vec![7; bytes], ..Default::default() }
    }

    #[test]
    fn a_peer_cannot_choose_the_folder() {
        let temp = tempfile::tempdir().unwrap();
        let envelope =
            v1::Envelope { node: "../../etc/x".to_owned(), stream: "/s".to_owned(), seq: 2, ..Default::default() };
        let path = keep_envelope(&temp.path().join("q"), &envelope).unwrap();
        assert_eq!(path, temp.path().join("q/______etc_x-_s-2.envelope"));
        assert_eq!(v1::Envelope::decode(std::fs::read(path).unwrap().as_slice()).unwrap(), envelope);
    }

    #[test]
    fn large_batches_do_not_fill_the_disk() {
        let temp = tempfile::tempdir().unwrap();
        keep_bounded(temp.path(), &envelope(1, 600), 1000).unwrap();
        keep_bounded(temp.path(), &envelope(1, 600), 1000).unwrap();
        assert!(keep_bounded(temp.path(), &envelope(2, 600), 1000).is_err());
        keep_bounded(temp.path(), &envelope(3, 100), 1000).unwrap();
        assert_eq!(std::fs::read_dir(temp.path()).unwrap().count(), 2);
    }

    #[test]
    fn a_segment_is_kept_whole_beside_a_full_folder_and_takes_no_room_in_it() {
        let temp = tempfile::tempdir().unwrap();
        let folder = temp.path().join("q");
        let segment = temp.path().join("00000000000000000003.seg");
        std::fs::write(&segment, [9; 2000]).unwrap();
        keep_bounded(&folder, &envelope(1, 900), 1000).unwrap();
        let kept = keep_copy(&folder, &segment).unwrap();
        assert_eq!(kept, folder.join("wal/00000000000000000003.seg"));
        assert_eq!(std::fs::read(kept).unwrap(), [9; 2000]);
        keep_bounded(&folder, &envelope(2, 20), 1000).unwrap();
    }
}

//! Batches and segments that cannot be used are kept for somebody to look at.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use prost::Message;
use skep_wire::v1;

/// Most files kept: a node gone mad must not fill the disk.
const MAX_FILES: usize = 1000;

/// Writes `envelope` into `folder` as it came; returns where.
///
/// # Errors
/// The file system refused, or the folder holds [`MAX_FILES`] already.
pub fn keep_envelope(folder: &Path, envelope: &v1::Envelope) -> io::Result<PathBuf> {
    let name = format!("{}-{}-{}.envelope", plain(&envelope.node), plain(&envelope.stream), envelope.seq);
    let path = make_room(folder)?.join(name);
    let mut file = File::create(&path)?;
    file.write_all(&envelope.encode_to_vec())?;
    file.sync_all()?;
    Ok(path)
}

/// Copies a damaged WAL segment into `folder`; returns where.
///
/// # Errors
/// As [`keep_envelope`].
pub fn keep_copy(folder: &Path, file: &Path) -> io::Result<PathBuf> {
    let name = file.file_name().ok_or(io::ErrorKind::InvalidInput)?;
    let path = make_room(folder)?.join(name);
    if !path.exists() {
        std::fs::copy(file, &path)?;
    }
    Ok(path)
}

fn make_room(folder: &Path) -> io::Result<&Path> {
    std::fs::create_dir_all(folder)?;
    if std::fs::read_dir(folder)?.count() >= MAX_FILES {
        return Err(io::Error::other(format!("{} holds {MAX_FILES} files already", folder.display())));
    }
    Ok(folder)
}

/// What comes from a peer, fit for a file name.
fn plain(text: &str) -> String {
    text.chars().take(80).map(|c| if c.is_ascii_alphanumeric() || c == '-' { c } else { '_' }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_cannot_choose_the_folder() {
        let temp = tempfile::tempdir().unwrap();
        let envelope =
            v1::Envelope { node: "../../etc/x".to_owned(), stream: "/s".to_owned(), seq: 2, ..Default::default() };
        let path = keep_envelope(&temp.path().join("q"), &envelope).unwrap();
        assert_eq!(path, temp.path().join("q/______etc_x-_s-2.envelope"));
        assert_eq!(v1::Envelope::decode(std::fs::read(path).unwrap().as_slice()).unwrap(), envelope);
    }
}

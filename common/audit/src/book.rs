//! The chain as files: `NNNNNNNNNNNNNNNNNNNN.jsonl` by the number of their first entry, and `head.json`.
//!
//! An entry is synced before [`Book::append`] returns, and the head after it. So a crash leaves a torn last line, which
//! nobody was told of and an open cuts off, or whole entries behind the head, which is no fault. Nothing is ever removed
//! here; what somebody else cut off stays visible, because the chain goes on behind what the head says.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};

use ed25519_dalek::{SigningKey, VerifyingKey};
use thiserror::Error;

use crate::entry::{Entry, NOTHING, Record};
use crate::head::Head;
use crate::verify::{Report, Verifier};

/// A file that would grow past this ends.
const FILE_BYTES: u64 = 64 << 20;

/// Longest line: nothing of ours comes near.
const LINE_BYTES: u64 = 4 << 20;

const HEAD: &str = "head.json";

const ENDING: &str = ".jsonl";

/// Why nothing was appended.
#[derive(Debug, Error)]
pub enum BookError {
    /// The file system refused; the chain is as it was, and the same may be tried again.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file could not be synced: what of it is on disk is not known. Open the book anew.
    #[error("{} could not be synced, and is not written to any more", path.display())]
    Lost {
        /// Which.
        path: PathBuf,
    },
    /// An entry does not become text.
    #[error("an entry cannot be written")]
    Encode(#[from] serde_json::Error),
}

/// A chain that is being written.
#[derive(Debug)]
pub struct Book {
    folder: PathBuf,
    chain: String,
    key: SigningKey,
    /// The last entry.
    last: u64,
    hash: String,
    file: Option<Open>,
    lost: Option<PathBuf>,
    /// The head on disk is of an earlier entry.
    head_is_behind: bool,
}

#[derive(Debug)]
struct Open {
    path: PathBuf,
    file: File,
    bytes: u64,
}

impl Book {
    /// Goes on with the chain in `folder`, or begins one. What was found to be wrong with it comes back as lines, for the
    /// caller to append: the chain is not judged here beyond its end.
    ///
    /// # Errors
    /// [`BookError::Io`].
    pub fn open(folder: &Path, chain: &str, key: SigningKey) -> Result<(Self, Vec<String>), BookError> {
        fs::create_dir_all(folder).map_err(|source| fail("create", folder, source))?;
        let mut wrong = Vec::new();
        let head = match read_head(folder) {
            Ok(head) => Some(head),
            Err(why) => {
                if !files(folder)?.is_empty() {
                    wrong.push(format!("nothing says where the chain ended: {why}"));
                }
                None
            }
        };
        let (mut last, mut hash, mut file) = (0, NOTHING.to_owned(), None);
        if let Some((_, path)) = files(folder)?.pop() {
            let (end, open) = open_last(&path, &mut wrong)?;
            if let Some(end) = end {
                (last, hash) = (end.number, end.hash);
            }
            file = Some(open);
        }
        if let Some(head) = head
            && head.number > last
        {
            wrong.push(format!("the chain ended with entry {last}, there were {}", head.number));
            (last, hash, file) = (head.number, head.hash, None);
        }
        let book = Self {
            folder: folder.to_owned(),
            chain: chain.to_owned(),
            key,
            last,
            hash,
            file,
            lost: None,
            head_is_behind: false,
        };
        Ok((book, wrong))
    }

    /// Number and hash of the last entry.
    pub fn end(&self) -> (u64, &str) {
        (self.last, &self.hash)
    }

    /// Appends and syncs; the entries are durable when it returns.
    ///
    /// # Errors
    /// [`BookError`]: none of them is in the chain.
    pub fn append(&mut self, records: Vec<Record>, now_us: i64) -> Result<(), BookError> {
        if let Some(path) = &self.lost {
            return Err(BookError::Lost { path: path.clone() });
        }
        if records.is_empty() {
            return Ok(());
        }
        if self.head_is_behind {
            self.write_head(now_us)?;
        }
        let (mut last, mut hash, mut lines) = (self.last, self.hash.clone(), String::new());
        for record in records {
            let entry = Entry::seal(record, &self.chain, last + 1, &hash, &self.key);
            lines.push_str(&entry.line()?);
            lines.push('\n');
            (last, hash) = (entry.number, entry.hash);
        }
        self.write(lines.as_bytes())?;
        (self.last, self.hash) = (last, hash);
        // They are in the chain now. A head that cannot be written is tried again before the next ones are.
        self.head_is_behind = self.write_head(now_us).is_err();
        Ok(())
    }

    fn write_head(&self, now_us: i64) -> Result<(), BookError> {
        let head = Head::sign(&self.chain, self.last, &self.hash, now_us, &self.key).text()?;
        put(&self.folder.join(HEAD), head.as_bytes())
    }

    fn write(&mut self, lines: &[u8]) -> Result<(), BookError> {
        if self.file.as_ref().is_none_or(|open| open.bytes + lines.len() as u64 > FILE_BYTES) {
            let path = self.folder.join(format!("{:020}{ENDING}", self.last + 1));
            let file = OpenOptions::new().create(true).truncate(true).write(true).open(&path);
            let file = file.map_err(|source| fail("create", &path, source))?;
            sync_folder(&self.folder)?;
            self.file = Some(Open { path, file, bytes: 0 });
        }
        let Some(open) = &mut self.file else { return Ok(()) };
        if let Err(source) = open.file.write_all(lines) {
            // What was written of it must not stand before what comes next.
            if open
                .file
                .set_len(open.bytes)
                .and_then(|()| io::Seek::seek(&mut open.file, io::SeekFrom::End(0)))
                .is_err()
            {
                self.lost = Some(open.path.clone());
            }
            return Err(fail("write", &open.path, source));
        }
        if open.file.sync_data().is_err() {
            self.lost = Some(open.path.clone());
            return Err(BookError::Lost { path: open.path.clone() });
        }
        open.bytes += lines.len() as u64;
        Ok(())
    }
}

/// Cuts off a torn line; the last whole entry, and the file to go on with.
fn open_last(path: &Path, wrong: &mut Vec<String>) -> Result<(Option<Entry>, Open), BookError> {
    let io = |action| move |source| fail(action, path, source);
    let mut file = OpenOptions::new().read(true).write(true).open(path).map_err(io("open"))?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).map_err(io("read"))?;
    let whole = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
    if whole < bytes.len() {
        file.set_len(whole as u64).and_then(|()| file.sync_all()).map_err(io("cut"))?;
    }
    io::Seek::seek(&mut file, io::SeekFrom::End(0)).map_err(io("read"))?;
    let lines = std::str::from_utf8(&bytes[..whole]).unwrap_or_default();
    let end = lines.lines().next_back().and_then(Entry::parse);
    if end.is_none() && whole > 0 {
        wrong.push(format!("the last line of {} is not what was written", path.display()));
    }
    Ok((end, Open { path: path.to_owned(), file, bytes: whole as u64 }))
}

/// The chain's files in order.
///
/// # Errors
/// [`BookError::Io`].
pub fn files(folder: &Path) -> Result<Vec<(u64, PathBuf)>, BookError> {
    let io = |source| fail("list", folder, source);
    let mut found = Vec::new();
    for file in fs::read_dir(folder).map_err(io)? {
        let path = file.map_err(io)?.path();
        let name = path.file_name().and_then(|name| name.to_str()).and_then(|name| name.strip_suffix(ENDING));
        if let Some(first) = name.filter(|name| name.len() == 20).and_then(|name| name.parse().ok()) {
            found.push((first, path));
        }
    }
    found.sort_unstable();
    Ok(found)
}

/// The signed end of the chain in a folder, or why there is none.
///
/// # Errors
/// One line.
pub fn read_head(folder: &Path) -> Result<Head, String> {
    let path = folder.join(HEAD);
    let text = fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    Head::parse(&text).ok_or_else(|| format!("{} is not what was written", path.display()))
}

/// Calls `each` with every entry of a folder in order; what is no entry comes as its place. A torn last line is left out:
/// the head tells whether it was one.
///
/// # Errors
/// [`BookError::Io`].
pub fn read(folder: &Path, mut each: impl FnMut(Result<Entry, String>)) -> Result<(), BookError> {
    let files = files(folder)?;
    for (at, (_, path)) in files.iter().enumerate() {
        let io = |source| fail("read", path, source);
        let mut reader = BufReader::new(File::open(path).map_err(io)?);
        for number in 1_u64.. {
            let mut line = Vec::new();
            if (&mut reader).take(LINE_BYTES).read_until(b'\n', &mut line).map_err(io)? == 0 {
                break;
            }
            let torn = line.pop_if(|last| *last == b'\n').is_none();
            if torn && at + 1 == files.len() {
                break;
            }
            let entry = std::str::from_utf8(&line).ok().filter(|_| !torn).and_then(Entry::parse);
            each(entry.ok_or_else(|| format!("{}:{number}", path.display())));
        }
    }
    Ok(())
}

/// Verifies the chain in a folder.
///
/// # Errors
/// [`BookError::Io`]: it could not be read.
pub fn verify(
    folder: &Path,
    keys: impl IntoIterator<Item = VerifyingKey>,
    noted: Option<(u64, &str)>,
) -> Result<Report, BookError> {
    let mut verifier = Verifier::new(keys);
    if let Some((number, hash)) = noted {
        verifier.expect(number, hash);
    }
    verifier.head(read_head(folder));
    read(folder, |entry| match entry {
        Ok(entry) => verifier.take(&entry),
        Err(at) => verifier.unreadable(at),
    })?;
    Ok(verifier.finish())
}

/// Puts a small file in place whole and durable.
fn put(path: &Path, bytes: &[u8]) -> Result<(), BookError> {
    let io = |source| fail("write", path, source);
    let partial = path.with_extension("tmp");
    let mut file = File::create(&partial).map_err(io)?;
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(io)?;
    fs::rename(&partial, path).map_err(io)?;
    sync_folder(path.parent().unwrap_or(Path::new(".")))
}

fn sync_folder(folder: &Path) -> Result<(), BookError> {
    File::open(folder).and_then(|file| file.sync_all()).map_err(|source| fail("sync", folder, source))
}

fn fail(action: &'static str, path: &Path, source: io::Error) -> BookError {
    BookError::Io { action, path: path.to_owned(), source }
}

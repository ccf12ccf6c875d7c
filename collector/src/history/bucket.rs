//! The tables' place in an object store.
//!
//! An object appears whole when its upload is complete, so nothing is written under another name first; a name is made by
//! one of those that try because the store is asked to put only what is not there yet (`If-None-Match`).
//!
//! Paths are URLs, as people write them: `s3://bucket/prefix/cpu/...`. The requests run in threads of their own, so that
//! whoever waits for one may be in a runtime or not.

use std::fs::File;
use std::future::Future;
use std::io::{self, Seek, SeekFrom, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use object_store::path::Path as Key;
use object_store::{Error, MultipartUpload, ObjectStore, ObjectStoreExt, PutMode, PutPayload};
use tokio::runtime::Runtime;

use super::part_reader::{PartReader, Ranges};
use super::place::{About, NewFile, Place};

/// What of a new file is held in memory before it is sent; a store takes no less than 5 MiB but at the end.
const PART_BYTES: usize = 8 << 20;

/// How often a name is asked for that is taken and then is not: a store refuses while another's request is under way.
const ATTEMPTS: u32 = 20;
const AGAIN_AFTER: Duration = Duration::from_millis(50);

/// The tables' place.
#[derive(Debug, Clone)]
pub struct Bucket {
    store: Arc<dyn ObjectStore>,
    /// What every path begins with and no key does: `s3://bucket`.
    root: String,
    /// Where whole files are laid for reading, for as long as they are read.
    scratch: PathBuf,
    threads: Arc<Threads>,
}

/// The threads that requests run in.
#[derive(Debug)]
struct Threads(Option<Runtime>);

impl Drop for Threads {
    fn drop(&mut self) {
        // To wait for them is not allowed in a runtime, and there is nothing to wait for.
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

impl Bucket {
    /// The place in `store` whose paths begin with `root`; `scratch` is a folder for files in use.
    ///
    /// # Errors
    /// No threads can be started.
    pub fn new(store: Arc<dyn ObjectStore>, root: &str, scratch: &Path) -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("object-store")
            .enable_all()
            .build()?;
        let threads = Arc::new(Threads(Some(runtime)));
        Ok(Self { store, root: root.to_owned(), scratch: scratch.to_owned(), threads })
    }

    /// The store itself.
    pub fn store(&self) -> &Arc<dyn ObjectStore> {
        &self.store
    }

    /// The part of a path the store knows.
    fn key(&self, path: &Path) -> io::Result<Key> {
        let key = path.to_str().and_then(|path| path.strip_prefix(&self.root)).map(Key::parse);
        match key {
            Some(Ok(key)) => Ok(key),
            _ => Err(io::Error::new(io::ErrorKind::InvalidInput, format!("not a path in {}", self.root))),
        }
    }

    /// What `work` comes to.
    fn wait<T: Send + 'static>(&self, work: impl Future<Output = Result<T, Error>> + Send + 'static) -> io::Result<T> {
        let ended = || io::Error::other("the threads of the object store ended");
        let (done, result) = mpsc::sync_channel(1);
        let runtime = self.threads.0.as_ref().ok_or_else(ended)?;
        runtime.spawn(async move {
            // Whoever asked waits for nothing else.
            let _gone = done.send(work.await).is_err();
        });
        result.recv().map_err(|_| ended())?.map_err(io_error)
    }

    fn range(&self, key: &Key, range: Range<u64>) -> io::Result<Bytes> {
        let (store, key) = (Arc::clone(&self.store), key.clone());
        self.wait(async move { store.get_range(&key, range).await })
    }

    fn put_as(&self, key: &Key, bytes: &[u8], mode: PutMode) -> io::Result<()> {
        let (store, key, payload) = (Arc::clone(&self.store), key.clone(), PutPayload::from(bytes.to_vec()));
        self.wait(async move { store.put_opts(&key, payload, mode.into()).await.map(drop) })
    }

    /// A file without a name, for what is fetched.
    fn scratch(&self) -> io::Result<File> {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        std::fs::create_dir_all(&self.scratch)?;
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = self.scratch.join(format!("skep-fetched-{}-{number}", std::process::id()));
        let file = File::options().read(true).write(true).create_new(true).open(&path)?;
        std::fs::remove_file(&path)?;
        Ok(file)
    }
}

impl Place for Bucket {
    fn begin(&self, path: &Path) -> io::Result<Box<dyn NewFile>> {
        let (place, key) = (self.clone(), self.key(path)?);
        Ok(Box::new(Upload { place, key, part: Vec::new(), parts: None }))
    }

    fn put(&self, path: &Path, bytes: &[u8], _writer: &str) -> io::Result<()> {
        self.put_as(&self.key(path)?, bytes, PutMode::Overwrite)
    }

    fn put_new(&self, path: &Path, bytes: &[u8], _writer: &str) -> io::Result<()> {
        let key = self.key(path)?;
        for _ in 0..ATTEMPTS {
            match self.put_as(&key, bytes, PutMode::Create) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => match self.read(path) {
                    // Ours, from a request that was taken for lost: no two commits are alike.
                    Ok(there) if there == bytes => return Ok(()),
                    Err(missing) if missing.kind() == io::ErrorKind::NotFound => std::thread::sleep(AGAIN_AFTER),
                    Ok(_) => return Err(error),
                    Err(unread) => return Err(unread),
                },
                put => return put,
            }
        }
        Err(io::Error::other("the object store says again and again that the name is taken, and has no such object"))
    }

    fn settle(&self, _dir: &Path) -> io::Result<()> {
        Ok(())
    }

    fn read(&self, path: &Path) -> io::Result<Bytes> {
        let (store, key) = (Arc::clone(&self.store), self.key(path)?);
        self.wait(async move { store.get(&key).await?.bytes().await })
    }

    fn open(&self, path: &Path, bytes: Option<u64>) -> io::Result<PartReader> {
        let bytes = match bytes {
            Some(bytes) => bytes,
            None => self.about(path)?.ok_or(io::ErrorKind::NotFound)?.bytes,
        };
        let file = Object { place: self.clone(), key: self.key(path)? };
        Ok(PartReader::far(Box::new(file), bytes))
    }

    fn fetch(&self, path: &Path) -> io::Result<File> {
        let (store, key, mut file) = (Arc::clone(&self.store), self.key(path)?, self.scratch()?);
        let mut fetched = self.wait(async move {
            let mut stream = store.get(&key).await?.into_stream();
            while let Some(bytes) = stream.next().await {
                let written = file.write_all(&bytes?);
                written.map_err(|source| Error::Generic { store: "scratch", source: Box::new(source) })?;
            }
            Ok(file)
        })?;
        fetched.seek(SeekFrom::Start(0))?;
        Ok(fetched)
    }

    fn about(&self, path: &Path) -> io::Result<Option<About>> {
        let (store, key) = (Arc::clone(&self.store), self.key(path)?);
        match self.wait(async move { store.head(&key).await }) {
            Ok(meta) => Ok(Some(About { bytes: meta.size, modified: Some(SystemTime::from(meta.last_modified)) })),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let (store, key) = (Arc::clone(&self.store), self.key(dir)?);
        let listed = self.wait(async move { store.list_with_delimiter(Some(&key)).await })?;
        Ok(listed.objects.iter().filter_map(|object| object.location.filename().map(str::to_owned)).collect())
    }

    fn list_hours(&self, dir: &Path) -> Result<Vec<PathBuf>, (PathBuf, io::Error)> {
        let list = || {
            let (store, key) = (Arc::clone(&self.store), self.key(dir)?);
            self.wait(async move { store.list(Some(&key)).try_collect::<Vec<_>>().await })
        };
        let root = PathBuf::from(format!("{}/", self.root));
        let path = |key: &Key| root.join(key.as_ref());
        let is_of_hour = |path: &PathBuf| {
            let below = path.strip_prefix(dir).map(|below| below.components().map(|part| part.as_os_str()));
            let below: Vec<_> = below.into_iter().flatten().filter_map(|part| part.to_str()).collect();
            matches!(below[..], [date, hour, _] if date.starts_with("date=") && hour.starts_with("hour="))
        };
        let objects = list().map_err(|error| (dir.to_owned(), error))?;
        Ok(objects.iter().map(|object| path(&object.location)).filter(is_of_hour).collect())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let (store, key) = (Arc::clone(&self.store), self.key(path)?);
        self.wait(async move { store.delete(&key).await })
    }

    fn is_remote(&self) -> bool {
        true
    }
}

/// One object of which parts are read.
#[derive(Debug)]
struct Object {
    place: Bucket,
    key: Key,
}

impl Ranges for Object {
    fn range(&self, from: u64, to: u64) -> io::Result<Bytes> {
        self.place.range(&self.key, from..to)
    }
}

/// A new object: in one request if it is small, in parts if it is not.
#[derive(Debug)]
struct Upload {
    place: Bucket,
    key: Key,
    part: Vec<u8>,
    parts: Option<Box<dyn MultipartUpload>>,
}

impl Upload {
    fn send_part(&mut self) -> io::Result<()> {
        let mut parts = match self.parts.take() {
            Some(parts) => parts,
            None => {
                let (store, key) = (Arc::clone(&self.place.store), self.key.clone());
                self.place.wait(async move { store.put_multipart(&key).await })?
            }
        };
        let sent = parts.put_part(PutPayload::from(std::mem::take(&mut self.part)));
        self.parts = Some(parts);
        self.place.wait(sent)
    }
}

impl Write for Upload {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.part.extend_from_slice(bytes);
        if self.part.len() >= PART_BYTES {
            self.send_part()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl NewFile for Upload {
    fn finish(mut self: Box<Self>) -> io::Result<()> {
        if self.parts.is_none() {
            return self.place.put_as(&self.key, &std::mem::take(&mut self.part), PutMode::Overwrite);
        }
        if !self.part.is_empty() {
            self.send_part()?;
        }
        let Some(mut parts) = self.parts.take() else { return Ok(()) };
        self.place.wait(async move { parts.complete().await.map(drop) })
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        if let Some(mut parts) = self.parts.take() {
            // What stays is invisible; a rule of the bucket for unfinished uploads removes it.
            let _left_behind = self.place.wait(async move { parts.abort().await }).is_err();
        }
    }
}

fn io_error(error: Error) -> io::Error {
    let kind = match &error {
        Error::NotFound { .. } => io::ErrorKind::NotFound,
        Error::AlreadyExists { .. } | Error::Precondition { .. } => io::ErrorKind::AlreadyExists,
        Error::PermissionDenied { .. } | Error::Unauthenticated { .. } => io::ErrorKind::PermissionDenied,
        _ => io::ErrorKind::Other,
    };
    io::Error::new(kind, error)
}

#[cfg(test)]
#[path = "bucket_tests.rs"]
mod tests;

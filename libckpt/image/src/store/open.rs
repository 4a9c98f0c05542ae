//! Opening and creating a store.
use super::dir::{self, DATA, FORMAT, Layout, MANIFESTS, TMP};
use crate::StoreError;
use crate::format::{HEADER_LEN, Role, StoreId, check_header, encode_header};
use serde::{Deserialize, Serialize};
use std::fs;
use std::io::{self, Write};
use std::path::Path;

/// What a writer spends on making its checkpoint small.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Effort {
    /// Pages that are stored already are found, and pages of which little has changed are stored as deltas.
    #[default]
    Full,
    /// Pages are compressed as they come, which takes less processor time.
    Light,
}

/// How a store writes.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct Options {
    /// zstd level of page blocks of full checkpoints, and of those that are compacted.
    pub level: i32,
    /// zstd level of page blocks of incremental checkpoints: blocks compress worse than long streams do, and this makes up for it.
    pub incremental_level: i32,
    /// zstd level of page blocks of light checkpoints, whatever their kind. Negative levels find less, the sooner the lower they are: pages of redis-server take 6 µs each at level 1, 2.4
    /// at -50 and 1.8 at -100, and four times the bytes there.
    pub light_level: i32,
    /// Threads that compress for one writer; 0: as many as there are processors for this process.
    pub threads: usize,
    /// What these threads are nicer than the one that makes the writer, as of setpriority(2).
    pub nice: i32,
    /// Bytes of pages that wait for those threads before [`crate::CheckpointWriter::pages`] waits too.
    pub queue_bytes: usize,
    /// Bytes of memory for each of two tables by which pages are found that are stored already: of the checkpoint itself, and of its parent. Pages that
    /// find no room are not looked for.
    pub table_bytes: usize,
    /// Most bytes of the parent's pages that are read to store changed pages as deltas; 0: all are stored whole.
    pub delta_bytes: u64,
    /// What is spent on making checkpoints small.
    pub effort: Effort,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            level: 1,
            incremental_level: 3,
            light_level: -100,
            threads: 0,
            nice: 10,
            queue_bytes: 64 << 20,
            table_bytes: 64 << 20,
            delta_bytes: 512 << 20,
            effort: Effort::Full,
        }
    }
}

/// A directory of checkpoints. Any number of processes and threads may use one at the same time.
#[derive(Debug, Clone)]
pub struct Store {
    pub(crate) layout: Layout,
    pub(crate) options: Options,
}

impl Store {
    /// Opens a store. Reading it needs no more than permission to read.
    ///
    /// # Errors
    /// [`StoreError::NotFound`], [`StoreError::NotAStore`], [`StoreError::Newer`], [`StoreError::NotReadable`]; a damaged
    /// format file.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, StoreError> {
        let root = path.as_ref().to_owned();
        let file = root.join(FORMAT);
        match fs::metadata(&root) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Err(StoreError::NotFound { path: root }),
            Err(e) => return Err(StoreError::reading(&root)(e)),
            Ok(m) if !m.is_dir() => {
                return Err(StoreError::NotAStore { path: root, reason: "it is not a directory" });
            }
            Ok(_) => {}
        }
        match read_format(&file, None) {
            Ok(id) => Ok(Self { layout: Layout { root, id }, options: Options::default() }),
            Err(StoreError::Missing { .. }) => {
                Err(StoreError::NotAStore { path: root, reason: "it has no file named format" })
            }
            Err(e) => Err(e),
        }
    }

    /// Makes a new or empty directory a store.
    ///
    /// # Errors
    /// [`StoreError::NotAStore`] when something is there already, [`StoreError::NotWritable`], [`StoreError::DiskFull`].
    pub fn create(path: impl AsRef<Path>) -> Result<Self, StoreError> {
        let root = path.as_ref();
        if root.join(FORMAT).exists() {
            let reason = "it is a store already, which cannot be created again";
            return Err(StoreError::NotAStore { path: root.to_owned(), reason });
        }
        Self::make(root)?;
        Self::open(root)
    }

    /// Opens the store, or creates it if there is none.
    ///
    /// # Errors
    /// As [`Store::open`] and [`Store::create`].
    pub fn open_or_create(path: impl AsRef<Path>) -> Result<Self, StoreError> {
        let root = path.as_ref();
        match Self::open(root) {
            Err(StoreError::NotFound { .. } | StoreError::NotAStore { .. }) => {
                Self::make(root)?;
                Self::open(root)
            }
            opened => opened,
        }
    }

    /// The same store with other options for writing.
    #[must_use]
    pub fn with_options(mut self, options: Options) -> Self {
        self.options = options;
        self
    }

    /// Its directory.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.layout.root
    }

    /// Checks that the format file is still the one that the store was opened with.
    pub(crate) fn check_format(&self) -> Result<(), StoreError> {
        read_format(&self.layout.format(), Some(self.layout.id)).map(|_| ())
    }

    /// Directories first, the format file last and by one link(2): a directory that has it is complete.
    fn make(root: &Path) -> Result<(), StoreError> {
        let create = StoreError::writing(root, "create");
        if let Err(e) = fs::metadata(root)
            && e.kind() == io::ErrorKind::NotFound
        {
            if let Some(parent) = root.parent() {
                fs::create_dir_all(parent).map_err(create)?;
            }
            dir::create_dir(root, 0o700)?;
        }
        if !root.is_dir() {
            return Err(StoreError::NotAStore { path: root.to_owned(), reason: "it is not a directory" });
        }
        let entries = dir::names(root)?;
        if entries.iter().any(|n| ![MANIFESTS, DATA, TMP].contains(&n.as_str())) {
            // Another process was first, and may be using its store.
            if root.join(FORMAT).exists() {
                return Ok(());
            }
            let reason = "it is not empty and has no file named format";
            return Err(StoreError::NotAStore { path: root.to_owned(), reason });
        }
        for name in [MANIFESTS, DATA, TMP] {
            dir::create_dir(&root.join(name), 0o700)?;
        }
        let mut id = [0; 16];
        getrandom::fill(&mut id).map_err(|e| StoreError::writing(root, "name")(io::Error::other(e)))?;
        let header = encode_header(Role::Format, StoreId(id), FORMAT);
        let temporary = root.join(TMP).join(format!("{FORMAT}-{:032x}", u128::from_le_bytes(id)));
        let mut file = dir::create_file(&temporary)?;
        let written = file.write_all(&header).and_then(|()| file.sync_all());
        let linked = written.and_then(|()| match fs::hard_link(&temporary, root.join(FORMAT)) {
            // Another process was first: its store is as good.
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            linked => linked,
        });
        let removed = dir::remove_file(&temporary);
        linked.map_err(StoreError::writing(&root.join(FORMAT), "create"))?;
        removed?;
        dir::sync_dir(root)?;
        root.canonicalize().ok().and_then(|r| r.parent().map(dir::sync_dir)).unwrap_or(Ok(()))
    }
}

/// Checks a format file: it is a header and nothing else.
pub(super) fn read_format(path: &Path, store: Option<StoreId>) -> Result<StoreId, StoreError> {
    let bytes = dir::read_file(path, HEADER_LEN as u64)?;
    Ok(check_header(&bytes, path, Role::Format, store, Some(FORMAT))?.store)
}

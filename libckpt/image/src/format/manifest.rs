//! The manifest: the file whose appearance makes a checkpoint.
use super::{Role, StoreId, seal, unseal};
use crate::record::ENCODING;
use crate::{CheckpointId, StoreError};
use serde::{Deserialize, Serialize};
use std::path::Path;
use wincode::{SchemaRead, SchemaWrite};

/// Whether a checkpoint stands alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, SchemaRead, SchemaWrite, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// It stands alone.
    Full,
    /// It holds what changed since its parent.
    Incremental,
}

/// What taking a checkpoint cost.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, SchemaRead, SchemaWrite, Serialize, Deserialize)]
pub struct Stats {
    /// Time in which no thread of the job ran, µs.
    pub pause_us: u64,
    /// Pages that were looked at.
    pub pages_scanned: u64,
    /// Pages found changed since the parent; of a full checkpoint, pages found in use.
    pub pages_dirty: u64,
    /// Bytes of memory saved, before compression.
    pub bytes_memory: u64,
    /// Bytes written to the store. The store fills this in.
    pub bytes_written: u64,
    /// Data files saved.
    pub data_files: u64,
    /// Time from the request to the commit, µs.
    pub duration_us: u64,
}

/// A file that a checkpoint needs.
#[derive(Debug, Clone, PartialEq, Eq, SchemaRead, SchemaWrite, Serialize, Deserialize)]
pub struct FileRef {
    /// What it is.
    pub role: Role,
    /// Its name in the store's `data` directory.
    pub name: String,
    /// Bytes.
    pub length: u64,
    /// The BLAKE3 digest that the file ends with, which covers every byte of it.
    pub digest: [u8; 32],
}

/// What a checkpoint is made of.
#[derive(Debug, Clone, PartialEq, Eq, SchemaRead, SchemaWrite, Serialize, Deserialize)]
pub struct Manifest {
    /// Its id.
    pub id: CheckpointId,
    /// The job's name.
    pub job: String,
    /// Full or incremental.
    pub kind: Kind,
    /// The checkpoint that it holds the changes since; None for a full one.
    pub parent: Option<CheckpointId>,
    /// Rises by one from checkpoint to checkpoint of a job.
    pub sequence: u64,
    /// When it was begun, ns since the epoch.
    pub created_ns: u64,
    /// What it cost.
    pub stats: Stats,
    /// The files that it needs: the records, the page index, then the packs that the index names.
    pub files: Vec<FileRef>,
}

impl Manifest {
    /// Bytes of the files that it needs, parents' files not counted. A pack shared with others counts in full.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.files.iter().map(|f| f.length).sum()
    }

    pub(crate) fn file(&self, role: Role) -> impl Iterator<Item = &FileRef> {
        self.files.iter().filter(move |f| f.role == role)
    }

    /// What no writer writes.
    fn fault(&self) -> Option<&'static str> {
        if !self.id.is_canonical() || self.parent.as_ref().is_some_and(|p| !p.is_canonical()) {
            return Some("an id that is none");
        }
        if (self.kind == Kind::Full) != self.parent.is_none() {
            return Some("a kind and a parent that do not go together");
        }
        let roles: Vec<Role> = self.files.iter().map(|f| f.role).collect();
        let packs = roles.get(2..).unwrap_or_default().iter().all(|r| *r == Role::Pack);
        if !roles.starts_with(&[Role::Records, Role::Pages]) || !packs {
            return Some("a list of files that is not one of records, page index and packs");
        }
        let plain =
            |n: &str| n.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'.') && !n.starts_with('.');
        if !self.files.iter().all(|f| !f.name.is_empty() && f.name.len() <= 64 && plain(&f.name)) {
            return Some("a file name that is none");
        }
        None
    }
}

/// The file of a manifest.
pub(crate) fn encode_manifest(
    manifest: &Manifest,
    store: StoreId,
    name: &str,
) -> Result<Vec<u8>, StoreError> {
    Ok(seal(Role::Manifest, store, name, &encode_manifest_body(manifest)?))
}

/// What is between header and digest.
pub(crate) fn encode_manifest_body(manifest: &Manifest) -> Result<Vec<u8>, StoreError> {
    wincode::config::serialize(manifest, ENCODING)
        .map_err(|e| StoreError::Encode { name: "Manifest", reason: e.to_string() })
}

/// Checks and decodes the file of a manifest.
pub(crate) fn decode_manifest(
    file: &[u8],
    path: &Path,
    store: StoreId,
    name: &str,
) -> Result<Manifest, StoreError> {
    let (body, _, _) = unseal(file, path, Role::Manifest, Some(store), Some(name))?;
    let manifest = decode_manifest_body(body, path)?;
    match manifest.fault() {
        Some(fault) => Err(StoreError::corrupt(path, format!("it has {fault}"))),
        None => Ok(manifest),
    }
}

/// Decodes what is between header and digest, which the caller has checked. It may name no files.
pub(crate) fn decode_manifest_body(body: &[u8], path: &Path) -> Result<Manifest, StoreError> {
    let manifest: Manifest = wincode::config::deserialize_exact(body, ENCODING)
        .map_err(|e| StoreError::corrupt(path, format!("cannot be decoded: {e}")))?;
    if manifest.id.is_canonical() {
        return Ok(manifest);
    }
    Err(StoreError::corrupt(path, "it has an id that is none"))
}

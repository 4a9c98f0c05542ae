//! Where things are in a store's directory, and how files there are read and written.
use crate::format::{FileRef, Role, StoreId};
use crate::{CheckpointId, StoreError};
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::Read;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

pub(crate) const FORMAT: &str = "format";
pub(crate) const MANIFESTS: &str = "manifests";
pub(crate) const DATA: &str = "data";
pub(crate) const TMP: &str = "tmp";
const MANIFEST_SUFFIX: &str = ".manifest";

/// The paths of a store.
#[derive(Debug, Clone)]
pub(crate) struct Layout {
    pub(crate) root: PathBuf,
    pub(crate) id: StoreId,
}

impl Layout {
    pub(crate) fn format(&self) -> PathBuf {
        self.root.join(FORMAT)
    }

    pub(crate) fn manifests(&self) -> PathBuf {
        self.root.join(MANIFESTS)
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.root.join(DATA)
    }

    pub(crate) fn tmp(&self) -> PathBuf {
        self.root.join(TMP)
    }

    pub(crate) fn manifest(&self, id: &CheckpointId) -> PathBuf {
        self.manifests().join(manifest_name(id))
    }

    pub(crate) fn data_file(&self, file: &FileRef) -> PathBuf {
        self.data().join(&file.name)
    }
}

/// The file name of a checkpoint's manifest.
pub(crate) fn manifest_name(id: &CheckpointId) -> String {
    format!("{id}{MANIFEST_SUFFIX}")
}

/// The checkpoint whose manifest has this file name.
pub(crate) fn manifest_id(name: &str) -> Option<CheckpointId> {
    let id: CheckpointId = name.strip_suffix(MANIFEST_SUFFIX)?.parse().ok()?;
    (manifest_name(&id) == name).then_some(id)
}

/// The file name of a data file: the id of the operation that wrote it, and what it is.
pub(crate) fn data_name(id: &CheckpointId, role: Role) -> String {
    let suffix = match role {
        Role::Records => "records",
        Role::Pages => "pages",
        _ => "pack",
    };
    format!("{id}.{suffix}")
}

/// The role that a data file's name tells.
pub(crate) fn data_role(name: &str) -> Option<Role> {
    let (id, suffix) = name.split_once('.')?;
    id.parse::<CheckpointId>().ok().filter(CheckpointId::is_canonical)?;
    match suffix {
        "records" => Some(Role::Records),
        "pages" => Some(Role::Pages),
        "pack" => Some(Role::Pack),
        _ => None,
    }
}

/// The names in a directory, sorted. A name that is not UTF-8 is given with replacement characters.
pub(crate) fn names(path: &Path) -> Result<Vec<String>, StoreError> {
    let entries = fs::read_dir(path).map_err(StoreError::reading(path))?;
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry.map_err(StoreError::reading(path))?;
        names.push(entry.file_name().to_string_lossy().into_owned());
    }
    names.sort_unstable();
    Ok(names)
}

/// As [`names`], none when there is no such directory.
pub(crate) fn names_if_any(path: &Path) -> Result<Vec<String>, StoreError> {
    match names(path) {
        Err(StoreError::Missing { .. }) => Ok(Vec::new()),
        names => names,
    }
}

/// The whole of a file that may have at most `limit` bytes.
pub(crate) fn read_file(path: &Path, limit: u64) -> Result<Vec<u8>, StoreError> {
    let file = File::open(path).map_err(StoreError::reading(path))?;
    let metadata = file.metadata().map_err(StoreError::reading(path))?;
    if !metadata.is_file() || metadata.len() > limit {
        let reason = format!("{} bytes, at most {limit} expected", metadata.len());
        return Err(StoreError::corrupt(path, reason));
    }
    let mut bytes = Vec::with_capacity(usize::try_from(metadata.len()).unwrap_or_default());
    file.take(limit).read_to_end(&mut bytes).map_err(StoreError::reading(path))?;
    Ok(bytes)
}

/// Creates a file that must not exist, readable for whom the directory is.
pub(crate) fn create_file(path: &Path) -> Result<File, StoreError> {
    let directory = path.parent().unwrap_or(Path::new("."));
    let metadata = fs::metadata(directory).map_err(StoreError::writing(directory, "read"))?;
    let mode = metadata.permissions().mode() & 0o666;
    let mut options = OpenOptions::new();
    options.write(true).create_new(true).mode(mode | 0o600);
    options.open(path).map_err(StoreError::writing(path, "create"))
}

/// Creates a directory that may exist, with the permissions `mode`.
pub(crate) fn create_dir(path: &Path, mode: u32) -> Result<(), StoreError> {
    match DirBuilder::new().mode(mode).create(path) {
        Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
        made => made.map_err(StoreError::writing(path, "create")),
    }
}

/// Makes what was created, renamed and removed in a directory survive a power loss.
pub(crate) fn sync_dir(path: &Path) -> Result<(), StoreError> {
    File::open(path).and_then(|d| d.sync_all()).map_err(StoreError::writing(path, "sync"))
}

/// Removes a file that may be gone already.
pub(crate) fn remove_file(path: &Path) -> Result<(), StoreError> {
    match fs::remove_file(path) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(()),
        removed => removed.map_err(StoreError::writing(path, "remove")),
    }
}

//! What every file begins with: who it is. And what every file but a pack ends with: its digest.
use super::{array, u16_at};
use crate::StoreError;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::path::Path;
use wincode::{SchemaRead, SchemaWrite};

/// Version of the format that this library writes, and the newest that it reads.
pub(crate) const VERSION: u16 = 2;
/// Bytes of a file header. The layout is the same in all versions to come.
pub(crate) const HEADER_LEN: usize = 128;
/// Bytes of a BLAKE3 digest.
pub(crate) const DIGEST_LEN: usize = 32;
/// First bytes of every file: not text, and mangled by any conversion of line ends.
const MAGIC: [u8; 8] = *b"\x89ckpt\r\n\x1a";
/// Most bytes of a file's name.
const NAME_LEN: usize = 64;
const NAME_AT: usize = 32;
const CHECKSUM_AT: usize = HEADER_LEN - DIGEST_LEN;

/// What a file of a store is.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, SchemaRead, SchemaWrite, Serialize, Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// The store's own file: what the directory is, and its version.
    Format,
    /// A checkpoint: which files it consists of, and its parent.
    Manifest,
    /// The records of a checkpoint.
    Records,
    /// The page index of a checkpoint: where each page is.
    Pages,
    /// Blocks of pages.
    Pack,
    /// An exported checkpoint.
    Stream,
}

impl Role {
    const ALL: [Self; 6] =
        [Self::Format, Self::Manifest, Self::Records, Self::Pages, Self::Pack, Self::Stream];

    fn number(self) -> u16 {
        match self {
            Self::Format => 1,
            Self::Manifest => 2,
            Self::Records => 3,
            Self::Pages => 4,
            Self::Pack => 5,
            Self::Stream => 6,
        }
    }

    fn from_number(number: u16) -> Option<Self> {
        Self::ALL.into_iter().find(|r| r.number() == number)
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Format => "a store's format file",
            Self::Manifest => "a manifest",
            Self::Records => "a records file",
            Self::Pages => "a page index",
            Self::Pack => "a pack",
            Self::Stream => "an exported checkpoint",
        })
    }
}

/// Random name of a store, in every one of its files.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct StoreId(pub(crate) [u8; 16]);

impl fmt::Debug for StoreId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", u128::from_be_bytes(self.0))
    }
}

/// The header of the file `name`.
pub(crate) fn encode_header(role: Role, store: StoreId, name: &str) -> [u8; HEADER_LEN] {
    assert!(name.len() <= NAME_LEN, "file names are made by this crate, and short");
    let mut header = [0; HEADER_LEN];
    header[..8].copy_from_slice(&MAGIC);
    header[8..10].copy_from_slice(&VERSION.to_le_bytes());
    header[10..12].copy_from_slice(&role.number().to_le_bytes());
    header[16..32].copy_from_slice(&store.0);
    header[NAME_AT..NAME_AT + name.len()].copy_from_slice(name.as_bytes());
    let checksum = blake3::hash(&header[..CHECKSUM_AT]);
    header[CHECKSUM_AT..].copy_from_slice(checksum.as_bytes());
    header
}

/// What a header says that its reader did not know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Header {
    /// The store that the file is of.
    pub(crate) store: StoreId,
    /// The version of the format that it is in.
    pub(crate) version: u16,
}

/// Checks that `bytes` begin with the header of the file that belongs at `path`.
///
/// `store` and `name` are what it has to say; None accepts any.
pub(crate) fn check_header(
    bytes: &[u8],
    path: &Path,
    role: Role,
    store: Option<StoreId>,
    name: Option<&str>,
) -> Result<Header, StoreError> {
    let Some(header) = bytes.get(..HEADER_LEN) else {
        return Err(StoreError::corrupt(path, format!("{} bytes are too few for a header", bytes.len())));
    };
    if header[..8] != MAGIC {
        return Err(StoreError::corrupt(path, "it does not begin as a file of a checkpoint store"));
    }
    if blake3::hash(&header[..CHECKSUM_AT]) != array::<DIGEST_LEN>(header, CHECKSUM_AT) {
        return Err(StoreError::corrupt(path, "wrong checksum of its header"));
    }
    let version = u16_at(header, 8);
    if version > VERSION {
        return Err(StoreError::Newer { path: path.to_owned(), found: version, known: VERSION });
    }
    if version == 0 || header[12..16] != [0; 4] {
        return Err(StoreError::corrupt(path, "unknown values in its header"));
    }
    let found_role = Role::from_number(u16_at(header, 10));
    let found_name = &header[NAME_AT..CHECKSUM_AT];
    let found_name = String::from_utf8_lossy(found_name.split(|b| *b == 0).next().unwrap_or_default());
    let found_store = StoreId(array(header, 16));
    let swapped =
        |found: String, expected: String| Err(StoreError::Swapped { path: path.to_owned(), found, expected });
    if found_role != Some(role) {
        let found = found_role.map_or("a file of unknown role".to_owned(), |r| format!("{r} ({found_name})"));
        return swapped(found, role.to_string());
    }
    if let Some(name) = name.filter(|n| *n != found_name) {
        return swapped(found_name.into_owned(), name.to_owned());
    }
    if let Some(store) = store.filter(|s| *s != found_store) {
        return swapped(format!("of store {found_store:?}"), format!("one of store {store:?}"));
    }
    Ok(Header { store: found_store, version })
}

/// A whole file: header, body, digest of both.
pub(crate) fn seal(role: Role, store: StoreId, name: &str, body: &[u8]) -> Vec<u8> {
    let mut file = Vec::with_capacity(HEADER_LEN + body.len() + DIGEST_LEN);
    file.extend_from_slice(&encode_header(role, store, name));
    file.extend_from_slice(body);
    let digest = blake3::hash(&file);
    file.extend_from_slice(digest.as_bytes());
    file
}

/// Checks a file made by [`seal`]; gives its body, its digest, and the version of the format that it is in.
pub(crate) fn unseal<'a>(
    file: &'a [u8],
    path: &Path,
    role: Role,
    store: Option<StoreId>,
    name: Option<&str>,
) -> Result<(&'a [u8], [u8; DIGEST_LEN], u16), StoreError> {
    let Header { version, .. } = check_header(file, path, role, store, name)?;
    let Some(end) = file.len().checked_sub(DIGEST_LEN).filter(|end| *end >= HEADER_LEN) else {
        return Err(StoreError::corrupt(path, "cut short"));
    };
    let digest = array(file, end);
    if blake3::hash(&file[..end]) != digest {
        return Err(StoreError::corrupt(path, "its bytes do not match its checksum"));
    }
    Ok((&file[HEADER_LEN..end], digest, version))
}

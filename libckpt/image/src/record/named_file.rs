use super::FileIdent;
use serde::{Deserialize, Serialize};
use wincode::{SchemaRead, SchemaWrite};

/// A regular file that the job has open or mapped under a path, and what its contents are known by. The image does not hold
/// them: they are the file's.
#[derive(Debug, Clone, PartialEq, Eq, SchemaRead, SchemaWrite, Serialize, Deserialize)]
pub struct NamedFileV1 {
    /// Its path.
    pub path: Vec<u8>,
    /// Its identity when the job stood still.
    pub ident: FileIdent,
    /// When its inode last changed, ns since the epoch; 0: it has changed since the job stood still.
    pub ctime_ns: i64,
    /// The program runs code from it: it is the program itself, a library, or mapped to be executed.
    pub code: bool,
    /// What its contents are known by.
    pub digest: FileDigestV1,
}

/// What the contents of a file are known by besides size and time of modification.
#[derive(Debug, Clone, PartialEq, Eq, SchemaRead, SchemaWrite, Serialize, Deserialize)]
pub enum FileDigestV1 {
    /// Nothing: the job may write to it, or it was being changed.
    None,
    /// The build-id of an ELF file.
    BuildId(Vec<u8>),
    /// BLAKE3 of the file's size (u64) and its contents. Of a file of more than 16 MiB: of 16 pieces of 1 MiB, the first at its
    /// beginning, the last at its end, the others evenly between, each at a multiple of 4096.
    Blake3([u8; 32]),
}

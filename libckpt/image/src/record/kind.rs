//! The table of top-level records: which numbers an image has them under.
use super::{
    CgroupsV1, ControlsV1, DeadTaskV1, FdTableV1, FsV1, FurtherNamespaceV1, GhostV1, InventoryV1,
    MemoryPolicyV1, MessageQueueV1, MmV1, NamedFileV1, NamelessV1, NamespacesV1, OpenFileV1, SeccompFilterV1,
    SemaphoresV1, ShmemV1, SighandV1, TaskV1, ThreadV1, TmpfsFileV1, UnsharedV1,
};
use wincode::config::Configuration;
use wincode::{SchemaReadOwned, SchemaWrite};

/// Most bytes that decoding may set aside for one vector of a record.
const PREALLOCATION_LIMIT: usize = 1 << 30;

/// How records are encoded: bincode's format.
pub type Encoding = Configuration<true, PREALLOCATION_LIMIT>;

/// The value of [`Encoding`].
pub const ENCODING: Encoding =
    Configuration::default().with_preallocation_size_limit::<PREALLOCATION_LIMIT>();

/// What can be encoded as a record's payload.
pub trait Payload: SchemaWrite<Encoding, Src = Self> + SchemaReadOwned<Encoding, Dst = Self> + Sized {}

impl<T: SchemaWrite<Encoding, Src = T> + SchemaReadOwned<Encoding, Dst = T>> Payload for T {}

/// A struct that stands in an image on its own.
pub trait Record: Payload {
    /// Number of the kind of state, the same in all versions of the record.
    const KIND: u16;
    /// Version of the record's shape.
    const VERSION: u16;
    /// Whether the image is of no use to a ckpt that does not know this record.
    const REQUIRED: bool;
    /// The struct's name, for messages.
    const NAME: &'static str;
}

macro_rules! records {
    ($($kind:literal $version:literal $required:ident $name:ident;)*) => {
        $(impl Record for $name {
            const KIND: u16 = $kind;
            const VERSION: u16 = $version;
            const REQUIRED: bool = records!(@ $required);
            const NAME: &'static str = stringify!($name);
        })*

        /// The name of a record's struct; None when this library does not know it.
        #[must_use]
        pub fn record_name(kind: u16, version: u16) -> Option<&'static str> {
            match (kind, version) {
                $(($kind, $version) => Some(stringify!($name)),)*
                _ => None,
            }
        }
    };
    (@ required) => { true };
    (@ optional) => { false };
}
// Kind numbers are part of the format: never used again, never changed.
records! {
    1 1 required InventoryV1;
    2 1 required TaskV1;
    3 1 required ThreadV1;
    4 1 required MmV1;
    5 1 required ShmemV1;
    6 1 required SighandV1;
    7 1 required FsV1;
    8 1 required FdTableV1;
    9 1 required OpenFileV1;
    10 1 required GhostV1;
    11 1 required DeadTaskV1;
    12 1 required SeccompFilterV1;
    13 1 required SemaphoresV1;
    14 1 required NamedFileV1;
    15 1 required MessageQueueV1;
    16 1 required NamespacesV1;
    17 1 required NamelessV1;
    18 1 required TmpfsFileV1;
    19 1 required ControlsV1;
    20 1 required CgroupsV1;
    21 1 required UnsharedV1;
    22 1 required FurtherNamespaceV1;
    23 1 required MemoryPolicyV1;
}

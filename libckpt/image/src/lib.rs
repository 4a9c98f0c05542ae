//! What a checkpoint is, as bytes: records, page index, chunk store, verify and merge.
//!
//! - [`Store`] is a directory of checkpoints; [`CheckpointWriter`] adds one; [`Image`] reads one back.
//! - [`record`] has the typed pieces of kernel state that an image holds, [`page`] says where memory belongs.
//! - The bytes are described in `docs/image-format.md`; the modules of `format` are their only readers and writers.
//!
//! Architecture invariant: nothing here makes a process, traces one or needs privilege; an image can be
//! read, shown and verified by anyone who may read its files. Nothing here is asynchronous.
mod error;
pub mod fault;
mod file_digest;
mod format;
mod id;
mod image;
mod map;
pub mod page;
pub mod record;
mod store;

pub use error::StoreError;
pub use file_digest::file_digest;
pub use format::{FileRef, Kind, Manifest, Role, Stats};
pub use id::{CheckpointId, InvalidCheckpointId};
pub use image::{ComparedRun, Deliver, Image, ImageRecords, PageReader, PageRun, RecordInfo};
pub use store::{
    BadFile, ChainLimits, CheckpointWriter, Effort, Maintained, Options, Retention, Store, VerifyReport,
};

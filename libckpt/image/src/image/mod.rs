//! Reading a checkpoint.
mod cache;
mod read;

pub(crate) use cache::BlockCache;
pub use read::{ComparedRun, Deliver, Image, ImageRecords, PageRun, RecordInfo};

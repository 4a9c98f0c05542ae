//! Reading a checkpoint.
mod cache;
mod page_reader;
mod read;

pub(crate) use cache::BlockCache;
pub use page_reader::{Deliver, PageReader};
pub use read::{ComparedRun, Image, ImageRecords, PageRun, RecordInfo};

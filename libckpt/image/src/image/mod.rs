//! Reading a checkpoint.
mod cache;
mod read;

pub use read::{Image, PageRun, RecordInfo};

//! Reading a checkpoint.
mod cache;
mod read;

pub use read::{ComparedRun, Deliver, Image, PageRun, RecordInfo};

//! Reading a checkpoint.
mod cache;
mod read;

pub use read::{Deliver, Image, PageRun, RecordInfo};

//! What a checkpoint is, as bytes: records, page index, chunk store, verify and merge.
//!
//! Architecture invariant: nothing here makes a process, traces one or needs privilege; an image can be
//! read, shown and verified by anyone who may read its files.
pub mod page;
pub mod record;

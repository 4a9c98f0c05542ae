//! A store: a directory of checkpoints.
//!
//! ```text
//! format                what this directory is, and its version
//! manifests/ID.manifest one a checkpoint; its appearance is the commit
//! data/…                records, page indexes and packs, which manifests name
//! tmp/ID[.PARENT]/      what a living writer is working on, locked by it
//! ```
//! Writers take turns by flock(2) on `format` and tell readers nothing: what readers have open stays readable, and
//! a reader that meets a file gone looks at the manifests again.
mod chain;
mod compress;
mod dir;
mod gc;
mod listing;
mod lock;
mod open;
mod pack_file;
mod pack_reader;
mod staging;
mod writer;

pub use open::{Options, Store};
pub use writer::CheckpointWriter;

pub(crate) use chain::{check_digest, resolve, retrying};
pub(crate) use pack_reader::{BlockReader, PackReader};

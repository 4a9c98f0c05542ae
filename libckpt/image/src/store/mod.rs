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
mod compact;
mod compress;
mod delta;
mod dir;
mod export;
mod fold;
mod gc;
mod import;
mod known_pages;
mod large_writes;
mod listing;
mod lock;
mod open;
mod pack_file;
mod pack_reader;
mod publish;
mod remove;
mod repack;
mod retention;
mod same_pages;
mod staging;
mod verify;
mod writer;

pub use open::{Effort, Options, Store};
pub use retention::{ChainLimits, Maintained, Retention};
pub use verify::{BadFile, VerifyReport};
pub use writer::CheckpointWriter;

pub(crate) use chain::{check_digest, resolve};
pub(crate) use pack_reader::{BlockReader, PackReader};

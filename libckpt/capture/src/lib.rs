//! Capture: the state of a running process becomes a checkpoint.
//!
//! The engine works from outside: it seizes and stops every thread, reads what the kernel shows of them, runs the few system calls that only the
//! process itself can make, copies what was written since the parent checkpoint, and lets the process run on.
//! One file per kind of record.
//!
//! Architecture invariants: capture and restore never know each other; whatever happens, the target runs on as it was.
mod aio;
mod block_io;
mod buffer;
mod capture;
mod cgroups;
mod check;
mod clone;
mod connections;
mod content;
mod controls;
mod creds;
mod dead_task;
mod departed;
pub mod error;
mod files;
mod freeze;
mod fs;
mod interrupted;
mod inventory;
mod leftovers;
mod mapped_file;
mod memory_policy;
mod message_queue;
mod mm;
mod named_file;
mod nameless;
mod namespaces;
mod objects;
mod orphans;
mod pages;
mod precopy;
mod preflight;
mod process;
mod process_state;
mod room;
mod seccomp;
mod semaphores;
mod shared_pages;
mod sharing;
mod sighand;
mod sysv_users;
mod task;
mod thread;
mod threads;
mod timer;
mod tmpfs;
mod tree;
mod unix_peers;
mod unshared;
mod urgent;
mod userfaultfd;
mod vfork;
mod vma;

pub use capture::{After, CaptureRequest, Captured, StoppedJob, capture};
pub use check::{Finding, check};
pub use connections::OutsideConnections;
pub use error::CaptureError;
pub use leftovers::clean;
pub use namespaces::Namespaces;
pub use orphans::Orphans;
pub use unix_peers::UnixPeers;

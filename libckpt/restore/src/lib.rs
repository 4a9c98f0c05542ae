//! Restore: a checkpoint becomes a running process again.
//!
//! A new process with the old pid is made and held by ptrace; by remote system calls it gets rid of all that it has and takes on
//! what the image says, one file of this crate per kind of record; last, all its threads are let go.
//!
//! Architecture invariants: capture and restore never know each other; until the last step a failure leaves nothing behind: the half-made
//! process dies with its tracer.
mod aio;
mod birth;
mod builder;
mod calls;
mod canonical;
mod cgroups;
mod connections;
mod content;
mod controls;
mod creds;
mod dead_task;
pub mod error;
mod family;
mod files;
mod fs;
mod huge_pages;
mod inherited;
mod inner_pids;
mod lazy;
mod leader;
mod machine;
mod mapped_file;
mod memory_policy;
mod message_queue;
mod mm;
mod named_file;
mod nameless;
mod namespaces;
mod next_pid;
mod one_processor;
mod pages;
mod records;
mod restore;
mod seccomp;
mod segment;
mod semaphores;
mod sighand;
mod task;
mod terminal;
mod thread;
mod timer;
mod tmpfs;
mod unshared;
mod userfaultfd;
mod vdso;
mod vma;

pub use cgroups::{CgroupRoot, Cgroups};
pub use connections::{OutsideConnections, release};
pub use error::RestoreError;
pub use lazy::{FILLED, Filling};
pub use named_file::{ChangedFiles, Difference, changed_files};
pub use namespaces::{FirstProcess, Namespaces, PidNamespace};
pub use restore::{RestoreRequest, Restored, RootBirth, restore};

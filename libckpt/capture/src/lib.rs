//! Capture: the state of a running process becomes a checkpoint.
//!
//! The engine works from outside: it seizes and stops every thread, reads what the kernel shows of them, runs the few system calls that only the
//! process itself can make, copies what was written since the parent checkpoint, and lets the process run on.
//! One file per kind of record.
//!
//! Architecture invariants: capture and restore never know each other; whatever happens, the target runs on as it was.
pub mod error;
mod objects;
mod process;

pub use error::CaptureError;

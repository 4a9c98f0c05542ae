//! Dirty tracking of real processes.
mod anonymous;
mod attach;
mod common;
mod files;

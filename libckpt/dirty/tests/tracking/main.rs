//! Dirty tracking of real processes.
#![allow(clippy::single_range_in_vec_init)] // lists of ranges
mod anonymous;
mod attach;
mod common;
mod files;

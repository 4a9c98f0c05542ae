//! Which pages of a process changed since they were last looked at.
//!
//! userfaultfd's asynchronous write-protection (UFFD_FEATURE_WP_ASYNC) with the PAGEMAP_SCAN ioctl, both of Linux 6.7: a page is protected when it
//! is copied, the first write to it drops the protection within the kernel, and the page map tells which pages have none. All that is
//! needed in the target is one userfaultfd(2) call; its descriptor moves to us, and the target keeps nothing.
//!
//! A mapping that is not registered (new, moved by mremap(2), of a new program after execve(2)) has no protected pages, so all its
//! pages count as dirty. Losing the descriptor loses the tracking, never a change.
//!
//! Architecture invariant: nothing here knows what a checkpoint is.
mod error;
mod full;
mod hot;
mod install;
mod pages;
mod parts;
pub mod ranges;
mod tracker;
mod tracking;

pub use error::{DirtyError, DirtyResult};
pub use hot::HotPages;
pub use install::{close_leftovers, leftovers, make as make_userfaultfd};
pub use pages::{Kind, Pages};
pub use tracker::Tracker;
pub use tracking::Tracking;

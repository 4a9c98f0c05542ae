//! Cgroup namespaces that the job's root is not in: each begins in the groups in which the process that makes it is.
use super::user;
use crate::cgroups::Cgroups;
use crate::error::RestoreResult;
use ckpt_sys::namespace::{self, Namespace};
use std::fs::File;

/// Makes the one of record `at`, which belongs to `owner`.
pub(super) fn make(cgroups: &Cgroups, owner: Option<&user::Users>, at: usize) -> RestoreResult<File> {
    user::open_made(Namespace::Cgroup, || {
        cgroups.in_roots_of(Some(at), || {
            owner.map_or(Ok(()), user::Users::join)?;
            namespace::unshare(&[Namespace::Cgroup])
        })
    })
}

//! Where a job is restored: among the processes that are here, or in namespaces of its own.
use crate::failure::{Failure, Outcome};
use crate::inside::{self, Done, Unreported};
use crate::pids;
use crate::protocol::PidNamespace;
use ckpt_dirty::Tracking;
use ckpt_image::ImageRecords;
use ckpt_restore::{CgroupRoot, Cgroups, Filling, Namespaces, RestoreRequest};
use std::os::fd::OwnedFd;

/// The place for a checkpoint's job.
pub(crate) struct Home(Option<Namespaces>);

/// A job that runs again.
pub(crate) struct Restored {
    /// Its root process, a child of this one.
    pub(crate) pid: i32,
    /// Userfaultfds of its processes.
    pub(crate) tracking: Vec<(i32, OwnedFd)>,
    /// What tells when its memory is there, if it comes late.
    pub(crate) filling: Option<OwnedFd>,
}

impl Home {
    /// Finds one. Waits until the pids of the job are free, if it is to have them here.
    ///
    /// # Errors
    /// They are taken.
    pub(crate) fn of(image: &ImageRecords, pids: PidNamespace) -> Outcome<Self> {
        let namespaces = Namespaces::of(image, pids.into())?;
        if namespaces.as_ref().is_none_or(Namespaces::shares_pids) {
            pids::wait_until_free(image)?;
        }
        Ok(Self(namespaces))
    }

    /// Restores the job there, its control groups below `roots`; None: it is in ours. Its memory comes late if it is to be `lazy`. This process becomes
    /// its keeper.
    pub(crate) fn restore(
        &self,
        request: RestoreRequest<'_>,
        roots: Option<&[CgroupRoot]>,
        lazy: bool,
    ) -> Outcome<Restored> {
        let filling = if lazy { Filling::start(request.image)? } else { None };
        tracing::trace!(name = "restore.filling");
        crate::worker::keeper::adopt_orphans()?;
        let request = RestoreRequest { filling: filling.as_ref(), ..request };
        let cgroups = roots.map(|roots| Cgroups::make(request.image, roots)).transpose()?.unwrap_or_default();
        let restored = self.restore_in(RestoreRequest { cgroups: Some(&cgroups), ..request }, &cgroups)?;
        cgroups.keep();
        Ok(Restored { filling: filling.map(Filling::into_report), ..restored })
    }

    fn restore_in(&self, request: RestoreRequest<'_>, cgroups: &Cgroups) -> Outcome<Restored> {
        let Some(namespaces) = &self.0 else {
            let restored = ckpt_restore::restore(&request)?;
            let tracking = restored.tracking.map(Tracking::into_fds).unwrap_or_default();
            return Ok(Restored { pid: restored.root_pid, tracking, filling: None });
        };
        let work = |first: &ckpt_restore::FirstProcess| {
            namespaces.furnish()?;
            let restored =
                ckpt_restore::restore(&RestoreRequest { root: namespaces.root_birth(), ..request })?;
            first.outlive(restored.root_pid);
            let tracking = restored.tracking.map(Tracking::into_fds).unwrap_or_default();
            Ok(Done { report: restored.root_pid, tracking, held: None })
        };
        let outcome = inside::carry_out(|| Ok(namespaces.fork_into_new(cgroups)?), work)
            .map_err(|(Unreported::Failed(failure) | Unreported::Died(failure))| failure)?;
        let pid = outcome.pids.outer(&[outcome.report])?.values().next().copied();
        let pid = pid.ok_or_else(|| Failure::new("the restored program has ended at once"))?;
        Ok(Restored { pid, tracking: outcome.tracking, filling: None })
    }
}

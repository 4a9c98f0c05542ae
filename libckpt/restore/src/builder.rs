//! The process under construction, as the files of this crate see it.
use crate::error::{RestoreError, RestoreResult};
use ckpt_sys::RemoteAddr;
use ckpt_sys::inject::{self, Injector};
use ckpt_sys::proc::status::Status;

/// A process under construction: held by ptrace, running system calls on our behalf.
#[derive(Debug)]
pub(crate) struct Builder<'m> {
    /// Runs them in one of its threads.
    pub(crate) remote: Injector<'m>,
    /// It is where paths of /proc do not lead to what they lead this process to.
    pub(crate) apart: bool,
    /// The ids by which it knows itself are known.
    knows_ids: bool,
    /// Signals of the program's that are pending: calls in one go end with another.
    pending: u64,
}

impl<'m> Builder<'m> {
    /// A builder whose calls run through `remote`.
    pub(crate) fn new(mut remote: Injector<'m>) -> Self {
        remote.end_batches_by(inject::meaningless_signal(0));
        Self { remote, apart: false, knows_ids: false, pending: 0 }
    }

    /// This signal of the program's is pending from now on.
    pub(crate) fn has_pending(&mut self, signal: u64) {
        self.pending |= 1 << (signal.saturating_sub(1) % 64);
        self.remote.end_batches_by(inject::meaningless_signal(self.pending));
    }

    /// Sees to it that batches of calls can end: with a signal that the thread sends to itself.
    pub(crate) fn know_own_ids(&mut self) -> RestoreResult<()> {
        if !self.knows_ids {
            self.remote.known_as(self.own_ids()?);
            self.knows_ids = true;
        }
        Ok(())
    }

    /// The id by which the thread knows a process, thread or process group with the id `id` here, whose leader is there. None: it does not see it.
    pub(crate) fn id_there(&self, id: i32) -> RestoreResult<Option<i32>> {
        let level = Status::of(self.remote.pid(), self.remote.tid())?.ids("NSpid").len();
        if level < 2 {
            return Ok(Some(id));
        }
        let ids = Status::of(id, id).map(|status| status.ids("NSpid")).unwrap_or_default();
        Ok(ids.get(level - 1).copied())
    }

    /// As [`Self::id_there`], of the process and the thread themselves.
    pub(crate) fn own_ids(&self) -> RestoreResult<(i32, i32)> {
        Ok(Status::of(self.remote.tid(), self.remote.tid())?.inner_ids())
    }

    /// Runs system call `nr`; `call` and `object` name it in the error.
    pub(crate) fn call(
        &mut self,
        call: &'static str,
        object: &dyn std::fmt::Display,
        nr: i64,
        args: &[u64],
    ) -> RestoreResult<u64> {
        let pid = self.remote.pid();
        self.remote.syscall(nr, args)?.map_err(|errno| RestoreError::Remote {
            pid,
            call,
            object: object.to_string(),
            errno,
        })
    }

    /// Copies `bytes` to the scratch area for the next call.
    pub(crate) fn place(&mut self, bytes: &[u8]) -> RestoreResult<RemoteAddr> {
        Ok(self.remote.place(bytes)?)
    }

    /// Copies a path with its NUL to the scratch area for the next call.
    pub(crate) fn place_path(&mut self, path: &[u8]) -> RestoreResult<RemoteAddr> {
        Ok(self.remote.place_path(path)?)
    }
}

//! The process under construction, as the files of this crate see it.
use crate::error::{RestoreError, RestoreResult};
use ckpt_sys::RemoteAddr;
use ckpt_sys::inject::Injector;

/// A process under construction: held by ptrace, running system calls on our behalf.
#[derive(Debug)]
pub(crate) struct Builder<'m> {
    /// Runs them in one of its threads.
    pub(crate) remote: Injector<'m>,
}

impl<'m> Builder<'m> {
    /// A builder whose calls run through `remote`.
    pub(crate) fn new(remote: Injector<'m>) -> Self {
        Self { remote }
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

//! System calls of a process under construction that do not need each other's results: it makes them in one go, for to stop it and let it go takes several times as long
//! as a call.
use crate::builder::Builder;
use crate::error::{RestoreError, RestoreResult};
use ckpt_sys::inject::{Batch, Call};
use nix::errno::Errno;

/// Calls that are made in one go, at most: what they work on is to have room beside them.
const MOST: usize = 128;

/// System calls that are to be made.
#[derive(Debug)]
pub(crate) struct Calls {
    batch: Batch,
    named: Vec<Named>,
}

/// A call, and how an error names it.
#[derive(Debug)]
struct Named {
    asked: Call,
    call: &'static str,
    object: String,
    /// The program is as well off without it.
    optional: bool,
}

/// A call that was made.
#[derive(Debug)]
pub(crate) struct Made {
    /// What it returned.
    pub(crate) outcome: Result<u64, Errno>,
    pid: i32,
    named: Named,
}

impl Made {
    /// The error if it failed with `errno`.
    pub(crate) fn failed(self, errno: Errno) -> RestoreError {
        let Named { call, object, .. } = self.named;
        RestoreError::Remote { pid: self.pid, call, object, errno }
    }
}

impl Calls {
    /// Copies `bytes` to where the calls find them; their address.
    pub(crate) fn place(&mut self, bytes: &[u8]) -> u64 {
        self.batch.place(bytes).address()
    }

    /// Adds a call; `call` and `object` name it in the error.
    pub(crate) fn add(&mut self, call: &'static str, object: String, nr: i64, args: &[u64]) {
        let asked = self.batch.call(nr, args);
        self.named.push(Named { asked, call, object, optional: false });
    }

    /// Adds a call that may fail without harm to the program, on a kernel that lacks what it sets.
    pub(crate) fn add_optional(&mut self, call: &'static str, object: String, nr: i64, args: &[u64]) {
        let asked = self.batch.call(nr, args);
        self.named.push(Named { asked, call, object, optional: true });
    }

    /// Whether they are to be made before others are added.
    pub(crate) fn is_full(&self) -> bool {
        self.named.len() >= MOST
    }
}

impl Builder<'_> {
    /// No calls yet.
    pub(crate) fn calls(&self) -> Calls {
        Calls { batch: self.remote.batch(), named: Vec::new() }
    }

    /// Makes calls, all of which must succeed but for optional ones.
    pub(crate) fn make(&mut self, calls: Calls) -> RestoreResult<()> {
        for made in self.try_make(calls)? {
            match made.outcome {
                Err(errno) if made.named.optional => tracing::warn!("not restored: {}", made.failed(errno)),
                Err(errno) => return Err(made.failed(errno)),
                Ok(_) => {}
            }
        }
        Ok(())
    }

    /// Makes calls; what became of each.
    pub(crate) fn try_make(&mut self, calls: Calls) -> RestoreResult<Vec<Made>> {
        let Calls { batch, named } = calls;
        let pid = self.remote.pid();
        if !named.is_empty() {
            self.know_own_ids()?;
        }
        let answers = self.remote.run(batch)?;
        let made = named.into_iter().map(|named| Made { outcome: answers.outcome(named.asked), pid, named });
        Ok(made.collect())
    }
}

//! What the processes of a job share with each other: the first that has it gives it its id.
use crate::error::{CaptureError, CaptureResult};
use ckpt_sys::kcmp::{self, Resource};
use std::cmp::Ordering;
use std::collections::HashMap;

/// The owners of one kind of resource.
#[derive(Debug)]
pub(crate) struct Owners {
    resource: Resource,
    /// In the order of kcmp(2).
    owners: Vec<i32>,
}

impl Owners {
    /// None known yet.
    pub(crate) fn new(resource: Resource) -> Self {
        Self { resource, owners: Vec::new() }
    }

    /// The process, itself or one that was asked for before, whose resource `pid` has. Of processes that run, one that was asked for before
    /// may be gone: it is forgotten.
    pub(crate) fn of(&mut self, pid: i32) -> CaptureResult<i32> {
        let (mut low, mut high) = (0, self.owners.len());
        while low < high {
            let middle = low.midpoint(high);
            let owner = self.owners[middle];
            match kcmp::compare(self.resource, owner, pid) {
                Ok(Ordering::Equal) => return Ok(owner),
                Ok(Ordering::Less) => low = middle + 1,
                Ok(Ordering::Greater) => high = middle,
                Err(_) if kcmp::compare(self.resource, owner, owner).is_err_and(|error| error.is_gone()) => {
                    self.owners.remove(middle);
                    high -= 1;
                }
                Err(error) => return Err(error.into()),
            }
        }
        self.owners.insert(low, pid);
        Ok(pid)
    }
}

/// Who is the first to have what a process has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct OwnersOf {
    /// Its address space.
    pub(crate) memory: i32,
    /// Its descriptor table.
    pub(crate) files: i32,
    /// Its directories and umask.
    pub(crate) fs: i32,
    /// Its signal actions.
    pub(crate) sighand: i32,
}

/// What the processes of a job share.
#[derive(Debug)]
pub(crate) struct Shared(HashMap<i32, OwnersOf>);

impl Shared {
    /// Looks at processes, parents before their children.
    pub(crate) fn find(pids: &[i32]) -> CaptureResult<Self> {
        let mut memory = Owners::new(Resource::Memory);
        let mut files = Owners::new(Resource::Files);
        let mut fs = Owners::new(Resource::Fs);
        let mut sighand = Owners::new(Resource::SignalActions);
        let mut found = HashMap::new();
        for &pid in pids {
            let owners = OwnersOf {
                memory: memory.of(pid)?,
                files: files.of(pid)?,
                fs: fs.of(pid)?,
                sighand: sighand.of(pid)?,
            };
            found.insert(pid, owners);
        }
        Ok(Self(found))
    }

    /// Of process `pid`.
    pub(crate) fn of(&self, pid: i32) -> OwnersOf {
        let own = OwnersOf { memory: pid, files: pid, fs: pid, sighand: pid };
        self.0.get(&pid).copied().unwrap_or(own)
    }

    /// Refuses a process that shares something, but not with its `parent` (0: it is none of the job's), who alone can hand it on.
    pub(crate) fn check(&self, pid: i32, parent: i32) -> CaptureResult<()> {
        let (own, parents) = (self.of(pid), self.of(parent));
        let table = [
            (own.memory, parents.memory, "address space"),
            (own.files, parents.files, "descriptor table"),
            (own.fs, parents.fs, "working directory"),
            (own.sighand, parents.sighand, "signal actions"),
        ];
        for (owner, parents, what) in table {
            if owner != pid && owner != parents {
                return Err(CaptureError::unsupported(
                    pid,
                    format!("its {what}"),
                    format!("it shares that with process {owner} (clone), and not with its own parent"),
                    format!("Save when process {pid} or {owner} has ended"),
                ));
            }
        }
        Ok(())
    }
}

//! The records of an image that say which processes there are, and what they share.
use crate::error::{RestoreError, RestoreResult};
use crate::family::Being;
use crate::inner_pids::InnerPids;
use crate::userfaultfd::HandledFaults;
use ckpt_image::Image;
use ckpt_image::record::{
    ControlsV1, DeadTaskV1, FdTableId, FdTableV1, FsId, FsV1, MmV1, SeccompFilterV1, SighandV1, TaskV1,
    ThreadV1, UnsharedV1,
};

/// All of them.
#[derive(Debug)]
pub(crate) struct Records {
    /// Living processes, the root first, parents before their children.
    pub(crate) tasks: Vec<TaskV1>,
    /// Zombies.
    pub(crate) dead: Vec<DeadTaskV1>,
    threads: Vec<ThreadV1>,
    controls: Vec<ControlsV1>,
    mms: Vec<MmV1>,
    tables: Vec<FdTableV1>,
    fs: Vec<FsV1>,
    sighands: Vec<SighandV1>,
    /// Threads that do not share all with their process.
    pub(crate) unshared: Vec<UnsharedV1>,
    /// Filters of system calls.
    pub(crate) filters: Vec<SeccompFilterV1>,
    /// Ids in PID namespaces that the root is not in.
    pub(crate) inner_pids: InnerPids,
    /// Memory whose page faults the program handles itself.
    pub(crate) handled_faults: HandledFaults,
}

impl Records {
    /// Reads them.
    pub(crate) fn read(image: &Image) -> RestoreResult<Self> {
        let mut tasks: Vec<TaskV1> = image.records()?;
        let root = image.inventory()?.root_pid;
        tasks.sort_by_key(|task| task.pid != root);
        if tasks.first().is_none_or(|task| task.pid != root) {
            return Err(missing("root process", root));
        }
        Ok(Self {
            tasks,
            dead: image.records()?,
            threads: image.records()?,
            controls: image.records()?,
            mms: image.records()?,
            tables: image.records()?,
            fs: image.records()?,
            sighands: image.records()?,
            unshared: image.records()?,
            filters: image.records()?,
            inner_pids: InnerPids::read(image)?,
            handled_faults: HandledFaults::read(image)?,
        })
    }

    /// All processes that have a pid, the root first.
    pub(crate) fn beings(&self) -> Vec<Being> {
        let living = self.tasks.iter().map(|task| (task.pid, task.ppid, task.pgid, task.sid));
        let dead = self.dead.iter().map(|task| (task.pid, task.ppid, task.pgid, task.sid));
        living.chain(dead).map(|(pid, ppid, pgid, sid)| Being { pid, ppid, pgid, sid }).collect()
    }

    /// The living process `pid`.
    pub(crate) fn task(&self, pid: i32) -> Option<&TaskV1> {
        self.tasks.iter().find(|task| task.pid == pid)
    }

    /// The threads of process `pid`, its leader first.
    pub(crate) fn threads(&self, pid: i32) -> Vec<&ThreadV1> {
        let mut threads: Vec<_> = self.threads.iter().filter(|thread| thread.pid == pid).collect();
        threads.sort_by_key(|thread| thread.tid != pid);
        threads
    }

    /// A process's address space, and whether the process is the first to have it.
    pub(crate) fn mm(&self, task: &TaskV1) -> RestoreResult<(&MmV1, bool)> {
        let mm = self.mms.iter().find(|mm| mm.id == task.mm);
        let first = self.tasks.iter().find(|other| other.mm == task.mm);
        Ok((mm.ok_or_else(|| missing("address space", task.pid))?, is(first, task)))
    }

    /// What prctl(2) set for a process.
    pub(crate) fn controls(&self, pid: i32) -> RestoreResult<&ControlsV1> {
        self.controls
            .iter()
            .find(|controls| controls.pid == pid)
            .ok_or_else(|| missing("prctl settings", pid))
    }

    /// All address spaces.
    pub(crate) fn mms(&self) -> &[MmV1] {
        &self.mms
    }

    /// A process's descriptor table, if the process is the first to have it.
    pub(crate) fn own_table(&self, task: &TaskV1) -> RestoreResult<Option<&FdTableV1>> {
        let table = self.tables.iter().find(|table| table.id == task.fd_table);
        let first = self.tasks.iter().find(|other| other.fd_table == task.fd_table);
        Ok(Some(table.ok_or_else(|| missing("descriptor table", task.pid))?).filter(|_| is(first, task)))
    }

    /// The descriptor table `id` of thread `tid`.
    pub(crate) fn table(&self, id: FdTableId, tid: i32) -> RestoreResult<&FdTableV1> {
        let table = self.tables.iter().find(|table| table.id == id);
        table.ok_or_else(|| missing("descriptor table", tid))
    }

    /// The directories `id` of thread `tid`.
    pub(crate) fn fs(&self, id: FsId, tid: i32) -> RestoreResult<&FsV1> {
        self.fs.iter().find(|fs| fs.id == id).ok_or_else(|| missing("working directory", tid))
    }

    /// A process's directories, if the process is the first to have them.
    pub(crate) fn own_fs(&self, task: &TaskV1) -> RestoreResult<Option<&FsV1>> {
        let fs = self.fs.iter().find(|fs| fs.id == task.fs);
        let first = self.tasks.iter().find(|other| other.fs == task.fs);
        Ok(Some(fs.ok_or_else(|| missing("working directory", task.pid))?).filter(|_| is(first, task)))
    }

    /// A process's signal actions, if the process is the first to have them.
    pub(crate) fn own_sighand(&self, task: &TaskV1) -> RestoreResult<Option<&SighandV1>> {
        let sighand = self.sighands.iter().find(|sighand| sighand.id == task.sighand);
        let first = self.tasks.iter().find(|other| other.sighand == task.sighand);
        Ok(Some(sighand.ok_or_else(|| missing("signal actions", task.pid))?).filter(|_| is(first, task)))
    }

    /// CLONE_* for what a process shares with its parent.
    pub(crate) fn shared_with_parent(&self, task: &TaskV1) -> RestoreResult<i32> {
        let Some(parent) = self.task(task.ppid) else { return Ok(0) };
        let table = [
            (task.mm == parent.mm, self.mm(task)?.1, libc::CLONE_VM),
            (task.fd_table == parent.fd_table, self.own_table(task)?.is_some(), libc::CLONE_FILES),
            (task.fs == parent.fs, self.own_fs(task)?.is_some(), libc::CLONE_FS),
            (task.sighand == parent.sighand, self.own_sighand(task)?.is_some(), libc::CLONE_SIGHAND),
        ];
        let mut flags = 0;
        for (shared, own, flag) in table {
            match (shared, own) {
                (true, _) => flags |= flag,
                (false, true) => {}
                (false, false) => {
                    let what =
                        format!("process {} shares something with one that is not its parent", task.pid);
                    return Err(RestoreError::Inconsistent { what });
                }
            }
        }
        Ok(flags)
    }
}

fn is(first: Option<&TaskV1>, task: &TaskV1) -> bool {
    first.is_some_and(|first| first.pid == task.pid)
}

fn missing(what: &str, pid: i32) -> RestoreError {
    RestoreError::Inconsistent { what: format!("the {what} of pid {pid} is not in it") }
}

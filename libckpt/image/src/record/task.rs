use super::{FdTableId, FsId, ItimerV1, MmId, PosixTimerV1, SigInfo, SighandId};
use serde::{Deserialize, Serialize};
use wincode::{SchemaRead, SchemaWrite};

/// One process (thread group): what all its threads share and no other record holds.
#[derive(Debug, Clone, PartialEq, SchemaRead, SchemaWrite, Serialize, Deserialize)]
pub struct TaskV1 {
    /// Thread group id.
    pub pid: i32,
    /// Parent's pid; 0 for the root task of the job.
    pub ppid: i32,
    /// Process group.
    pub pgid: i32,
    /// Session.
    pub sid: i32,
    /// The threads' ids, the leader's first. Each has a [`super::ThreadV1`].
    pub tids: Vec<i32>,
    /// Address space.
    pub mm: MmId,
    /// Descriptor table.
    pub fd_table: FdTableId,
    /// Working directory, root, umask.
    pub fs: FsId,
    /// Signal actions.
    pub sighand: SighandId,
    /// Signal that the parent gets at exit, 17 (SIGCHLD) as a rule.
    pub exit_signal: i32,
    /// `personality(2)`.
    pub personality: u32,
    /// /proc/PID/oom_score_adj.
    pub oom_score_adj: i32,
    /// PR_GET_CHILD_SUBREAPER.
    pub child_subreaper: bool,
    /// Soft and hard limit by RLIMIT number; `u64::MAX` is infinity.
    pub rlimits: Vec<(u64, u64)>,
    /// ITIMER_REAL, ITIMER_VIRTUAL, ITIMER_PROF.
    pub itimers: [ItimerV1; 3],
    /// POSIX timers with their ids.
    pub posix_timers: Vec<PosixTimerV1>,
    /// Signals pending for the process as a whole, in queue order.
    pub pending: Vec<SigInfo>,
    /// Registrations of `membarrier(2)` (MEMBARRIER_CMD_GET_REGISTRATIONS).
    pub membarrier: u32,
    /// ARCH_GET_XCOMP_PERM: the XSAVE features that the process asked for (AMX).
    pub xcomp_perm: u64,
    /// /proc/PID/coredump_filter.
    pub coredump_filter: u32,
    /// The task was stopped by a signal (state T), and stays so.
    pub stopped: bool,
    /// The signal that stopped it; 0: none.
    pub stop_signal: i32,
    /// /proc/PID/loginuid; `u32::MAX`: not set.
    pub loginuid: u32,
}

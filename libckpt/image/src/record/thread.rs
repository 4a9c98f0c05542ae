use super::{CredsV1, SeccompV1, SigInfo};
use serde::{Deserialize, Serialize};
use wincode::{SchemaRead, SchemaWrite};

/// One thread.
#[derive(Debug, Clone, PartialEq, SchemaRead, SchemaWrite, Serialize, Deserialize)]
pub struct ThreadV1 {
    /// Thread group id.
    pub pid: i32,
    /// Thread id.
    pub tid: i32,
    /// Registers.
    pub registers: RegistersV1,
    /// A system call that the freeze interrupted and that the kernel restarts by a block of its own.
    pub restart: Option<RestartV1>,
    /// Blocked signals, bit N-1 for signal N.
    pub sigmask: u64,
    /// Signals pending for this thread, in queue order.
    pub pending: Vec<SigInfo>,
    /// sigaltstack(2): address, flags (SS_DISABLE, SS_AUTODISARM), bytes.
    pub altstack: (u64, u32, u64),
    /// get_robust_list(2): head, bytes.
    pub robust_list: (u64, u64),
    /// Restartable sequence, when registered.
    pub rseq: Option<RseqV1>,
    /// Address that the kernel clears and wakes at thread exit (PR_GET_TID_ADDRESS).
    pub clear_child_tid: u64,
    /// /proc/PID/task/TID/comm without its newline.
    pub comm: Vec<u8>,
    /// Scheduling.
    pub sched: SchedV1,
    /// CPUs that it may run on: bit N of byte N/8; as long as the kernel's mask.
    pub affinity: Vec<u8>,
    /// Timer slack, ns; 0 when it could not be read.
    pub timer_slack_ns: u64,
    /// ioprio_get(2).
    pub ioprio: u32,
    /// PR_GET_PDEATHSIG.
    pub pdeathsig: i32,
    /// Credentials.
    pub creds: CredsV1,
    /// Filters of system calls.
    pub seccomp: SeccompV1,
}

/// Registers, by architecture.
#[derive(Debug, Clone, PartialEq, SchemaRead, SchemaWrite, Serialize, Deserialize)]
pub enum RegistersV1 {
    /// x86-64.
    X86_64 {
        /// `struct user_regs_struct` (NT_PRSTATUS) in its order, r15 to gs: 27 words, fs_base and gs_base among them.
        gpr: [u64; 27],
        /// The XSAVE area in standard format (NT_X86_XSTATE), AVX-512 and AMX included.
        xstate: Vec<u8>,
    },
}

/// A system call interrupted with ERESTART_RESTARTBLOCK: what is needed to give it a restart block again.
#[derive(Debug, Clone, PartialEq, SchemaRead, SchemaWrite, Serialize, Deserialize)]
pub struct RestartV1 {
    /// System call number.
    pub nr: u64,
    /// Its arguments.
    pub args: [u64; 6],
    /// What was left of its time-out at the freeze, ns. None: it has no time-out.
    pub remaining_ns: Option<u64>,
}

/// rseq(2).
#[derive(Debug, Clone, PartialEq, SchemaRead, SchemaWrite, Serialize, Deserialize)]
pub struct RseqV1 {
    /// Address of `struct rseq`.
    pub address: u64,
    /// Its registered length, bytes.
    pub size: u32,
    /// Signature.
    pub signature: u32,
    /// Flags.
    pub flags: u32,
}

/// sched_getattr(2).
#[derive(Debug, Clone, Default, PartialEq, SchemaRead, SchemaWrite, Serialize, Deserialize)]
pub struct SchedV1 {
    /// SCHED_*.
    pub policy: u32,
    /// SCHED_FLAG_*.
    pub flags: u64,
    /// Nice value.
    pub nice: i32,
    /// Real-time priority.
    pub priority: u32,
    /// SCHED_DEADLINE runtime, ns (for others the slice).
    pub runtime: u64,
    /// SCHED_DEADLINE deadline, ns.
    pub deadline: u64,
    /// SCHED_DEADLINE period, ns.
    pub period: u64,
    /// Utilisation clamps: least and most.
    pub util: (u32, u32),
}

//! Threads.
use super::Answer::*;
use super::{Row, row};

pub(super) const ROWS: &[Row] = &[
    row("any number of threads, with their ids", Saved, "as those of processes").criu("saved").dmtcp("those of pthread_create(3)").holds(&["ThreadV1"]),
    row("general registers, x87, SSE, AVX, AVX-512, AMX, protection keys' PKRU", Saved, "on a CPU that has the same; AVX-512 and AMX were tested under emulation (Linux 6.12), not on a CPU that has them").criu("saved, but for AMX tiles").dmtcp("saved").holds(&["RegistersV1::X86_64"]),
    row("FS and GS base, thread-local storage", Saved, "").criu("saved").dmtcp("saved"),
    row("signal mask, pending signals with their values, alternate stack", Saved, "").criu("saved").dmtcp("saved"),
    row("robust futex list, rseq, clear_child_tid", Saved, "").criu("saved"),
    row("name, nice, policy and priority, affinity, timer slack, I/O priority, pdeathsig", Saved, "").criu("lost: affinity, timer slack, I/O priority; else saved"),
    row("speculation control, PR_SET_TSC, PR_SET_IO_FLUSHER", Saved, "PR_SET_IO_FLUSHER needs `CAP_SYS_RESOURCE`").criu("lost"),
    row("core scheduling cookies", LeftOut, "the kernel does not tell which threads share one").criu("lost"),
    row("system calls that are handed to the thread itself (PR_SET_SYSCALL_USER_DISPATCH)", Refused, ""),
    row("system calls that sleep or wait", Saved, "they sleep on for what was left and never return EINTR on our account"),
    row("a thread that waits in vfork(2)", Saved, "its child is waited for, up to 5 s, before anything is stopped. A child that takes longer to execute a program or to end: refused"),
    row("a main thread that has exited before the others, with its status", Saved, "it comes back for a moment, and exits again").criu("refused"),
    row("seccomp: strict mode, and filters with what threads share of them", Saved, "refused: filters that ask a listener (`SECCOMP_RET_USER_NOTIF`), and a ckpt without `CAP_SYS_ADMIN` or under a filter itself. `SECCOMP_FILTER_FLAG_SPEC_ALLOW` is not told by the kernel and so not kept. Processes get copies of what they shared, threads of one process share").criu("saved, needs root").dmtcp("no").holds(&["SeccompFilterV1"]),
    row("such a program while it is saved", Note, "its filters are suspended while ckpt holds it. A call that the pause interrupted may go on as restart_syscall(2), as after SIGSTOP and SIGCONT: a filter has to allow it. Is ckpt itself killed in the pause (some ms), the filters are in force again at once: one that kills for rt_sigreturn(2), or for the call that ckpt was about to make (strict mode does), ends the program"),
];

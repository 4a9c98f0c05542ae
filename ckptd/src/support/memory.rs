//! Memory.
use super::Answer::*;
use super::{Row, row};

pub(super) const ROWS: &[Row] = &[
    row("private and shared anonymous memory, heap, stacks that grow", Saved, "pages that were never touched or are zero take no space").criu("saved").dmtcp("private saved, shared refused").holds(&["MmV1", "BackingV1::Anonymous", "BackingV1::Shmem"]),
    row("pages that processes share copy-on-write since a fork", Saved, "stored once and shared again, where ckpt has `CAP_SYS_ADMIN`; without it stored for each, and shared again where they are the same. Pages in swap are stored for each").criu("saved").dmtcp("for each process apart"),
    row("private file mappings", Saved, "pages that the program has changed; the rest comes from the file").criu("saved").dmtcp("saved").holds(&["BackingV1::File"]),
    row("shared file mappings, POSIX shared memory (files in /dev/shm)", Saved, "by path; the contents are the file's: a program that ran on has changed them since").criu("saved"),
    row("System V shared memory that is attached: with its id, key, owner and contents", Saved, "segments that nobody has attached are left as they are").criu("within an IPC namespace").dmtcp("saved").holds(&["ShmemV1"]),
    row("System V semaphores: sets with their ids, keys, owners and values", Saved, "the sets that a process of the job was the last to change, or waits at, and no living process outside of it, for the kernel does not tell who made them; others are left as they are. Undo lists (`SEM_UNDO`) are lost; the root counts as who changed them last").criu("within an IPC namespace").dmtcp("saved").holds(&["SemaphoresV1"]),
    row("System V message queues: with their ids, keys, owners, limits and messages", Saved, "the queues that a process of the job was the last to use, or waits at, and no living process outside of it; others are left as they are. The root counts as who used them last, at the time of the restore").criu("within an IPC namespace").dmtcp("saved").holds(&["MessageQueueV1"]),
    row("memfds with name, seals and contents, mapped shared or private", Saved, "").criu("saved").dmtcp("no").holds(&["FileKindV1::Memfd", "BackingV1::ShmemPrivate"]),
    row("mapped files that have been deleted", Saved, "").criu("saved"),
    row("protection, locks, madvise advice, guard regions, names of mappings", Saved, "").criu("lost: names, mseal; else saved"),
    row("protection keys: allocated ones and those of mappings", Saved, "where the processor has them").criu("lost: which are allocated"),
    row("PROT_NONE reservations of any size", Saved, "without cost").criu("saved"),
    row("vDSO", Saved, "restores where the kernel's vDSO is the same").criu("saved").dmtcp("saved").holds(&["BackingV1::Vdso", "BackingV1::Vvar", "BackingV1::Vsyscall"]),
    row("device memory, huge pages of hugetlbfs, perf rings", Refused, "").criu("hugetlbfs saved; refused: device memory (plugins), perf").dmtcp("no"),
];

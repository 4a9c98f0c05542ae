//! Memory.
use super::Answer::*;
use super::{Row, row};

pub(super) const ROWS: &[Row] = &[
    row("private and shared anonymous memory, heap, stacks that grow", Saved, "pages that were never touched or are zero take no space").criu("saved").dmtcp("private saved, shared refused").holds(&["MmV1", "BackingV1::Anonymous", "BackingV1::Shmem"]),
    row("pages that processes share copy-on-write since a fork", Saved, "stored once and shared again, where ckpt has `CAP_SYS_ADMIN`; without it stored for each, and shared again where they are the same. Pages in swap are stored for each").criu("saved").dmtcp("for each process apart"),
    row("private file mappings", Saved, "pages that the program has changed; the rest comes from the file").criu("saved").dmtcp("saved").holds(&["BackingV1::File"]),
    row("shared file mappings", Saved, "by path; the contents are the file's: a program that ran on has changed them since. Refused: one that may be written to, of a file on a mount that is read-only now").criu("saved"),
    row("POSIX shared memory, and other files of a tmpfs, that is mapped shared and may be written to", Saved, "with the contents, made again if it is gone. What a process outside the job has mapped at restore stays as it is, with a warning. Memory that is open but mapped by nobody is a file like others").criu("saved, without the contents").holds(&["TmpfsFileV1"]),
    row("System V shared memory that is attached: with its id, key, owner and contents", Saved, "segments that nobody has attached are left as they are").criu("within an IPC namespace").dmtcp("saved").holds(&["ShmemV1"]),
    row("System V semaphores: sets with their ids, keys, owners and values", Saved, "the sets that a process of the job was the last to change, or waits at, and no living process outside of it, for the kernel does not tell who made them; others are left as they are. Undo lists (`SEM_UNDO`) are lost; the root counts as who changed them last").criu("within an IPC namespace").dmtcp("saved").holds(&["SemaphoresV1"]),
    row("System V message queues: with their ids, keys, owners, limits and messages", Saved, "the queues that a process of the job was the last to use, or waits at, and no living process outside of it; others are left as they are. The root counts as who used them last, at the time of the restore").criu("within an IPC namespace").dmtcp("saved").holds(&["MessageQueueV1"]),
    row("memfds with name, seals and contents, mapped shared or private", Saved, "").criu("saved").dmtcp("no").holds(&["FileKindV1::Memfd", "BackingV1::ShmemPrivate"]),
    row("mapped files that have been deleted", Saved, "").criu("saved"),
    row("protection, locks, madvise advice, guard regions, names of mappings", Saved, "").criu("lost: names, mseal; else saved"),
    row("memory-deny-write-execute (PR_SET_MDWE), same-page merging (PR_SET_MEMORY_MERGE), transparent huge pages off (PR_SET_THP_DISABLE), mseal(2), MAP_DROPPABLE", Saved, "").criu("lost: MDWE, mseal, MAP_DROPPABLE").holds(&["ControlsV1"]),
    row("NUMA memory policies of threads and mappings (set_mempolicy, mbind), with their flags", Saved, "nodes that the machine lacks at the restore are named in a warning, and left out. A thread that had none has that of the restoring command. Not kept, for the kernel does not show them: home nodes (set_mempolicy_home_node), and policies of private mappings of files that may not be written").criu("lost").holds(&["MemoryPolicyV1"]),
    row("mlockall(MCL_FUTURE)", LeftOut, "the kernel shows it to nobody; what is locked at the checkpoint is locked again"),
    row("shadow stacks", Refused, ""),
    row("protection keys: allocated ones and those of mappings", Saved, "where the processor has them").criu("lost: which are allocated"),
    row("PROT_NONE reservations of any size", Saved, "without cost").criu("saved"),
    row("vDSO", Saved, "restores where the kernel's vDSO is the same").criu("saved").dmtcp("saved").holds(&["BackingV1::Vdso", "BackingV1::Vvar", "BackingV1::Vsyscall"]),
    row("huge pages of hugetlbfs, of every size: MAP_HUGETLB private and shared, MFD_HUGETLB, SHM_HUGETLB, files of a hugetlbfs that are mapped", Saved, "private ones incrementally, a huge page at a time. A restore first looks whether enough of each size are free, and says how many are missing. What processes shared copy-on-write since a fork each has for itself").criu("saved").dmtcp("no").holds(&["BackingV1::HugeAnonymous"]),
    row("device memory, perf rings", Refused, "").criu("refused: device memory (plugins), perf").dmtcp("no"),
];

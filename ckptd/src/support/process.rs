//! Processes.
use super::Answer::*;
use super::{Row, row};

pub(super) const ROWS: &[Row] = &[
    row(
        "a process and all its descendants, as they were at one moment",
        Saved,
        "under the pids that they had; where one is taken, within a new PID namespace (`restore --pid auto`, `same`, `new`)",
    )
    .criu("saved; refused: pids that are taken")
    .dmtcp("if started under it")
    .holds(&["TaskV1", "InventoryV1"]),
    row(
        "parents, process groups, sessions; those whose leader has ended, too",
        Saved,
        "what the root has from outside (its session, its group) becomes the restoring command's",
    )
    .criu("saved"),
    row(
        "zombies with their exit statuses, stopped processes",
        Saved,
        "that a core was dumped is not told again",
    )
    .criu("saved; refused: threads stopped one by one")
    .holds(&["DeadTaskV1"]),
    row(
        "processes whose parents have ended (orphans), adopted by a process of the job or not",
        Saved,
        "`ckpt run` and what restores a job adopt them (PR_SET_CHILD_SUBREAPER): that they see by getppid(2). Of a program that was attached, or preloads libckpt.so, those are found that are in a session which a living process of the job leads, or that were of it at the last checkpoint; others are left out, or are jobs of their own where they preload libckpt.so",
    )
    .criu("under a subreaper of the job or in its PID namespace"),
    row(
        "address spaces, descriptor tables, directories, signal actions that processes share",
        Saved,
        "refused: a process that shares one with another than its parent",
    )
        .criu("descriptor tables; refused: the others"),
    row(
        "a thread with a descriptor table, or directories and a umask, of its own (unshare), which other threads may share",
        Saved,
        "refused: threads that share the one with this and the other with that thread, or with another process",
    )
    .criu("refused")
    .holds(&["UnsharedV1"]),
    row("ids, groups, capabilities, securebits, no_new_privs", Saved, "").criu("saved"),
    row("working directory, root directory, umask", Saved, "by path").criu("saved").holds(&["FsV1"]),
    row(
        "limits, personality, dumpable, oom_score_adj, coredump_filter, child subreaper, login (loginuid)",
        Saved,
        "hard limits above those of the restoring process need CAP_SYS_RESOURCE",
    )
    .criu("lost: personality, coredump_filter; else saved"),
    row("signal actions", Saved, "").criu("saved").dmtcp("saved").holds(&["SighandV1"]),
    row("interval timers, POSIX timers with their ids", Saved, "").criu("saved").dmtcp("POSIX timers"),
    row("membarrier registrations", Saved, "").criu("saved"),
    row(
        "namespaces that all processes of the job are in: PID, UTS, IPC with its settings, time, cgroup",
        Saved,
        "ckpt goes into them. A job that was the first process of its PID namespace is that again; others get a first process that waits for orphans. The clocks of a time namespace go on from where they were; a cgroup namespace begins in the group in which it began",
    )
    .criu("saved")
    .dmtcp("no")
    .holds(&["NamespacesV1"]),
    row(
        "a user namespace",
        Saved,
        "with its maps of ids, as far as whoever restores may write them",
    )
    .criu("saved")
    .dmtcp("no"),
    row(
        "a mount namespace",
        Saved,
        "mounts that are outside, too, must be there again; bind mounts of what is seen outside, tmpfs with up to 256 MiB of files (without extended attributes), proc, sysfs, mqueue, devpts, cgroup2 are made anew. Refused, by name: other mounts, a root directory that is a mount of its own (pivot_root)",
    )
    .criu("saved")
    .dmtcp("no"),
    row(
        "a network namespace",
        Saved,
        "bridges, veth pairs and macvlans (VLANs and dummies as well, by code that no test has run for want of a driver) with addresses, routes, rules, permanent neighbours and the settings of each; nftables by nft(8). The other end of a veth pair that is outside is made again there, with its name, addresses and bridge. A namespace with a name (ip netns) is gone into again, and must be there. Refused: other interfaces that are up. Lost: tracked connections, queueing disciplines, bridge forwarding entries",
    )
    .criu("saved")
    .dmtcp("no"),
    row(
        "network, mount, IPC and UTS namespaces that some processes of the job are in, and its root is not",
        Saved,
        "each with what it has, as above, and with the sockets that were made there, whoever has them by now. A file system in memory that several mount namespaces have is one again. TCP connections to the outside come back closed; an unlinked file of a further mount namespace is one of the root's. Not kept: that mounts of two of them tell each other of changes (shared subtrees). In further mount namespaces it is not looked at whether files have changed since. Refused, by name: a veth pair between two of the job's own network namespaces; a socket in a network namespace that no process is in; in a further mount namespace a root directory of the process's own (chroot, pivot_root), no /proc, AF_UNIX sockets bound to files that are only there, and files that no path leads to, but for unlinked ones; in a further IPC namespace System V shared memory, and POSIX queues whose names were removed",
    )
    .criu("network and mount: saved, IPC and UTS: refused")
    .dmtcp("no")
    .holds(&["FurtherNamespaceV1"]),
    row(
        "processes of one job in different namespaces of other kinds (user, PID, time, cgroup), or in nested ones",
        Refused,
        "attach the first process that is in the inner ones by itself",
    )
    .criu("refused")
    .dmtcp("no"),
    row(
        "control groups (cgroups) of version 1 and 2, of each process and thread",
        Saved,
        "a group that is there is joined and left as it is; one that is gone, and that held nobody but the job, is made again with its owners, permissions and settings (type, controllers, limits, weights, devices, frozen or not), as CRIU's `soft` does. What cannot be set is told by name. One that is gone and was shared with others is not made: the process stays in the restoring command's. `--cgroup-root` puts them elsewhere, `--cgroups ignore` leaves them out. Not kept: BPF programs of groups (devices in version 2), what has been used so far. Refused, by name: a frozen group that holds others, too",
    )
    .criu("saved")
    .dmtcp("no")
    .holds(&["CgroupsV1"]),
    row("keyrings, Landlock domains", LeftOut, "the restored process has those of whoever restores it")
        .criu("lost")
        .dmtcp("no"),
];

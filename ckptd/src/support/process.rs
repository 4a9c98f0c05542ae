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
        "also one with a root directory of its own (pivot_root), as runc, bwrap and the like make it: a directory of the host, a tmpfs, an overlay. Mounts that are outside, too, must be there again, and so must what is bound from there, the directories of overlays, and the block devices of disk file systems (ext4, xfs, btrfs and others, as yet without a test): what is missing is named. Made anew are tmpfs with up to 256 MiB of files (without extended attributes), also where mounts show parts of it or files that have been removed since, and what the kernel fills (proc, sysfs, mqueue, devpts, cgroups, debugfs, tracefs, securityfs, configfs, binfmt_misc and others). Flags of mounts, and which of them tell each other of changes (shared subtrees), are as they were; a mount that shares with one outside is told of changes there, but tells none. Mounts that lie under others, where no path leads, are left out of a namespace with its own root. Refused, by name: FUSE, network file systems, autofs, overlays by relative paths, idmapped mounts, BPF file systems with pinned objects, a hidden tmpfs; a device that is open and that no path of the namespace leads to",
    )
    .criu("saved")
    .dmtcp("no"),
    row(
        "a network namespace",
        Saved,
        "bridges, veth pairs, macvlans, TUN and TAP, vxlan and ifb (VLANs, dummies, ipvlan, vrf, nlmon, geneve and tunnels of the kinds ipip, sit, ip6tnl, gre and vti as well, by code that no test has run for want of a driver) with addresses, routes, rules, permanent neighbours and the settings of each; nftables by nft(8) of the machine, connections that are tracked but for those whose addresses are translated (NAT). The other end of a veth pair that is outside is made again there, with its name, addresses and bridge. A namespace with a name (ip netns) is gone into again, and must be there. Refused: other interfaces that are up, TUN and TAP interfaces whose descriptors are outside of the job, rules of iptables by the old interface (iptables-legacy) or with matches that nft has no words for, IPsec. Lost: queueing disciplines, bridge forwarding entries",
    )
    .criu("saved")
    .dmtcp("no"),
    row(
        "network, mount, IPC and UTS namespaces that some processes of the job are in, and its root is not",
        Saved,
        "each with what it has, as above, and with the sockets that were made there, whoever has them by now. A file system in memory that several mount namespaces have is one again. TCP connections to the outside come back closed; an unlinked file of a further mount namespace is one of the root's. In further mount namespaces it is not looked at whether files have changed since. Refused, by name: a veth pair between two of the job's own network namespaces; a socket in a network namespace that no process is in; in a further mount namespace a root directory other than the namespace's (chroot), mounts on a /proc that shows a further PID namespace, AF_UNIX sockets bound to files that are only there, and files that no path leads to, but for unlinked ones; in a further IPC namespace System V shared memory, and POSIX queues whose names were removed",
    )
    .criu("network and mount: saved, IPC and UTS: refused")
    .dmtcp("no")
    .holds(&["FurtherNamespaceV1"]),
    row(
        "PID namespaces that some processes of the job are in, and its root is not, side by side and nested (`unshare --pid --fork`, containers)",
        Saved,
        "each process with its pid in each of them, and with what it knows of the pids of others; the /proc that shows them; who has children there (unshare) goes on to. Refused, by name: a namespace whose first process is not of the job, or whose processes are in several process groups from outside, or in one whose leader comes after them in the tree; a process that has asked for a new one and has no child there, or whose children's has ended",
    )
    .criu("refused")
    .dmtcp("no"),
    row(
        "user namespaces that some processes of the job are in, and its root is not, side by side and nested (`unshare --user`, rootless containers, sandboxes)",
        Saved,
        "each with its ids, owner and setting of setgroups; processes with their users, groups and capabilities there; network, mount, UTS and IPC namespaces belong to the user namespace that they belonged to. Not kept: that a PID namespace belongs to one; from there nobody can mount another /proc of it. Refused, by name: a process with threads of different users there, one that shares its directories with another (CLONE_FS), and threads with a descriptor table or directories of their own",
    )
    .criu("refused")
    .dmtcp("no"),
    row(
        "time and cgroup namespaces that some processes of the job are in, and its root is not (`unshare --time`, containers)",
        Saved,
        "Clocks go on from where they were, also of a process that has asked for new ones for its children (unshare). A cgroup namespace begins in the group in which it began, if a process of the job is in that group or below. Not kept: that a time namespace belongs to a user namespace, if the process that asked for it is not in it. Refused, by name: clocks that two processes' children have and neither of the two; a process with such clocks that shares its memory with another",
    )
    .criu("refused")
    .dmtcp("no"),
    row(
        "a thread in other namespaces than its process (unshare and setns by one thread)",
        Refused,
        "",
    ),
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

use super::{MessageQueueV1, OpenFileId, SemaphoresV1};
use serde::{Deserialize, Serialize};
use wincode::{SchemaRead, SchemaWrite};

/// The namespaces that a job has for itself: those of its processes that are not those of whoever saved it. An image without this record is
/// of a job that has none.
#[derive(Debug, Clone, Default, PartialEq, Eq, SchemaRead, SchemaWrite, Serialize, Deserialize)]
pub struct NamespacesV1 {
    /// Process ids.
    pub pid: Option<PidNamespaceV1>,
    /// Host and domain name.
    pub uts: Option<UtsNamespaceV1>,
    /// System V IPC and POSIX message queues.
    pub ipc: Option<IpcNamespaceV1>,
    /// Network.
    pub net: Option<NetNamespaceV1>,
    /// Mounts.
    pub mount: Option<MountNamespaceV1>,
    /// User and group ids.
    pub user: Option<UserNamespaceV1>,
    /// Clocks; what they showed is in the inventory.
    pub time: bool,
    /// The root of the control groups that are seen.
    pub cgroup: bool,
}

/// A namespace that processes of the job are in, but not its root.
#[derive(Debug, Clone, PartialEq, Eq, SchemaRead, SchemaWrite, Serialize, Deserialize)]
pub struct FurtherNamespaceV1 {
    /// Pids of the processes that are in it.
    pub members: Vec<i32>,
    /// Open files that belong to it, whoever has them: sockets, message queues, and files that are found there by
    /// their paths.
    pub files: Vec<OpenFileId>,
    /// What it is, and what it has.
    pub contents: NamespaceContentsV1,
}

/// What a namespace is, and what it has.
#[derive(Debug, Clone, PartialEq, Eq, SchemaRead, SchemaWrite, Serialize, Deserialize)]
pub enum NamespaceContentsV1 {
    /// Host and domain name.
    Uts(UtsNamespaceV1),
    /// Network. Other ends of veth pairs that are outside are in the network namespace of the job's root.
    Net(NetNamespaceV1),
    /// Mounts.
    Mount {
        /// What is outside is in the mount namespace of this record, by its place among the records of further namespaces, and that before this one;
        /// None: in that of the job's root.
        base: Option<u32>,
        /// What it has.
        mounts: MountNamespaceV1,
    },
    /// System V IPC and POSIX message queues; the latter are open files.
    Ipc {
        /// Its settings.
        settings: IpcNamespaceV1,
        /// Its sets of semaphores.
        semaphores: Vec<SemaphoresV1>,
        /// Its message queues.
        queues: Vec<MessageQueueV1>,
    },
    /// Process ids.
    Pid {
        /// The namespace that it is in, by its place among the records of further namespaces, and that before this one; None: that of the job's root.
        parent: Option<u32>,
        /// The ids that processes, threads, process groups and sessions have in the namespace of the job's root, and here. They are of this namespace, or of
        /// one within it.
        ids: Vec<(i32, i32)>,
        /// Processes whose children are born here, and that are not here themselves (unshare(2), setns(2)).
        makers: Vec<i32>,
    },
    /// User and group ids.
    User {
        /// The namespace that it is in, by its place among the records of further namespaces, and that before this one; None: that of the job's root.
        parent: Option<u32>,
        /// The user who made it.
        owner: u32,
        /// Its ids. Those outside are those of the namespace of the job's root.
        ids: UserNamespaceV1,
        /// Namespaces that belong to it, by their places among the records of further namespaces.
        owns: Vec<u32>,
    },
    /// Clocks.
    Time {
        /// A process whose children are born here, and that is not here itself (unshare(2)).
        maker: Option<i32>,
        /// By how many ns its CLOCK_MONOTONIC is ahead of that of the job's root.
        monotonic_ns: i64,
        /// The same of CLOCK_BOOTTIME.
        boottime_ns: i64,
    },
    /// The root of the control groups that are seen: by hierarchy, as [`CgroupHierarchyV1`](super::CgroupHierarchyV1) has names and paths. Those that are not known are
    /// missing.
    Cgroup(Vec<(String, Vec<u8>)>),
}

/// A PID namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, SchemaRead, SchemaWrite, Serialize, Deserialize)]
pub struct PidNamespaceV1 {
    /// The root process of the job is its first process, pid 1; else that is none of the job.
    pub init: bool,
}

/// A UTS namespace.
#[derive(Debug, Clone, PartialEq, Eq, SchemaRead, SchemaWrite, Serialize, Deserialize)]
pub struct UtsNamespaceV1 {
    /// Name of the host.
    pub hostname: Vec<u8>,
    /// NIS domain name.
    pub domainname: Vec<u8>,
}

/// An IPC namespace. What it holds has records of its own.
#[derive(Debug, Clone, PartialEq, Eq, SchemaRead, SchemaWrite, Serialize, Deserialize)]
pub struct IpcNamespaceV1 {
    /// Its settings: paths below /proc/sys, and their values.
    pub sysctls: Vec<(String, String)>,
}

/// A network namespace.
#[derive(Debug, Clone, Default, PartialEq, Eq, SchemaRead, SchemaWrite, Serialize, Deserialize)]
pub struct NetNamespaceV1 {
    /// Where it is mounted outside (`ip netns`): it is there without the job, and what it has is none of the job's.
    pub path: Option<Vec<u8>>,
    /// Its interfaces.
    pub links: Vec<LinkV1>,
    /// Addresses of the interfaces: messages of rtnetlink, as the three that follow.
    pub addresses: Vec<Vec<u8>>,
    /// Permanent neighbours.
    pub neighbours: Vec<Vec<u8>>,
    /// Routes that do not come from addresses.
    pub routes: Vec<Vec<u8>>,
    /// Rules of policy routing, but for the kernel's own.
    pub rules: Vec<Vec<u8>>,
    /// nftables, as nft(8) writes and reads them.
    pub ruleset: String,
    /// Its settings: paths below /proc/sys, and their values.
    pub sysctls: Vec<(String, String)>,
    /// Connections that it tracks: messages of ctnetlink.
    pub tracked: Vec<Vec<u8>>,
}

/// A network interface.
#[derive(Debug, Clone, PartialEq, Eq, SchemaRead, SchemaWrite, Serialize, Deserialize)]
pub struct LinkV1 {
    /// Number in its namespace.
    pub index: u32,
    /// Name.
    pub name: String,
    /// Kind as rtnetlink has it (`veth`, `bridge`); empty for the loopback interface.
    pub kind: String,
    /// It is up.
    pub up: bool,
    /// Number of the interface that it is a port of (a bridge); 0 for none.
    pub master: u32,
    /// What makes it: attributes of a message of rtnetlink.
    pub attributes: Vec<u8>,
    /// The other end of a veth pair, which is outside.
    pub outside: Option<OutsideLinkV1>,
}

/// The end of a veth pair that is in the network namespace of whoever saved the job.
#[derive(Debug, Clone, PartialEq, Eq, SchemaRead, SchemaWrite, Serialize, Deserialize)]
pub struct OutsideLinkV1 {
    /// Name.
    pub name: String,
    /// It is up.
    pub up: bool,
    /// Name of the interface that it is a port of.
    pub master: Option<String>,
    /// What makes it.
    pub attributes: Vec<u8>,
    /// Its addresses: messages of rtnetlink.
    pub addresses: Vec<Vec<u8>>,
}

/// A mount namespace.
#[derive(Debug, Clone, PartialEq, Eq, SchemaRead, SchemaWrite, Serialize, Deserialize)]
pub struct MountNamespaceV1 {
    /// The mounts, each after the one that it is mounted on.
    pub mounts: Vec<MountV1>,
}

/// A mount.
#[derive(Debug, Clone, PartialEq, Eq, SchemaRead, SchemaWrite, Serialize, Deserialize)]
pub struct MountV1 {
    /// Where it is mounted.
    pub point: Vec<u8>,
    /// What of the file system is there.
    pub root: Vec<u8>,
    /// Type of the file system.
    pub fs_type: String,
    /// What the file system was made of, as mountinfo tells it.
    pub source: Vec<u8>,
    /// MS_* of the mount.
    pub flags: u64,
    /// Options of the file system, separated by commas.
    pub options: String,
    /// The group of mounts that tell each other of changes, as the kernel numbered it; 0: none.
    pub peers: u64,
    /// The group that it is told of changes by: of mounts of the job's, or of mounts outside; 0: none.
    pub master: u64,
    /// Where it comes from.
    pub origin: MountOriginV1,
}

/// Where a mount comes from.
#[derive(Debug, Clone, PartialEq, Eq, SchemaRead, SchemaWrite, Serialize, Deserialize)]
pub enum MountOriginV1 {
    /// The mount namespace of whoever saved the job has it, too, at the same place.
    Outside,
    /// It shows a part of a file system that is mounted outside: this path there.
    Bind(Vec<u8>),
    /// A file system of the job's own, made anew with these files in it, in the directory that the mount shows.
    Own(Vec<TreeFileV1>),
    /// It shows a part of a file system of the job's own.
    Part {
        /// The mount that the file system is made for, by its place in this namespace.
        of: u32,
        /// What that mount does not show: files of this one.
        files: Vec<TreeFileV1>,
    },
    /// A file system whose files are elsewhere, on a disk or in other directories outside (an overlay); it is mounted again, by source and options.
    Again,
    /// A proc file system that shows a further PID namespace: its place among the records of further namespaces.
    Proc(u32),
}

/// A file of a file system that lives in memory.
#[derive(Debug, Clone, PartialEq, Eq, SchemaRead, SchemaWrite, Serialize, Deserialize)]
pub struct TreeFileV1 {
    /// Path below the root of the file system; empty for the root itself.
    pub path: Vec<u8>,
    /// Type and permission bits (st_mode).
    pub mode: u32,
    /// Owner: user and group id.
    pub owner: (u32, u32),
    /// Time of the last change of contents, ns since 1970.
    pub mtime_ns: i64,
    /// Device number of a device.
    pub device: u64,
    /// Contents of a regular file; target of a symbolic link.
    pub contents: Vec<u8>,
    /// It is another name of the file with this path.
    pub link_to: Option<Vec<u8>>,
}

/// A user namespace.
#[derive(Debug, Clone, PartialEq, Eq, SchemaRead, SchemaWrite, Serialize, Deserialize)]
pub struct UserNamespaceV1 {
    /// Its user ids: first one within, first one outside, how many.
    pub uid_map: Vec<(u32, u32, u32)>,
    /// Its group ids.
    pub gid_map: Vec<(u32, u32, u32)>,
    /// setgroups(2) is allowed.
    pub setgroups: bool,
}

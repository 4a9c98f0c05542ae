use serde::{Deserialize, Serialize};
use wincode::{SchemaRead, SchemaWrite};

/// The control groups (cgroups(7)) that the threads of a job are in.
#[derive(Debug, Clone, Default, PartialEq, Eq, SchemaRead, SchemaWrite, Serialize, Deserialize)]
pub struct CgroupsV1 {
    /// One for each hierarchy.
    pub hierarchies: Vec<CgroupHierarchyV1>,
}

/// A hierarchy of control groups. Paths begin with `/`, the group that is the root for whoever saved the job.
#[derive(Debug, Clone, PartialEq, Eq, SchemaRead, SchemaWrite, Serialize, Deserialize)]
pub struct CgroupHierarchyV1 {
    /// As in /proc/PID/cgroup: its controllers, or `name=` and its name; empty: version 2.
    pub name: String,
    /// The group that is the root for the job, if that has a cgroup namespace for itself.
    pub namespace_root: Option<Vec<u8>>,
    /// The groups that hold threads of the job, those above them but for the root, and those below that hold nobody else's; parents before
    /// their children.
    pub groups: Vec<CgroupV1>,
    /// Who is where.
    pub members: Vec<CgroupMembersV1>,
}

/// The threads of the job that are in one group.
#[derive(Debug, Clone, PartialEq, Eq, SchemaRead, SchemaWrite, Serialize, Deserialize)]
pub struct CgroupMembersV1 {
    /// Path of the group.
    pub path: Vec<u8>,
    /// Process and thread id of each.
    pub threads: Vec<(i32, i32)>,
}

/// A control group.
#[derive(Debug, Clone, PartialEq, Eq, SchemaRead, SchemaWrite, Serialize, Deserialize)]
pub struct CgroupV1 {
    /// Its path.
    pub path: Vec<u8>,
    /// It and the groups below it held nobody but threads of the job.
    pub own: bool,
    /// Permission bits of its directory.
    pub mode: u32,
    /// Owner of its directory: user and group id.
    pub owner: (u32, u32),
    /// It is frozen itself, not only with a group above it.
    pub frozen: bool,
    /// The files that can be written; none of a group that is not made again.
    pub files: Vec<CgroupFileV1>,
}

/// A file of a control group.
#[derive(Debug, Clone, PartialEq, Eq, SchemaRead, SchemaWrite, Serialize, Deserialize)]
pub struct CgroupFileV1 {
    /// Its name.
    pub name: String,
    /// Permission bits.
    pub mode: u32,
    /// Owner: user and group id.
    pub owner: (u32, u32),
    /// What it said, for those that say what is set.
    pub value: Option<String>,
}

use serde::{Deserialize, Serialize};
use wincode::{SchemaRead, SchemaWrite};

/// A process that has ended and that its parent has not waited for yet (a zombie).
#[derive(Debug, Clone, PartialEq, Eq, SchemaRead, SchemaWrite, Serialize, Deserialize)]
pub struct DeadTaskV1 {
    /// Its pid.
    pub pid: i32,
    /// Its parent's pid.
    pub ppid: i32,
    /// Process group.
    pub pgid: i32,
    /// Session.
    pub sid: i32,
    /// Signal that the parent got at its exit, 17 (SIGCHLD) as a rule.
    pub exit_signal: i32,
    /// How it ended, as wait(2) will tell it.
    pub status: i32,
    /// Its name.
    pub comm: Vec<u8>,
    /// Real user and group id, which wait(2) and signals tell.
    pub owner: (u32, u32),
}

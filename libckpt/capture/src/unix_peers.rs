//! What becomes of AF_UNIX sockets whose other end is outside the job.
use serde::{Deserialize, Serialize};

/// What becomes of connections of AF_UNIX to processes outside a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UnixPeers {
    /// They keep the job from being saved.
    #[default]
    Refuse,
    /// Restored, the program finds them closed by the other side, behind what had arrived.
    Eof,
    /// Restored, the program's socket is connected anew to the name that it was connected to: the other side sees a new connection.
    Reconnect,
}

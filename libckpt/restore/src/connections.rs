//! What becomes of TCP connections to the outside of a job.

use crate::error::RestoreResult;
use ckpt_image::CheckpointId;
use ckpt_sys::nftables;
use serde::{Deserialize, Serialize};

/// Name of the filter that holds the connections of a checkpoint still.
pub(crate) fn filter_name(checkpoint: &CheckpointId) -> String {
    format!("ckpt-{checkpoint}")
}

/// Gives up the connections that are held still for a checkpoint, if any are: what arrives for them is answered that there is no
/// such connection.
///
/// # Errors
/// What the kernel says.
pub fn release(checkpoint: &CheckpointId) -> RestoreResult<()> {
    let name = filter_name(checkpoint);
    if nftables::exists(&name)? {
        nftables::remove(&name)?;
    }
    Ok(())
}

/// What becomes of TCP connections to the outside of a job. Those within it always come back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OutsideConnections {
    /// Those that have been held still since the checkpoint go on; the program finds the others closed.
    #[default]
    Keep,
    /// All go on. What has gone over one since the checkpoint breaks it, or worse: the bytes that both sides count are not the same.
    Force,
    /// The program finds them closed by the other side, behind what had arrived.
    Close,
    /// As `Close`, but broken (ECONNRESET), not ended.
    Reset,
}

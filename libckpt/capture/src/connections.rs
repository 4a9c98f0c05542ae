//! TCP connections to the outside of a job that ends with its checkpoint: held still, so that they can go on after a restore.
use crate::error::CaptureResult;
use ckpt_image::CheckpointId;
use ckpt_sys::nftables::{self, OwnFilter, Tuple};
use ckpt_sys::tcp_repair::Repair;
use ckpt_sys::{SysError, tcp_state};
use serde::{Deserialize, Serialize};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// What becomes of a job's TCP connections to the outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OutsideConnections {
    /// When the job ends with its checkpoint, they are held still until it is restored; a job that runs on keeps them for itself.
    #[default]
    Keep,
    /// They are the program's alone, and end with it.
    Close,
    /// They keep the job from being saved.
    Refuse,
}

/// The connections of a job that is being saved. Dropped, it leaves no trace.
#[derive(Debug, Default)]
pub(crate) struct Held {
    pub(crate) outside: OutsideConnections,
    ends: bool,
    sockets: Vec<OwnedFd>,
    tuples: Vec<Tuple>,
    /// Goes with this process, should that be killed.
    filter: Option<OwnFilter>,
}

impl Held {
    /// For a job that `ends` with its checkpoint, or runs on.
    pub(crate) fn new(outside: OutsideConnections, ends: bool) -> Self {
        Self { outside, ends, ..Self::default() }
    }

    /// Keeps a duplicate of a connection's socket, if the job ends.
    pub(crate) fn remember(&mut self, fd: BorrowedFd<'_>) -> CaptureResult<()> {
        if self.ends {
            let dup = fd.try_clone_to_owned().map_err(|error| SysError::new("dup", "a socket", error))?;
            self.sockets.push(dup);
        }
        Ok(())
    }

    /// Lets nothing arrive any more for these connections to the outside; whether that is so.
    pub(crate) fn hold(&mut self, tuples: Vec<Tuple>) -> bool {
        if !self.ends || self.outside != OutsideConnections::Keep || tuples.is_empty() {
            return false;
        }
        match nftables::hold(&format!("ckpt-capture-{}", std::process::id()), &tuples) {
            Ok(filter) => {
                self.filter = Some(filter);
                self.tuples = tuples;
                true
            }
            Err(error) => {
                tracing::warn!(%error, "TCP connections to the outside cannot be held still: they will be lost");
                self.outside = OutsideConnections::Close;
                false
            }
        }
    }

    /// The job has been killed, and its checkpoint is safe: its connections end without a word, and those to the outside stay
    /// as they are until the checkpoint is restored.
    pub(crate) fn leave(self, checkpoint: &CheckpointId) {
        if self.outside == OutsideConnections::Keep {
            for socket in &self.sockets {
                let connected = tcp_state::of(socket.as_fd()).is_ok_and(tcp_state::is_connected);
                if connected && let Ok(repair) = Repair::begin(socket.as_fd()) {
                    repair.leave();
                }
            }
        }
        if self.filter.is_some()
            && let Err(error) = nftables::hold_on(&format!("ckpt-{checkpoint}"), &self.tuples)
        {
            tracing::warn!(%error, "TCP connections to the outside cannot be held still: they will be lost");
        }
    }
}

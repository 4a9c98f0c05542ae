//! `ckpt rm`
use super::Context;
use super::progress::Progress;
use crate::failure::{Failure, Outcome};
use ckpt_image::{CheckpointId, Store};

/// Deletes a checkpoint. Never a job's newest by the job's name: only an id will do.
pub(crate) fn rm(context: &Context, id: &str) -> Outcome<()> {
    let store = Store::open(&context.store)?;
    let id: CheckpointId = id.parse().map_err(Failure::new)?;
    let _progress = Progress::spinner(context, &format!("deleting {id}"));
    store.remove(&id)?;
    if let Err(error) = ckpt_restore::release(&id) {
        tracing::warn!("TCP connections are still held still for {id}: {error}");
    }
    Ok(())
}

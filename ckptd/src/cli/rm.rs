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
    give_up_connections(&id);
    Ok(())
}

/// Lets go of the connections that were held still for a checkpoint: nobody can go on with them now.
pub(crate) fn give_up_connections(id: &CheckpointId) {
    if let Err(error) = ckpt_restore::release(id) {
        tracing::warn!("TCP connections are still held still for {id}: {error}");
    }
}

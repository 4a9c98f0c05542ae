//! `ckpt prune`
use super::Context;
use super::args::Kept;
use super::print;
use super::progress::Progress;
use crate::failure::{Failure, Outcome};
use ckpt_image::Store;

/// Deletes the checkpoints of a job that are not to be kept; prints the ids of those deleted.
pub(crate) fn prune(context: &Context, job: &str, kept: &Kept) -> Outcome<()> {
    let keep = kept.parse()?;
    if !keep.is_some() {
        return Err(Failure::usage("prune deletes nothing without --keep or --keep-for")
            .remedy(format!("to keep the newest checkpoint alone: ckpt prune {job} --keep 1")));
    }
    let store = Store::open(&context.store)?;
    if store.latest(job)?.is_none() {
        return Err(Failure::new(format!(
            "{job}: no checkpoints of such a job in {}",
            store.path().display()
        ))
        .remedy("`ckpt list` shows the jobs"));
    }
    let removed = {
        let _progress = Progress::spinner(context, &format!("pruning {job}"));
        store.retain(job, &keep.into())?
    };
    for id in removed {
        super::rm::give_up_connections(&id);
        print::line(if context.json {
            print::json(&serde_json::json!({ "id": id }))
        } else {
            id.to_string()
        });
    }
    Ok(())
}

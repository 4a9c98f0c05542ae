//! `ckpt prune`
use super::Context;
use super::print;
use super::progress::Progress;
use crate::failure::{Failure, Outcome};
use ckpt_image::Store;

/// Deletes all but the newest checkpoints of a job; prints the ids of those deleted.
pub(crate) fn prune(context: &Context, job: &str, keep: u32) -> Outcome<()> {
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
        store.prune(job, usize::try_from(keep).unwrap_or(usize::MAX))?
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

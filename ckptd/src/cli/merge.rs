//! `ckpt merge`
use super::Context;
use super::print::{self, Checkpoint};
use super::progress::Progress;
use crate::failure::Outcome;
use ckpt_image::Store;

/// Makes a checkpoint a full one, under the same id; prints that id.
pub(crate) fn merge(context: &Context, target: &str) -> Outcome<()> {
    let store = Store::open(&context.store)?;
    let id = super::resolve(&store, target)?;
    {
        let _progress = Progress::spinner(context, &format!("merging {id}"));
        store.merge(&id)?;
    }
    if context.json {
        print::line(print::json(&Checkpoint::of(&store.manifest(&id)?)));
    } else {
        print::line(id.as_str());
    }
    Ok(())
}

//! `ckpt import`
use super::Context;
use super::print::{self, Checkpoint};
use super::progress::Progress;
use crate::failure::{Failure, Outcome};
use ckpt_image::{CheckpointId, Store};
use std::fs::File;
use std::io;
use std::path::Path;

/// Reads a checkpoint from a file that export wrote; prints its id.
pub(crate) fn import(context: &Context, file: &Path) -> Outcome<()> {
    let id = if file.as_os_str() == "-" {
        read(context, None, io::stdin().lock())?
    } else {
        let fail = |error: io::Error| Failure::new(format!("{}: cannot read: {error}", file.display()));
        let input = File::open(file).map_err(fail)?;
        let meta = input.metadata().map_err(fail)?;
        // The store knows of a stream only.
        read(context, meta.is_file().then_some(meta.len()), input).map_err(|failure| Failure {
            message: format!("{}: {}", file.display(), failure.message),
            ..failure
        })?
    };
    if context.json {
        let store = Store::open(&context.store)?;
        print::line(print::json(&Checkpoint::of(&store.manifest(&id)?)));
    } else {
        print::line(id.as_str());
    }
    Ok(())
}

fn read(context: &Context, total: Option<u64>, input: impl io::Read) -> Outcome<CheckpointId> {
    let store = Store::open_or_create(&context.store)?;
    let progress = Progress::bytes(context, total, "importing");
    Ok(store.import(progress.0.wrap_read(input))?)
}

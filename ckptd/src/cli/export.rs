//! `ckpt export`
use super::Context;
use super::progress::Progress;
use crate::failure::{Failure, Outcome};
use ckpt_image::{CheckpointId, Store};
use std::fs::{self, File};
use std::io::{self, IsTerminal};
use std::path::{Path, PathBuf};

/// Writes a checkpoint with all that it needs to one file. The file is there when it is complete, not before.
pub(crate) fn export(context: &Context, target: &str, file: &Path) -> Outcome<()> {
    let store = Store::open(&context.store)?;
    let id = super::resolve(&store, target)?;
    if file.as_os_str() == "-" {
        let out = io::stdout();
        if out.is_terminal() {
            return Err(Failure::usage("an image is nothing for a terminal")
                .remedy("name a file, or pipe it to a command"));
        }
        return write(context, &store, &id, out.lock());
    }
    let fail = |error: io::Error| Failure::new(format!("{}: cannot write: {error}", file.display()));
    if file.exists() && !file.is_file() {
        // A device or a FIFO: it cannot be renamed to, and is not to be replaced.
        return write(context, &store, &id, File::options().write(true).open(file).map_err(fail)?);
    }
    let part = Part::create(file).map_err(fail)?;
    write(context, &store, &id, &part.out)?;
    part.out.sync_all().map_err(fail)?;
    fs::rename(&part.path, file).map_err(fail)
}

fn write(context: &Context, store: &Store, id: &CheckpointId, out: impl io::Write) -> Outcome<()> {
    let progress = Progress::bytes(context, None, &format!("exporting {id}"));
    Ok(store.export(id, progress.0.wrap_write(out))?)
}

/// A file in the making; removed unless it was renamed.
struct Part {
    path: PathBuf,
    out: File,
}

impl Part {
    fn create(file: &Path) -> io::Result<Self> {
        let mut name = file.file_name().ok_or(io::ErrorKind::IsADirectory)?.to_owned();
        name.push(format!(".part-{}", std::process::id()));
        let path = file.with_file_name(name);
        Ok(Self { out: File::options().write(true).create_new(true).open(&path)?, path })
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

//! Files that the checkpoint refers to by path: whether those that are there now are those that the job had.
use crate::error::{RestoreError, RestoreResult};
use ckpt_image::record::{FileDigestV1, NamedFileV1, TmpfsFileV1};
use ckpt_image::{ImageRecords, file_digest};
use serde::{Deserialize, Serialize};
use std::ffi::OsStr;
use std::fs::{File, Metadata};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};

/// Differences that one message names.
const NAMED_MAX: usize = 5;

/// What becomes of a restore whose files are not what they were at the checkpoint. A file that is gone, or is no regular file any more, stands
/// in the way of any.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChangedFiles {
    /// Code has to be the same; data is what it is now.
    #[default]
    Data,
    /// All have to be the same: the checkpoint does not hold what they had in them.
    Refuse,
    /// The program finds all of them as they are now, its own code, too.
    Keep,
}

/// A file that is not what it was.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// Its path.
    pub path: String,
    /// What is different: `size 10 -> 12`.
    pub what: String,
    /// The program runs code from it.
    pub code: bool,
    /// It cannot be opened as a regular file.
    pub gone: bool,
}

/// The files of a checkpoint that are not what they were, if the job may be restored with them.
///
/// # Errors
/// It may not; the error names them.
pub fn changed_files(image: &ImageRecords, policy: ChangedFiles) -> Result<Vec<Difference>, RestoreError> {
    let files: Vec<NamedFileV1> = image.records()?;
    let held: Vec<TmpfsFileV1> = image.records()?;
    // What the image holds the contents of is brought back to them.
    let files = files.iter().filter(|file| held.iter().all(|held| held.path != file.path));
    let found: Vec<Difference> = files.filter_map(difference).collect();
    let in_the_way = |file: &Difference| match policy {
        _ if file.gone => true,
        ChangedFiles::Data => file.code,
        ChangedFiles::Refuse => true,
        ChangedFiles::Keep => false,
    };
    let (refused, told): (Vec<_>, Vec<_>) = found.into_iter().partition(in_the_way);
    if refused.is_empty() { Ok(told) } else { Err(refusal(&refused)) }
}

/// Refuses a restore that the policy does not allow.
pub(crate) fn check(image: &ImageRecords, policy: ChangedFiles) -> RestoreResult<()> {
    for Difference { path, what, .. } in changed_files(image, policy)? {
        tracing::info!(path, what, "the file is not what it was at the checkpoint");
    }
    Ok(())
}

fn refusal(files: &[Difference]) -> RestoreError {
    let name = |file: &Difference| {
        let code = if file.code { " (code that the program runs)" } else { "" };
        format!("{}{code}: {}", file.path, file.what)
    };
    let mut list: Vec<String> = files.iter().take(NAMED_MAX).map(name).collect();
    if files.len() > NAMED_MAX {
        list.push(format!("and {} more", files.len() - NAMED_MAX));
    }
    let all_there = files.iter().all(|file| !file.gone);
    let remedy = match (all_there, files.iter().any(|file| file.code)) {
        (false, _) => "Put them back as they were",
        (true, true) => {
            "Put the same version back, or, if you know that the program can go on with another one, restore with --files keep"
        }
        (true, false) => {
            "Put them back as they were, or restore with --files keep: the program finds them as they are now"
        }
    };
    RestoreError::ChangedFiles { list: list.join("; "), remedy: remedy.into() }
}

fn difference(file: &NamedFileV1) -> Option<Difference> {
    let found = |what: String, gone: bool| {
        let path = String::from_utf8_lossy(&file.path).into_owned();
        Some(Difference { path, what, code: file.code, gone })
    };
    let meta = match std::fs::metadata(OsStr::from_bytes(&file.path)) {
        Ok(meta) => meta,
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return found(format!("it is gone (it had {} bytes)", file.ident.size), true);
        }
        Err(error) => return found(format!("it cannot be looked at: {error}"), true),
    };
    if !meta.is_file() {
        return found("it is not a regular file any more".into(), true);
    }
    what_changed(file, &meta).and_then(|what| found(what, false))
}

/// What is different in a regular file that is there; None: nothing.
fn what_changed(file: &NamedFileV1, meta: &Metadata) -> Option<String> {
    let was = &file.ident;
    let ns = |seconds: i64, ns: i64| seconds.saturating_mul(1_000_000_000).saturating_add(ns);
    let (mtime, ctime) = (ns(meta.mtime(), meta.mtime_nsec()), ns(meta.ctime(), meta.ctime_nsec()));
    if (was.dev, was.ino, file.ctime_ns) == (meta.dev(), meta.ino(), ctime) {
        return None;
    }
    let mut changes = Vec::new();
    if was.size != meta.len() {
        changes.push(format!("size {} -> {}", was.size, meta.len()));
    }
    match (&file.digest, &digest_now(file)) {
        (FileDigestV1::None, _) | (_, FileDigestV1::None) => {
            if mtime != was.mtime_ns {
                changes.push(modified(was.mtime_ns, mtime));
            }
        }
        (was, now) if was == now => return None,
        (FileDigestV1::BuildId(was), now) => changes.push(format!("build-id {} -> {}", hex(was), name(now))),
        (FileDigestV1::Blake3(_), _) => changes.push("other contents".into()),
    }
    (!changes.is_empty()).then(|| changes.join(", "))
}

/// As the checkpoint has it; none when it has none, or when the file cannot be read.
fn digest_now(file: &NamedFileV1) -> FileDigestV1 {
    if file.digest == FileDigestV1::None {
        return FileDigestV1::None;
    }
    let opened = File::options()
        .read(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY)
        .open(OsStr::from_bytes(&file.path));
    opened.and_then(|file| file_digest(&file)).map_or(FileDigestV1::None, |(digest, _)| digest)
}

fn modified(was: i64, now: i64) -> String {
    let seconds = now.abs_diff(was) / 1_000_000_000;
    let way = if now > was { "later" } else { "earlier" };
    format!("modified {seconds} s {way}")
}

fn name(digest: &FileDigestV1) -> String {
    match digest {
        FileDigestV1::BuildId(id) => hex(id),
        FileDigestV1::Blake3(_) | FileDigestV1::None => "none".into(),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

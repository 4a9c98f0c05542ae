//! Files that mappings are of: whether what is there now can stand for what was mapped.
use crate::canonical;
use crate::error::{RestoreError, RestoreResult};
use ckpt_image::record::{MappedFileV1, VmaV1};
use ckpt_sys::canonical::Refusal;
use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileTypeExt;
use std::path::Path;

/// Looks at the file, which is at `found` here, before it is mapped: it may have changed as long as the mapping does not reach further past the end than it did.
pub(crate) fn check(vma: &VmaV1, file: &MappedFileV1, offset: u64, found: &[u8]) -> RestoreResult<()> {
    let path = Path::new(OsStr::from_bytes(&file.path));
    let refuse = |reason: String, remedy: &str| {
        Err(RestoreError::File { path: path.display().to_string(), reason, remedy: remedy.into() })
    };
    let opened = match canonical::open(found, libc::O_PATH) {
        Err(link @ Refusal::Link { .. }) => return Err(canonical::failed("open", &file.path, &link)),
        opened => opened.map_err(|refusal| io::Error::from(refusal.errno())),
    };
    let meta = match opened.and_then(|opened| File::from(opened).metadata()) {
        Ok(meta) => meta,
        Err(error) => {
            let reason = format!("the program maps it at {:#x}, but it cannot be found: {error}", vma.start);
            return refuse(reason, "Put the file back");
        }
    };
    let was_file = file.ident.mode & libc::S_IFMT == libc::S_IFREG;
    if meta.is_file() != was_file || (!was_file && !meta.file_type().is_char_device()) {
        return refuse("it is another kind of file than it was".into(), "Put the file back");
    }
    if !was_file {
        return Ok(());
    }
    let reach = offset.saturating_add(vma.end - vma.start).min(file.ident.size);
    if meta.len() < reach {
        let reason =
            format!("it is shorter than it was: {} bytes in place of {}", meta.len(), file.ident.size);
        return refuse(reason, "Put back the file as it was at the checkpoint");
    }
    Ok(())
}

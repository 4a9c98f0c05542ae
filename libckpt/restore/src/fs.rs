//! Working directory, root directory, umask.
use crate::builder::Builder;
use crate::error::{RestoreError, RestoreResult};
use crate::nameless::Nameless;
use crate::vma;
use ckpt_image::record::FsV1;
use nix::errno::Errno;

/// Gives the process under construction its directories and its umask. Paths are those of the root that ckpt has.
pub(crate) fn restore_fs(builder: &mut Builder<'_>, fs: &FsV1, nameless: &Nameless) -> RestoreResult<()> {
    let cwd = nameless.directory(fs.id).unwrap_or(&fs.cwd);
    let cwd = open(builder, cwd, "working directory")?;
    // The working directory stays what it is.
    if fs.root != b"/" {
        let root = open(builder, &fs.root, "root directory")?;
        let path = String::from_utf8_lossy(&fs.root);
        enter(builder, root, &path)?;
        let here = builder.place_path(b".")?;
        builder.call("chroot", &path, libc::SYS_chroot, &[here.get()])?;
    }
    enter(builder, cwd, &String::from_utf8_lossy(&fs.cwd))?;
    builder.call("umask", &"the process", libc::SYS_umask, &[u64::from(fs.umask)]).map(drop)
}

fn open(builder: &mut Builder<'_>, path: &[u8], what: &str) -> RestoreResult<u64> {
    match vma::open_as(builder, path, libc::O_PATH | libc::O_DIRECTORY) {
        Err(RestoreError::Remote { errno: Errno::ENOENT | Errno::ENOTDIR, object, .. }) => {
            Err(RestoreError::File {
                path: object,
                reason: format!("it is the program's {what}, and it is not there any more"),
                remedy: "Make the directory again and restore".into(),
            })
        }
        opened => opened,
    }
}

/// Goes to a directory by a descriptor of the process's, and closes that.
fn enter(builder: &mut Builder<'_>, fd: u64, path: &str) -> RestoreResult<()> {
    builder.call("fchdir", &path, libc::SYS_fchdir, &[fd])?;
    builder.call("close", &path, libc::SYS_close, &[fd]).map(drop)
}

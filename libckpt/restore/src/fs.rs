//! Working directory, root directory, umask.
use crate::builder::Builder;
use crate::error::{RestoreError, RestoreResult};
use crate::nameless::Nameless;
use ckpt_image::record::FsV1;
use nix::errno::Errno;

/// Gives the process under construction its directories and its umask. Paths are those of the root that ckpt has.
pub(crate) fn restore_fs(builder: &mut Builder<'_>, fs: &FsV1, nameless: &Nameless) -> RestoreResult<()> {
    let cwd = nameless.directory(fs.id).unwrap_or(&fs.cwd);
    enter(builder, "chdir", libc::SYS_chdir, cwd, "working directory")?;
    // The working directory stays what it is.
    if fs.root != b"/" {
        enter(builder, "chroot", libc::SYS_chroot, &fs.root, "root directory")?;
    }
    builder.call("umask", &"the process", libc::SYS_umask, &[u64::from(fs.umask)]).map(drop)
}

fn enter(
    builder: &mut Builder<'_>,
    call: &'static str,
    nr: i64,
    path: &[u8],
    what: &str,
) -> RestoreResult<()> {
    let at = builder.place_path(path)?;
    let path = String::from_utf8_lossy(path).into_owned();
    match builder.remote.syscall(nr, &[at.get()])? {
        Ok(_) => Ok(()),
        Err(Errno::ENOENT | Errno::ENOTDIR) => Err(RestoreError::File {
            path,
            reason: format!("it is the program's {what}, and it is not there any more"),
            remedy: "Make the directory again and restore".into(),
        }),
        Err(errno) => Err(RestoreError::Remote { pid: builder.remote.pid(), call, object: path, errno }),
    }
}

//! AF_UNIX sockets with the name of a path that leads elsewhere or nowhere: the kernel takes names from bind(2) only, so they are bound where the path
//! leads to a file of ours.
use crate::error::{RestoreError, RestoreResult};
use ckpt_sys::{SysError, SysResult, socket};
use nix::sched::{CloneFlags, unshare};
use std::collections::HashMap;
use std::ffi::OsStr;
use std::os::fd::BorrowedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};
use tempfile::TempDir;

/// The files of sockets whose own were removed, which are there for the time of the restore: by inode of the job's socket.
#[derive(Debug, Default)]
pub(in crate::files) struct GhostNames {
    directory: Option<TempDir>,
    files: HashMap<u64, PathBuf>,
}

impl GhostNames {
    /// Binds the job's socket `inode` to a name that leads nowhere.
    pub(super) fn bind(&mut self, fd: BorrowedFd<'_>, inode: u64, local: &[u8]) -> RestoreResult<()> {
        let directory = match &mut self.directory {
            Some(directory) => directory,
            none => none.insert(temporary(&std::env::temp_dir())?),
        };
        let place = directory.path().join(inode.to_string());
        bind_at(fd, local, directory.path(), &place)?;
        self.files.insert(inode, place);
        Ok(())
    }

    /// The path at which a socket is found during the restore.
    pub(super) fn path(&self, inode: u64) -> Option<&Path> {
        self.files.get(&inode).map(PathBuf::as_path)
    }
}

/// Binds a socket to a name, but its file is at another path.
pub(super) fn bind_renamed(fd: BorrowedFd<'_>, local: &[u8], path: &Path) -> RestoreResult<()> {
    let directory = path.parent().unwrap_or(Path::new("/"));
    let temporary = temporary(directory)?;
    bind_at(fd, local, temporary.path(), path)
}

fn temporary(at: &Path) -> RestoreResult<TempDir> {
    let made = tempfile::Builder::new().prefix(".ckpt-").tempdir_in(at);
    made.map_err(|error| SysError::new("mkdir", at.display().to_string(), error).into())
}

/// Binds a socket to a name as seen from `root`, an empty directory, and moves its file to `place`.
fn bind_at(fd: BorrowedFd<'_>, local: &[u8], root: &Path, place: &Path) -> RestoreResult<()> {
    let root = root.join("root");
    std::fs::create_dir(&root).map_err(|error| SysError::new("mkdir", root.display().to_string(), error))?;
    let name = local.get(2..).and_then(|name| name.split(|byte| *byte == 0).next()).unwrap_or_default();
    let name = Path::new(OsStr::from_bytes(name));
    // A thread may have a root directory of its own.
    let bound = std::thread::scope(|scope| scope.spawn(|| bind_below(fd, local, name, &root)).join());
    bound.map_err(|_| RestoreError::Inconsistent { what: "binding a socket failed".into() })??;
    let moved = std::fs::rename(below(&root, name), place).and_then(|()| std::fs::remove_dir_all(&root));
    moved.map_err(|error| SysError::new("rename", place.display().to_string(), error).into())
}

/// Where a name leads as seen from `root`, below which there are no links.
fn below(root: &Path, name: &Path) -> PathBuf {
    let mut inside: Vec<&OsStr> = Vec::new();
    for component in name.components() {
        match component {
            Component::Normal(part) => inside.push(part),
            Component::ParentDir => drop(inside.pop()),
            _ => {}
        }
    }
    inside.iter().fold(root.to_owned(), |path, part| path.join(part))
}

fn bind_below(fd: BorrowedFd<'_>, local: &[u8], name: &Path, root: &Path) -> SysResult<()> {
    let failed = |call| move |errno| SysError::new(call, root.display().to_string(), errno);
    unshare(CloneFlags::CLONE_FS).map_err(failed("unshare"))?;
    nix::unistd::chroot(root).map_err(failed("chroot"))?;
    nix::unistd::chdir("/").map_err(failed("chdir"))?;
    if let Some(parent) = name.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        std::fs::create_dir_all(parent)
            .map_err(|error| SysError::new("mkdir", parent.display().to_string(), error))?;
    }
    socket::bind(fd, local)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixDatagram;

    #[test]
    fn a_name_may_lead_elsewhere() {
        let directory = tempfile::tempdir().unwrap();
        for (name, file) in [("/nowhere/../else/socket", "a"), ("../../socket", "b")] {
            let unbound = UnixDatagram::unbound().unwrap();
            let local = [b"\x01\0", name.as_bytes(), b"\0"].concat();
            let place = directory.path().join(file);
            if bind_renamed(unbound.as_fd(), &local, &place).is_err() {
                eprintln!("not tested: no right to chroot(2)");
                return;
            }
            assert_eq!(unbound.local_addr().unwrap().as_pathname(), Some(Path::new(name)));
            UnixDatagram::unbound().unwrap().send_to(b"x", &place).unwrap();
        }
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 2);
    }
}

//! Files in use that no path leads to any more. Each is made again where it was and loses its name at once; what uses it opens it through our
//! descriptors.
use crate::error::{RestoreError, RestoreResult};
use ckpt_image::Image;
use ckpt_image::record::{FsId, GhostId, NamelessNodeV1, NamelessV1, OpenFileId, OpenFileV1};
use ckpt_sys::{SysError, descriptor, spawn};
use nix::sys::stat::{Mode, SFlag, UtimensatFlags, mknod, utimensat};
use nix::sys::time::{TimeSpec, TimeValLike};
use nix::unistd::Pid;
use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::{self, File, Permissions};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, lchown, symlink};
use std::path::{Path, PathBuf};

/// What a watch is put on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Watched {
    /// A path of ours that leads to it.
    Link(Vec<u8>),
    /// The contents of an unlinked file.
    Ghost(GhostId),
}

/// What was made.
#[derive(Debug, Default)]
pub(crate) struct Nameless {
    links: HashMap<OpenFileId, Vec<u8>>,
    directories: HashMap<FsId, Vec<u8>>,
    watches: HashMap<(OpenFileId, i32), Watched>,
    /// Symbolic links: they can be opened by name only.
    opened: HashMap<OpenFileId, OwnedFd>,
    /// The links lead through these.
    handles: Vec<OwnedFd>,
    /// Stand for processes that have ended.
    processes: Vec<i32>,
}

impl Nameless {
    /// Makes all that an image has.
    pub(crate) fn make(image: &Image) -> RestoreResult<Self> {
        let mut made = Self::default();
        let records: Vec<NamelessV1> = image.records()?;
        if records.is_empty() {
            return Ok(made);
        }
        let files: Vec<OpenFileV1> = image.records()?;
        for record in records {
            made.add(&record, &files)?;
        }
        Ok(made)
    }

    /// The path by which open file `id` is opened, if it is of such a file.
    pub(crate) fn link(&self, id: OpenFileId) -> Option<&[u8]> {
        self.links.get(&id).map(Vec::as_slice)
    }

    /// Open file `id`, if it could be opened only when it was made.
    pub(crate) fn take(&mut self, id: OpenFileId) -> Option<OwnedFd> {
        self.opened.remove(&id)
    }

    /// The path of a working directory, if it is such a one.
    pub(crate) fn directory(&self, id: FsId) -> Option<&[u8]> {
        self.directories.get(&id).map(Vec::as_slice)
    }

    /// What watch `wd` of inotify instance `id` is put on, if it is such a file.
    pub(crate) fn watched(&self, id: OpenFileId, wd: i32) -> Option<&Watched> {
        self.watches.get(&(id, wd))
    }

    fn add(&mut self, record: &NamelessV1, files: &[OpenFileV1]) -> RestoreResult<()> {
        let path = Path::new(OsStr::from_bytes(&record.path));
        let link = match &record.node {
            NamelessNodeV1::Ghost(id) => {
                let watches = record.watches.iter().map(|watch| (*watch, Watched::Ghost(*id)));
                self.watches.extend(watches);
                return Ok(());
            }
            NamelessNodeV1::Process => {
                let number = path.file_name().and_then(|name| name.to_str()?.parse().ok()).unwrap_or(0);
                self.processes.push(spawn::waiting_process(number, false)?);
                record.path.clone()
            }
            NamelessNodeV1::Elsewhere { device, handle_kind, handle } => {
                self.keep(by_handle(path, *device, *handle_kind, handle)?)
            }
            node => self.make_again(record, node, path, files).map_err(|error| refused(path, &error))?,
        };
        self.links.extend(record.files.iter().map(|id| (*id, link.clone())));
        self.directories.extend(record.directories.iter().map(|id| (*id, link.clone())));
        self.watches.extend(record.watches.iter().map(|watch| (*watch, Watched::Link(link.clone()))));
        Ok(())
    }

    fn keep(&mut self, fd: OwnedFd) -> Vec<u8> {
        let link = format!("/proc/{}/fd/{}", std::process::id(), fd.as_raw_fd());
        self.handles.push(fd);
        link.into_bytes()
    }

    fn make_again(
        &mut self,
        record: &NamelessV1,
        node: &NamelessNodeV1,
        path: &Path,
        files: &[OpenFileV1],
    ) -> io::Result<Vec<u8>> {
        let name = Name::find(path)?;
        match node {
            NamelessNodeV1::Directory => fs::create_dir(&name.path)?,
            NamelessNodeV1::Symlink { target } => symlink(OsStr::from_bytes(target), &name.path)?,
            NamelessNodeV1::Device { rdev } => {
                mknod(&name.path, SFlag::from_bits_truncate(record.mode), Mode::empty(), *rdev)?;
            }
            _ => mknod(&name.path, SFlag::S_IFIFO, Mode::empty(), 0)?,
        }
        lchown(&name.path, Some(record.owner.0), Some(record.owner.1))?;
        if !matches!(node, NamelessNodeV1::Symlink { .. }) {
            fs::set_permissions(&name.path, Permissions::from_mode(record.mode & 0o7777))?;
        }
        let (atime, mtime) = (TimeSpec::nanoseconds(record.atime_ns), TimeSpec::nanoseconds(record.mtime_ns));
        utimensat(nix::fcntl::AT_FDCWD, &name.path, &atime, &mtime, UtimensatFlags::NoFollowSymlink)?;
        let bytes = name.path.as_os_str().as_bytes();
        if matches!(node, NamelessNodeV1::Symlink { .. }) {
            for file in files.iter().filter(|file| record.files.contains(&file.id)) {
                let flags = libc::O_PATH | libc::O_NOFOLLOW | file.flags.cast_signed() & libc::O_CLOEXEC;
                self.opened.insert(file.id, descriptor::open(bytes, flags, 0)?);
            }
        }
        let handle = descriptor::open(bytes, libc::O_PATH | libc::O_NOFOLLOW, 0)?;
        name.remove(matches!(node, NamelessNodeV1::Directory))?;
        Ok(self.keep(handle))
    }
}

impl Drop for Nameless {
    fn drop(&mut self) {
        for pid in self.processes.drain(..).map(Pid::from_raw) {
            let ended = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL);
            if let Err(errno) = ended.and_then(|()| nix::sys::wait::waitpid(pid, None).map(drop)) {
                tracing::warn!(%pid, %errno, "a process that stood for one that had ended");
            }
        }
    }
}

/// A name for the time.
struct Name {
    path: PathBuf,
    /// Directories that were made for it, outermost first.
    parents: Vec<PathBuf>,
}

impl Name {
    /// The one that the file had; if that is another's now, one beside it.
    fn find(path: &Path) -> io::Result<Self> {
        let missing = path.ancestors().skip(1).take_while(|parent| parent.symlink_metadata().is_err());
        let mut parents: Vec<PathBuf> = missing.map(Path::to_path_buf).collect();
        parents.reverse();
        for parent in &parents {
            fs::create_dir(parent)?;
        }
        let taken = |path: &PathBuf| path.symlink_metadata().is_ok();
        let mut free = path.to_path_buf();
        for number in 0_u32.. {
            if !taken(&free) {
                break;
            }
            free = path.with_file_name(format!(".ckpt-{}-{number}", std::process::id()));
        }
        Ok(Self { path: free, parents })
    }

    fn remove(self, is_directory: bool) -> io::Result<()> {
        if is_directory { fs::remove_dir(&self.path) } else { fs::remove_file(&self.path) }?;
        self.parents.iter().rev().try_for_each(fs::remove_dir)
    }
}

/// Opens a file that has another name than it is known by, as O_PATH.
fn by_handle(path: &Path, device: u64, kind: i32, handle: &[u8]) -> RestoreResult<OwnedFd> {
    let gone = || RestoreError::File {
        path: path.display().to_string(),
        reason: "it had another name when the program was saved, and is not there any more".into(),
        remedy: "Restore on the machine where the program was saved, or restore a later checkpoint".into(),
    };
    let mut mounts = path.ancestors().skip(1).filter_map(|directory| File::open(directory).ok());
    let mount = mounts.find(|directory| directory.metadata().is_ok_and(|meta| meta.dev() == device));
    let mount = OwnedFd::from(mount.ok_or_else(gone)?);
    descriptor::open_by_handle(std::os::fd::AsFd::as_fd(&mount), kind, handle).map_err(|_| gone())
}

fn refused(path: &Path, error: &io::Error) -> RestoreError {
    RestoreError::File {
        path: path.display().to_string(),
        reason: format!("the program has it in use without a name, and it cannot be made again: {error}"),
        remedy: "Make its directory writable again and restore".into(),
    }
}

/// Gives a file that was made again its times.
pub(crate) fn set_times(image: &Image, ghost: GhostId, file: &File) -> RestoreResult<()> {
    let records: Vec<NamelessV1> = image.records()?;
    let Some(record) = records.into_iter().find(|record| record.node == NamelessNodeV1::Ghost(ghost)) else {
        return Ok(());
    };
    let (atime, mtime) = (TimeSpec::nanoseconds(record.atime_ns), TimeSpec::nanoseconds(record.mtime_ns));
    nix::sys::stat::futimens(file, &atime, &mtime)
        .map_err(|errno| SysError::new("futimens", "an unlinked file", errno).into())
}

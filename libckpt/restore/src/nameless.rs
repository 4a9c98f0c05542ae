//! Files in use that no path leads to any more. Each is made again where it was and loses its name at once; what uses it opens it through our
//! descriptors.
use crate::error::{RestoreError, RestoreResult};
use ckpt_image::Image;
use ckpt_image::record::{FsId, GhostId, NamelessNodeV1, NamelessV1, OpenFileId, OpenFileV1};
use ckpt_sys::canonical::{self, Place, Refusal};
use ckpt_sys::proc::mounts;
use ckpt_sys::{SysError, descriptor, spawn};
use nix::errno::Errno;
use nix::fcntl::AT_FDCWD;
use nix::sys::stat::{Mode, SFlag, UtimensatFlags, fstat, mkdirat, mknodat, utimensat};
use nix::sys::time::{TimeSpec, TimeValLike};
use nix::unistd::{Pid, geteuid, symlinkat};
use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

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
        let (at, as_) = (&name.place.directory, name.place.name.as_os_str());
        let kind = match node {
            NamelessNodeV1::Directory => {
                mkdirat(at, as_, Mode::S_IRWXU)?;
                SFlag::S_IFDIR
            }
            NamelessNodeV1::Symlink { target } => {
                symlinkat(OsStr::from_bytes(target), at, as_)?;
                SFlag::S_IFLNK
            }
            NamelessNodeV1::Device { rdev } => {
                let kind = SFlag::from_bits_truncate(record.mode) & SFlag::S_IFMT;
                mknodat(at, as_, kind, Mode::empty(), *rdev)?;
                kind
            }
            _ => {
                mknodat(at, as_, SFlag::S_IFIFO, Mode::empty(), 0)?;
                SFlag::S_IFIFO
            }
        };
        let handle = name.place.look()?;
        let is = fstat(&handle)?;
        // In a directory of theirs, somebody may have put another thing in its place.
        if SFlag::from_bits_truncate(is.st_mode) & SFlag::S_IFMT != kind || is.st_uid != geteuid().as_raw() {
            return Err(Errno::EBUSY.into());
        }
        canonical::set_owner(handle.as_fd(), record.owner)?;
        if kind != SFlag::S_IFLNK {
            canonical::set_mode(handle.as_fd(), record.mode)?;
        }
        let (atime, mtime) = (TimeSpec::nanoseconds(record.atime_ns), TimeSpec::nanoseconds(record.mtime_ns));
        utimensat(AT_FDCWD, &canonical::link(handle.as_fd()), &atime, &mtime, UtimensatFlags::FollowSymlink)?;
        if kind == SFlag::S_IFLNK {
            for file in files.iter().filter(|file| record.files.contains(&file.id)) {
                self.opened.insert(file.id, name.place.look()?);
            }
        }
        name.remove()?;
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
    place: Place,
    /// Directories that were made for it, outermost first.
    parents: Vec<Place>,
}

impl Name {
    /// The one that the file had; if that is another's now, one beside it.
    fn find(path: &Path) -> io::Result<Self> {
        let refused = |refusal: Refusal| match refusal {
            Refusal::Errno(errno) => errno.into(),
            link @ Refusal::Link { .. } => io::Error::other(link),
        };
        let (mut place, parents) = Place::with_parents(None, path.as_os_str().as_bytes()).map_err(refused)?;
        for number in 0_u32.. {
            if place.look().is_err() {
                break;
            }
            place.name = format!(".ckpt-{}-{number}", std::process::id()).into();
        }
        Ok(Self { place, parents })
    }

    fn remove(self) -> io::Result<()> {
        Ok(std::iter::once(&self.place).chain(self.parents.iter().rev()).try_for_each(Place::remove)?)
    }
}

/// Opens a file that has another name than it is known by, as O_PATH.
fn by_handle(path: &Path, device: u64, kind: i32, handle: &[u8]) -> RestoreResult<OwnedFd> {
    let gone = || RestoreError::File {
        path: path.display().to_string(),
        reason: "it had another name when the program was saved, and is not there any more".into(),
        remedy: "Restore on the machine where the program was saved, or restore a later checkpoint".into(),
    };
    // In a container, the path may be one outside. What is opened through a read-only mount is not written to.
    let mut others = mounts::own()?;
    others.sort_by_key(|mount| mount.flags & libc::MS_RDONLY);
    let others = others.iter().map(|mount| Path::new(OsStr::from_bytes(&mount.point)));
    // To open a device may do something.
    let others = others.filter(|place| fs::metadata(place).is_ok_and(|meta| meta.is_dir() || meta.is_file()));
    let mut mounts = path.ancestors().skip(1).chain(others).filter_map(|place| File::open(place).ok());
    let mount = mounts.find(|place| place.metadata().is_ok_and(|meta| meta.dev() == device));
    let mount = OwnedFd::from(mount.ok_or_else(gone)?);
    descriptor::open_by_handle(mount.as_fd(), kind, handle).map_err(|_| gone())
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

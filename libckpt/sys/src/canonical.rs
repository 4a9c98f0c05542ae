//! Paths that the kernel has told of: they had no symbolic link in them. One that has a link now leads where whoever owns that wants it to, so such a
//! path is not followed with rights that its owner lacks.
use crate::descriptor;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat, readlinkat};
use nix::sys::stat::{Mode, SFlag, fstat};
use std::ffi::{CString, OsStr, OsString};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

/// RESOLVE_NO_SYMLINKS of openat2(2); magic links of /proc are symbolic links, too.
pub const NO_SYMLINKS: u64 = 4;
/// RESOLVE_IN_ROOT of openat2(2).
const IN_ROOT: u64 = 0x10;
/// All flags of open(2) that openat2(2) knows; it refuses others, and open(2) ignores them.
const KNOWN: i32 = libc::O_ACCMODE
    | libc::O_CREAT
    | libc::O_EXCL
    | libc::O_NOCTTY
    | libc::O_TRUNC
    | libc::O_APPEND
    | libc::O_NONBLOCK
    | libc::O_SYNC
    | libc::O_ASYNC
    | libc::O_DIRECT
    // O_LARGEFILE, which libc calls 0.
    | 0o100_000
    | libc::O_DIRECTORY
    | libc::O_NOFOLLOW
    | libc::O_NOATIME
    | libc::O_TMPFILE;
/// Those that O_PATH goes with.
const WITH_PATH: i32 = libc::O_PATH | libc::O_DIRECTORY | libc::O_NOFOLLOW;
/// How often a path is tried when `..` in it, of a root directory, comes upon a rename or a mount elsewhere.
const ATTEMPTS: u32 = 16;
/// As the kernel has it.
const LINKS_MAX: u32 = 40;

/// Why a path was not opened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The kernel's answer.
    #[error("{0}")]
    Errno(#[from] Errno),
    /// A symbolic link on the way is neither root's nor this process's user's.
    #[error("{} is a symbolic link now, made by user {owner}", path.display())]
    Link {
        /// Its path.
        path: PathBuf,
        /// The user who owns it.
        owner: u32,
    },
}

impl Refusal {
    /// The kernel's answer; ELOOP for a link.
    #[must_use]
    pub fn errno(&self) -> Errno {
        match self {
            Self::Errno(errno) => *errno,
            Self::Link { .. } => Errno::ELOOP,
        }
    }
}

/// `struct open_how` for a path without symbolic links: flags, mode, how to resolve.
#[must_use]
pub fn open_how(flags: i32, mode: u32) -> [u64; 3] {
    let flags = if flags & libc::O_PATH == 0 { flags & KNOWN } else { flags & WITH_PATH } | libc::O_CLOEXEC;
    [u64::from(flags.cast_unsigned()), u64::from(mode), NO_SYMLINKS]
}

/// open(2), close-on-exec, of a path that the kernel has told of. `root`: the directory that it begins at, of which `..` does not lead out; None: this
/// process's root directory. Links of root's and of this process's user are followed.
///
/// # Errors
/// [`Refusal::Link`] for a link of somebody else, and what open(2) answers.
pub fn open(root: Option<RawFd>, path: &[u8], flags: i32, mode: u32) -> Result<OwnedFd, Refusal> {
    let how = open_how(flags, mode);
    let opened = match root {
        Some(root) => {
            let how = [how[0], how[1], how[2] | IN_ROOT];
            let mut attempts = (0..ATTEMPTS).map(|_| open_at(root, relative(path), how));
            attempts.find(|opened| !matches!(opened, Err(Errno::EAGAIN))).unwrap_or(Err(Errno::EAGAIN))
        }
        None => open_at(libc::AT_FDCWD, path, how),
    };
    match opened {
        Err(Errno::ELOOP) => follow(root, path, how),
        opened => Ok(opened?),
    }
}

fn relative(path: &[u8]) -> &[u8] {
    let start = path.iter().position(|byte| *byte != b'/').unwrap_or(path.len());
    if start == path.len() { b"." } else { &path[start..] }
}

fn open_at(at: RawFd, path: &[u8], how: [u64; 3]) -> Result<OwnedFd, Errno> {
    let path = CString::new(path).map_err(|_| Errno::EINVAL)?;
    let (how_at, size) = (how.as_ptr(), size_of_val(&how));
    // SAFETY: `path` is a C string, `how` is laid out as `struct open_how`, of that size.
    let fd = unsafe { libc::syscall(libc::SYS_openat2, at, path.as_ptr(), how_at, size) };
    match RawFd::try_from(fd) {
        // SAFETY: the kernel has just returned this descriptor to us.
        Ok(fd) if fd >= 0 => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
        _ => Err(Errno::last()),
    }
}

/// Opens a path step by step, with the links that may be followed.
fn follow(root: Option<RawFd>, path: &[u8], how: [u64; 3]) -> Result<OwnedFd, Refusal> {
    let follow_last = how[0] & u64::from(libc::O_NOFOLLOW.unsigned_abs()) == 0;
    let place = Walk::begin(root)?.go_to(path, follow_last)?;
    Ok(open_at(place.directory.as_raw_fd(), place.name.as_bytes(), how)?)
}

/// A name in a directory that is held open: nobody can lead it elsewhere.
#[derive(Debug)]
pub struct Place {
    /// The directory.
    pub directory: OwnedFd,
    /// What is looked for there: a name, or `.`.
    pub name: OsString,
}

impl Place {
    /// The place of what `path`, which the kernel has told of, leads to; `root` as for [`open`].
    ///
    /// # Errors
    /// As [`open`]'s, of the directory.
    pub fn of(root: Option<RawFd>, path: &[u8]) -> Result<Self, Refusal> {
        let path = Path::new(OsStr::from_bytes(path));
        let Some(name) = path.file_name() else {
            let directory = open(root, path.as_os_str().as_bytes(), libc::O_PATH | libc::O_DIRECTORY, 0)?;
            return Ok(Self { directory, name: ".".into() });
        };
        let parent = path.parent().unwrap_or(Path::new("/")).as_os_str().as_bytes();
        let parent = if parent.is_empty() { b"/" } else { parent };
        let directory = open(root, parent, libc::O_PATH | libc::O_DIRECTORY, 0)?;
        Ok(Self { directory, name: name.to_owned() })
    }

    /// As [`Self::of`]; directories that are missing are made, for their owner only. These are told, outermost first.
    ///
    /// # Errors
    /// As [`Self::of`]'s and those of mkdirat(2).
    pub fn with_parents(root: Option<RawFd>, path: &[u8]) -> Result<(Self, Vec<Self>), Refusal> {
        let mut missing = Vec::new();
        let mut wanted = Path::new(OsStr::from_bytes(path));
        let mut place = loop {
            match Self::of(root, wanted.as_os_str().as_bytes()) {
                Err(Refusal::Errno(Errno::ENOENT)) if wanted.parent().is_some() => {
                    missing.push(wanted.file_name().unwrap_or_default());
                    wanted = wanted.parent().unwrap_or(Path::new("/"));
                }
                place => break place?,
            }
        };
        let mut parents = Vec::new();
        for name in missing.into_iter().rev() {
            nix::sys::stat::mkdirat(&place.directory, place.name.as_os_str(), Mode::S_IRWXU)?;
            let directory = place.open(libc::O_PATH | libc::O_DIRECTORY, 0)?;
            parents.push(std::mem::replace(&mut place, Self { directory, name: name.to_owned() }));
        }
        Ok((place, parents))
    }

    /// Removes what is there.
    ///
    /// # Errors
    /// What unlinkat(2) answers.
    pub fn remove(&self) -> Result<(), Errno> {
        use nix::unistd::{UnlinkatFlags, unlinkat};
        match unlinkat(&self.directory, self.name.as_os_str(), UnlinkatFlags::NoRemoveDir) {
            Err(Errno::EISDIR) => unlinkat(&self.directory, self.name.as_os_str(), UnlinkatFlags::RemoveDir),
            outcome => outcome,
        }
    }

    /// openat(2), close-on-exec, of what is there; a link is not followed.
    ///
    /// # Errors
    /// What openat(2) answers; ELOOP for a link.
    pub fn open(&self, flags: i32, mode: u32) -> Result<OwnedFd, Errno> {
        open_at(self.directory.as_raw_fd(), self.name.as_bytes(), open_how(flags | libc::O_NOFOLLOW, mode))
    }

    /// What is there, whatever that is, as O_PATH.
    ///
    /// # Errors
    /// ENOENT if nothing is.
    pub fn look(&self) -> Result<OwnedFd, Errno> {
        self.open(libc::O_PATH | libc::O_NOFOLLOW, 0)
    }

    /// A path that leads there as long as this lives, in this process.
    #[must_use]
    pub fn link(&self) -> PathBuf {
        Path::new(&format!("/proc/self/fd/{}", self.directory.as_raw_fd())).join(&self.name)
    }
}

/// The way through directories, each held open.
#[derive(Debug)]
struct Walk {
    base: OwnedFd,
    below: Vec<(OsString, OwnedFd)>,
}

impl Walk {
    fn begin(root: Option<RawFd>) -> Result<Self, Errno> {
        let base = match root {
            Some(root) => descriptor::duplicate(root)?,
            None => descriptor::open(b"/", libc::O_PATH | libc::O_DIRECTORY, 0)?,
        };
        Ok(Self { base, below: Vec::new() })
    }

    fn here(&self) -> BorrowedFd<'_> {
        self.below.last().map_or(&self.base, |(_, open)| open).as_fd()
    }

    /// Goes to the directory in which the last part of `path` is.
    fn go_to(mut self, path: &[u8], follow_last: bool) -> Result<Place, Refusal> {
        let parts = |path: &[u8]| -> Vec<OsString> {
            let parts = path.split(|byte| *byte == b'/').rev();
            parts
                .filter(|part| !part.is_empty() && *part != b".")
                .map(|part| OsString::from_vec(part.into()))
                .collect()
        };
        let mut left = parts(path);
        let mut links = 0;
        while let Some(part) = left.pop() {
            if part == ".." {
                self.below.pop();
                continue;
            }
            let is_last = left.is_empty();
            let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
            let found = match openat(self.here(), part.as_os_str(), flags, Mode::empty()) {
                // It is to be made.
                Err(Errno::ENOENT) if is_last => return self.end(part),
                found => found?,
            };
            let is = fstat(&found)?;
            let is_link = SFlag::from_bits_truncate(is.st_mode) & SFlag::S_IFMT == SFlag::S_IFLNK;
            if is_last && !(is_link && follow_last) {
                return self.end(part);
            }
            if !is_link {
                self.below.push((part, found));
                continue;
            }
            links += 1;
            if links > LINKS_MAX {
                return Err(Errno::ELOOP.into());
            }
            // SAFETY: no pointers; it cannot fail.
            let own = unsafe { libc::geteuid() };
            if ![0, own].contains(&is.st_uid) {
                let path = self.below.iter().fold(PathBuf::from("/"), |path, (name, _)| path.join(name));
                return Err(Refusal::Link { path: path.join(part), owner: is.st_uid });
            }
            let target = readlinkat(&found, "")?;
            if target.as_bytes().starts_with(b"/") {
                self.below.clear();
            }
            left.extend(parts(target.as_bytes()));
        }
        self.end(".".into())
    }

    fn end(self, name: OsString) -> Result<Place, Refusal> {
        let directory = match self.below.into_iter().next_back() {
            Some((_, open)) => open,
            None => self.base,
        };
        Ok(Place { directory, name })
    }
}

/// A path of ours, in this process, for what is behind a descriptor.
#[must_use]
pub fn link(fd: BorrowedFd<'_>) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", fd.as_raw_fd()))
}

/// Gives what is behind a descriptor, O_PATH as well, another owner.
///
/// # Errors
/// EPERM without the right to do so.
pub fn set_owner(fd: BorrowedFd<'_>, owner: (u32, u32)) -> Result<(), Errno> {
    let (user, group) = (owner.0.into(), owner.1.into());
    nix::unistd::fchownat(fd, "", Some(user), Some(group), AtFlags::AT_EMPTY_PATH)
}

/// Gives what is behind a descriptor, O_PATH as well, another mode. It must not be a symbolic link.
///
/// # Errors
/// EPERM without the right to do so; EOPNOTSUPP for a link.
pub fn set_mode(fd: BorrowedFd<'_>, mode: u32) -> Result<(), Errno> {
    let mode = Mode::from_bits_truncate(mode & 0o7777);
    nix::sys::stat::fchmodat(
        nix::fcntl::AT_FDCWD,
        &link(fd),
        mode,
        nix::sys::stat::FchmodatFlags::FollowSymlink,
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::{lchown, symlink};

    fn directory(name: &str) -> PathBuf {
        let directory = std::env::temp_dir().join(format!("ckpt-canonical-{name}-{}", std::process::id()));
        fs::create_dir_all(directory.join("real/deep")).unwrap();
        fs::write(directory.join("real/deep/file"), "x").unwrap();
        directory.canonicalize().unwrap()
    }

    fn try_open(path: &Path, flags: i32) -> Result<OwnedFd, Refusal> {
        open(None, path.as_os_str().as_bytes(), flags, 0)
    }

    #[test]
    fn links_of_ones_own_are_followed_those_of_others_are_not() {
        let directory = directory("links");
        symlink("real", directory.join("relative")).unwrap();
        symlink(directory.join("real/deep"), directory.join("absolute")).unwrap();
        let seen = |path: &str| try_open(&directory.join(path), libc::O_RDONLY);
        for path in ["real/deep/file", "relative/deep/file", "absolute/file", "absolute/../deep/file"] {
            assert!(seen(path).is_ok(), "{path}: {:?}", seen(path));
        }
        assert_eq!(seen("relative/none").unwrap_err(), Refusal::Errno(Errno::ENOENT));
        if lchown(directory.join("relative"), Some(4711), None).is_ok() {
            let link = Refusal::Link { path: directory.join("relative"), owner: 4711 };
            assert_eq!(seen("relative/deep/file").unwrap_err(), link);
            assert_eq!(seen("relative").unwrap_err(), link);
            let path = directory.join("relative/deep/new");
            assert_eq!(Place::of(None, path.as_os_str().as_bytes()).unwrap_err(), link);
            // The link itself.
            assert!(try_open(&directory.join("relative"), libc::O_PATH | libc::O_NOFOLLOW).is_ok());
        }
        fs::remove_dir_all(directory).unwrap();
    }

    #[test]
    fn nothing_leads_out_of_another_root() {
        let directory = directory("root");
        symlink("/deep", directory.join("real/absolute")).unwrap();
        symlink("../../../../deep", directory.join("real/upwards")).unwrap();
        let root = try_open(&directory.join("real"), libc::O_PATH).unwrap();
        for path in ["/deep/file", "/../deep/file", "/absolute/file", "/upwards/file"] {
            assert!(open(Some(root.as_raw_fd()), path.as_bytes(), libc::O_RDONLY, 0).is_ok(), "{path}");
        }
        assert!(open(Some(root.as_raw_fd()), b"/", libc::O_PATH, 0).is_ok());
        fs::remove_dir_all(directory).unwrap();
    }

    #[test]
    fn flags_as_open_takes_them() {
        let directory = directory("flags");
        let path = directory.join("real/deep/file");
        for flags in [
            libc::O_RDWR | 0x4000_0000,
            libc::O_PATH | libc::O_RDWR | libc::O_APPEND,
            libc::O_WRONLY | 0o100_000,
        ] {
            assert!(try_open(&path, flags).is_ok(), "{flags:o}");
        }
        let place = Place::of(None, directory.join("new").as_os_str().as_bytes()).unwrap();
        let made = place.open(libc::O_RDWR | libc::O_CREAT | libc::O_EXCL, 0o600).unwrap();
        set_mode(made.as_fd(), 0o640).unwrap();
        set_mode(place.look().unwrap().as_fd(), 0o604).unwrap();
        assert_eq!(fstat(&made).unwrap().st_mode & 0o7777, 0o604);
        assert_eq!(place.open(libc::O_CREAT | libc::O_EXCL, 0o600).unwrap_err(), Errno::EEXIST);
        fs::remove_dir_all(directory).unwrap();
    }
}

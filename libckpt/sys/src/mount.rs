//! Mounts by descriptor: fsopen(2), fsmount(2), open_tree(2), move_mount(2), mount_setattr(2). A detached mount is in no namespace; it goes with its descriptor.
use crate::error::{SysError, SysResult};
use nix::errno::Errno;
use std::ffi::{CString, OsStr};
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

pub mod overlay;

const OPEN_TREE_CLONE: u32 = 1;
const OPEN_TREE_CLOEXEC: u32 = libc::O_CLOEXEC.unsigned_abs();
const FSOPEN_CLOEXEC: u32 = 1;
const FSMOUNT_CLOEXEC: u32 = 1;
const FSPICK_CLOEXEC: u32 = 1;
const FSPICK_EMPTY_PATH: u32 = 8;
const FSCONFIG_SET_FLAG: u32 = 0;
const FSCONFIG_SET_STRING: u32 = 1;
const FSCONFIG_CMD_CREATE: u32 = 6;
const FSCONFIG_CMD_RECONFIGURE: u32 = 7;
const MOVE_MOUNT_F_EMPTY_PATH: u32 = 4;
const MOVE_MOUNT_T_EMPTY_PATH: u32 = 0x40;
const MOVE_MOUNT_SET_GROUP: u32 = 0x100;
/// Longest value that fsconfig(2) takes, in bytes.
pub const LONGEST_VALUE: usize = 255;

/// struct `mount_attr` of <linux/mount.h>.
#[repr(C)]
#[derive(Debug, Default)]
struct MountAttr {
    set: u64,
    clear: u64,
    propagation: u64,
    user_namespace: u64,
}

/// MOUNT_ATTR_* of what is different in MS_*.
const ATTRIBUTES: [(u64, u64); 7] = [
    (libc::MS_RDONLY, 1),
    (libc::MS_NOSUID, 2),
    (libc::MS_NODEV, 4),
    (libc::MS_NOEXEC, 8),
    (libc::MS_NOATIME, 0x10),
    (libc::MS_NODIRATIME, 0x80),
    (256, 0x20_0000),
];
/// All MOUNT_ATTR_* that say when times of access are kept.
const ATIME: u64 = 0x70;
const STRICTATIME: u64 = 0x20;

/// What can be different in mounts of one file system (MS_*).
pub const FLAGS: u64 = libc::MS_RDONLY
    | libc::MS_NOSUID
    | libc::MS_NODEV
    | libc::MS_NOEXEC
    | libc::MS_NOATIME
    | libc::MS_NODIRATIME
    | libc::MS_RELATIME
    | 256;

fn text(value: &[u8]) -> SysResult<CString> {
    CString::new(value).map_err(|_| SysError::new("fsconfig", String::from_utf8_lossy(value), Errno::EINVAL))
}

fn owned(call: &'static str, object: impl FnOnce() -> String, returned: i64) -> SysResult<OwnedFd> {
    match RawFd::try_from(returned) {
        // SAFETY: the kernel has just given it to us.
        Ok(fd) if fd >= 0 => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
        _ => Err(SysError::last(call, object())),
    }
}

fn done(call: &'static str, object: impl FnOnce() -> String, returned: i64) -> SysResult<()> {
    if returned == 0 { Ok(()) } else { Err(SysError::last(call, object())) }
}

/// A detached mount of what the mount behind `path` shows there, without what is mounted below. `path` is below `at`; None: below the root directory.
/// Symbolic links at its end are not followed.
///
/// # Errors
/// EINVAL: it is not a mount of this thread's namespace; parts of it are covered by mounts of a more privileged one.
pub fn clone_of(at: Option<BorrowedFd<'_>>, path: &Path) -> SysResult<OwnedFd> {
    clone_tree(at, path, 0)
}

/// A detached mount of what is behind a descriptor, with what is mounted below.
pub fn clone_with_others(of: BorrowedFd<'_>) -> SysResult<OwnedFd> {
    const AT_RECURSIVE: u32 = 0x8000;
    clone_tree(Some(of), Path::new(""), AT_RECURSIVE)
}

fn clone_tree(at: Option<BorrowedFd<'_>>, path: &Path, how: u32) -> SysResult<OwnedFd> {
    let bytes = path.as_os_str().as_bytes();
    let name = text(bytes)?;
    let empty = if bytes.is_empty() { libc::AT_EMPTY_PATH } else { 0 };
    let flags =
        how | OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | (empty | libc::AT_SYMLINK_NOFOLLOW).unsigned_abs();
    let at = at.map_or(libc::AT_FDCWD, |at| at.as_raw_fd());
    // SAFETY: the kernel reads the name, which ends with a zero byte.
    let fd = unsafe { libc::syscall(libc::SYS_open_tree, at, name.as_ptr(), flags) };
    owned("open_tree", || path.display().to_string(), fd)
}

/// A file system that is being set up.
#[derive(Debug)]
pub struct NewFileSystem {
    context: File,
    type_: String,
}

impl NewFileSystem {
    /// Begins one of a type.
    ///
    /// # Errors
    /// ENODEV: the kernel has no such type.
    pub fn open(type_: &str) -> SysResult<Self> {
        let name = text(type_.as_bytes())?;
        // SAFETY: the kernel reads the name, which ends with a zero byte.
        let fd = unsafe { libc::syscall(libc::SYS_fsopen, name.as_ptr(), FSOPEN_CLOEXEC) };
        let context = owned("fsopen", || type_.to_owned(), fd)?.into();
        Ok(Self { context, type_: type_.to_owned() })
    }

    /// The file system behind a mount, to be changed.
    pub fn of(mount: BorrowedFd<'_>) -> SysResult<Self> {
        let flags = FSPICK_CLOEXEC | FSPICK_EMPTY_PATH;
        // SAFETY: the kernel reads the name, which is empty.
        let fd = unsafe { libc::syscall(libc::SYS_fspick, mount.as_raw_fd(), c"".as_ptr(), flags) };
        let context = owned("fspick", || "a mount".to_owned(), fd)?.into();
        Ok(Self { context, type_: "a file system".to_owned() })
    }

    fn config(&self, command: u32, key: Option<&CString>, value: Option<&CString>) -> SysResult<()> {
        let pointer = |text: Option<&CString>| text.map_or(std::ptr::null(), |text| text.as_ptr());
        // SAFETY: the kernel reads strings that end with a zero byte, or null pointers where the command has none.
        let returned = unsafe {
            libc::syscall(
                libc::SYS_fsconfig,
                self.context.as_raw_fd(),
                command,
                pointer(key),
                pointer(value),
                0,
            )
        };
        if returned == 0 {
            return Ok(());
        }
        let error = SysError::last("fsconfig", "");
        let mut object = self.type_.clone();
        for text in [key, value].into_iter().flatten() {
            object += " ";
            object += &text.to_string_lossy();
        }
        let messages = self.messages();
        if !messages.is_empty() {
            object += &format!(" ({messages})");
        }
        Err(SysError { object, ..error })
    }

    /// What the kernel has to say.
    fn messages(&self) -> String {
        let mut found = Vec::new();
        let mut bytes = [0; 1024];
        while let Ok(length) = (&self.context).read(&mut bytes) {
            let message = String::from_utf8_lossy(&bytes[..length]).into_owned();
            found.push(message.trim().trim_start_matches("e ").to_owned());
            if length == 0 || found.len() > 8 {
                break;
            }
        }
        found.join("; ")
    }

    /// Sets an option; without a value it is a flag.
    pub fn set(&self, key: &str, value: Option<&[u8]>) -> SysResult<()> {
        let key = text(key.as_bytes())?;
        match value {
            Some(value) => self.config(FSCONFIG_SET_STRING, Some(&key), Some(&text(value)?)),
            None => self.config(FSCONFIG_SET_FLAG, Some(&key), None),
        }
    }

    /// Makes it. A detached mount of all of it.
    pub fn create(self) -> SysResult<OwnedFd> {
        self.config(FSCONFIG_CMD_CREATE, None, None)?;
        // SAFETY: no pointers.
        let fd = unsafe { libc::syscall(libc::SYS_fsmount, self.context.as_raw_fd(), FSMOUNT_CLOEXEC, 0) };
        owned("fsmount", || self.type_.clone(), fd)
    }

    /// Changes it.
    pub fn reconfigure(self) -> SysResult<()> {
        self.config(FSCONFIG_CMD_RECONFIGURE, None, None)
    }
}

/// Attaches a detached mount at `point`.
pub fn attach(mount: BorrowedFd<'_>, point: &Path) -> SysResult<()> {
    let name = text(point.as_os_str().as_bytes())?;
    let (from, to) = (mount.as_raw_fd(), libc::AT_FDCWD);
    let flags = MOVE_MOUNT_F_EMPTY_PATH;
    // SAFETY: the kernel reads the names, which end with a zero byte.
    let returned =
        unsafe { libc::syscall(libc::SYS_move_mount, from, c"".as_ptr(), to, name.as_ptr(), flags) };
    done("move_mount", || point.display().to_string(), returned)
}

/// Attaches a detached mount on what is behind `point`.
pub fn attach_to(mount: BorrowedFd<'_>, point: BorrowedFd<'_>) -> SysResult<()> {
    let flags = MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH;
    let (from, to, none) = (mount.as_raw_fd(), point.as_raw_fd(), c"".as_ptr());
    // SAFETY: the kernel reads the names, which are empty.
    let returned = unsafe { libc::syscall(libc::SYS_move_mount, from, none, to, none, flags) };
    done("move_mount", || "a mount point".to_owned(), returned)
}

/// Gives a private mount the peers and the master that another of the same file system has.
///
/// # Errors
/// EINVAL: what it shows is not part of what the other shows.
pub fn share_group(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> SysResult<()> {
    let flags = MOVE_MOUNT_SET_GROUP | MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH;
    let (from, to, none) = (from.as_raw_fd(), to.as_raw_fd(), c"".as_ptr());
    // SAFETY: the kernel reads the names, which are empty.
    let returned = unsafe { libc::syscall(libc::SYS_move_mount, from, none, to, none, flags) };
    done("move_mount(MOVE_MOUNT_SET_GROUP)", || "a mount".to_owned(), returned)
}

fn set_attributes(mount: BorrowedFd<'_>, attributes: &MountAttr) -> SysResult<()> {
    let (flags, size) = (libc::AT_EMPTY_PATH, size_of::<MountAttr>());
    let at = mount.as_raw_fd();
    // SAFETY: the kernel reads an empty name and `size` bytes of the attributes.
    let returned = unsafe {
        libc::syscall(libc::SYS_mount_setattr, at, c"".as_ptr(), flags, std::ptr::from_ref(attributes), size)
    };
    done("mount_setattr", || "a mount".to_owned(), returned)
}

/// Sets the flags (MS_*, those of [`FLAGS`]) of one mount.
pub fn set_flags(mount: BorrowedFd<'_>, flags: u64) -> SysResult<()> {
    let strict = if flags & (libc::MS_NOATIME | libc::MS_RELATIME) == 0 { STRICTATIME } else { 0 };
    let set = ATTRIBUTES.iter().filter(|(flag, _)| flags & flag != 0).fold(strict, |set, (_, one)| set | one);
    let clear = ATTRIBUTES.iter().fold(ATIME, |clear, (_, one)| clear | one) & !(set & !ATIME);
    set_attributes(mount, &MountAttr { set, clear, ..MountAttr::default() })
}

/// Sets who gets and sends events of one mount: MS_PRIVATE, MS_SLAVE, MS_SHARED.
pub fn set_propagation(mount: BorrowedFd<'_>, how: u64) -> SysResult<()> {
    set_attributes(mount, &MountAttr { propagation: how, ..MountAttr::default() })
}

/// A descriptor of what is at `path`, whatever that is (O_PATH).
pub fn open_path(path: &Path) -> SysResult<OwnedFd> {
    use nix::fcntl::{OFlag, open};
    open(path, OFlag::O_PATH | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW, nix::sys::stat::Mode::empty())
        .map_err(|errno| SysError::new("open", path.display().to_string(), errno))
}

/// Makes the mount behind `new`, a descriptor of its root, the root directory of this process and its mount namespace, and detaches the old one with all
/// that is mounted there.
///
/// # Errors
/// EINVAL: the root directory of this process is no mount.
pub fn change_root(new: BorrowedFd<'_>) -> SysResult<()> {
    let object = || "the new root directory".to_owned();
    let old = open_path(Path::new(OsStr::new("/")))?;
    enter(new)?;
    // SAFETY: the kernel reads the names, which end with a zero byte.
    let returned = unsafe { libc::syscall(libc::SYS_pivot_root, c".".as_ptr(), c".".as_ptr()) };
    done("pivot_root", object, returned)?;
    // The old one is mounted over the new one now.
    enter(old.as_fd())?;
    nix::mount::umount2(".", nix::mount::MntFlags::MNT_DETACH)
        .map_err(|errno| SysError::new("umount2", "the old root directory", errno))?;
    nix::unistd::chdir("/").map_err(|errno| SysError::new("chdir", "/", errno))
}

fn enter(directory: BorrowedFd<'_>) -> SysResult<()> {
    nix::unistd::fchdir(directory).map_err(|errno| SysError::new("fchdir", "a root directory", errno))
}

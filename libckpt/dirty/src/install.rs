//! Getting a userfaultfd that belongs to the target's address space.
use crate::error::DirtyResult;
use ckpt_sys::inject::Injector;
use ckpt_sys::{SysError, SysResult, pidfd, proc, uffd};
use nix::errno::Errno;
use std::os::fd::{AsFd, OwnedFd, RawFd};

/// USERFAULTFD_IOC_NEW of /dev/userfaultfd.
const IOC_NEW: u64 = 0xaa00;
const DEVICE: &[u8] = b"/dev/userfaultfd";
/// In fdinfo: the API's number and the features agreed on.
const NO_FEATURES: &str = "API:\taa:0:";

/// Makes a userfaultfd in the target, takes it over and closes the target's descriptor. None: the target may not make one, or the
/// kernel cannot track asynchronously.
pub(crate) fn install(injector: &mut Injector<'_>) -> DirtyResult<Option<OwnedFd>> {
    let taken = match make(injector, uffd::O_CLOEXEC | uffd::USER_MODE_ONLY)? {
        Ok(taken) => taken,
        Err(errno) => {
            tracing::warn!(pid = injector.pid(), %errno, "no userfaultfd: every checkpoint takes all pages");
            return Ok(None);
        }
    };
    if let Err(error) = uffd::enable_wp_async(taken.as_fd()) {
        tracing::warn!(pid = injector.pid(), %error, "no asynchronous write-protection: every checkpoint takes all pages");
        return Ok(None);
    }
    Ok(Some(taken))
}

/// Makes a userfaultfd with `flags` in the target, takes it over and closes the target's descriptor. No handshake is made.
///
/// # Errors
/// The inner one: the target may not make one.
pub fn make(injector: &mut Injector<'_>, flags: u64) -> DirtyResult<Result<OwnedFd, Errno>> {
    let made = match injector.syscall(libc::SYS_userfaultfd, &[flags])? {
        Ok(fd) => Ok(fd),
        Err(_) => by_device(injector, flags)?,
    };
    let fd = match made {
        Ok(fd) => fd,
        Err(errno) => return Ok(Err(errno)),
    };
    let number = RawFd::try_from(fd).unwrap_or(-1);
    let taken = pidfd::open(injector.pid()).and_then(|process| pidfd::getfd(process.as_fd(), number));
    // First of all the target gets rid of it.
    let closed = injector.syscall(libc::SYS_close, &[fd])?;
    if let Err(errno) = closed {
        tracing::error!(pid = injector.pid(), fd, %errno, "the target's userfaultfd could not be closed");
    }
    Ok(Ok(taken?))
}

/// Descriptors of userfaultfds in process `pid` that an installation left when its own process was killed in the middle: no handshake was made,
/// which a program makes at once.
pub fn leftovers(pid: i32) -> SysResult<Vec<RawFd>> {
    let path = ckpt_sys::proc::path(pid, "fd");
    let list = std::fs::read_dir(&path).map_err(|error| SysError::new("readdir", &path, error))?;
    let mut found = Vec::new();
    for entry in list.flatten() {
        let Some(fd) = entry.file_name().to_str().and_then(|name| name.parse::<RawFd>().ok()) else {
            continue;
        };
        if std::fs::read_link(entry.path()).is_ok_and(|link| link.as_os_str() == "anon_inode:[userfaultfd]")
            && proc::read_text(pid, &format!("fdinfo/{fd}")).is_ok_and(|text| text.contains(NO_FEATURES))
        {
            found.push(fd);
        }
    }
    Ok(found)
}

/// Closes descriptors of the target.
pub fn close_leftovers(injector: &mut Injector<'_>, fds: &[RawFd]) -> DirtyResult<()> {
    for fd in fds {
        let closed = injector.syscall(libc::SYS_close, &[u64::from(fd.unsigned_abs())])?;
        if let Err(errno) = closed {
            tracing::error!(pid = injector.pid(), fd, %errno, "a userfaultfd left behind could not be closed");
        }
    }
    Ok(())
}

fn by_device(injector: &mut Injector<'_>, flags: u64) -> DirtyResult<Result<u64, Errno>> {
    let path = injector.place_path(DEVICE)?;
    let at_cwd = i64::from(libc::AT_FDCWD).cast_unsigned();
    let mode = u64::from((libc::O_RDWR | libc::O_CLOEXEC).unsigned_abs());
    let device = match injector.syscall(libc::SYS_openat, &[at_cwd, path.get(), mode, 0])? {
        Ok(device) => device,
        Err(errno) => return Ok(Err(errno)),
    };
    let made = injector.syscall(libc::SYS_ioctl, &[device, IOC_NEW, flags]);
    let closed = injector.syscall(libc::SYS_close, &[device]);
    let made = made?;
    if let Err(errno) = closed? {
        tracing::error!(pid = injector.pid(), fd = device, %errno, "the target's /dev/userfaultfd could not be closed");
    }
    Ok(made)
}

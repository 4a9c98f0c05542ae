//! namespaces(7): which a process is in, and processes of ours in others.
use crate::error::{SysError, SysResult};
use crate::proc;
use crate::proc::status::Status;
use crate::spawn::{fork, fork_alone};
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::mount::{MsFlags, mount};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::path::{Path, PathBuf};

/// A kind of namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Namespace {
    /// User and group ids.
    User,
    /// Mounts.
    Mount,
    /// Process ids.
    Pid,
    /// Network.
    Net,
    /// System V IPC and POSIX message queues.
    Ipc,
    /// Host and domain name.
    Uts,
    /// Clocks.
    Time,
    /// The root of the control groups that are seen.
    Cgroup,
}

impl Namespace {
    /// All of them, users' first: it decides what may be done with the others.
    pub const ALL: [Self; 8] =
        [Self::User, Self::Mount, Self::Pid, Self::Net, Self::Ipc, Self::Uts, Self::Time, Self::Cgroup];

    /// Its name in /proc/PID/ns.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Mount => "mnt",
            Self::Pid => "pid",
            Self::Net => "net",
            Self::Ipc => "ipc",
            Self::Uts => "uts",
            Self::Time => "time",
            Self::Cgroup => "cgroup",
        }
    }

    /// CLONE_NEW*.
    #[must_use]
    pub const fn flag(self) -> i32 {
        match self {
            Self::User => libc::CLONE_NEWUSER,
            Self::Mount => libc::CLONE_NEWNS,
            Self::Pid => libc::CLONE_NEWPID,
            Self::Net => libc::CLONE_NEWNET,
            Self::Ipc => libc::CLONE_NEWIPC,
            Self::Uts => libc::CLONE_NEWUTS,
            Self::Time => 0x80,
            Self::Cgroup => libc::CLONE_NEWCGROUP,
        }
    }

    /// What /proc/PID/ns has for process `pid`, `uts:[4026531838]` for example. None: the kernel has no such namespaces.
    pub fn of(self, pid: i32) -> SysResult<Option<PathBuf>> {
        existing(proc::read_link(pid, &format!("ns/{}", self.name())), || proc::read_link(pid, "ns/user"))
    }

    /// As [`Self::of`], of this process. Its pid in /proc is not asked: that is of the namespace /proc was mounted in.
    pub fn own(self) -> SysResult<Option<PathBuf>> {
        let link = |name: &str| {
            let path = format!("/proc/self/ns/{name}");
            std::fs::read_link(&path).map_err(|error| SysError::new("readlink", path, error))
        };
        existing(link(self.name()), || link("user"))
    }
}

/// What is not there, though `other` is, does not exist at all.
fn existing(
    link: SysResult<PathBuf>,
    other: impl FnOnce() -> SysResult<PathBuf>,
) -> SysResult<Option<PathBuf>> {
    match link {
        Err(error) if error.errno() == Some(Errno::ENOENT) => other().map(|_| None),
        link => link.map(Some),
    }
}

/// The namespaces of process `pid` that are not this process's.
pub fn foreign(pid: i32) -> SysResult<Vec<Namespace>> {
    let mut found = Vec::new();
    for namespace in Namespace::ALL {
        if namespace.of(pid)? != namespace.own()? {
            found.push(namespace);
        }
    }
    Ok(found)
}

fn flags(namespaces: &[Namespace]) -> i32 {
    namespaces.iter().fold(0, |flags, namespace| flags | namespace.flag())
}

/// Moves this process into namespaces of the process behind `pidfd`; into a PID namespace only children that come are born.
pub fn join(pidfd: BorrowedFd<'_>, namespaces: &[Namespace]) -> SysResult<()> {
    // SAFETY: no pointers.
    match unsafe { libc::setns(pidfd.as_raw_fd(), flags(namespaces)) } {
        0 => Ok(()),
        _ => Err(SysError::last("setns", names(namespaces))),
    }
}

/// Gives this process new namespaces; new ones for pids and clocks are for children that come.
pub fn unshare(namespaces: &[Namespace]) -> SysResult<()> {
    // SAFETY: no pointers.
    match unsafe { libc::unshare(flags(namespaces)) } {
        0 => Ok(()),
        _ => Err(SysError::last("unshare", names(namespaces))),
    }
}

/// Does something with this thread in another namespace, the one behind `place`; None: where it is. Not for those of pids and clocks, which only
/// children are born in, nor for users'.
///
/// # Errors
/// Also if the thread cannot come back: it is in the wrong namespace then.
pub fn within<T, E: From<SysError>>(
    namespace: Namespace,
    place: Option<BorrowedFd<'_>>,
    work: impl FnOnce() -> Result<T, E>,
) -> Result<T, E> {
    let Some(place) = place else { return work() };
    let own = open_own(namespace)?;
    join(place, &[namespace])?;
    let outcome = work();
    join(own.as_fd(), &[namespace])?;
    outcome
}

/// A descriptor of the namespace that this thread is in.
pub fn open_own(namespace: Namespace) -> SysResult<File> {
    let path = format!("/proc/thread-self/ns/{}", namespace.name());
    File::open(&path).map_err(|error| SysError::new("open", path, error))
}

/// A descriptor of the namespace that process `pid` is in.
pub fn open_of(pid: i32, namespace: Namespace) -> SysResult<File> {
    let path = proc::path(pid, &format!("ns/{}", namespace.name()));
    File::open(&path).map_err(|error| {
        let error = if proc::is_of_ended(&path, &error) { Errno::ESRCH.into() } else { error };
        SysError::new("open", path, error)
    })
}

/// A descriptor of the namespace, of clocks or pids, that the children of process `pid` are born in.
pub fn open_for_children_of(pid: i32, namespace: Namespace) -> SysResult<File> {
    let path = proc::path(pid, &format!("ns/{}_for_children", namespace.name()));
    File::open(&path).map_err(|error| SysError::new("open", path, error))
}

/// The network namespace that a socket belongs to, as [`Namespace::of`] has it. EPERM: not without CAP_NET_ADMIN there.
pub fn of_socket(socket: BorrowedFd<'_>) -> SysResult<PathBuf> {
    const SIOCGSKNS: libc::Ioctl = 0x894c;
    link_of(related(socket, SIOCGSKNS, "ioctl(SIOCGSKNS)")?.as_fd())
}

/// The PID or user namespace that another, behind `place`, is in, as [`Namespace::of`] has it. EPERM: it is out of sight.
pub fn parent(place: BorrowedFd<'_>) -> SysResult<PathBuf> {
    link_of(open_parent(place)?.as_fd())
}

fn open_parent(place: BorrowedFd<'_>) -> SysResult<OwnedFd> {
    const NS_GET_PARENT: libc::Ioctl = 0xb702;
    related(place, NS_GET_PARENT, "ioctl(NS_GET_PARENT)")
}

/// The user namespace that another namespace, behind `place`, belongs to, as [`Namespace::of`] has it. EPERM: it is out of sight.
pub fn owner(place: BorrowedFd<'_>) -> SysResult<PathBuf> {
    const NS_GET_USERNS: libc::Ioctl = 0xb701;
    link_of(related(place, NS_GET_USERNS, "ioctl(NS_GET_USERNS)")?.as_fd())
}

/// The user who made the user namespace behind `place`.
pub fn owner_uid(place: BorrowedFd<'_>) -> SysResult<u32> {
    const NS_GET_OWNER_UID: libc::Ioctl = 0xb704;
    let mut uid = 0u32;
    // SAFETY: `uid` is ours and valid for writing.
    if unsafe { libc::ioctl(place.as_raw_fd(), NS_GET_OWNER_UID, &raw mut uid) } < 0 {
        return Err(SysError::last("ioctl(NS_GET_OWNER_UID)", "a namespace"));
    }
    Ok(uid)
}

/// A namespace that ioctl(2) gives for another.
fn related(place: BorrowedFd<'_>, request: libc::Ioctl, call: &'static str) -> SysResult<OwnedFd> {
    // SAFETY: it takes no pointer.
    let fd = unsafe { libc::ioctl(place.as_raw_fd(), request) };
    if fd < 0 {
        return Err(SysError::last(call, "a namespace"));
    }
    // SAFETY: the kernel has just given it to us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn link_of(place: BorrowedFd<'_>) -> SysResult<PathBuf> {
    let path = format!("/proc/self/fd/{}", place.as_raw_fd());
    std::fs::read_link(&path).map_err(|error| SysError::new("readlink", path, error))
}

fn names(namespaces: &[Namespace]) -> String {
    let names: Vec<_> = namespaces.iter().map(|namespace| namespace.name()).collect();
    format!("the namespaces {}", names.join(", "))
}

/// fork(2) by way of a process that first does `middle`, joining or leaving namespaces, in which the child then is. The child is this process's
/// own, with process id `pid` if one is given. `meanwhile` is run here while the one in the middle, which it is told the pid of, is at work.
///
/// Returns the child's pid, and in the child None. The child dies with this thread.
///
/// # Errors
/// Also what failed in the process in the middle. This process must have one thread only.
pub fn fork_through(
    pid: Option<i32>,
    middle: impl FnOnce() -> SysResult<()>,
    meanwhile: impl FnOnce(i32) -> SysResult<()>,
) -> SysResult<Option<i32>> {
    let failed =
        |call| move |error: std::io::Error| SysError::new(call, "a process in another namespace", error);
    let (mut report, mut tell) = std::io::pipe().map_err(failed("pipe2"))?;
    let Some(in_between) = fork(0, None)? else {
        drop(report);
        // Pipes between the two end with the other.
        drop(meanwhile);
        // SAFETY: this process was made by one with one thread just now, and `middle` only moves it to other namespaces.
        let outcome =
            middle().and_then(|()| unsafe { fork_alone(libc::CLONE_PARENT.unsigned_abs().into(), pid) });
        match outcome {
            Ok(None) => {
                // SAFETY: no pointers.
                unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
                return Ok(None);
            }
            Ok(Some(child)) => {
                let _ = tell.write_all(&child.to_ne_bytes());
            }
            Err(error) => {
                let _ = tell.write_all(&(-error.source.raw_os_error().unwrap_or(libc::EIO)).to_ne_bytes());
                let _ = tell.write_all(format!("{}\0{}", error.call, error.object).as_bytes());
            }
        }
        // SAFETY: ends this process without what would be the parent's to do.
        unsafe { libc::_exit(0) }
    };
    drop((tell, middle));
    let meanwhile = meanwhile(in_between);
    wait_for(in_between)?;
    // It has said all that it had to say. Others that it made may have its end of the pipe still, so there need be no end.
    fcntl(&report, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))
        .map_err(|errno| SysError::new("fcntl(F_SETFL)", "a pipe", errno))?;
    let mut bytes = Vec::new();
    match report.read_to_end(&mut bytes) {
        Err(error) if error.kind() != std::io::ErrorKind::WouldBlock => return Err(failed("read")(error)),
        _ => {}
    }
    meanwhile?;
    let (number, text) = bytes.split_first_chunk().ok_or_else(|| {
        SysError::new(
            "fork",
            "a process in another namespace",
            std::io::Error::from(std::io::ErrorKind::UnexpectedEof),
        )
    })?;
    match i32::from_ne_bytes(*number) {
        pid if pid > 0 => Ok(Some(pid)),
        errno => {
            let text = String::from_utf8_lossy(text).into_owned();
            let (call, object) = text.split_once('\0').unwrap_or((&text, ""));
            let object = format!("a process in other namespaces ({call} on {object})");
            Err(SysError::new("fork", object, std::io::Error::from_raw_os_error(-errno)))
        }
    }
}

/// Waits for a child of this process to end.
pub fn wait_for(child: i32) -> SysResult<i32> {
    loop {
        let mut status = 0;
        // SAFETY: `status` is ours and valid for writing.
        if unsafe { libc::waitpid(child, &raw mut status, libc::__WALL) } != -1 {
            return Ok(status);
        }
        let error = SysError::last("waitpid", format!("pid {child}"));
        if error.errno() != Some(Errno::EINTR) {
            return Err(error);
        }
    }
}

/// The pids, in the PID namespace that /proc shows, of the processes that have the pids `inner` in PID namespace `link` (as
/// [`Namespace::of`] has it).
pub fn outer_pids(link: &Path, inner: &[i32]) -> SysResult<BTreeMap<i32, i32>> {
    let failed = |error| SysError::new("readdir", "/proc", error);
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir("/proc").map_err(failed)? {
        let name = entry.map_err(failed)?.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse::<i32>().ok()) else { continue };
        // It may have ended meanwhile.
        if let Some(id) = id_in(pid, link).filter(|id| inner.contains(id)) {
            found.insert(id, pid);
        }
    }
    Ok(found)
}

/// The id of process `pid` in PID namespace `link` (as [`Namespace::of`] has it). None: it is not there, nor in one within.
#[must_use]
pub fn id_in(pid: i32, link: &Path) -> Option<i32> {
    let ids = Status::of(pid, pid).ok()?.ids("NSpid");
    let mut place = OwnedFd::from(open_of(pid, Namespace::Pid).ok()?);
    for id in ids.into_iter().rev() {
        if link_of(place.as_fd()).ok()? == link {
            return Some(id);
        }
        place = open_parent(place.as_fd()).ok()?;
    }
    None
}

/// Sets host and domain name of this process's UTS namespace.
pub fn set_names(host: &[u8], domain: &[u8]) -> SysResult<()> {
    let named = |call, name: &[u8]| SysError::last(call, String::from_utf8_lossy(name));
    // SAFETY: both are valid for reading as many bytes as they have.
    unsafe {
        if libc::sethostname(host.as_ptr().cast(), host.len()) != 0 {
            return Err(named("sethostname", host));
        }
        if libc::setdomainname(domain.as_ptr().cast(), domain.len()) != 0 {
            return Err(named("setdomainname", domain));
        }
    }
    Ok(())
}

/// Whether /proc is of the PID namespace that this process is in.
#[must_use]
pub fn proc_is_own() -> bool {
    let own = std::process::id().to_string();
    std::fs::read_link("/proc/self").is_ok_and(|link| link.as_os_str() == own.as_str())
}

/// Mounts a /proc of the PID namespace that this process is in over the one that is there, for this process and its children: they get a mount
/// namespace of their own.
pub fn mount_own_proc() -> SysResult<()> {
    unshare(&[Namespace::Mount])?;
    let none: Option<&str> = None;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)
        .map_err(|errno| SysError::new("mount(MS_PRIVATE)", "/", errno))?;
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount(Some("proc"), "/proc", Some("proc"), flags, none)
        .map_err(|errno| SysError::new("mount(proc)", "/proc", errno))
}

//! Mount namespaces: a copy of the restoring process's, made into what the job had.
use crate::canonical;
use crate::error::{RestoreError, RestoreResult};
use ckpt_image::record::{MountNamespaceV1, MountOriginV1, MountV1};
use ckpt_sys::SysError;
use ckpt_sys::canonical::Refusal;
use ckpt_sys::mount as by_descriptor;
use ckpt_sys::namespace;
use ckpt_sys::proc::mounts::{self, Mount};
use file_systems::FileSystems;
use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

mod file_systems;
mod overlay;
mod propagation;
mod tree;

pub(super) use propagation::Groups;

const NONE: Option<&str> = None;

/// Furnishes this process's mount namespace, a copy of the one that ckpt was started in, with the mounts of the record. `own_pids`: the job has a
/// PID namespace of its own, and its /proc is to show that. `groups`: of namespaces that are furnished already.
pub(super) fn furnish(
    record: Option<&MountNamespaceV1>,
    own_pids: bool,
    groups: &mut Groups,
) -> RestoreResult<()> {
    // Nothing that is done here is seen outside.
    propagate(b"/", MsFlags::MS_REC | MsFlags::MS_SLAVE)?;
    let Some(record) = record else {
        return if own_pids { mount_proc() } else { Ok(()) };
    };
    let now = mounts::own()?;
    let plan = Plan::make(record, &now)?;
    let file_systems = FileSystems::make(&record.mounts)?;
    // What is outside is taken hold of while its paths lead there.
    let (mut detached, mut whole) = (BTreeMap::new(), Vec::new());
    for (at, wanted) in record.mounts.iter().enumerate() {
        let from = match &wanted.origin {
            // A process that is in the PID namespace mounts it later.
            MountOriginV1::Proc(_) => continue,
            MountOriginV1::Outside if !plan.anew => continue,
            MountOriginV1::Outside => Some(&wanted.point),
            MountOriginV1::Bind(path) => Some(path),
            _ => None,
        };
        let made = match from {
            Some(from) => {
                let (made, with_others) = copy(wanted, from)?;
                if with_others {
                    whole.push(&wanted.point);
                }
                made
            }
            None => file_systems.mount(at)?,
        };
        set_flags(wanted, &made)?;
        detached.insert(at, made);
    }
    file_systems.unmount()?;
    if plan.anew {
        if let Some(root) = plan.root.and_then(|root| detached.get(&root)) {
            by_descriptor::attach(root.as_fd(), Path::new("/"))?;
            by_descriptor::change_root(root.as_fd())?;
        }
    } else {
        for point in plan.gone.iter().rev() {
            umount2(path(point), MntFlags::MNT_DETACH).map_err(failed("umount2", point))?;
        }
    }
    let mut attached = Vec::new();
    let is_now = |(_, wanted): &(usize, &MountV1)| !matches!(wanted.origin, MountOriginV1::Proc(_));
    for (at, wanted) in record.mounts.iter().enumerate().filter(is_now) {
        let open = match detached.remove(&at) {
            Some(made) if plan.anew && plan.root == Some(at) => made,
            // It has come with what it is mounted on.
            Some(_) if whole.iter().any(|on| is_below(&wanted.point, on)) && is_there(&wanted.point) => {
                let open = open(&wanted.point).map_err(|refusal| no_point(wanted, &refusal))?;
                set_flags(wanted, &open)?;
                open
            }
            Some(made) => {
                let point = open(&wanted.point).map_err(|refusal| no_point(wanted, &refusal))?;
                by_descriptor::attach_to(made.as_fd(), point.as_fd()).map_err(failed_at(wanted))?;
                made
            }
            // Something that was not made here is mounted over it: nothing of it is seen.
            None if record.mounts.iter().enumerate().skip(at + 1).filter(is_now).any(|(later, other)| {
                !detached.contains_key(&later)
                    && (other.point == wanted.point || is_below(&wanted.point, &other.point))
            }) =>
            {
                continue;
            }
            None => {
                let open = match open(&wanted.point) {
                    Err(Refusal::Errno(Errno::ENOENT)) => continue,
                    open => open.map_err(|refusal| no_point(wanted, &refusal))?,
                };
                set_flags(wanted, &open)?;
                open
            }
        };
        attached.push((wanted, open));
    }
    file_systems.remove_deleted()?;
    groups.restore(attached)?;
    let shows_pids = |mount: &MountV1| {
        mount.point == b"/proc"
            && mount.fs_type == "proc"
            && matches!(mount.origin, MountOriginV1::Own(_) | MountOriginV1::Part { .. })
    };
    if (own_pids && !record.mounts.iter().any(shows_pids)) || (plan.anew && !namespace::proc_is_own()) {
        mount_proc()?;
    }
    Ok(())
}

/// Takes the mounts that a record lacks out of this process's mount namespace.
pub(super) fn leave_out(record: &MountNamespaceV1) -> Result<(), SysError> {
    let failed = |call, point: &[u8]| {
        let point = String::from_utf8_lossy(point).into_owned();
        move |errno| SysError::new(call, point, errno)
    };
    mount(NONE, "/", NONE, MsFlags::MS_REC | MsFlags::MS_SLAVE, NONE).map_err(failed("mount", b"/"))?;
    let now = mounts::own()?;
    // What it has and is not there is told when the others are made.
    let Ok(plan) = Plan::make(record, &now) else { return Ok(()) };
    for point in plan.gone.iter().rev().filter(|_| !plan.anew) {
        umount2(path(point), MntFlags::MNT_DETACH).map_err(failed("umount2", point))?;
    }
    Ok(())
}

/// The mounts that [`furnish`] leaves for when the processes are there.
pub(super) fn late(record: &MountNamespaceV1) -> Vec<MountV1> {
    let is_late = |mount: &&MountV1| matches!(mount.origin, MountOriginV1::Proc(_));
    record.mounts.iter().filter(is_late).cloned().collect()
}

/// In the mount namespace of one that has just been made: makes it what it was.
pub(super) fn finish(wanted: &MountV1) -> RestoreResult<()> {
    set_flags(wanted, &by_descriptor::open_path(path(&wanted.point))?)?;
    propagate(&wanted.point, if wanted.peers == 0 { MsFlags::MS_PRIVATE } else { MsFlags::MS_SHARED })
}

/// What there is to do.
#[derive(Debug, PartialEq, Eq)]
struct Plan<'a> {
    /// The root directory is a mount of its own: all are put together on that.
    anew: bool,
    /// Its place among the mounts of the record.
    root: Option<usize>,
    /// Points of mounts that the job has not.
    gone: Vec<&'a [u8]>,
}

impl<'a> Plan<'a> {
    fn make(record: &MountNamespaceV1, now: &'a [Mount]) -> RestoreResult<Self> {
        let mut there: Vec<Option<&Mount>> = now.iter().map(Some).collect();
        for mount in record.mounts.iter().filter(|mount| mount.origin == MountOriginV1::Outside) {
            // Of a control group file system, what is shown is told relative to a cgroup namespace.
            let relative = mount.fs_type.starts_with("cgroup");
            let is = |other: &Mount| {
                (&other.point, &other.fs_type) == (&mount.point, &mount.fs_type)
                    && (relative || other.root == mount.root)
            };
            let found = there.iter_mut().find(|other| other.is_some_and(is)).and_then(Option::take);
            if found.is_none() {
                return Err(missing(mount));
            }
        }
        let root = record.mounts.iter().position(|mount| mount.point == b"/");
        let anew = root.is_some_and(|root| record.mounts[root].origin != MountOriginV1::Outside);
        let gone = there.into_iter().flatten().map(|mount| mount.point.as_slice()).collect();
        Ok(Self { anew, root, gone })
    }
}

fn missing(mount: &MountV1) -> RestoreError {
    RestoreError::File {
        path: String::from_utf8_lossy(&mount.point).into_owned(),
        reason: format!(
            "a file system ({}) was mounted here when the job was saved, and is not now",
            mount.fs_type
        ),
        remedy: "Mount it and restore again".into(),
    }
}

/// Whether a mount point is below another.
fn is_below(point: &[u8], other: &[u8]) -> bool {
    let other = other.strip_suffix(b"/").unwrap_or(other);
    point.strip_prefix(other).is_some_and(|rest| rest.starts_with(b"/") && rest.len() > 1)
}

/// Whether something is mounted at a point.
fn is_there(point: &[u8]) -> bool {
    mounts::own().is_ok_and(|mounts| mounts.iter().any(|mount| mount.point == point))
}

/// A detached mount of what is outside at `from`, and whether what is mounted below came with it: of mounts of a more privileged namespace
/// nobody else gets to see what they cover.
fn copy(wanted: &MountV1, from: &[u8]) -> RestoreResult<(OwnedFd, bool)> {
    let gone = |refusal: Refusal| match refusal {
        Refusal::Errno(Errno::ENOENT | Errno::ENOTDIR) => RestoreError::File {
            path: String::from_utf8_lossy(from).into_owned(),
            reason: format!(
                "it was mounted at {} of the job's mount namespace when the job was saved, and is not there now",
                String::from_utf8_lossy(&wanted.point)
            ),
            remedy: "Put it back and restore again".into(),
        },
        _ => canonical::failed("open", from, &refusal),
    };
    let source = open(from).map_err(gone)?;
    match by_descriptor::clone_of(Some(source.as_fd()), Path::new("")) {
        Err(error) if error.errno() == Some(Errno::EINVAL) => {
            let made = by_descriptor::clone_with_others(source.as_fd()).map_err(failed_at(wanted))?;
            Ok((made, true))
        }
        made => Ok((made.map_err(failed_at(wanted))?, false)),
    }
}

/// What is at a path of the image, whatever that is (O_PATH).
fn open(path: &[u8]) -> Result<OwnedFd, Refusal> {
    canonical::open(path, libc::O_PATH | libc::O_NOFOLLOW)
}

fn no_point(wanted: &MountV1, refusal: &Refusal) -> RestoreError {
    match refusal {
        Refusal::Errno(Errno::ENOENT | Errno::ENOTDIR) => RestoreError::File {
            path: String::from_utf8_lossy(&wanted.point).into_owned(),
            reason: format!(
                "a file system ({}) was mounted there in the job's mount namespace, and there is nothing now to mount it on",
                wanted.fs_type
            ),
            remedy: "Make it again where the job's root directory is, and restore again".into(),
        },
        _ => canonical::failed("open", &wanted.point, refusal),
    }
}

/// Sets those that are not as they were: one may keep some that one may not set.
fn set_flags(wanted: &MountV1, mount: &OwnedFd) -> RestoreResult<()> {
    const TABLE: [(u64, u64); 8] = [
        (libc::ST_RDONLY, libc::MS_RDONLY),
        (libc::ST_NOSUID, libc::MS_NOSUID),
        (libc::ST_NODEV, libc::MS_NODEV),
        (libc::ST_NOEXEC, libc::MS_NOEXEC),
        (libc::ST_NOATIME, libc::MS_NOATIME),
        (libc::ST_NODIRATIME, libc::MS_NODIRATIME),
        (libc::ST_RELATIME, libc::MS_RELATIME),
        (0x2000, 256),
    ];
    let now = nix::sys::statvfs::fstatvfs(mount).map_err(failed("fstatvfs", &wanted.point))?;
    let now = now.flags().bits();
    let now = TABLE.iter().filter(|(shown, _)| now & shown != 0).fold(0, |flags, (_, flag)| flags | flag);
    let flags = wanted.flags & by_descriptor::FLAGS;
    // What is read-only may be the file system, not the mount.
    if now == flags && flags & libc::MS_RDONLY == 0 {
        return Ok(());
    }
    match by_descriptor::set_flags(mount.as_fd(), flags) {
        Err(error) if error.errno() == Some(Errno::EPERM) && now & !libc::MS_RDONLY == flags => Ok(()),
        set => set.map_err(failed_at(wanted)),
    }
}

fn failed_at(wanted: &MountV1) -> impl FnOnce(SysError) -> RestoreError {
    let object = String::from_utf8_lossy(&wanted.point).into_owned();
    move |error| SysError { object, ..error }.into()
}

fn mount_proc() -> RestoreResult<()> {
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount(Some("proc"), "/proc", Some("proc"), flags, NONE).map_err(failed("mount(proc)", b"/proc"))?;
    propagate(b"/proc", MsFlags::MS_PRIVATE)
}

fn propagate(point: &[u8], how: MsFlags) -> RestoreResult<()> {
    mount(NONE, path(point), NONE, how, NONE).map_err(failed("mount", point))
}

fn path(bytes: &[u8]) -> &Path {
    Path::new(OsStr::from_bytes(bytes))
}

fn failed(call: &'static str, point: &[u8]) -> impl FnOnce(nix::errno::Errno) -> RestoreError {
    let object = String::from_utf8_lossy(point).into_owned();
    move |errno| SysError::new(call, object, errno).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(point: &str, origin: MountOriginV1) -> MountV1 {
        MountV1 {
            point: point.into(),
            root: b"/".to_vec(),
            fs_type: "tmpfs".into(),
            source: b"none".to_vec(),
            flags: 0,
            options: "rw,size=64k,inode64".into(),
            peers: 0,
            master: 0,
            origin,
        }
    }

    fn there(point: &str) -> Mount {
        Mount {
            id: 1,
            parent: 0,
            device: "0:1".into(),
            root: b"/".to_vec(),
            point: point.into(),
            flags: libc::MS_NODEV,
            peers: 1,
            master: 0,
            idmapped: false,
            fs_type: "tmpfs".into(),
            source: b"none".to_vec(),
            options: "rw".into(),
        }
    }

    #[test]
    fn what_is_there_stays_what_is_not_wanted_goes() {
        let record = MountNamespaceV1 {
            mounts: vec![wanted("/a", MountOriginV1::Outside), wanted("/b", MountOriginV1::Own(Vec::new()))],
        };
        let now = [there("/a"), there("/b")];
        let plan = Plan::make(&record, &now).unwrap();
        assert_eq!((plan.anew, plan.root, plan.gone), (false, None, vec![&b"/b"[..]]));
        assert!(Plan::make(&record, &now[1..]).unwrap_err().to_string().starts_with("/a: "));
    }
}

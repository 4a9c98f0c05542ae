//! Mount namespaces: a copy of the restoring process's, made into what the job had.
use crate::error::{RestoreError, RestoreResult};
use ckpt_image::record::{MountNamespaceV1, MountOriginV1, MountV1};
use ckpt_sys::SysError;
use ckpt_sys::proc::mounts::{self, Mount};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

mod tree;

const NONE: Option<&str> = None;
/// What can be different in mounts of one file system.
const FLAGS: u64 = libc::MS_RDONLY
    | libc::MS_NOSUID
    | libc::MS_NODEV
    | libc::MS_NOEXEC
    | libc::MS_NOATIME
    | libc::MS_NODIRATIME
    | libc::MS_RELATIME;

/// Furnishes this process's mount namespace, a copy of the one that ckpt was started in, with the mounts of the record. `own_pids`: the job has a
/// PID namespace of its own, and its /proc is to show that.
pub(super) fn furnish(record: Option<&MountNamespaceV1>, own_pids: bool) -> RestoreResult<()> {
    // Nothing that is done here is seen outside.
    propagate(b"/", MsFlags::MS_REC | MsFlags::MS_SLAVE)?;
    let Some(record) = record else {
        return if own_pids { mount_proc() } else { Ok(()) };
    };
    let now = mounts::own()?;
    let plan = Plan::make(record, &now)?;
    for point in plan.gone.iter().rev() {
        umount2(path(point), MntFlags::MNT_DETACH).map_err(failed("umount2", point))?;
    }
    for (wanted, now) in &plan.wanted {
        restore(wanted, *now)?;
    }
    let shows_pids = |mount: &MountV1| {
        mount.point == b"/proc" && mount.fs_type == "proc" && matches!(mount.origin, MountOriginV1::Own(_))
    };
    if own_pids && !record.mounts.iter().any(shows_pids) {
        mount_proc()?;
    }
    Ok(())
}

/// What there is to do.
#[derive(Debug, PartialEq, Eq)]
struct Plan<'a> {
    /// Points of mounts that the job has not.
    gone: Vec<&'a [u8]>,
    /// Those that it has, with their flags as they are, if they are there.
    wanted: Vec<(&'a MountV1, Option<u64>)>,
}

impl<'a> Plan<'a> {
    fn make(record: &'a MountNamespaceV1, now: &'a [Mount]) -> RestoreResult<Self> {
        let mut there: Vec<Option<&Mount>> = now.iter().map(Some).collect();
        let mut wanted = Vec::new();
        for mount in &record.mounts {
            if mount.origin != MountOriginV1::Outside {
                wanted.push((mount, None));
                continue;
            }
            let is = |other: &Mount| {
                (&other.point, &other.root, &other.fs_type) == (&mount.point, &mount.root, &mount.fs_type)
            };
            let found = there.iter_mut().find(|other| other.is_some_and(is)).and_then(Option::take);
            let Some(found) = found else { return Err(missing(mount)) };
            wanted.push((mount, Some(found.flags)));
        }
        Ok(Self { gone: there.into_iter().flatten().map(|mount| mount.point.as_slice()).collect(), wanted })
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

fn restore(wanted: &MountV1, now: Option<u64>) -> RestoreResult<()> {
    let point = &wanted.point;
    match &wanted.origin {
        MountOriginV1::Outside => {}
        MountOriginV1::Bind(from) => {
            mount(Some(path(from)), path(point), NONE, MsFlags::MS_BIND, NONE)
                .map_err(failed("mount(MS_BIND)", point))?;
        }
        MountOriginV1::Own(files) => {
            let options = options(wanted);
            mount(
                Some(OsStr::from_bytes(&wanted.source)),
                path(point),
                Some(wanted.fs_type.as_str()),
                MsFlags::from_bits_truncate(wanted.flags & FLAGS & !libc::MS_RDONLY),
                (!options.is_empty()).then_some(options.as_str()),
            )
            .map_err(failed("mount", point))?;
            tree::write(point, files)?;
        }
    }
    if now.unwrap_or(0) & FLAGS != wanted.flags & FLAGS {
        let flags = MsFlags::from_bits_truncate(wanted.flags & FLAGS);
        mount(NONE, path(point), NONE, MsFlags::MS_REMOUNT | MsFlags::MS_BIND | flags, NONE)
            .map_err(failed("mount(MS_REMOUNT)", point))?;
    }
    if !wanted.slave {
        propagate(point, MsFlags::MS_PRIVATE)?;
    }
    if wanted.shared {
        propagate(point, MsFlags::MS_SHARED)?;
    }
    Ok(())
}

/// Options that mount(2) takes of those that mountinfo shows.
fn options(mount: &MountV1) -> String {
    const SHOWN_ONLY: [&str; 5] = ["rw", "ro", "seclabel", "inode64", "inode32"];
    if mount.fs_type == "mqueue" || mount.fs_type == "sysfs" {
        return String::new();
    }
    let options = mount.options.split(',').filter(|option| !SHOWN_ONLY.contains(option));
    options.collect::<Vec<_>>().join(",")
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
            shared: false,
            slave: false,
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
            shared: true,
            slave: false,
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
        assert_eq!(plan.gone, [b"/b"]);
        assert_eq!(plan.wanted[0].1, Some(libc::MS_NODEV));
        assert_eq!(plan.wanted[1].1, None);
        assert!(Plan::make(&record, &now[1..]).unwrap_err().to_string().starts_with("/a: "));
        assert_eq!(options(&record.mounts[0]), "size=64k");
    }
}

//! File systems of the job's own, made before they are mounted where they were.
use super::{failed_at, tree};
use crate::canonical;
use crate::error::{RestoreError, RestoreResult};
use ckpt_image::record::{MountOriginV1, MountV1, TreeFileV1};
use ckpt_sys::SysError;
use ckpt_sys::canonical::{self as by_path, Place, Refusal};
use ckpt_sys::mount::{self, LONGEST_VALUE, NewFileSystem, overlay};
use nix::errno::Errno;
use nix::mount::{MntFlags, umount2};
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// File systems that take options as mountinfo shows them. Those of others belong to all who have them mounted.
const WITH_OPTIONS: [&str; 8] = ["tmpfs", "ramfs", "proc", "devpts", "cgroup", "cgroup2", "hugetlbfs", "bpf"];
/// What mountinfo shows and nobody can ask for.
const SHOWN_ONLY: [&str; 5] = ["rw", "ro", "seclabel", "inode64", "inode32"];
/// What the kernel adds to a path that has been removed.
const DELETED: &[u8] = b"//deleted";

/// File systems that are made for mounts of a record. They are mounted over the root directory meanwhile: of a mount that is nowhere, kernels before
/// 6.15 give no copy.
pub(super) struct FileSystems<'a> {
    mounts: &'a [MountV1],
    made: BTreeMap<usize, OwnedFd>,
    removed: Vec<Removed<'a>>,
}

/// What was mounted and removed: it has a name until it is mounted.
#[derive(Debug)]
struct Removed<'a> {
    mounts: Vec<usize>,
    files: &'a [TreeFileV1],
    place: Place,
    /// Directories that were made for it, outermost first.
    parents: Vec<Place>,
}

impl<'a> FileSystems<'a> {
    /// Makes all that there are.
    pub(super) fn make(mounts: &'a [MountV1]) -> RestoreResult<Self> {
        let mut found = Self { mounts, made: BTreeMap::new(), removed: Vec::new() };
        for (at, mount) in mounts.iter().enumerate() {
            if matches!(mount.origin, MountOriginV1::Own(_) | MountOriginV1::Again) {
                super::overlay::check(mount)?;
                let directories = super::overlay::directories(mount)?;
                let made = create(mount).map_err(|error| not_made(mount, error))?;
                if super::overlay::directories(mount)? != directories {
                    return Err(super::overlay::changed(mount));
                }
                mount::attach(made.as_fd(), Path::new("/"))?;
                found.made.insert(at, made);
            }
        }
        for (at, mount) in mounts.iter().enumerate() {
            let (MountOriginV1::Own(files) | MountOriginV1::Part { files, .. }) = &mount.origin else {
                continue;
            };
            if !files.is_empty() {
                found.write(at, files)?;
            }
        }
        for mount in mounts.iter().filter(|mount| matches!(mount.origin, MountOriginV1::Own(_))) {
            found.make_read_only(mount)?;
        }
        Ok(found)
    }

    /// The one that mount `at` is of.
    fn of(&self, at: usize) -> Option<&OwnedFd> {
        self.made.get(&self.of_index(at)?)
    }

    /// The mount for which that was made.
    fn of_index(&self, at: usize) -> Option<usize> {
        match self.mounts.get(at)?.origin {
            MountOriginV1::Part { of, .. } => usize::try_from(of).ok(),
            _ => Some(at),
        }
    }

    /// Makes the files that mount `at` shows. What had been removed gets the name that it had, if that is free, and loses it again later.
    fn write(&mut self, at: usize, files: &'a [TreeFileV1]) -> RestoreResult<()> {
        let wanted = &self.mounts[at];
        let Some(file_system) = self.of(at) else { return Err(no_such_mount(wanted)) };
        let failed = |refusal: Refusal| canonical::failed("open", &wanted.root, &refusal);
        if !wanted.root.ends_with(DELETED) {
            let path = shown(wanted).as_os_str().as_bytes();
            let (place, _) = Place::with_parents(Some(file_system.as_raw_fd()), path).map_err(failed)?;
            return tree::write(&place, files);
        }
        // It may be mounted at several points.
        let is_same = |removed: &&Removed<'_>| {
            let other = &self.mounts[removed.mounts[0]];
            other.root == wanted.root
                && self.of_index(at) == self.of_index(removed.mounts[0])
                && removed.files == files
        };
        if let Some(same) = self.removed.iter().position(|removed| is_same(&removed)) {
            self.removed[same].mounts.push(at);
            return Ok(());
        }
        let (place, parents) = free_place(file_system, shown(wanted)).map_err(failed)?;
        tree::write(&place, files)?;
        self.removed.push(Removed { mounts: vec![at], files, place, parents });
        Ok(())
    }

    /// A detached mount of what mount `at` shows.
    pub(super) fn mount(&self, at: usize) -> RestoreResult<OwnedFd> {
        let wanted = &self.mounts[at];
        let Some(file_system) = self.of(at) else { return Err(no_such_mount(wanted)) };
        let failed = |refusal: Refusal| canonical::failed("open", &wanted.root, &refusal);
        let removed = self.removed.iter().find(|removed| removed.mounts.contains(&at));
        let open = match removed {
            Some(removed) => removed.place.look().map_err(Refusal::from),
            None if wanted.root.ends_with(DELETED) => return Err(no_such_mount(wanted)),
            None => {
                let path = shown(wanted).as_os_str().as_bytes();
                by_path::open(Some(file_system.as_raw_fd()), path, libc::O_PATH | libc::O_NOFOLLOW, 0)
            }
        };
        mount::clone_of(Some(open.map_err(failed)?.as_fd()), Path::new("")).map_err(failed_at(wanted))
    }

    /// Removes what was mounted and removed. What is removed already, the kernel does not mount.
    pub(super) fn remove_deleted(&self) -> RestoreResult<()> {
        for Removed { place, parents, .. } in self.removed.iter().rev() {
            for place in std::iter::once(place).chain(parents.iter().rev()) {
                place
                    .remove()
                    .map_err(|errno| SysError::new("unlinkat", place.name.to_string_lossy(), errno))?;
            }
        }
        Ok(())
    }

    /// The file system itself, not only its mounts, if it was so.
    fn make_read_only(&self, wanted: &MountV1) -> RestoreResult<()> {
        let at = self.mounts.iter().position(|mount| std::ptr::eq(mount, wanted));
        let in_memory = ["tmpfs", "ramfs"].contains(&wanted.fs_type.as_str());
        if in_memory
            && has(wanted, "ro")
            && let Some(made) = at.and_then(|at| self.made.get(&at))
        {
            let change = NewFileSystem::of(made.as_fd())?;
            change.set("ro", None)?;
            change.reconfigure()?;
        }
        Ok(())
    }

    /// They are not mounted over the root directory any more.
    pub(super) fn unmount(&self) -> RestoreResult<()> {
        for made in self.made.values().rev() {
            let path = format!("/proc/self/fd/{}", made.as_raw_fd());
            umount2(path.as_str(), MntFlags::MNT_DETACH)
                .map_err(|errno| SysError::new("umount2", path, errno))?;
        }
        Ok(())
    }
}

/// The place of something that is to be removed again: the one that it had, or one that nothing has.
fn free_place(file_system: &OwnedFd, path: &Path) -> Result<(Place, Vec<Place>), Refusal> {
    let root = file_system.as_raw_fd();
    if let Ok(found) = Place::with_parents(Some(root), path.as_os_str().as_bytes())
        && found.0.look().is_err_and(|errno| errno == Errno::ENOENT)
    {
        return Ok(found);
    }
    let mut place = Place::of(Some(root), b"/")?;
    for number in 0_u32.. {
        place.name = format!(".ckpt-removed-{number}").into();
        if place.look().is_err_and(|errno| errno == Errno::ENOENT) {
            break;
        }
    }
    Ok((place, Vec::new()))
}

/// What a mount shows of its file system, as a path below the root of that.
fn shown(mount: &MountV1) -> &Path {
    let root = mount.root.strip_suffix(DELETED).unwrap_or(&mount.root);
    Path::new(OsStr::from_bytes(root.strip_prefix(b"/").unwrap_or(root)))
}

fn has(mount: &MountV1, option: &str) -> bool {
    mount.options.split(',').any(|other| other == option)
}

fn create(wanted: &MountV1) -> Result<OwnedFd, SysError> {
    let type_ = wanted.fs_type.as_str();
    let again = wanted.origin == MountOriginV1::Again;
    let new = NewFileSystem::open(type_)?;
    new.set("source", Some(&wanted.source))?;
    if again || WITH_OPTIONS.contains(&type_) {
        for option in options(wanted) {
            match option.split_once('=') {
                Some(("lowerdir", layers)) if type_ == "overlay" && layers.len() > LONGEST_VALUE => {
                    for layer in overlay::layers(layers) {
                        let key = if layer.data_only { "datadir+" } else { "lowerdir+" };
                        new.set(key, Some(&layer.path))?;
                    }
                }
                Some((key, value)) => new.set(key, Some(value.as_bytes()))?,
                None => new.set(&option, None)?,
            }
        }
    }
    if has(wanted, "ro") && !["tmpfs", "ramfs"].contains(&type_) {
        new.set("ro", None)?;
    }
    new.create()
}

/// Options that can be asked for, of those that mountinfo shows.
fn options(mount: &MountV1) -> Vec<String> {
    let again = mount.origin == MountOriginV1::Again;
    // Which is the part of a btrfs that is shown, the record says.
    let is_place = |option: &str| {
        mount.fs_type == "btrfs" && (option.starts_with("subvol=") || option.starts_with("subvolid="))
    };
    let shown_only = |option: &str| match option {
        // Of disks, it says what to do.
        "inode64" | "inode32" if again => false,
        _ => SHOWN_ONLY.contains(&option),
    };
    let all = mount.options.split(',').filter(|option| !shown_only(option) && !is_place(option));
    let mut found: Vec<String> = all.filter(|option| !option.is_empty()).map(str::to_owned).collect();
    if mount.fs_type == "btrfs" {
        found.push("subvolid=5".to_owned());
    }
    found
}

fn not_made(mount: &MountV1, error: SysError) -> RestoreError {
    let (point, type_) = (String::from_utf8_lossy(&mount.point), &mount.fs_type);
    let gone = |path: &Vec<u8>| path.starts_with(b"/") && fs::metadata(OsStr::from_bytes(path)).is_err();
    let needed = match type_.as_str() {
        "overlay" => overlay::directories(&mount.options),
        _ if mount.origin == MountOriginV1::Again => vec![mount.source.clone()],
        _ => Vec::new(),
    };
    match needed.iter().find(|path| gone(path)) {
        Some(path) => RestoreError::File {
            path: String::from_utf8_lossy(path).into_owned(),
            reason: format!(
                "what the job had mounted at {point} ({type_}) is made of it, and it is not there"
            ),
            remedy: "Put it back and restore again".into(),
        },
        None => RestoreError::Machine {
            reason: format!("what the job had mounted at {point} ({type_}) cannot be made: {error}"),
            remedy: "Restore where that file system can be mounted".into(),
        },
    }
}

fn no_such_mount(mount: &MountV1) -> RestoreError {
    RestoreError::Inconsistent {
        what: format!("no file system is recorded for the mount {}", String::from_utf8_lossy(&mount.point)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mount(fs_type: &str, options: &str, origin: MountOriginV1) -> MountV1 {
        MountV1 {
            point: b"/a".to_vec(),
            root: b"/x//deleted".to_vec(),
            fs_type: fs_type.into(),
            source: b"none".to_vec(),
            flags: 0,
            options: options.into(),
            peers: 0,
            master: 0,
            origin,
        }
    }

    #[test]
    fn what_is_asked_for() {
        let tmpfs = mount("tmpfs", "rw,size=64k,inode64", MountOriginV1::Own(Vec::new()));
        assert_eq!(options(&tmpfs), ["size=64k"]);
        assert_eq!(shown(&tmpfs), Path::new("x"));
        let btrfs = mount("btrfs", "rw,ssd,subvolid=256,subvol=/a", MountOriginV1::Again);
        assert_eq!(options(&btrfs), ["ssd", "subvolid=5"]);
        assert_eq!(options(&mount("xfs", "rw,inode64", MountOriginV1::Again)), ["inode64"]);
    }
}

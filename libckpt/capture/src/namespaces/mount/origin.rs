//! Where each mount of a namespace comes from, and which of them cannot be made again.
use super::outer::{Identity, Outer, below};
use super::{overlay, refused};
use crate::error::CaptureResult;
use ckpt_sys::proc::mounts::Mount;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

/// File systems in memory: their files are saved.
const IN_MEMORY: [&str; 2] = ["tmpfs", "ramfs"];
/// File systems that the kernel fills.
const KERNEL_FILLED: [&str; 16] = [
    "proc",
    "sysfs",
    "mqueue",
    "cgroup",
    "cgroup2",
    "devpts",
    "devtmpfs",
    "binfmt_misc",
    "securityfs",
    "debugfs",
    "tracefs",
    "configfs",
    "pstore",
    "efivarfs",
    "fusectl",
    "selinuxfs",
];
/// Those that are made anew if there is nothing in them.
const ONLY_EMPTY: [(&str, &str); 2] =
    [("bpf", "BPF objects are pinned in it"), ("hugetlbfs", "there are files in it")];
/// File systems on block devices.
const ON_DISK: [&str; 11] =
    ["ext2", "ext3", "ext4", "xfs", "btrfs", "f2fs", "vfat", "exfat", "iso9660", "squashfs", "erofs"];
/// What the kernel adds to a path that has been removed.
const DELETED: &[u8] = b"//deleted";

/// Where a mount comes from.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Origin {
    /// It is outside, too.
    Outside,
    /// It shows what has this path outside.
    Bind(Vec<u8>),
    /// A file system of its own; files of it are saved if it is in memory.
    Own { in_memory: bool },
    /// The file system of another mount, by its place; its files are saved with that, or with this one.
    Part { of: usize, in_memory: bool },
    /// A file system of its own, whose files are elsewhere.
    Again,
}

/// The mounts that process `root` sees.
pub(super) struct Finder<'a> {
    pub(super) root: i32,
    pub(super) mounts: Vec<Mount>,
    pub(super) outer: &'a Outer,
    /// Its root directory is a mount of its own: all mounts are put together anew.
    pub(super) anew: bool,
}

impl<'a> Finder<'a> {
    pub(super) fn new(root: i32, mounts: Vec<Mount>, outer: &'a Outer) -> Self {
        let mut found = Self { root, mounts, outer, anew: false };
        let top = found.mounts.iter().find(|mount| mount.point == b"/");
        found.anew = !top.is_some_and(|top| found.is_outside(top));
        if found.anew {
            // Nothing leads there.
            let hidden: Vec<bool> = found.mounts.iter().map(|mount| found.is_hidden(mount)).collect();
            let shown: Vec<Mount> = found
                .mounts
                .iter()
                .zip(&hidden)
                .filter(|(_, hidden)| !**hidden)
                .map(|(mount, _)| mount.clone())
                .collect();
            let mut hidden = hidden.into_iter();
            // What is in memory would be lost, where nothing else shows it.
            let is_own = |mount: &Mount| {
                let is_in = |other: &Mount| {
                    other.device == mount.device
                        && match mount.root.ends_with(DELETED) {
                            true => other.root == mount.root,
                            false => below(&mount.root, &other.root, b"/").is_some(),
                        }
                };
                IN_MEMORY.contains(&mount.fs_type.as_str())
                    && outer.mounts.iter().all(|other| other.device != mount.device)
                    && !shown.iter().any(is_in)
            };
            found.mounts.retain(|mount| !hidden.next().unwrap_or(false) || is_own(mount));
        }
        found
    }

    /// Where they come from, one by one.
    pub(super) fn origins(&self) -> CaptureResult<Vec<Origin>> {
        (0..self.mounts.len()).map(|at| self.origin(at)).collect()
    }

    /// The path by which this process finds what a mount shows.
    pub(super) fn view(&self, mount: &Mount) -> PathBuf {
        let point = Path::new(OsStr::from_bytes(&mount.point));
        Path::new(&format!("/proc/{}/root", self.root)).join(point.strip_prefix("/").unwrap_or(point))
    }

    fn identity(&self, mount: &Mount) -> Option<Identity> {
        let metadata = fs::symlink_metadata(self.view(mount)).ok()?;
        (!self.is_hidden(mount)).then_some((metadata.dev(), metadata.ino()))
    }

    /// Whether something is mounted over it, or over where it is.
    fn is_hidden(&self, mount: &Mount) -> bool {
        let covers = |point: &[u8]| {
            let on = |other: &&Mount| other.parent == mount.parent && other.id != mount.id;
            let above = |other: &Mount| {
                point.strip_prefix(&other.point[..]).is_some_and(|rest| rest.starts_with(b"/"))
            };
            self.mounts.iter().filter(on).any(above)
        };
        let over =
            |other: &Mount| other.parent == mount.id && other.id != mount.id && other.point == mount.point;
        if self.mounts.iter().any(over) || covers(&mount.point) {
            return true;
        }
        let parent = self.mounts.iter().find(|other| other.id == mount.parent && other.id != mount.id);
        parent.is_some_and(|parent| parent.point != mount.point && self.is_hidden(parent))
    }

    fn is_outside(&self, mount: &Mount) -> bool {
        // What of a control group file system is shown, the kernel tells relative to the reader's cgroup namespace.
        let relative = mount.fs_type.starts_with("cgroup");
        let same = |other: &&Mount| -> bool {
            (&other.device, &other.point) == (&mount.device, &mount.point)
                && (relative || other.root == mount.root)
        };
        let ambiguous = self.anew || mount.point == b"/" || relative;
        let file = if ambiguous { self.identity(mount) } else { None };
        // The job may have mounted once more what is there outside.
        let earlier = self.mounts.iter().take_while(|other| other.id != mount.id).filter(same).count();
        self.outer.mounts.iter().filter(same).count() > earlier
            && file.is_none_or(|file| self.outer.identity(&mount.point) == Some(file))
    }

    fn origin(&self, at: usize) -> CaptureResult<Origin> {
        let mount = &self.mounts[at];
        if self.is_outside(mount) {
            return Ok(Origin::Outside);
        }
        if mount.idmapped {
            return Err(self.refused(
                mount,
                "it is idmapped, and the kernel does not show the ids",
                "Mount it outside of the job's mount namespace",
            ));
        }
        if let Some(path) = self.outer.path_of(mount, self.identity(mount)) {
            return Ok(Origin::Bind(path));
        }
        let in_memory = IN_MEMORY.contains(&mount.fs_type.as_str());
        if in_memory {
            self.check_readable(mount)?;
        } else {
            self.check_type(mount)?;
        }
        let of = self.maker(mount);
        Ok(match of {
            _ if of != at => Origin::Part { of, in_memory },
            _ if in_memory || KERNEL_FILLED.contains(&mount.fs_type.as_str()) => Origin::Own { in_memory },
            _ if ONLY_EMPTY.iter().any(|(type_, _)| *type_ == mount.fs_type) => Origin::Own { in_memory },
            _ => Origin::Again,
        })
    }

    /// Of the mounts of one file system, the one that it is made for: that shows most of it.
    fn maker(&self, mount: &Mount) -> usize {
        let of_it = self.mounts.iter().enumerate().filter(|(_, other)| other.device == mount.device);
        let deleted = |mount: &Mount| mount.root.ends_with(DELETED);
        let most = of_it.min_by_key(|(_, other)| (deleted(other), other.root.len()));
        most.map_or(0, |(at, _)| at)
    }

    /// Whether the files of mount `at` are saved with another mount.
    pub(super) fn is_covered(&self, at: usize) -> bool {
        let mount = &self.mounts[at];
        let shows_it = |(place, other): (usize, &Mount)| {
            let inside = below(&mount.root, &other.root, b"/").is_some();
            let before = other.root.len() < mount.root.len() || place < at;
            place != at && other.device == mount.device && inside && before && !other.root.ends_with(DELETED)
        };
        !mount.root.ends_with(DELETED) && self.mounts.iter().enumerate().any(shows_it)
    }

    /// Refuses a file system in memory that is hidden: it could not be read.
    fn check_readable(&self, mount: &Mount) -> CaptureResult<()> {
        if !self.is_hidden(mount) {
            return Ok(());
        }
        Err(self.refused(
            mount,
            "another file system is mounted over it, so that it cannot be read",
            "Unmount what is over it",
        ))
    }

    /// Refuses a file system that is not in memory and cannot be made again.
    fn check_type(&self, mount: &Mount) -> CaptureResult<()> {
        let outside = "Mount it outside of the job, or unmount it before the checkpoint and mount it again after the restore";
        let type_ = mount.fs_type.as_str();
        if mount.root.ends_with(DELETED) {
            let remedy = "Mount something that is there";
            return Err(self.refused(mount, "what it shows has been removed from its file system", remedy));
        }
        if mount.root.starts_with(b"/..") {
            return Err(self.refused(
                mount,
                "it shows what is outside of the job's cgroup namespace",
                outside,
            ));
        }
        if KERNEL_FILLED.contains(&type_) {
            return Ok(());
        }
        if let Some((_, what)) = ONLY_EMPTY.iter().find(|(only, _)| *only == type_) {
            let full = fs::read_dir(self.view(mount)).is_ok_and(|mut files| files.next().is_some());
            return if full { Err(self.refused(mount, what, outside)) } else { Ok(()) };
        }
        if type_ == "overlay" {
            return overlay::check(self, mount);
        }
        if ON_DISK.contains(&type_) {
            return self.check_device(mount);
        }
        let reason = match type_ {
            "nsfs" => "a namespace is mounted there",
            "autofs" => "the program that mounts for it is outside of the job",
            _ if type_.starts_with("fuse") => {
                "the program that serves it (FUSE) is not asked again by a restore"
            }
            _ => "the job has mounted it for itself, and it cannot be made again",
        };
        Err(self.refused(mount, reason, outside))
    }

    fn check_device(&self, mount: &Mount) -> CaptureResult<()> {
        let device = self.outer.metadata(&mount.source);
        if device.is_some_and(|device| device.file_type().is_block_device()) {
            return Ok(());
        }
        let source = String::from_utf8_lossy(&mount.source);
        let reason = format!("its block device {source} is not seen outside of the job's mount namespace");
        Err(self.refused(mount, &reason, "Mount it outside of the job"))
    }

    pub(super) fn refused(&self, mount: &Mount, reason: &str, remedy: &str) -> crate::error::CaptureError {
        refused(self.root, mount, reason, remedy)
    }
}

//! The files of a file system that lives in memory and is the job's own.
use super::origin::Finder;
use super::refused;
use crate::error::CaptureResult;
use ckpt_image::record::TreeFileV1;
use ckpt_sys::namespace::{self, Namespace};
use ckpt_sys::proc::mounts::Mount;
use ckpt_sys::{SysError, SysResult};
use nix::errno::Errno;
use nix::sched::{CloneFlags, unshare};
use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::{self, Metadata};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Most bytes that are copied while the job stands still.
const MOST: u64 = 256 << 20;

/// All files that a mount of a file system in memory shows, directories before what is in them; also what other mounts cover.
pub(super) fn read(finder: &Finder<'_>, mount: &Mount) -> CaptureResult<Vec<TreeFileV1>> {
    let view = finder.view(mount);
    // A mount of our own has nothing mounted on it.
    let own = clone_of(&view).or_else(|_| clone_within(finder.root, mount)).ok();
    let top = match &own {
        Some(own) => PathBuf::from(format!("/proc/self/fd/{}", own.as_raw_fd())),
        None => view,
    };
    let metadata = fs::metadata(&top).map_err(|error| SysError::new("stat", top.to_string_lossy(), error))?;
    let device = metadata.dev();
    let mut reader = Reader {
        root: finder.root,
        mount,
        top: &top,
        device,
        bytes: 0,
        links: HashMap::new(),
        found: Vec::new(),
    };
    reader.add(&top, &metadata)?;
    Ok(reader.found)
}

/// A detached copy of a mount, made by a thread that goes to where process `pid` sees it.
fn clone_within(pid: i32, mount: &Mount) -> SysResult<OwnedFd> {
    let place = namespace::open_of(pid, Namespace::Mount)?;
    let copy = || {
        // The directories of a thread that moves must be its own.
        unshare(CloneFlags::CLONE_FS).map_err(|errno| SysError::new("unshare", "directories", errno))?;
        namespace::join(place.as_fd(), &[Namespace::Mount])?;
        clone_of(Path::new(OsStr::from_bytes(&mount.point)))
    };
    let copied = std::thread::scope(|scope| scope.spawn(copy).join());
    copied.unwrap_or_else(|_| Err(SysError::new("open_tree", "a mount", Errno::EINVAL)))
}

fn clone_of(path: &Path) -> SysResult<OwnedFd> {
    ckpt_sys::mount::clone_of(None, path)
}

struct Reader<'a> {
    root: i32,
    mount: &'a Mount,
    top: &'a Path,
    device: u64,
    bytes: u64,
    /// Files with several names, by inode.
    links: HashMap<u64, Vec<u8>>,
    found: Vec<TreeFileV1>,
}

impl Reader<'_> {
    fn metadata(&self, path: &Path) -> CaptureResult<Metadata> {
        let failed = |error| SysError::new("lstat", path.to_string_lossy(), error);
        Ok(fs::symlink_metadata(path).map_err(failed)?)
    }

    fn add(&mut self, path: &Path, metadata: &Metadata) -> CaptureResult<()> {
        let failed = |call| move |error| SysError::new(call, path.to_string_lossy(), error);
        let name = path.strip_prefix(self.top).unwrap_or(path).as_os_str().as_bytes().to_vec();
        let kind = metadata.mode() & libc::S_IFMT;
        let mut file = TreeFileV1 {
            path: name,
            mode: metadata.mode(),
            owner: (metadata.uid(), metadata.gid()),
            mtime_ns: metadata.mtime() * 1_000_000_000 + metadata.mtime_nsec(),
            device: metadata.rdev(),
            contents: Vec::new(),
            link_to: None,
        };
        if kind != libc::S_IFDIR && metadata.nlink() > 1 {
            if let Some(first) = self.links.get(&metadata.ino()) {
                file.link_to = Some(first.clone());
                self.found.push(file);
                return Ok(());
            }
            self.links.insert(metadata.ino(), file.path.clone());
        }
        match kind {
            libc::S_IFREG => {
                self.bytes = self.bytes.saturating_add(metadata.len());
                if self.bytes > MOST {
                    let reason = format!("more than {} MiB of files are in it", MOST >> 20);
                    return Err(refused(
                        self.root,
                        self.mount,
                        &reason,
                        "Mount it outside of the job's mount namespace, where its files stay what they are",
                    ));
                }
                file.contents = fs::read(path).map_err(failed("read"))?;
            }
            libc::S_IFLNK => {
                file.contents = fs::read_link(path).map_err(failed("readlink"))?.into_os_string().into_vec();
            }
            _ => {}
        }
        self.found.push(file);
        if kind == libc::S_IFDIR {
            let entries = fs::read_dir(path).map_err(failed("readdir"))?;
            for entry in entries {
                let path = entry.map_err(failed("readdir"))?.path();
                let metadata = self.metadata(&path)?;
                // Another file system is mounted there: what it covers is taken for empty.
                if metadata.dev() == self.device {
                    self.add(&path, &metadata)?;
                } else {
                    self.point(&path, &metadata);
                }
            }
        }
        Ok(())
    }

    /// A place to mount something at.
    fn point(&mut self, path: &Path, metadata: &Metadata) {
        let kind = if metadata.is_dir() { libc::S_IFDIR | 0o755 } else { libc::S_IFREG | 0o644 };
        self.found.push(TreeFileV1 {
            path: path.strip_prefix(self.top).unwrap_or(path).as_os_str().as_bytes().to_vec(),
            mode: kind,
            owner: (0, 0),
            mtime_ns: 0,
            device: 0,
            contents: Vec::new(),
            link_to: None,
        });
    }
}

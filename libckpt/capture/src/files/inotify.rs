//! inotify(7).
use super::index::show;
use super::{Context, FoundFile};
use crate::error::CaptureResult;
use crate::nameless::{User, capture_nameless};
use ckpt_image::record::{FileKindV1, InotifyWatchV1};
use ckpt_sys::proc::{malformed, maps::unescape};
use ckpt_sys::{SysError, descriptor};
use std::ffi::OsStr;
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::MetadataExt;

/// A watch as fdinfo has it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Watch {
    wd: i32,
    inode: u64,
    /// Major and minor number.
    device: (u32, u32),
    mask: u32,
    handle_kind: i32,
    handle: Vec<u8>,
}

/// Saves an inotify instance.
pub(super) fn describe(context: &mut Context<'_>, file: &FoundFile) -> CaptureResult<FileKindV1> {
    let unread = descriptor::readable_bytes(file.dup())?;
    let mut watches = Vec::new();
    let mut mounts = None;
    for line in file.info.lines("inotify ") {
        let watch =
            parse(line).ok_or_else(|| malformed("parse of an inotify watch", context.index.holder(file)))?;
        let mounts = match &mut mounts {
            Some(mounts) => mounts,
            none => none.insert(Mounts::read()?),
        };
        let path = match mounts.path_of(&watch) {
            None => nameless(context, file, mounts, &watch)?,
            found => found,
        };
        let Some(path) = path else {
            let (major, minor) = watch.device;
            return Err(context.unsupported(
                file,
                format!(
                    "the path of its watch {} (inode {} on device {major}:{minor}) cannot be found",
                    watch.wd, watch.inode
                ),
                "Remove that watch before saving",
            ));
        };
        watches.push(InotifyWatchV1 { wd: watch.wd, mask: watch.mask, path });
    }
    watches.sort_by_key(|watch| watch.wd);
    Ok(FileKindV1::Inotify { watches, unread })
}

impl Watch {
    /// Reads a mark of an inode that fdinfo of a fanotify group has, which has no number.
    pub(super) fn of_mark(line: &str) -> Option<Self> {
        parse(&format!("wd:0 {line}"))
    }
}

/// Major and minor number.
fn device(number: u64) -> Option<(u32, u32)> {
    Some((u32::try_from(number >> 20).ok()?, u32::try_from(number & 0xf_ffff).ok()?))
}

/// The path that what a watch watches had; it is noted as a file that no path leads to.
fn nameless(
    context: &mut Context<'_>,
    file: &FoundFile,
    mounts: &mut Mounts,
    watch: &Watch,
) -> CaptureResult<Option<Vec<u8>>> {
    let Some(found) = mounts.open(watch) else { return Ok(None) };
    let meta = found.metadata().map_err(|error| SysError::new("fstat", "a watched file", error))?;
    let link = std::fs::read_link(format!("/proc/self/fd/{}", found.as_raw_fd()));
    let link = link.map_err(|error| SysError::new("readlink", "a watched file", error))?;
    let link = link.into_os_string().into_vec();
    let saved = match &mut context.objects {
        None => true,
        Some(objects) => {
            capture_nameless(objects, found.as_fd(), &meta, &link, User::Watch(file.id, watch.wd))?
        }
    };
    Ok(saved.then_some(link))
}

/// Reads what follows `inotify ` in fdinfo.
fn parse(line: &str) -> Option<Watch> {
    let value = |name: &str| line.split_ascii_whitespace().find_map(|word| word.strip_prefix(name));
    let hex = |name: &str| u64::from_str_radix(value(name)?, 16).ok();
    let digits = value("f_handle:").unwrap_or_default();
    let bytes = (0..digits.len() / 2).map(|at| u8::from_str_radix(digits.get(2 * at..2 * at + 2)?, 16).ok());
    Some(Watch {
        wd: i32::try_from(hex("wd:")?).ok()?,
        inode: hex("ino:")?,
        device: device(hex("sdev:")?)?,
        mask: u32::try_from(hex("mask:")?).ok()?,
        handle_kind: hex("fhandle-type:").and_then(|kind| i32::try_from(kind).ok()).unwrap_or(0),
        handle: bytes.collect::<Option<Vec<u8>>>()?,
    })
}

/// Mount points, to open files of their file systems by handle.
pub(super) struct Mounts(Vec<Mount>);

struct Mount {
    id: i32,
    device: (u32, u32),
    point: Vec<u8>,
    /// None inside: it could not be opened.
    open: Option<Option<File>>,
}

impl Mounts {
    pub(super) fn read() -> CaptureResult<Self> {
        let path = "/proc/self/mountinfo";
        let text = std::fs::read(path).map_err(|error| SysError::new("read", path, error))?;
        Ok(Self(text.split(|byte| *byte == b'\n').filter_map(parse_mount).collect()))
    }

    /// Where the mount with this id is.
    pub(super) fn point(&self, id: i32) -> Option<Vec<u8>> {
        self.0.iter().find(|mount| mount.id == id).map(|mount| mount.point.clone())
    }

    /// Where a file system is mounted, by its number as fdinfo has it.
    pub(super) fn point_of_device(&self, number: u64) -> Option<Vec<u8>> {
        let device = device(number)?;
        self.0.iter().find(|mount| mount.device == device).map(|mount| mount.point.clone())
    }

    /// What a watch watches, opened by its handle.
    fn open(&mut self, watch: &Watch) -> Option<File> {
        self.0.iter_mut().filter(|mount| mount.device == watch.device).find_map(|mount| {
            let open = mount.open.get_or_insert_with(|| File::open(OsStr::from_bytes(&mount.point)).ok());
            let found = descriptor::open_by_handle(open.as_ref()?.as_fd(), watch.handle_kind, &watch.handle);
            found.ok().map(File::from)
        })
    }

    /// The path of what a watch watches.
    pub(super) fn path_of(&mut self, watch: &Watch) -> Option<Vec<u8>> {
        for mount in self.0.iter_mut().filter(|mount| mount.device == watch.device) {
            let open = mount.open.get_or_insert_with(|| File::open(OsStr::from_bytes(&mount.point)).ok());
            let Some(at) = open else { continue };
            let Ok(found) = descriptor::open_by_handle(at.as_fd(), watch.handle_kind, &watch.handle) else {
                continue;
            };
            let Ok(path) = std::fs::read_link(format!("/proc/self/fd/{}", found.as_raw_fd())) else {
                continue;
            };
            let same = std::fs::symlink_metadata(&path).is_ok_and(|meta| meta.ino() == watch.inode);
            if same {
                return Some(path.into_os_string().into_vec());
            }
            tracing::debug!(path = show(path.as_os_str().as_bytes()), "a watched inode has another path");
        }
        None
    }
}

/// Reads a line of mountinfo.
fn parse_mount(line: &[u8]) -> Option<Mount> {
    let mut words = line.split(|byte| *byte == b' ');
    let id = std::str::from_utf8(words.next()?).ok()?.parse().ok()?;
    let device = std::str::from_utf8(words.nth(1)?).ok()?;
    let (major, minor) = device.split_once(':')?;
    let point = unescape(words.nth(1)?);
    Some(Mount { id, device: (major.parse().ok()?, minor.parse().ok()?), point, open: None })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_watch() {
        let line = "wd:3 ino:9e7e sdev:800013 mask:800afce ignored_mask:0 fhandle-bytes:8 fhandle-type:1 \
                    f_handle:7e9e0000640d1b6d";
        let wanted = Watch {
            wd: 3,
            inode: 0x9e7e,
            device: (8, 0x13),
            mask: 0x800_afce,
            handle_kind: 1,
            handle: vec![0x7e, 0x9e, 0, 0, 0x64, 0x0d, 0x1b, 0x6d],
        };
        assert_eq!(parse(line).unwrap(), wanted);
    }

    #[test]
    fn a_mount() {
        let mount = parse_mount(b"27 1 254:0 /sub /mnt\\040a rw,relatime - ext4 /dev/vda rw").unwrap();
        assert_eq!((mount.device, mount.point.as_slice()), ((254, 0), b"/mnt a".as_slice()));
    }
}

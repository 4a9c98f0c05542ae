//! Files in use that no path leads to any more: removed directories, FIFOs and the like, and files that have another name than the kernel tells.
use crate::content;
use crate::error::CaptureResult;
use crate::objects::Objects;
use ckpt_image::record::{FsId, NamelessNodeV1, NamelessV1, OpenFileId};
use ckpt_sys::{SysError, descriptor};
use std::fs::{File, Metadata};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::MetadataExt;

const DELETED: &[u8] = b" (deleted)";

/// Who uses such a file.
#[derive(Debug, Clone, Copy)]
pub(crate) enum User {
    /// An open file description.
    File(OpenFileId),
    /// A process, as working directory.
    Directory(FsId),
    /// A watch of an inotify instance.
    Watch(OpenFileId, i32),
}

/// Notes that `user` uses the file that `fd`, any descriptor of it, is of; `link` is what /proc says of it. Whether it can be saved.
pub(crate) fn capture_nameless(
    objects: &mut Objects,
    fd: BorrowedFd<'_>,
    meta: &Metadata,
    link: &[u8],
    user: User,
) -> CaptureResult<bool> {
    let key = (meta.dev(), meta.ino());
    if !objects.nameless.contains_key(&key) {
        let Some(node) = node(objects, fd, meta, link)? else { return Ok(false) };
        add(objects, node, meta, link);
    }
    if let Some(known) = objects.nameless.get_mut(&key) {
        match user {
            User::File(id) => known.files.push(id),
            User::Directory(id) => known.directories.push(id),
            User::Watch(id, wd) => known.watches.push((id, wd)),
        }
    }
    Ok(true)
}

/// Notes an unlinked regular file whose contents are those of `node`.
pub(crate) fn add(objects: &mut Objects, node: NamelessNodeV1, meta: &Metadata, link: &[u8]) {
    let ns = |seconds: i64, rest: i64| seconds.saturating_mul(1_000_000_000).saturating_add(rest);
    let record = NamelessV1 {
        node,
        path: link.strip_suffix(DELETED).unwrap_or(link).to_vec(),
        mode: meta.mode(),
        owner: (meta.uid(), meta.gid()),
        atime_ns: ns(meta.atime(), meta.atime_nsec()),
        mtime_ns: ns(meta.mtime(), meta.mtime_nsec()),
        files: Vec::new(),
        directories: Vec::new(),
        watches: Vec::new(),
    };
    objects.nameless.insert((meta.dev(), meta.ino()), record);
}

fn node(
    objects: &mut Objects,
    fd: BorrowedFd<'_>,
    meta: &Metadata,
    link: &[u8],
) -> CaptureResult<Option<NamelessNodeV1>> {
    let kind = meta.mode() & libc::S_IFMT;
    if link.starts_with(b"/proc/") {
        return Ok(is_process(link).then_some(NamelessNodeV1::Process));
    }
    let is_gone = meta.nlink() == 0 || (kind == libc::S_IFDIR && link.ends_with(DELETED));
    if !is_gone {
        let Ok((handle_kind, handle)) = descriptor::handle(fd) else { return Ok(None) };
        return Ok(Some(NamelessNodeV1::Elsewhere { device: meta.dev(), handle_kind, handle }));
    }
    Ok(match kind {
        libc::S_IFDIR => Some(NamelessNodeV1::Directory),
        libc::S_IFIFO => Some(NamelessNodeV1::Fifo),
        libc::S_IFCHR | libc::S_IFBLK => Some(NamelessNodeV1::Device { rdev: meta.rdev() }),
        libc::S_IFLNK => {
            let target = nix::fcntl::readlinkat(fd, "")
                .map_err(|errno| SysError::new("readlinkat", String::from_utf8_lossy(link), errno))?;
            Some(NamelessNodeV1::Symlink { target: target.into_vec() })
        }
        libc::S_IFREG => {
            let own = format!("/proc/self/fd/{}", fd.as_raw_fd());
            let own = File::open(&own).map_err(|error| SysError::new("open", own, error))?;
            let path = link.strip_suffix(DELETED).unwrap_or(link);
            Some(NamelessNodeV1::Ghost(content::ghost(objects, &own, path)?))
        }
        _ => None,
    })
}

/// Whether this is the directory of a process in /proc.
fn is_process(link: &[u8]) -> bool {
    let name = link.strip_suffix(DELETED).and_then(|path| path.strip_prefix(b"/proc/"));
    name.is_some_and(|name| !name.is_empty() && name.iter().all(u8::is_ascii_digit))
}

#[cfg(test)]
mod tests {
    use super::is_process;

    #[test]
    fn directories_of_processes() {
        assert!(is_process(b"/proc/42 (deleted)"));
        assert!(!is_process(b"/proc/42"));
        assert!(!is_process(b"/proc/42/fd (deleted)"));
        assert!(!is_process(b"/proc/ (deleted)"));
    }
}

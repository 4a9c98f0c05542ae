//! Mappings: what each is of, and with what settings.
use crate::error::{CaptureError, CaptureResult};
use crate::namespaces::Further;
use crate::objects::Objects;
use crate::userfaultfd::{NOT_SAVED, UNREGISTER};
use crate::{aio, content, files, mapped_file, tmpfs};
use ckpt_image::record::{AioRingV1, BackingV1, FileIdent, MappedFileV1, VmaV1, vma_flags};
use ckpt_sys::inject::Injector;
use ckpt_sys::io_uring::{OFFSET_COMPLETIONS, OFFSET_ENTRIES, OFFSET_RINGS};
use ckpt_sys::proc::maps::{self, Mapping};
use ckpt_sys::{SysError, SysResult};
use std::fs::Metadata;
use std::ops::Range;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;
use std::sync::Arc;

/// `VmFlags` and what they are in the record.
const FLAGS: [(&[u8; 2], u64); 15] = [
    (b"gd", vma_flags::GROWSDOWN),
    (b"lo", vma_flags::LOCKED),
    (b"lf", vma_flags::LOCK_ON_FAULT),
    (b"nr", vma_flags::NORESERVE),
    (b"hg", vma_flags::HUGEPAGE),
    (b"nh", vma_flags::NOHUGEPAGE),
    (b"dc", vma_flags::DONTFORK),
    (b"dd", vma_flags::DONTDUMP),
    (b"wf", vma_flags::WIPEONFORK),
    (b"mg", vma_flags::MERGEABLE),
    (b"sr", vma_flags::SEQUENTIAL),
    (b"rr", vma_flags::RANDOM),
    (b"dp", vma_flags::DROPPABLE),
    (b"sf", vma_flags::SYNC),
    (b"sl", vma_flags::SEALED),
];
/// PROT_* that mprotect(2) may give.
const MAX_PROT: [(&[u8; 2], i32); 3] =
    [(b"mr", libc::PROT_READ), (b"mw", libc::PROT_WRITE), (b"me", libc::PROT_EXEC)];

/// The mappings of `pid` that cannot be saved.
pub(crate) fn check(pid: i32) -> Vec<CaptureError> {
    let mappings = match maps::smaps(pid) {
        Ok(mappings) => mappings,
        Err(error) => return vec![error.into()],
    };
    let Ok(files) = Files::new(&Arc::default()) else { return Vec::new() };
    mappings.iter().filter_map(|mapping| files.kind(pid, mapping).err()).collect()
}

/// The mappings of `pid`, with their `VmFlags`, but for those of `scratch`, which are ours.
///
/// `VmFlags` cost a look at every page, so they are taken from `before`, read shortly before the freeze, if no mapping has come since.
pub(crate) fn mappings(pid: i32, scratch: &[Range<u64>], before: &[Mapping]) -> SysResult<Vec<Mapping>> {
    let mut mappings = cut(maps::maps(pid)?, scratch);
    let known = mappings.iter_mut().all(|mapping| {
        let earlier = find(before, mapping);
        mapping.vm_flags = earlier.map_or_else(Vec::new, |earlier| earlier.vm_flags.clone());
        mapping.protection_key = earlier.map_or(0, |earlier| earlier.protection_key);
        mapping.page_size = earlier.map_or(0, |earlier| earlier.page_size);
        earlier.is_some()
    });
    if known { Ok(mappings) } else { Ok(cut(maps::smaps(pid)?, scratch)) }
}

/// Takes flags that changed around the freeze from `after`, read when the process ran on. Whether it made the change just before the freeze or just
/// after: restored, it makes it, or has made it.
pub(crate) fn settle(vmas: &mut [VmaV1], frozen: &[Mapping], after: &[Mapping]) {
    for (vma, mapping) in vmas.iter_mut().zip(frozen) {
        if let Some(later) = find(after, mapping) {
            vma.flags = record_flags(later);
            vma.protection_key = later.protection_key;
        }
    }
}

/// The mapping of the list, which rises, that is this one as far as /proc/PID/maps tells.
fn find<'a>(list: &'a [Mapping], mapping: &Mapping) -> Option<&'a Mapping> {
    let at = list.binary_search_by_key(&mapping.start, |other| other.start).ok()?;
    let other = &list[at];
    let plain = |mapping: &Mapping| Mapping {
        vm_flags: Vec::new(),
        protection_key: 0,
        page_size: 0,
        ..mapping.clone()
    };
    let same = plain(other) == plain(mapping);
    same.then_some(other)
}

/// The kernel may have joined ours to a neighbour of the same kind.
fn cut(mut mappings: Vec<Mapping>, scratch: &[Range<u64>]) -> Vec<Mapping> {
    for ours in scratch {
        mappings = mappings.into_iter().flat_map(|mapping| without(mapping, ours)).collect();
    }
    mappings
}

fn without(mapping: Mapping, ours: &Range<u64>) -> Vec<Mapping> {
    let mut parts = Vec::new();
    for (start, end) in
        [(mapping.start, mapping.end.min(ours.start)), (mapping.start.max(ours.end), mapping.end)]
    {
        if start < end {
            parts.push(Mapping { start, end, ..mapping.clone() });
        }
    }
    parts
}

/// The record of one mapping; what it refers to goes into `objects`. What is in the ring of an asynchronous I/O context is left to [`aio::capture_ring`].
pub(crate) fn capture_vma(
    injector: &mut Injector<'_>,
    mapping: &Mapping,
    files: &Files,
    objects: &mut Objects,
) -> CaptureResult<VmaV1> {
    let pid = injector.pid();
    let offset = mapping.offset;
    let backing = match files.kind(pid, mapping)? {
        MappingKind::Anonymous => BackingV1::Anonymous,
        MappingKind::Vdso => BackingV1::Vdso,
        MappingKind::Vvar => BackingV1::Vvar,
        MappingKind::Vsyscall => BackingV1::Vsyscall,
        MappingKind::AioRing => BackingV1::AioRing(AioRingV1::default()),
        MappingKind::HugeAnonymous => BackingV1::HugeAnonymous { page_size: mapping.page_size },
        MappingKind::IoUring => BackingV1::IoUring { inode: mapping.inode, offset },
        MappingKind::PacketRings => BackingV1::PacketRings { inode: mapping.inode, shared: mapping.shared },
        MappingKind::Shmem { memfd_name } => {
            let shmem = match mapped_file::open(pid, mapping)? {
                Some(file) => content::shmem(objects, &file, memfd_name)?,
                None => mapped_file::shmem_in_memory(objects, injector, mapping, memfd_name)?,
            };
            if mapping.shared {
                BackingV1::Shmem { shmem, offset }
            } else {
                BackingV1::ShmemPrivate { shmem, offset }
            }
        }
        MappingKind::Segment { id } => {
            let shmem = match mapped_file::open(pid, mapping)? {
                Some(file) => content::segment(objects, &file, id)?,
                None => mapped_file::segment_in_memory(objects, injector, mapping, id)?,
            };
            BackingV1::Shmem { shmem, offset }
        }
        MappingKind::File { meta, unlinked } => {
            let ghost = if unlinked {
                Some(content::ghost(objects, &mapped_file::must_open(pid, mapping)?, &mapping.path)?)
            } else {
                None
            };
            // A shared mapping that may be written needs a description that is open for writing.
            let writable = mapping.shared && mapping.has_flag(b"mw");
            // What only the process's mount namespace has comes back with that.
            let is_further = objects.further.is_hidden(pid, &mapping.path, &meta);
            if writable && !unlinked && !is_further {
                tmpfs::capture(objects, &mapped_file::must_open(pid, mapping)?, &mapping.path)?;
            }
            let file = MappedFileV1 {
                path: mapping.path.clone(),
                ident: ident(&meta),
                ghost,
                open_file: None,
                writable,
            };
            BackingV1::File { file, offset, shared: mapping.shared }
        }
    };
    let max_prot =
        MAX_PROT.iter().filter(|(flag, _)| mapping.has_flag(flag)).fold(0, |all, (_, prot)| all | prot);
    Ok(VmaV1 {
        start: mapping.start,
        end: mapping.end,
        prot: mapping.prot,
        max_prot: max_prot.unsigned_abs(),
        backing,
        flags: record_flags(mapping),
        protection_key: mapping.protection_key,
        name: name(&mapping.path),
        guards: Vec::new(),
        copies: Vec::new(),
    })
}

/// Refuses a file that could not be opened for writing again: the mount that its path leads to now is another than it was, or was made read-only by force.
fn check_writable(pid: i32, mapping: &Mapping, path: &Path) -> CaptureResult<()> {
    let told = nix::sys::statvfs::statvfs(path);
    if told.is_ok_and(|told| told.flags().contains(nix::sys::statvfs::FsFlags::ST_RDONLY)) {
        return Err(refusal(
            pid,
            mapping,
            "it is shared and may be written to, and its file is on a mount that is read-only now",
            "Make the mount writable (mount -o remount,rw) before saving",
        ));
    }
    Ok(())
}

fn record_flags(mapping: &Mapping) -> u64 {
    FLAGS.iter().filter(|(flag, _)| mapping.has_flag(flag)).fold(0, |bits, (_, bit)| bits | bit)
}

/// `[anon:NAME]` and `[anon_shmem:NAME]`: set by prctl(PR_SET_VMA_ANON_NAME).
fn name(path: &[u8]) -> Option<Vec<u8>> {
    let inner = path.strip_prefix(b"[anon:").or_else(|| path.strip_prefix(b"[anon_shmem:"))?;
    inner.strip_suffix(b"]").map(<[u8]>::to_vec)
}

/// What tells a file from others.
pub(crate) fn ident(meta: &Metadata) -> FileIdent {
    FileIdent {
        dev: meta.dev(),
        ino: meta.ino(),
        size: meta.len(),
        mtime_ns: meta.mtime().saturating_mul(1_000_000_000).saturating_add(meta.mtime_nsec()),
        mode: meta.mode(),
    }
}

/// What a mapping maps.
enum MappingKind {
    Anonymous,
    Shmem { memfd_name: Option<Vec<u8>> },
    Segment { id: i32 },
    File { meta: Metadata, unlinked: bool },
    Vdso,
    Vvar,
    Vsyscall,
    AioRing,
    IoUring,
    PacketRings,
    HugeAnonymous,
}

/// Tells kinds of mapped files apart.
#[derive(Debug)]
pub(crate) struct Files {
    /// The kernel's own tmpfs, which memfds and shared anonymous memory are files of.
    shmem_device: u64,
    /// Where paths are looked up.
    further: Arc<Further>,
}

impl Files {
    pub(crate) fn new(further: &Arc<Further>) -> CaptureResult<Self> {
        let sys = |errno| SysError::new("memfd_create", "this process", errno);
        let probe =
            nix::sys::memfd::memfd_create(c"probe", nix::sys::memfd::MFdFlags::MFD_CLOEXEC).map_err(sys)?;
        let stat = nix::sys::stat::fstat(&probe).map_err(|errno| SysError::new("fstat", "a memfd", errno))?;
        Ok(Self { shmem_device: stat.st_dev, further: Arc::clone(further) })
    }

    fn kind(&self, pid: i32, mapping: &Mapping) -> CaptureResult<MappingKind> {
        let refuse = |reason: &str, remedy: &str| Err(refusal(pid, mapping, reason, remedy));
        match &mapping.path[..] {
            b"[vdso]" => return Ok(MappingKind::Vdso),
            b"[vvar]" | b"[vvar_vclock]" => return Ok(MappingKind::Vvar),
            b"[vsyscall]" => return Ok(MappingKind::Vsyscall),
            b"[uprobes]" => {
                return refuse("it belongs to a probe", "Remove the uprobe (perf probe --del) first");
            }
            _ => {}
        }
        if files::is_ring(mapping) {
            return match mapping.offset {
                OFFSET_RINGS | OFFSET_COMPLETIONS | OFFSET_ENTRIES if mapping.shared => {
                    Ok(MappingKind::IoUring)
                }
                _ => refuse(
                    "it is buffers that are provided to an io_uring instance, which the kernel does not show",
                    "Let the program do without io_uring",
                ),
            };
        }
        // Whether the socket is one that has rings is looked at when the descriptors are known.
        if files::is_of_socket(mapping) {
            return Ok(MappingKind::PacketRings);
        }
        if mapping.has_flag(b"pf") || mapping.has_flag(b"io") || mapping.has_flag(b"mm") {
            return refuse("it is a device's memory", "Close the device before saving");
        }
        if mapping.has_flag(b"ss") {
            return refuse(
                "shadow stacks cannot be saved yet",
                "Run the program without them (GLIBC_TUNABLES)",
            );
        }
        let is_anonymous = mapping.inode == 0 && (mapping.path.is_empty() || mapping.path.starts_with(b"["));
        if mapping.has_flag(b"ui") || mapping.has_flag(b"um") && mapping.has_flag(b"ht") {
            return refuse(NOT_SAVED, UNREGISTER);
        }
        if mapping.has_flag(b"ht") {
            return self.huge_kind(pid, mapping);
        }
        if is_anonymous {
            return Ok(MappingKind::Anonymous);
        }
        if aio::is_ring(mapping) {
            return Ok(MappingKind::AioRing);
        }
        self.file_kind(pid, mapping)
    }

    /// Of huge pages: what has no name belongs to a file system of the kernel's own.
    fn huge_kind(&self, pid: i32, mapping: &Mapping) -> CaptureResult<MappingKind> {
        match &mapping.path[..] {
            b"/anon_hugepage" if mapping.deleted && !mapping.shared => Ok(MappingKind::HugeAnonymous),
            b"/anon_hugepage" if mapping.deleted => Ok(MappingKind::Shmem { memfd_name: None }),
            path if mapping.deleted && path.starts_with(b"/memfd:") => {
                let memfd_name = path.strip_prefix(b"/memfd:").map(<[u8]>::to_vec);
                Ok(MappingKind::Shmem { memfd_name })
            }
            path if mapping.deleted && path.starts_with(b"/SYSV") && mapping.shared => {
                Ok(MappingKind::Segment { id: i32::try_from(mapping.inode).unwrap_or(-1) })
            }
            _ => self.file_kind(pid, mapping),
        }
    }

    fn file_kind(&self, pid: i32, mapping: &Mapping) -> CaptureResult<MappingKind> {
        let refuse = |reason: &str, remedy: &str| Err(refusal(pid, mapping, reason, remedy));
        let found = mapped_file::find(pid, mapping)?;
        let not_allowed = || {
            let reason = "the file behind it may not be looked at";
            refuse(reason, "Run ckpt as root or with CAP_CHECKPOINT_RESTORE")
        };
        if libc::makedev(mapping.device.0, mapping.device.1) == self.shmem_device {
            if found.is_none() && !mapping.shared {
                return not_allowed();
            }
            let path = &mapping.path[..];
            if let Some(name) = path.strip_prefix(b"/memfd:") {
                return Ok(MappingKind::Shmem { memfd_name: Some(name.to_vec()) });
            }
            if path == b"/dev/zero" || path.starts_with(b"[anon_shmem:") {
                return Ok(MappingKind::Shmem { memfd_name: None });
            }
            if path.starts_with(b"/SYSV") {
                let id = i32::try_from(mapping.inode);
                return match id.ok().filter(|_| mapping.shared) {
                    Some(id) => Ok(MappingKind::Segment { id }),
                    None => {
                        refuse("it is no attached segment", "Let the program detach it (shmdt) before saving")
                    }
                };
            }
            return refuse("it is memory of a driver", "Close the device before saving");
        }
        let Some((_, meta)) = found else { return not_allowed() };
        // A private mapping of /dev/zero is anonymous memory with a name.
        let zero = meta.file_type().is_char_device() && meta.rdev() == libc::makedev(1, 5);
        if !meta.is_file() && (mapping.shared || !zero) {
            return refuse("it maps neither memory nor a regular file", "Close the device before saving");
        }
        let seen = self.further.seen(pid, &mapping.path);
        let unlinked = meta.is_file() && !leads_to(&seen, &meta);
        if mapping.shared && mapping.has_flag(b"mw") && !unlinked {
            check_writable(pid, mapping, &seen)?;
        }
        Ok(MappingKind::File { meta, unlinked })
    }
}

/// Whether `path` names the file that `meta` is of. /proc gives paths from the reader's root directory.
pub(crate) fn leads_to(path: &Path, meta: &Metadata) -> bool {
    let found = std::fs::metadata(path);
    meta.nlink() != 0 && found.is_ok_and(|found| (found.dev(), found.ino()) == (meta.dev(), meta.ino()))
}

/// The refusal of one mapping.
pub(crate) fn refusal(pid: i32, mapping: &Mapping, reason: &str, remedy: &str) -> CaptureError {
    let path = String::from_utf8_lossy(&mapping.path);
    let path = if path.is_empty() { String::new() } else { format!(" ({path})") };
    let object = format!("the mapping at {:#x}-{:#x}{path}", mapping.start, mapping.end);
    CaptureError::unsupported(pid, object, reason, remedy)
}

//! Files that a checkpoint refers to by path: what they are known by at restore. Looked at when the job runs on: the pause does not get longer.
use crate::error::CaptureResult;
use crate::namespaces::Further;
use crate::vma::ident;
use ckpt_image::record::{BackingV1, FileDigestV1, FileIdent, FileKindV1, MmV1, NamedFileV1, OpenFileV1};
use ckpt_image::{CheckpointWriter, ImageRecords, file_digest};
use std::collections::{BTreeMap, HashMap};
use std::ffi::OsStr;
use std::fs::{File, Metadata};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};

/// Most bytes that are read for digests in one checkpoint. The next takes over what this one has, and goes on.
const BUDGET: u64 = 256 << 20;
const PROT_EXEC: u32 = libc::PROT_EXEC.unsigned_abs();

/// What the parent checkpoint says of files, by path.
pub(crate) type Earlier = HashMap<Vec<u8>, NamedFileV1>;

/// What the job does with a file.
#[derive(Debug, Clone, Copy)]
struct Use {
    ident: FileIdent,
    code: bool,
    /// It is open for writing: a digest would be of no moment that matters.
    written: bool,
}

/// The files of a job, by path.
#[derive(Debug, Default)]
pub(crate) struct NamedFiles(BTreeMap<Vec<u8>, Use>);

impl NamedFiles {
    /// Reads what the parent checkpoint says.
    pub(crate) fn earlier(parent: Option<&ImageRecords>) -> CaptureResult<Earlier> {
        let records: Vec<NamedFileV1> = parent.map(|image| image.records()).transpose()?.unwrap_or_default();
        Ok(records.into_iter().map(|file| (file.path.clone(), file)).collect())
    }

    /// Adds those that are open.
    pub(crate) fn add_open_files<'a>(&mut self, files: impl Iterator<Item = &'a OpenFileV1>) {
        for file in files {
            if let FileKindV1::Path { path, ident, ghost: None } = &file.kind {
                let flags = file.flags.cast_signed();
                let handle = flags & libc::O_PATH != 0;
                // Who locks a file shares it with others that write; and to open it may break a lease.
                let written = !handle && flags & libc::O_ACCMODE != libc::O_RDONLY || !file.locks.is_empty();
                self.add(path, *ident, false, written);
            }
        }
    }

    /// Adds those that are mapped, and the program file.
    pub(crate) fn add_memory(&mut self, mm: &MmV1, further: &Further) {
        // A mount namespace that the root is not in has other files under the same paths: they are not looked at.
        if further.mounts_of(mm.id.0.cast_signed()).is_some() {
            return;
        }
        for vma in &mm.vmas {
            if let BackingV1::File { file, shared, .. } = &vma.backing
                && file.ghost.is_none()
            {
                self.add(&file.path, file.ident, vma.prot & PROT_EXEC != 0, *shared && file.writable);
            }
        }
        self.add(&mm.exe, mm.exe_ident, true, false);
    }

    fn add(&mut self, path: &[u8], ident: FileIdent, code: bool, written: bool) {
        let is_file = ident.mode & libc::S_IFMT == libc::S_IFREG;
        // What the kernel makes up as it is read has no contents to compare.
        if !is_file || path.starts_with(b"/proc/") || path.starts_with(b"/sys/") {
            return;
        }
        let known = self.0.entry(path.to_vec()).or_insert(Use { ident, code, written });
        known.code |= code;
        known.written |= written;
    }

    /// Stores a record of each.
    pub(crate) fn store(self, earlier: &Earlier, writer: &mut CheckpointWriter) -> CaptureResult<()> {
        let mut budget = BUDGET;
        for (path, used) in self.0 {
            let record = describe(path, used, earlier, &mut budget);
            writer.record(&record)?;
        }
        Ok(())
    }
}

/// The record of a file. What cannot be read, or is not the file any more that the job had when it stood still, has no digest.
fn describe(path: Vec<u8>, used: Use, earlier: &Earlier, budget: &mut u64) -> NamedFileV1 {
    let mut record =
        NamedFileV1 { path, ident: used.ident, ctime_ns: 0, code: used.code, digest: FileDigestV1::None };
    if used.written {
        record.ctime_ns = std::fs::metadata(OsStr::from_bytes(&record.path))
            .ok()
            .and_then(|meta| unchanged(&record, &meta))
            .unwrap_or(0);
        return record;
    }
    let Some((file, ctime_ns)) = open_unchanged(&record) else { return record };
    let known = earlier.get(&record.path);
    let known = known.filter(|known| known.ident == record.ident && known.ctime_ns == ctime_ns);
    let digest = match known {
        Some(NamedFileV1 {
            digest: digest @ (FileDigestV1::BuildId(_) | FileDigestV1::Blake3(_)), ..
        }) => digest.clone(),
        _ if *budget == 0 => FileDigestV1::None,
        _ => match file_digest(&file) {
            Ok((digest, bytes)) => {
                *budget = budget.saturating_sub(bytes);
                digest
            }
            Err(error) => {
                tracing::debug!(path = %String::from_utf8_lossy(&record.path), %error, "no digest");
                FileDigestV1::None
            }
        },
    };
    // It may have been changed while it was read.
    if open_unchanged(&record).is_some_and(|(_, now)| now == ctime_ns) {
        record.ctime_ns = ctime_ns;
        record.digest = digest;
    }
    record
}

/// The file and when its inode last changed, if it is as it was when the job stood still.
fn open_unchanged(record: &NamedFileV1) -> Option<(File, i64)> {
    let mut options = File::options();
    // What has taken the path's place may not make us wait.
    options.read(true).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY);
    let file = options.open(OsStr::from_bytes(&record.path)).ok()?;
    let ctime_ns = unchanged(record, &file.metadata().ok()?)?;
    Some((file, ctime_ns))
}

/// When the inode last changed, ns, if the file is as it was when the job stood still.
fn unchanged(record: &NamedFileV1, meta: &Metadata) -> Option<i64> {
    let ctime_ns = meta.ctime().saturating_mul(1_000_000_000).saturating_add(meta.ctime_nsec());
    (ident(meta) == record.ident).then_some(ctime_ns)
}

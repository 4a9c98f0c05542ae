//! Files of a tmpfs that the job maps shared: made again if they are gone, else brought to their contents in place, so that whoever else has them
//! open by then goes on with the same file. What a process outside of the job has mapped is that process's, too, and stays as it is.
use crate::error::{RestoreError, RestoreResult};
use crate::{canonical, content};
use ckpt_image::Image;
use ckpt_image::page::{PAGE_SIZE, Space};
use ckpt_image::record::TmpfsFileV1;
use ckpt_sys::SysError;
use ckpt_sys::canonical::{Place, Refusal};
use ckpt_sys::huge_pages::MemoryFile;
use ckpt_sys::proc::maps;
use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, fallocate};
use std::ffi::OsStr;
use std::fs::{File, Permissions};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::path::Path;

const PAGE: u64 = PAGE_SIZE as u64;

/// The files that were made. They go again when this is dropped before [`Self::keep`].
#[derive(Debug, Default)]
pub(crate) struct TmpfsFiles(Vec<Place>);

impl TmpfsFiles {
    /// Brings the files of an image to their contents. No process of the job is there yet.
    pub(crate) fn restore(image: &Image) -> RestoreResult<Self> {
        let mut made = Self::default();
        for record in image.records::<TmpfsFileV1>()? {
            made.restore_file(image, &record)?;
        }
        Ok(made)
    }

    /// They are the job's now.
    pub(crate) fn keep(mut self) {
        self.0.clear();
    }

    fn restore_file(&mut self, image: &Image, record: &TmpfsFileV1) -> RestoreResult<()> {
        let path = Path::new(OsStr::from_bytes(&record.path));
        let place = match canonical::place(&record.path) {
            Err(link @ Refusal::Link { .. }) => return Err(canonical::failed("open", &record.path, &link)),
            place => place.map_err(|error| refusal(path, &error.errno().into()))?,
        };
        match place.open(libc::O_RDWR | libc::O_NONBLOCK, 0) {
            Ok(file) => return update(image, record, path, &file.into()),
            Err(Errno::ENOENT) => {}
            Err(errno) => return Err(refusal(path, &errno.into())),
        }
        let made = place.open(libc::O_RDWR | libc::O_CREAT | libc::O_EXCL, 0o600);
        let file = File::from(made.map_err(|errno| refusal(path, &errno.into()))?);
        self.0.push(place);
        let failed = |call: &'static str| {
            move |error: io::Error| SysError::new(call, path.display().to_string(), error)
        };
        if let Err(error) = std::os::unix::fs::fchown(&file, Some(record.owner.0), Some(record.owner.1)) {
            tracing::warn!(path = %path.display(), %error, "the file keeps our owner");
        }
        file.set_permissions(Permissions::from_mode(record.mode)).map_err(failed("fchmod"))?;
        file.set_len(record.size).map_err(failed("ftruncate"))?;
        content::fill(
            image,
            &MemoryFile::new(&file)?,
            &path.to_string_lossy(),
            Space::Shmem(record.id),
            record.size,
        )
    }
}

impl Drop for TmpfsFiles {
    fn drop(&mut self) {
        for place in self.0.drain(..) {
            if let Err(error) = place.remove() {
                tracing::warn!(name = %place.name.display(), %error, "a file that was made stays");
            }
        }
    }
}

fn refusal(path: &Path, error: &io::Error) -> RestoreError {
    RestoreError::File {
        path: path.display().to_string(),
        reason: format!("the program shares memory through it, and it cannot be opened nor made: {error}"),
        remedy: "Make its directory, or remove what is in its place, and restore again".into(),
    }
}

/// Writes what differs.
fn update(image: &Image, record: &TmpfsFileV1, path: &Path, file: &File) -> RestoreResult<()> {
    let failed =
        |call: &'static str| move |error: io::Error| SysError::new(call, path.display().to_string(), error);
    let meta = file.metadata().map_err(failed("fstat"))?;
    if !meta.is_file() {
        return Err(refusal(path, &io::Error::other("it is no regular file any more")));
    }
    if let Some(pid) = user(meta.dev(), meta.ino()) {
        tracing::warn!(path = %path.display(), pid, "a process outside of the job has the file mapped: it stays as it is");
        return Ok(());
    }
    if meta.len() != record.size {
        file.set_len(record.size).map_err(failed("ftruncate"))?;
    }
    let space = Space::Shmem(record.id);
    let pages = record.size.div_ceil(PAGE);
    for run in image.runs(space, 0..pages).iter().filter(|run| !run.present) {
        let offset = |page: u64| i64::try_from(page * PAGE).unwrap_or(i64::MAX);
        let hole = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
        fallocate(file, hole, offset(run.first_page), offset(run.count))
            .map_err(|errno| SysError::new("fallocate", path.display().to_string(), errno))?;
    }
    let memory = MemoryFile::new(file)?;
    let mut now = Vec::new();
    image.for_each_run::<RestoreError>(space, 0..pages, &mut |page, bytes| {
        let start = page * PAGE;
        let len = usize::try_from(record.size - start).unwrap_or(usize::MAX).min(bytes.len());
        now.resize(len, 0);
        file.read_exact_at(&mut now, start).map_err(failed("read"))?;
        if now != bytes[..len] {
            memory.write_all_at(&bytes[..len], start).map_err(failed("write"))?;
        }
        Ok(())
    })
}

/// A process that has the file mapped.
fn user(dev: u64, ino: u64) -> Option<i32> {
    let device = (libc::major(dev), libc::minor(dev));
    let pids = std::fs::read_dir("/proc").ok()?.flatten();
    let pids = pids.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    pids.into_iter().find(|&pid| {
        let mapped = |mapping: &maps::Mapping| mapping.inode == ino && mapping.device == device;
        maps::maps(pid).is_ok_and(|mappings| mappings.iter().any(mapped))
    })
}

//! Descriptors that were looked at before the job stood still. Then little is left to do for each: to see that it is still the same description
//! (kcmp(2) with our duplicate of it), and what of it may have changed.
use super::fdinfo::FdInfo;
use super::index::{FileIndex, FoundFile, Place, Renewed, list};
use crate::capture::if_alive;
use crate::error::CaptureResult;
use crate::sharing::Owners;
use ckpt_sys::kcmp::{self, Resource};
use ckpt_sys::{descriptor::RaisedLimit, pidfd};
use std::cmp::Ordering;
use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::{File, Metadata};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::sync::Arc;

/// From this number of descriptors on, two threads look at them.
const PARALLEL: usize = 64;
/// Bytes that are asked for of a description's fdinfo at first.
const INFO_SIZE: usize = 1024;

type Known = HashMap<Place, (Arc<FoundFile>, File)>;

/// Descriptors of a job as they were shortly before it stood still.
#[derive(Debug, Default)]
pub(crate) struct Ahead {
    index: FileIndex,
    /// The description of each, and its fdinfo, open.
    known: Known,
    _limit: Option<RaisedLimit>,
}

impl Ahead {
    /// Looks at the descriptors of processes `members` of the job of process `root`, which run. What cannot be looked at is left to the pause.
    pub(crate) fn read(root: i32, members: &[i32]) -> CaptureResult<Self> {
        let mut ahead = Self {
            index: FileIndex::of_job(members, &Arc::default()),
            known: HashMap::new(),
            _limit: Some(RaisedLimit::new()),
        };
        let mut owners = Owners::new(Resource::Files);
        for &pid in members {
            let owner = owners.of(pid);
            let outcome = owner.and_then(|owner| if owner == pid { ahead.read_process(pid) } else { Ok(()) });
            if_alive(root, pid, outcome)?;
        }
        Ok(ahead)
    }

    fn read_process(&mut self, pid: i32) -> CaptureResult<()> {
        let process = pidfd::open(pid)?;
        for fd in list(pid)? {
            // An error: it was closed since, or there is no room for more descriptors of our own.
            let Ok((id, _)) = self.index.add_descriptor(pid, process.as_fd(), fd) else { continue };
            let Ok(info) = File::open(format!("/proc/{pid}/fdinfo/{fd}")) else { continue };
            let file = usize::try_from(id.0).ok().and_then(|at| self.index.files().get(at));
            self.known.extend(file.map(|file| ((pid, fd), (file.clone(), info))));
        }
        Ok(())
    }

    /// Looks again at `places`, descriptors of processes that stand still: those that are what they were.
    pub(super) fn renew(&self, places: &[Place]) -> Vec<Option<Renewed>> {
        if places.len() < PARALLEL {
            return places.iter().map(|place| renew(&self.known, *place)).collect();
        }
        let known = &self.known;
        let (front, back) = places.split_at(places.len() / 2);
        std::thread::scope(|scope| {
            let other = scope.spawn(|| back.iter().map(|place| renew(known, *place)).collect::<Vec<_>>());
            let mut all: Vec<_> = front.iter().map(|place| renew(known, *place)).collect();
            all.extend(other.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
            all
        })
    }

    /// Whether a descriptor was looked at.
    pub(super) fn knows(&self, place: Place) -> bool {
        self.known.contains_key(&place)
    }

    /// All descriptions.
    pub(super) fn index(&self) -> &FileIndex {
        &self.index
    }
}

/// None: it is another description now, or what is needed cannot be read; then it is looked at as any other.
fn renew(known: &Known, place: Place) -> Option<Renewed> {
    let (file, info) = known.get(&place)?;
    let own = (std::process::id().cast_signed(), file.dup().as_raw_fd());
    if kcmp::compare_files(own, place).ok()? != Ordering::Equal {
        return None;
    }
    let mut text = vec![0; INFO_SIZE];
    let mut len = 0;
    loop {
        match info.read_at(&mut text[len..], u64::try_from(len).ok()?).ok()? {
            0 => break,
            got => len += got,
        }
        if len < text.len() {
            // seq_file gives all that it has and that there is room for.
            break;
        }
        text.resize(2 * text.len(), 0);
    }
    let info = FdInfo::parse(std::str::from_utf8(&text[..len]).ok()?)?;
    let meta = file.metadata().ok()?;
    let moved = has_path(&file.link) && !leads_to(&file.link, &meta);
    Some(Renewed { file: file.clone(), info, meta, moved })
}

/// Whether a link is a path, which may become another one.
fn has_path(link: &[u8]) -> bool {
    link.starts_with(b"/") && !link.starts_with(b"/memfd:")
}

fn leads_to(path: &[u8], meta: &Metadata) -> bool {
    let found = std::fs::symlink_metadata(OsStr::from_bytes(path));
    found.is_ok_and(|found| (found.dev(), found.ino()) == (meta.dev(), meta.ino()))
}

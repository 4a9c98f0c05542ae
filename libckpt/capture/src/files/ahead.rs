//! What is read of descriptors before the pause. Nothing of it keeps a file open: a handle of fdinfo tells of whatever has the number when it is read.
use super::fdinfo::FdInfo;
use super::index;
use ckpt_sys::descriptor::{self, RaisedLimit};
use ckpt_sys::kcmp;
use std::cmp::Ordering;
use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::FileExt;

/// Descriptors that a capture needs besides.
const FEW: usize = 64;
/// Bytes of an fdinfo that is short.
const SHORT: usize = 1024;

/// Descriptors as they were before the pause.
#[derive(Debug, Default)]
pub(crate) struct Ahead {
    /// By process; those of one file side by side and in the order of kcmp(2).
    tables: HashMap<i32, Vec<Known>>,
    limit: Option<RaisedLimit>,
}

/// A descriptor as it was before the pause.
#[derive(Debug)]
pub(crate) struct Known {
    /// Its number.
    pub(crate) fd: i32,
    /// What the link in /proc said.
    pub(crate) link: Vec<u8>,
    /// What fdinfo said.
    info: FdInfo,
    /// Of fdinfo, if that is short. None as well: we may not have as many descriptors.
    handle: Option<File>,
}

impl Known {
    /// What fdinfo says of the descriptor now. None: it does not fit, or there is no such descriptor any more.
    pub(crate) fn info(&self) -> Option<FdInfo> {
        read_info(self.handle.as_ref()?, Some(&self.info))
    }

    /// Whether the descriptor, of which fdinfo says `info` now, is still of the object that the link named. Files may have been renamed.
    pub(crate) fn is_same(&self, info: &FdInfo) -> bool {
        let identity = self.info.identity(&self.link);
        identity.is_some() && identity == info.identity(&self.link)
    }
}

impl Ahead {
    /// Reads the descriptors of `pids`, which run. What cannot be read now is read in the pause.
    pub(crate) fn read(pids: &[i32]) -> Self {
        let mut ahead = Self::default();
        let limit = RaisedLimit::new();
        let lists: Vec<_> = pids.iter().map(|pid| (*pid, index::list(*pid).unwrap_or_default())).collect();
        // Those come first that are needed in the pause: a duplicate of each.
        let duplicates = FEW + lists.iter().map(|(_, list)| list.len()).sum::<usize>();
        let mut handles = usize::try_from(limit.most()).unwrap_or(usize::MAX).saturating_sub(2 * duplicates);
        ahead.limit = Some(limit);
        for (pid, list) in lists {
            let mut by_link: BTreeMap<Vec<u8>, Vec<Known>> = BTreeMap::new();
            for fd in list {
                let Ok(link) = index::read_link(pid, fd) else { continue };
                let Ok(handle) = File::open(format!("/proc/{pid}/fdinfo/{fd}")) else { continue };
                let (info, handle) = match read_info(&handle, None) {
                    Some(info) => (info, Some(handle).filter(|_| handles > 0)),
                    // Of an epoll set with many descriptors, say: it is read anew as a whole.
                    None => match index::read_info(pid, fd) {
                        Ok(info) => (info, None),
                        Err(_) => continue,
                    },
                };
                handles = handles.saturating_sub(usize::from(handle.is_some()));
                by_link.entry(link.clone()).or_default().push(Known { fd, link, info, handle });
            }
            // In the order of their numbers, and not of their inodes': what is refused first is then the same each time.
            let mut groups: Vec<Vec<Known>> = by_link.into_values().collect();
            groups.sort_unstable_by_key(|same| same.first().map(|known| known.fd));
            let table = groups.into_iter().flat_map(|same| sorted(pid, same)).collect();
            ahead.tables.insert(pid, table);
        }
        let handles = || ahead.tables.values().flatten().filter_map(|known| known.handle.as_ref());
        if let Some(highest) = handles().max_by_key(|handle| handle.as_raw_fd()) {
            descriptor::make_room(highest.as_fd(), ahead.len() + FEW);
        }
        ahead
    }

    /// How many descriptors are known.
    pub(crate) fn len(&self) -> usize {
        self.tables.values().map(Vec::len).sum()
    }

    /// Those of a process.
    pub(crate) fn take(&mut self, pid: i32) -> Vec<Known> {
        self.tables.remove(&pid).unwrap_or_default()
    }
}

/// What fdinfo says: most often what it `said`.
fn read_info(handle: &File, said: Option<&FdInfo>) -> Option<FdInfo> {
    let mut text = [0; SHORT];
    let len = handle.read_at(&mut text, 0).ok().filter(|len| (1..SHORT).contains(len))?;
    let text = &text[..len];
    let same = said.filter(|said| said.is_of(text)).cloned();
    same.or_else(|| FdInfo::parse(str::from_utf8(text).ok()?))
}

/// Descriptors with the same link, in the order of kcmp(2).
fn sorted(pid: i32, all: Vec<Known>) -> Vec<Known> {
    let mut sorted: Vec<Known> = Vec::with_capacity(all.len());
    for one in all {
        // An error: one of them has been closed meanwhile. The order is a hint.
        let is_less = |known: &Known| {
            kcmp::compare_files((pid, known.fd), (pid, one.fd)).is_ok_and(|order| order == Ordering::Less)
        };
        let at = sorted.partition_point(is_less);
        sorted.insert(at, one);
    }
    sorted
}

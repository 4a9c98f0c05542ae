//! What is read of descriptors before the pause. Nothing of it keeps a file open: a handle of fdinfo tells of whatever has the number when it is read.
use super::fdinfo::FdInfo;
use super::index::{self, Place};
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
    known: HashMap<Place, Known>,
    /// The numbers of each process, those of one file side by side and in the order of kcmp(2).
    order: HashMap<i32, Vec<i32>>,
    limit: Option<RaisedLimit>,
}

#[derive(Debug)]
struct Known {
    /// Of fdinfo. None: we may not have as many descriptors.
    handle: Option<File>,
    link: Vec<u8>,
    identity: Option<String>,
}

/// What tells that a descriptor is still of the object that its link named. Other links have to be read again: files are renamed.
fn identity(link: &[u8], info: &FdInfo) -> Option<String> {
    if link.starts_with(b"socket:[") || link.starts_with(b"pipe:[") {
        return Some(format!("{} {}", info.field("mnt_id")?, info.field("ino")?));
    }
    (link == b"anon_inode:[eventfd]").then(|| info.field("eventfd-id").map(str::to_owned))?
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
            let mut by_link: BTreeMap<Vec<u8>, Vec<i32>> = BTreeMap::new();
            for fd in list {
                let Ok(link) = index::read_link(pid, fd) else { continue };
                let Ok(handle) = File::open(format!("/proc/{pid}/fdinfo/{fd}")) else { continue };
                let Some(info) = read_info(&handle) else { continue };
                let handle = (handles > 0).then_some(handle);
                handles = handles.saturating_sub(1);
                by_link.entry(link.clone()).or_default().push(fd);
                let identity = identity(&link, &info);
                ahead.known.insert((pid, fd), Known { handle, link, identity });
            }
            let order = by_link.into_values().flat_map(|fds| sorted(pid, fds));
            ahead.order.insert(pid, order.collect());
        }
        let handles = || ahead.known.values().filter_map(|known| known.handle.as_ref());
        if let Some(highest) = handles().max_by_key(|handle| handle.as_raw_fd()) {
            descriptor::make_room(highest.as_fd(), ahead.known.len() + FEW);
        }
        ahead
    }

    /// How many descriptors are known.
    pub(crate) fn len(&self) -> usize {
        self.known.len()
    }

    /// What fdinfo says of a descriptor now.
    pub(crate) fn info(&self, place: Place) -> Option<FdInfo> {
        read_info(self.known.get(&place)?.handle.as_ref()?)
    }

    /// The link of a descriptor of which fdinfo says `info` now, if it must be the same.
    pub(crate) fn link(&self, place: Place, info: &FdInfo) -> Option<&[u8]> {
        let known = self.known.get(&place)?;
        let identity = identity(&known.link, info)?;
        (known.identity.as_ref() == Some(&identity)).then_some(&known.link)
    }

    /// The link that a descriptor had before the pause.
    pub(crate) fn earlier_link(&self, place: Place) -> Option<&[u8]> {
        Some(&self.known.get(&place)?.link)
    }

    /// `fds` of process `pid`, those that were known in their order.
    pub(crate) fn in_order(&self, pid: i32, mut fds: Vec<i32>) -> Vec<i32> {
        let Some(order) = self.order.get(&pid) else { return fds };
        let rank: HashMap<i32, usize> = order.iter().enumerate().map(|(rank, fd)| (*fd, rank)).collect();
        fds.sort_by_key(|fd| rank.get(fd).copied().unwrap_or(usize::MAX));
        fds
    }
}

/// None: it does not fit, or the descriptor is closed.
fn read_info(handle: &File) -> Option<FdInfo> {
    let mut text = [0; SHORT];
    let len = handle.read_at(&mut text, 0).ok().filter(|len| (1..SHORT).contains(len))?;
    FdInfo::parse(str::from_utf8(&text[..len]).ok()?)
}

/// Descriptors with the same link, in the order of kcmp(2).
fn sorted(pid: i32, fds: Vec<i32>) -> Vec<i32> {
    let mut sorted: Vec<i32> = Vec::with_capacity(fds.len());
    for fd in fds {
        // An error: one of them has been closed meanwhile. The order is a hint.
        let is_less = |known: &i32| {
            kcmp::compare_files((pid, *known), (pid, fd)).is_ok_and(|order| order == Ordering::Less)
        };
        let at = sorted.partition_point(is_less);
        sorted.insert(at, fd);
    }
    sorted
}

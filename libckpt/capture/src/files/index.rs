//! The open file descriptions of a job: each once, whatever number of descriptors and messages refer to it.
use super::fdinfo::{FdInfo, Identity};
use super::reading::Raw;
use crate::error::{CaptureError, CaptureResult};
use crate::namespaces::Further;
use ckpt_image::record::OpenFileId;
use ckpt_sys::descriptor::FileOwner;
use ckpt_sys::namespace::{self, Namespace};
use ckpt_sys::proc::stat::Stat;
use ckpt_sys::{SysError, kcmp, proc};
use std::cell::RefCell;
use std::cmp::Ordering;
use std::collections::{BTreeSet, HashMap};
use std::fs::{File, Metadata};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::sync::Arc;

/// A descriptor of a process, as kcmp(2) takes it: process and number.
pub(crate) type Place = (i32, i32);

/// An open file description.
#[derive(Debug)]
pub(crate) struct FoundFile {
    /// Its id.
    pub(crate) id: OpenFileId,
    /// A descriptor of it: of the job, or of our own when it was found in a message.
    pub(crate) place: Place,
    /// What the link in /proc says, or another name of the file that it had a moment ago.
    pub(crate) link: Vec<u8>,
    /// Whether the link is known to lead to it in the mount namespace of the job's root.
    pub(crate) leads: bool,
    /// What fdinfo says.
    pub(crate) info: FdInfo,
    /// Its inode.
    pub(crate) meta: Metadata,
    /// Who gets the signals of O_ASYNC, and which.
    pub(crate) owner: FileOwner,
    /// Our duplicate. What is done to it is done to the job's.
    dup: File,
}

impl FoundFile {
    /// Our duplicate. What is done to it is done to the job's.
    pub(crate) fn dup(&self) -> BorrowedFd<'_> {
        self.dup.as_fd()
    }

    /// The path in the link, without ` (deleted)` if the file has no name any more.
    pub(crate) fn path(&self) -> &[u8] {
        self.link.strip_suffix(b" (deleted)").unwrap_or(&self.link)
    }
}

/// What descriptions are of.
#[derive(Debug, PartialEq, Eq, Hash)]
enum Object {
    Known(Identity),
    /// One of those with this link.
    Linked(Vec<u8>),
}

impl Object {
    fn of(link: &[u8], info: &FdInfo) -> Self {
        info.identity(link).map_or_else(|| Self::Linked(link.to_vec()), Self::Known)
    }
}

/// All descriptions found so far. Ids are given in the order of finding.
#[derive(Debug, Default)]
pub(crate) struct FileIndex {
    /// The processes of the job.
    members: Vec<i32>,
    files: Vec<Arc<FoundFile>>,
    /// Numbers in the processes' tables, by description.
    held_at: Vec<Vec<Place>>,
    /// The lines on locks that the fdinfo of each holder shows: POSIX locks are shown to their owner only.
    locks: Vec<BTreeSet<String>>,
    /// In the order of kcmp(2): indices of `files`. Descriptions of one object alone are compared.
    by_object: HashMap<Object, Vec<usize>>,
    /// Indices of `files`.
    by_link: HashMap<Vec<u8>, Vec<usize>>,
    /// Namespaces that the job's root is not in.
    further: Arc<Further>,
    /// The network namespaces of sockets that were asked for.
    nets: RefCell<HashMap<OpenFileId, Option<usize>>>,
}

impl FileIndex {
    /// Empty, of a job with these living processes, some of them in `further` namespaces.
    pub(crate) fn of_job(members: &[i32], further: &Arc<Further>) -> Self {
        Self { members: members.to_vec(), further: Arc::clone(further), ..Self::default() }
    }

    /// Makes room for so many descriptors: in the pause, to grow takes time.
    pub(crate) fn reserve(&mut self, descriptors: usize) {
        self.files.reserve(descriptors);
        self.held_at.reserve(descriptors);
        self.locks.reserve(descriptors);
        self.by_object.reserve(descriptors);
        self.by_link.reserve(descriptors);
    }

    /// Namespaces that the job's root is not in.
    pub(crate) fn further(&self) -> &Further {
        &self.further
    }

    /// Does something in each network namespace of the job, the root's first.
    pub(crate) fn in_nets(
        &self,
        mut work: impl FnMut(Option<usize>) -> CaptureResult<()>,
    ) -> CaptureResult<()> {
        let mut all = self.further.all(Namespace::Net);
        all.try_for_each(|net| namespace::within(Namespace::Net, self.further.place(net), || work(net)))
    }

    /// Does something in the network namespace of a file, if it is a socket or /dev/net/tun.
    pub(crate) fn in_net_of<T>(
        &self,
        file: &FoundFile,
        work: impl FnOnce() -> CaptureResult<T>,
    ) -> CaptureResult<T> {
        namespace::within(Namespace::Net, self.further.place(self.net_of(file)?), work)
    }

    /// The network namespace of a file: None is the root's, as of all that have none.
    pub(crate) fn net_of(&self, file: &FoundFile) -> CaptureResult<Option<usize>> {
        let has_net = file.link.starts_with(b"socket:[") || super::tun::is_tun(file);
        if !self.further.has(Namespace::Net) || !has_net {
            return Ok(None);
        }
        if let Some(net) = self.nets.borrow().get(&file.id) {
            return Ok(*net);
        }
        let link = namespace::of_socket(file.dup())?;
        let net = self.further.with_link(&link).ok_or_else(|| {
            CaptureError::unsupported(
                self.holder(file),
                self.name(file),
                format!(
                    "it belongs to network namespace {}, which no process of the job is in",
                    link.display()
                ),
                "Close it before saving",
            )
        })?;
        self.nets.borrow_mut().insert(file.id, net);
        Ok(net)
    }

    /// Whether process `pid` is of the job, or was.
    pub(crate) fn is_of_job(&self, pid: i32) -> bool {
        let is_member = |pid: i32| self.members.contains(&pid);
        let is_dead_child = |stat: Stat| matches!(stat.state, 'Z' | 'X') && is_member(stat.ppid);
        is_member(pid) || Stat::of(pid, pid).is_ok_and(is_dead_child)
    }

    /// Adds a descriptor; the id of its description and whether it is close-on-exec.
    pub(crate) fn add_descriptor(&mut self, place: Place, raw: Raw) -> CaptureResult<(OpenFileId, bool)> {
        let cloexec = raw.info.cloexec();
        let locks = raw.info.locks();
        let object = Object::of(&raw.link, &raw.info);
        let at = match self.search(place, &object)? {
            Ok(at) => at,
            Err(slot) => self.insert(place, raw, object, slot),
        };
        self.held_at[at].push(place);
        self.locks[at].extend(locks);
        Ok((self.files[at].id, cloexec))
    }

    /// Adds a description that was found in a message; its id.
    pub(crate) fn add_in_flight(&mut self, dup: OwnedFd) -> CaptureResult<OpenFileId> {
        let pid = std::process::id().cast_signed();
        let fd = dup.as_raw_fd();
        let (link, info) = (read_link(pid, fd)?, read_info(pid, fd)?);
        let object = Object::of(&link, &info);
        let at = match self.search((pid, fd), &object)? {
            Ok(at) => at,
            Err(slot) => {
                let locks = info.locks();
                let at = self.insert((pid, fd), Raw::of_duplicate(link, info, dup)?, object, slot);
                self.locks[at].extend(locks);
                at
            }
        };
        Ok(self.files[at].id)
    }

    /// Where a description is, or belongs, among those of the same object.
    fn search(&self, place: Place, object: &Object) -> CaptureResult<Result<usize, usize>> {
        let Some(same) = self.by_object.get(object) else { return Ok(Err(0)) };
        let compare = |at: usize| Ok(kcmp::compare_files(self.files[same[at]].place, place)?);
        // They come in this order where it was known before.
        let last = same.len() - 1;
        let found = match compare(last)? {
            Ordering::Equal => Ok(last),
            Ordering::Less => Err(last + 1),
            Ordering::Greater => binary_search(last, compare)?,
        };
        Ok(found.map(|at| same[at]))
    }

    fn insert(&mut self, place: Place, raw: Raw, object: Object, slot: usize) -> usize {
        let Raw { link, leads, info, meta, owner, dup } = raw;
        let at = self.files.len();
        let id = OpenFileId(u32::try_from(at).unwrap_or(u32::MAX));
        self.by_object.entry(object).or_default().insert(slot, at);
        self.by_link.entry(link.clone()).or_default().push(at);
        self.files.push(Arc::new(FoundFile { id, place, link, leads, info, meta, owner, dup }));
        self.held_at.push(Vec::new());
        self.locks.push(BTreeSet::new());
        at
    }

    /// All descriptions, by rising id.
    pub(crate) fn files(&self) -> &[Arc<FoundFile>] {
        &self.files
    }

    /// The descriptions with this link, in no particular order.
    pub(crate) fn with_link<'a>(&'a self, link: &[u8]) -> impl Iterator<Item = &'a Arc<FoundFile>> {
        self.by_link.get(link).into_iter().flatten().map(|at| &self.files[*at])
    }

    /// The socket with this inode.
    pub(crate) fn socket(&self, inode: u64) -> Option<&Arc<FoundFile>> {
        self.with_link(format!("socket:[{inode}]").as_bytes()).next()
    }

    /// Where a description is held, the processes in the order in which they were added.
    pub(crate) fn holders(&self, file: &FoundFile) -> &[Place] {
        usize::try_from(file.id.0).ok().and_then(|at| self.held_at.get(at)).map_or(&[], Vec::as_slice)
    }

    /// What fdinfo says of the locks held through a description, without their numbers.
    pub(crate) fn locks(&self, file: &FoundFile) -> impl Iterator<Item = &str> {
        let found = usize::try_from(file.id.0).ok().and_then(|at| self.locks.get(at));
        found.into_iter().flatten().map(String::as_str)
    }

    /// The first process that holds a description; of one that is under way in a socket, the first of the job.
    pub(crate) fn holder(&self, file: &FoundFile) -> i32 {
        let first = self.holders(file).first().or_else(|| self.held_at.iter().flatten().next());
        first.map_or(file.place.0, |(pid, _)| *pid)
    }

    /// The processes that hold descriptions.
    pub(crate) fn members(&self) -> impl Iterator<Item = i32> {
        let members: BTreeSet<i32> = self.held_at.iter().flatten().map(|(holder, _)| *holder).collect();
        members.into_iter()
    }

    /// Whether process `pid` holds any description.
    pub(crate) fn is_member(&self, pid: i32) -> bool {
        self.held_at.iter().flatten().any(|(holder, _)| *holder == pid)
    }

    /// What a message calls it: `fd 7 (anon_inode:[io_uring])`.
    pub(crate) fn name(&self, file: &FoundFile) -> String {
        match self.holders(file).first() {
            Some((_, fd)) => format!("fd {fd} ({})", show(&file.link)),
            None => format!("a descriptor under way in a socket ({})", show(&file.link)),
        }
    }

    /// The description that slot `offset` of number `target` in an epoll set watches.
    pub(crate) fn epoll_target(
        &self,
        epoll: Place,
        target: i32,
        offset: u32,
    ) -> CaptureResult<Option<OpenFileId>> {
        let held = self.held_at.iter().position(|places| places.contains(&(epoll.0, target)));
        let is = |file: &FoundFile| -> CaptureResult<bool> {
            Ok(kcmp::compare_epoll_target(file.place, epoll, target, offset)? == Ordering::Equal)
        };
        if let Some(file) = held.map(|at| &self.files[at])
            && is(file)?
        {
            return Ok(Some(file.id));
        }
        for file in &self.files {
            if is(file)? {
                return Ok(Some(file.id));
            }
        }
        Ok(None)
    }
}

fn binary_search(
    len: usize,
    mut compare: impl FnMut(usize) -> CaptureResult<Ordering>,
) -> CaptureResult<Result<usize, usize>> {
    let (mut low, mut high) = (0, len);
    while low < high {
        let middle = low.midpoint(high);
        match compare(middle)? {
            Ordering::Equal => return Ok(Ok(middle)),
            Ordering::Less => low = middle + 1,
            Ordering::Greater => high = middle,
        }
    }
    Ok(Err(low))
}

/// Bytes as a message shows them.
pub(crate) fn show(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The numbers of the descriptors of process `pid`, rising.
pub(crate) fn list(pid: i32) -> CaptureResult<Vec<i32>> {
    let path = proc::path(pid, "fd");
    let failed = |error| CaptureError::from(SysError::new("readdir", path.clone(), error));
    let mut fds = Vec::new();
    for entry in std::fs::read_dir(&path).map_err(failed)? {
        fds.extend(entry.map_err(failed)?.file_name().to_str().and_then(|name| name.parse::<i32>().ok()));
    }
    fds.sort_unstable();
    Ok(fds)
}

/// The link of descriptor `fd` in /proc.
pub(crate) fn read_link(pid: i32, fd: i32) -> CaptureResult<Vec<u8>> {
    Ok(proc::read_link(pid, &format!("fd/{fd}"))?.into_os_string().into_vec())
}

/// Reads fdinfo of descriptor `fd`.
pub(crate) fn read_info(pid: i32, fd: i32) -> CaptureResult<FdInfo> {
    let text = proc::read_text(pid, &format!("fdinfo/{fd}"))?;
    Ok(FdInfo::parse(&text).ok_or_else(|| proc::malformed("parse of fdinfo", pid))?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ckpt_sys::pidfd;

    #[test]
    fn the_place_of_a_missing_entry_keeps_the_order() {
        let numbers = [1, 3, 5, 7];
        let search = |wanted: i32| binary_search(numbers.len(), |at| Ok(numbers[at].cmp(&wanted))).unwrap();
        assert_eq!(search(5), Ok(2));
        assert_eq!(search(0), Err(0));
        assert_eq!(search(4), Err(2));
        assert_eq!(search(8), Err(4));
    }

    #[test]
    fn duplicates_are_one_description_and_other_opens_are_not() {
        let pid = std::process::id().cast_signed();
        let process = pidfd::open(pid).unwrap();
        let first = File::open("/etc/passwd").unwrap();
        let same = first.try_clone().unwrap();
        let others: Vec<File> = (0..20).map(|_| File::open("/etc/passwd").unwrap()).collect();
        let mut index = FileIndex::default();
        let mut add = |file: &File| {
            let raw = Raw::read(pid, process.as_fd(), file.as_raw_fd()).unwrap();
            index.add_descriptor((pid, file.as_raw_fd()), raw).unwrap().0
        };
        let mut ids: Vec<OpenFileId> = others.iter().map(&mut add).collect();
        ids.push(add(&first));
        assert_eq!(add(&same), add(&first));
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), 21);
    }
}

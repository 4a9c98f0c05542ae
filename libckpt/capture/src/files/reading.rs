//! Reading the descriptors of stopped processes. It needs no tracer, so several threads do it.
use super::ahead::{Ahead, Known};
use super::fdinfo::FdInfo;
use super::index::{self, Place, show};
use crate::error::{CaptureError, CaptureResult};
use ckpt_sys::descriptor::{self, FileOwner};
use ckpt_sys::{SysError, pidfd, proc};
use nix::errno::Errno;
use std::fs::{File, Metadata};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::sync::{Mutex, PoisonError};

/// Descriptors that are worth a thread.
const WORTH: usize = 64;
/// Descriptors that a thread takes at a time.
const PIECE: usize = 16;
/// Threads that are of use: the kernel takes the same locks for all.
const MOST_THREADS: usize = 2;

/// A descriptor, and what was read of its description.
#[derive(Debug)]
pub(crate) struct Raw {
    /// What the link in /proc says, or another name of the file that it had a moment ago.
    pub(crate) link: Vec<u8>,
    /// Whether the link is known to lead to the file.
    pub(crate) leads: bool,
    /// What fdinfo says.
    pub(crate) info: FdInfo,
    /// Its inode.
    pub(crate) meta: Metadata,
    /// Who gets the signals of O_ASYNC.
    pub(crate) owner: FileOwner,
    /// Our duplicate.
    pub(crate) dup: File,
}

/// A path that was found to lead to a file, by device and inode: the next descriptor is often of the same.
type Last = Option<(Vec<u8>, (u64, u64))>;

impl Raw {
    /// Reads descriptor `fd` of process `pid`.
    pub(crate) fn read(pid: i32, process: BorrowedFd<'_>, fd: i32) -> CaptureResult<Self> {
        let info = index::read_info(pid, fd)?;
        Self::of_duplicate(index::read_link(pid, fd)?, info, pidfd::getfd(process, fd)?)
    }

    /// As [`Self::read`], with what is known of it.
    fn read_known(pid: i32, process: BorrowedFd<'_>, known: &Known, last: &mut Last) -> CaptureResult<Self> {
        let info = known.info().map_or_else(|| index::read_info(pid, known.fd), Ok)?;
        let is_same = known.is_same(&info);
        let link = if is_same { known.link.clone() } else { index::read_link(pid, known.fd)? };
        let mut raw = Self::of_duplicate(link, info, pidfd::getfd(process, known.fd)?)?;
        if is_same && raw.link.starts_with(b"/") {
            raw.leads = raw.find(last);
            if !raw.leads {
                raw.link = index::read_link(pid, known.fd)?;
            }
        }
        Ok(raw)
    }

    /// Of a descriptor of our own.
    pub(crate) fn of_duplicate(link: Vec<u8>, info: FdInfo, dup: OwnedFd) -> CaptureResult<Self> {
        let dup = File::from(dup);
        let meta = dup.metadata().map_err(|error| SysError::new("fstat", show(&link), error))?;
        let is_handle = info.flags & libc::O_PATH.unsigned_abs() != 0;
        let owner = if is_handle { FileOwner::default() } else { descriptor::file_owner(dup.as_fd())? };
        Ok(Self { link, leads: false, info, meta, owner, dup })
    }

    /// Whether the link leads to the file.
    fn find(&self, last: &mut Last) -> bool {
        let file = (self.meta.dev(), self.meta.ino());
        if last.as_ref().is_some_and(|(link, found)| (link, *found) == (&self.link, file)) {
            return true;
        }
        let found = std::fs::symlink_metadata(std::ffi::OsStr::from_bytes(&self.link));
        let leads = found.is_ok_and(|found| (found.dev(), found.ino()) == file);
        if leads {
            *last = Some((self.link.clone(), file));
        }
        leads
    }
}

/// The descriptors of the tables of a job.
#[derive(Debug)]
pub(crate) struct Descriptors {
    tables: Vec<Table>,
    /// Its end takes time.
    _ahead: Ahead,
}

/// The descriptors of a process, those of one file side by side.
#[derive(Debug)]
struct Table {
    pid: i32,
    process: OwnedFd,
    entries: Vec<Entry>,
    /// That all are there which were known, and no others, is only guessed from their number.
    guessed: bool,
}

#[derive(Debug)]
struct Entry {
    fd: i32,
    known: Option<Known>,
    read: Option<CaptureResult<Raw>>,
}

impl Entry {
    fn read(&mut self, pid: i32, process: BorrowedFd<'_>, last: &mut Last) {
        let read = match &self.known {
            Some(known) => Raw::read_known(pid, process, known, last),
            None => Raw::read(pid, process, self.fd),
        };
        self.read = Some(read);
    }

    fn is_closed(&self) -> bool {
        let Some(Err(CaptureError::Sys(error))) = &self.read else { return false };
        error.is_gone() || matches!(error.errno(), Some(Errno::EBADF | Errno::ENOENT))
    }

    fn has_link(&self, link: &[u8]) -> bool {
        self.read.as_ref().is_some_and(|read| read.as_ref().is_ok_and(|raw| raw.link == link))
    }
}

impl Table {
    fn of(pid: i32, known: Vec<Known>) -> CaptureResult<Self> {
        let guessed = proc::descriptors(pid)?.is_some_and(|count| count == known.len());
        let entries = known.into_iter().map(|known| Entry { fd: known.fd, known: Some(known), read: None });
        let mut table = Self { pid, process: pidfd::open(pid)?, entries: entries.collect(), guessed };
        if !guessed {
            table.list()?;
        }
        Ok(table)
    }

    /// Asks the kernel which descriptors there are: it takes long to tell.
    fn list(&mut self) -> CaptureResult<()> {
        let mut fds = index::list(self.pid)?;
        self.entries.retain(|entry| fds.binary_search(&entry.fd).is_ok());
        self.entries.iter_mut().filter(|entry| entry.is_closed()).for_each(|entry| entry.read = None);
        let mut there: Vec<i32> = self.entries.iter().map(|entry| entry.fd).collect();
        there.sort_unstable();
        fds.retain(|fd| there.binary_search(fd).is_err());
        self.entries.extend(fds.into_iter().map(|fd| Entry { fd, known: None, read: None }));
        self.guessed = false;
        Ok(())
    }
}

impl Descriptors {
    /// Of stopped processes, none of which shares its table with another. To be made before anything is run in them: that may need a descriptor for a moment.
    pub(crate) fn of(pids: impl Iterator<Item = i32>, mut ahead: Ahead) -> CaptureResult<Self> {
        let tables = pids.map(|pid| Table::of(pid, ahead.take(pid))).collect::<CaptureResult<_>>()?;
        let mut all = Self { tables, _ahead: ahead };
        all.read();
        // One that was closed, and another that was opened.
        let mut again = false;
        for table in all.tables.iter_mut().filter(|table| table.guessed) {
            if table.entries.iter().any(Entry::is_closed) {
                table.list()?;
                again = true;
            }
        }
        if again {
            all.read();
        }
        Ok(all)
    }

    /// Reads those that have not been read.
    fn read(&mut self) {
        let count = self.len();
        let pieces = self.tables.iter_mut().flat_map(|Table { pid, process, entries, .. }| {
            let (pid, process): (i32, &OwnedFd) = (*pid, process);
            let process = process.as_fd();
            entries.chunks_mut(PIECE).map(move |piece| (pid, process, piece))
        });
        let pieces = Mutex::new(pieces);
        let work = || {
            let mut last = None;
            let next = || pieces.lock().unwrap_or_else(PoisonError::into_inner).next();
            while let Some((pid, process, piece)) = next() {
                let unread = piece.iter_mut().filter(|entry| entry.read.is_none());
                unread.for_each(|entry| entry.read(pid, process, &mut last));
            }
        };
        let processors = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let threads = (count / WORTH).min(processors).clamp(1, MOST_THREADS);
        std::thread::scope(|scope| {
            (1..threads).for_each(|_| drop(scope.spawn(work)));
            work();
        });
    }

    /// The descriptors with this link.
    pub(crate) fn with_link(&self, link: &[u8]) -> Vec<Place> {
        let of_table = |table: &Table| {
            let pid = table.pid;
            let entries = table.entries.iter().filter(|entry| entry.has_link(link));
            entries.map(move |entry| (pid, entry.fd)).collect::<Vec<_>>()
        };
        self.tables.iter().flat_map(of_table).collect()
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.tables.iter().map(|table| table.entries.len()).sum()
    }

    /// Reads all again: requests that were under way when the job was stopped have ended since, and moved positions, or counted in an eventfd.
    pub(crate) fn read_again(&mut self) {
        self.tables.iter_mut().flat_map(|table| &mut table.entries).for_each(|entry| entry.read = None);
        self.read();
    }

    /// What was read of the descriptors of a process, those of one file side by side; None: it was not known to have a table.
    pub(crate) fn take(&mut self, pid: i32) -> Option<Vec<(i32, CaptureResult<Raw>)>> {
        let table = self.tables.iter_mut().find(|table| table.pid == pid)?;
        let process = table.process.as_fd();
        let read = |entry: &mut Entry| {
            (entry.fd, entry.read.take().unwrap_or_else(|| Raw::read(pid, process, entry.fd)))
        };
        Some(table.entries.iter_mut().map(read).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;
    use std::io::{BufRead, BufReader, Write};
    use std::process::{Child, Command, Stdio};

    /// A shell that opens and closes files as it is told.
    struct Shell(Child);

    impl Shell {
        fn start() -> Self {
            let command = Command::new("bash").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
            Self(command.unwrap())
        }

        fn pid(&self) -> i32 {
            self.0.id().cast_signed()
        }

        fn run(&mut self, line: &str) {
            writeln!(self.0.stdin.as_mut().unwrap(), "{line}; echo done").unwrap();
            let mut answer = String::new();
            BufReader::with_capacity(1, self.0.stdout.as_mut().unwrap()).read_line(&mut answer).unwrap();
            assert_eq!(answer, "done\n");
        }

        fn links(&self, ahead: Ahead) -> BTreeMap<i32, String> {
            let read = Descriptors::of(std::iter::once(self.pid()), ahead).unwrap().take(self.pid()).unwrap();
            // Others come from whoever runs the test.
            let ours = read.into_iter().filter(|(fd, _)| (5..10).contains(fd));
            ours.map(|(fd, raw)| (fd, show(&raw.unwrap().link))).collect()
        }
    }

    impl Drop for Shell {
        fn drop(&mut self) {
            self.0.kill().unwrap();
            self.0.wait().unwrap();
        }
    }

    fn names(of: &[(i32, &str)]) -> BTreeMap<i32, String> {
        of.iter().map(|(fd, name)| (*fd, (*name).to_owned())).collect()
    }

    #[test]
    fn descriptors_that_are_others_than_before() {
        let mut shell = Shell::start();
        shell.run("exec 5</etc/passwd 6</etc/group 7</etc/fstab");
        let ahead = Ahead::read(&[shell.pid()]);
        // As many as before: one is closed, one opened, one of another file now.
        shell.run("exec 5<&- 8</etc/hosts; exec 6</etc/passwd");
        let now = names(&[(6, "/etc/passwd"), (7, "/etc/fstab"), (8, "/etc/hosts")]);
        assert_eq!(shell.links(ahead), now);
        let ahead = Ahead::read(&[shell.pid()]);
        shell.run("exec 9</etc/group");
        assert_eq!(shell.links(ahead)[&9], "/etc/group");
        let ahead = Ahead::read(&[shell.pid()]);
        shell.run("exec 6<&- 9<&-");
        assert_eq!(shell.links(ahead), names(&[(7, "/etc/fstab"), (8, "/etc/hosts")]));
    }

    #[test]
    fn what_requests_have_changed_since() {
        let mut shell = Shell::start();
        shell.run("exec 5</etc/passwd");
        let ahead = Ahead::read(&[shell.pid()]);
        let mut all = Descriptors::of(std::iter::once(shell.pid()), ahead).unwrap();
        shell.run("read -u 5 -N 3");
        all.read_again();
        let read = all.take(shell.pid()).unwrap();
        let (_, raw) = read.into_iter().find(|(fd, _)| *fd == 5).unwrap();
        assert_ne!(raw.unwrap().info.position, 0);
    }

    #[test]
    fn a_file_that_is_renamed_or_removed_since() {
        let dir = std::env::temp_dir().join(format!("ckpt-reading-{}", std::process::id()));
        std::fs::create_dir(&dir).unwrap();
        let path = |name: &str| dir.join(name).to_str().unwrap().to_owned();
        let mut shell = Shell::start();
        shell.run(&format!("exec 5>{} 6>{} 7>{}", path("stays"), path("old"), path("goes")));
        let ahead = Ahead::read(&[shell.pid()]);
        std::fs::rename(path("old"), path("new")).unwrap();
        std::fs::remove_file(path("goes")).unwrap();
        // Another file of that name.
        std::fs::write(path("old"), "").unwrap();
        let gone = format!("{} (deleted)", path("goes"));
        let now = names(&[(5, &path("stays")), (6, &path("new")), (7, &gone)]);
        assert_eq!(shell.links(ahead), now);
        std::fs::remove_dir_all(&dir).unwrap();
    }
}

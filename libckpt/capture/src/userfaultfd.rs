//! Userfaultfds of the program's own: whose memory each is for, what is registered with it, and which pages there are.
//!
//! The kernel shows none of this, but answers questions that change nothing. UFFDIO_MOVE is for the caller's own address space; for another it fails in
//! another way. UFFDIO_REGISTER does nothing to what the same userfaultfd has registered already, and fails with EBUSY where it is another's.
//!
//! Memory of a process that has one is not tracked: it could not register it, then. A missing page is never touched: who does waits
//! for the program's handler, which stands still.
use crate::error::{CaptureError, CaptureResult};
use crate::files::{index, index::Place};
use crate::objects::Objects;
use crate::{content, mapped_file, vma};
use ckpt_dirty::ranges::{push, within};
use ckpt_image::record::{BackingV1, UserfaultfdAreaV1, UserfaultfdV1, VmaV1};
use ckpt_sys::inject::Injector;
use ckpt_sys::pagemap::{Absent, PageRegion, Pagemap, Query, category, marker};
use ckpt_sys::proc::{self, maps, maps::Mapping, threads};
use ckpt_sys::uffd::{self, mode};
use ckpt_sys::{kcmp, pidfd};
use nix::errno::Errno;
use std::cmp::Ordering;
use std::fs::File;
use std::ops::Range;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

/// What their links in /proc say.
pub(crate) const LINK: &[u8] = b"anon_inode:[userfaultfd]";
const PAGE: u64 = 4096;
/// How long a thread may wait for the handler within a system call, before its save is refused.
const LIMIT: Duration = Duration::from_secs(5);
/// How often it is looked at.
const LOOK: Duration = Duration::from_millis(1);
/// `VmFlags` and the modes that they are of.
const MODES: [(&[u8; 2], u64); 3] = [(b"um", mode::MISSING), (b"uw", mode::WP), (b"ui", mode::MINOR)];

/// One of them.
#[derive(Debug)]
struct Instance {
    /// Where it is held.
    places: Vec<Place>,
    duplicate: OwnedFd,
    /// None: the handshake has not been made.
    features: Option<u64>,
    /// The process whose memory it is for, the first that has this address space.
    owner: Option<i32>,
    areas: Vec<UserfaultfdAreaV1>,
}

/// Those of a job.
#[derive(Debug, Default)]
pub(crate) struct Userfaultfds(Vec<Instance>);

/// Whether a process of the running job has one.
pub(crate) fn any(members: &[i32]) -> bool {
    members.iter().any(|&pid| {
        let list = index::list(pid).unwrap_or_default();
        list.iter().any(|fd| index::read_link(pid, *fd).is_ok_and(|link| link == LINK))
    })
}

impl Userfaultfds {
    /// There are none.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Those at these descriptors of stopped processes.
    pub(crate) fn find(places: Vec<Place>) -> CaptureResult<Self> {
        let mut found: Vec<Instance> = Vec::new();
        for place in places {
            let mut same = None;
            for (at, known) in found.iter().enumerate() {
                if kcmp::compare_files(known.places[0], place)? == Ordering::Equal {
                    same = Some(at);
                    break;
                }
            }
            if let Some(at) = same {
                found[at].places.push(place);
                continue;
            }
            let process = pidfd::open(place.0)?;
            let info = index::read_info(place.0, place.1)?;
            found.push(Instance {
                places: vec![place],
                duplicate: pidfd::getfd(process.as_fd(), place.1)?,
                features: info.field("API").and_then(uffd::features),
                owner: None,
                areas: Vec::new(),
            });
        }
        Ok(Self(found))
    }

    /// Finds out which are for the memory of a stopped process, whose descriptors are in the table of process `table`. Whether any is.
    pub(crate) fn claim(&mut self, injector: &mut Injector<'_>, table: i32) -> CaptureResult<bool> {
        let pid = injector.pid();
        for instance in self.0.iter_mut().filter(|instance| instance.owner.is_none()) {
            if !instance.is_for(injector, table)? {
                continue;
            }
            if table != pid {
                // It would have to be made before its process has descriptors of its own.
                let (_, number) = instance.places[0];
                return Err(CaptureError::unsupported(
                    pid,
                    format!("the userfaultfd at fd {number}"),
                    format!(
                        "the process shares its descriptors with process {table}, and not its memory (clone)"
                    ),
                    format!("Save when process {pid} or {table} has ended"),
                ));
            }
            instance.owner = Some(pid);
        }
        Ok(self.handles(pid))
    }

    /// Whether any is known to be for the memory of process `pid`.
    pub(crate) fn handles(&self, pid: i32) -> bool {
        self.0.iter().any(|instance| instance.owner == Some(pid))
    }

    /// Finds out with which of them a mapping of process `pid` is registered. Whether it is.
    pub(crate) fn add_area(&mut self, pid: i32, mapping: &Mapping) -> bool {
        let modes = modes(mapping);
        if modes == 0 {
            return false;
        }
        let own = self.0.iter_mut().filter(|instance| instance.owner == Some(pid));
        for instance in own {
            if uffd::register(instance.duplicate.as_fd(), mapping.range(), modes).is_ok() {
                let Range { start, end } = mapping.range();
                let area =
                    UserfaultfdAreaV1 { start, end, modes, present: Vec::new(), protected: Vec::new() };
                instance.areas.push(area);
                return true;
            }
        }
        false
    }

    /// Looks at the pages of a mapping, if it is registered with one of them: leaves those of `populated` that are there.
    pub(crate) fn look_at(
        &mut self,
        pid: i32,
        vma: &VmaV1,
        guards: &[Range<u64>],
        populated: &mut Vec<Range<u64>>,
    ) -> CaptureResult<()> {
        let own = self.0.iter_mut().filter(|instance| instance.owner == Some(pid));
        let mut areas = own.flat_map(|instance| &mut instance.areas);
        let Some(area) = areas.find(|area| area.start == vma.start) else { return Ok(()) };
        let Seen { present, protected } = scan(pid, vma.start..vma.end, guards)?;
        *populated = present.iter().flat_map(|range| within(populated, range)).collect();
        area.present = pairs(&present);
        area.protected = pairs(&protected);
        Ok(())
    }

    /// The same of shared memory, which is there for all who have mapped it: `file` is a description of it.
    pub(crate) fn look_at_shared(&mut self, pid: i32, mapping: &Mapping, file: &File) -> CaptureResult<()> {
        let own = self.0.iter_mut().filter(|instance| instance.owner == Some(pid));
        let mut areas = own.flat_map(|instance| &mut instance.areas);
        let Some(area) = areas.find(|area| area.start == mapping.start) else { return Ok(()) };
        let parts = content::data(file, mapping.offset..mapping.offset + mapping.end - mapping.start)?;
        let address = |offset: u64| mapping.start + (offset - mapping.offset);
        area.present = parts.iter().map(|part| (address(part.start), address(part.end))).collect();
        area.protected = pairs(&scan(pid, mapping.range(), &[])?.protected);
        Ok(())
    }

    /// The record of the one that is held at `place`; None: it is not known whose memory it is for.
    pub(crate) fn record(&self, place: Place) -> Option<Result<UserfaultfdV1, Unknown>> {
        let instance = self.0.iter().find(|instance| instance.places.contains(&place))?;
        let Some(owner) = instance.owner else { return Some(Err(Unknown)) };
        Some(Ok(UserfaultfdV1 {
            mm: crate::mm::id(owner),
            features: instance.features,
            areas: instance.areas.clone(),
        }))
    }
}

/// It is not known whose memory a userfaultfd is for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Unknown;

impl Instance {
    /// Whether it is for the memory of this process.
    fn is_for(&self, injector: &mut Injector<'_>, table: i32) -> CaptureResult<bool> {
        let own = self.places.iter().find(|(pid, _)| *pid == table);
        if self.features.is_none() {
            // It does not answer yet: the one process that has it has made it.
            return Ok(own.is_some() && self.places.iter().all(|(pid, _)| *pid == table));
        }
        if let Some((_, fd)) = own {
            return asks(injector, u64::from(fd.unsigned_abs()));
        }
        let Some(fd) = self.lend(injector)? else { return Ok(false) };
        let answer = asks(injector, fd);
        close(injector, fd)?;
        answer
    }

    /// Gives the process a descriptor of it for the moment, if it may have one.
    fn lend(&self, injector: &mut Injector<'_>) -> CaptureResult<Option<u64>> {
        let (holder, number) = self.places[0];
        let args = [u64::from(holder.unsigned_abs()), 0];
        let Ok(process) = injector.syscall(libc::SYS_pidfd_open, &args)? else { return Ok(None) };
        let args = [process, u64::from(number.unsigned_abs()), 0];
        let lent = injector.syscall(libc::SYS_pidfd_getfd, &args);
        close(injector, process)?;
        let Ok(fd) = lent? else { return Ok(None) };
        // In another PID namespace the holder's pid is somebody else's.
        let place = (injector.pid(), i32::try_from(fd).unwrap_or(-1));
        let same = kcmp::compare_files(self.places[0], place).is_ok_and(|order| order == Ordering::Equal);
        if !same {
            close(injector, fd)?;
        }
        Ok(same.then_some(fd))
    }
}

fn close(injector: &mut Injector<'_>, fd: u64) -> CaptureResult<()> {
    let pid = injector.pid();
    let closed = injector.syscall(libc::SYS_close, &[fd])?;
    closed.map(drop).map_err(|errno| CaptureError::Remote { pid, call: "close", errno })
}

/// Has the process move a page from where nothing is to where nothing is.
fn asks(injector: &mut Injector<'_>, fd: u64) -> CaptureResult<bool> {
    let Some(hole) = hole(injector.pid())? else { return Ok(false) };
    let argument = injector.place(&uffd::move_nothing(hole))?;
    let answer = injector.syscall(libc::SYS_ioctl, &[fd, uffd::UFFDIO_MOVE, argument.get()])?;
    Ok(answer == Err(Errno::ENOENT))
}

/// A page where nothing is mapped, and nothing grows to.
fn hole(pid: i32) -> CaptureResult<Option<u64>> {
    // Above vm.mmap_min_addr.
    const FIRST: u64 = 16 << 20;
    let mut next = FIRST;
    for mapping in maps::maps(pid)? {
        if next + PAGE <= mapping.start {
            break;
        }
        next = next.max(mapping.end);
    }
    Ok((next < 1 << 46).then_some(next))
}

fn modes(mapping: &Mapping) -> u64 {
    MODES.iter().filter(|(flag, _)| mapping.has_flag(flag)).fold(0, |modes, (_, mode)| modes | mode)
}

/// What is told of a mapping that is registered and cannot be saved.
pub(crate) const NOT_SAVED: &str = "page faults of it are handled by a program (userfaultfd), and it is neither private nor shared anonymous memory of ordinary pages \
     with UFFDIO_REGISTER_MODE_MISSING or _WP";
/// What to do about it.
pub(crate) const UNREGISTER: &str = "Save when the program has unregistered it (UFFDIO_UNREGISTER)";

/// Looks at the pages of shared memory that is registered, and refuses what is registered and cannot be saved.
pub(crate) fn settle(
    objects: &mut Objects,
    pid: i32,
    mapping: &Mapping,
    backing: &BackingV1,
) -> CaptureResult<()> {
    let refuse = |reason: &str, remedy: &str| Err(vma::refusal(pid, mapping, reason, remedy));
    match backing {
        BackingV1::Anonymous => Ok(()),
        BackingV1::Shmem { .. } if mapping.has_flag(b"ht") || mapping.has_flag(b"ui") => {
            refuse(NOT_SAVED, UNREGISTER)
        }
        // To lock it brings all of it.
        BackingV1::Shmem { .. } if mapping.has_flag(b"lo") && !mapping.has_flag(b"lf") => refuse(
            "page faults of it are handled by the program (userfaultfd), and it is shared and locked (mlock)",
            "Save when the program has unlocked it (munlock)",
        ),
        BackingV1::Shmem { .. } => match mapped_file::open(pid, mapping)? {
            Some(file) => objects.userfaultfds.look_at_shared(pid, mapping, &file),
            None => refuse(
                "page faults of it are handled by the program (userfaultfd), and the memory behind it may not be looked at",
                "Run ckpt as root or with CAP_CHECKPOINT_RESTORE",
            ),
        },
        _ => refuse(NOT_SAVED, UNREGISTER),
    }
}

/// Pages of a mapping.
struct Seen {
    /// They are there.
    present: Vec<Range<u64>>,
    /// They are protected.
    protected: Vec<Range<u64>>,
}

/// Looks through the page map.
fn scan(pid: i32, range: Range<u64>, guards: &[Range<u64>]) -> CaptureResult<Seen> {
    let (mut present, mut protected) = (Vec::new(), Vec::new());
    let pagemap = Pagemap::open(pid)?;
    let mut regions = Vec::new();
    let any = category::PRESENT | category::SWAPPED;
    let query = Query { any, report: any | category::WRITTEN, ..Query::default() };
    pagemap.scan(range.clone(), query, &mut regions)?;
    for PageRegion { start, end, categories } in regions {
        if categories & category::PRESENT != 0 {
            push(&mut present, start..end);
        } else {
            for page in (start..end).step_by(4096).filter(|page| !holds(guards, *page)) {
                if is_there(&pagemap, pid, &range, page)? {
                    push(&mut present, page..page + PAGE);
                }
            }
        }
        if categories & category::WRITTEN == 0 {
            push(&mut protected, start..end);
        }
    }
    Ok(Seen { present, protected })
}

/// Refuses a page of a mapping that faults in a way that cannot be made again.
fn is_there(pagemap: &Pagemap, pid: i32, range: &Range<u64>, page: u64) -> CaptureResult<bool> {
    let object = || format!("the mapping at {:#x}-{:#x}", range.start, range.end);
    match pagemap.absent(page)? {
        Absent::Elsewhere => Ok(true),
        Absent::Marker(bits) if bits & marker::POISONED != 0 => Err(CaptureError::unsupported(
            pid,
            object(),
            format!("its page {page:#x} is poisoned (UFFDIO_POISON)"),
            "Let the program give it up (MADV_DONTNEED) before saving",
        )),
        Absent::Marker(_) => Ok(false),
        Absent::Hidden => Err(CaptureError::unsupported(
            pid,
            object(),
            format!(
                "the program handles its page faults (userfaultfd), and the kernel does not tell whether its page {page:#x} is swapped out"
            ),
            "Run ckpt as root or with CAP_SYS_ADMIN",
        )),
    }
}

fn holds(ranges: &[Range<u64>], page: u64) -> bool {
    let at = ranges.partition_point(|range| range.end <= page);
    ranges.get(at).is_some_and(|range| range.start <= page)
}

fn pairs(ranges: &[Range<u64>]) -> Vec<(u64, u64)> {
    ranges.iter().map(|range| (range.start, range.end)).collect()
}

/// Waits until no thread of process `pid`, which runs, waits within a system call for the program's own handler. It could not be stopped: the kernel tries
/// again and again as soon as it is to stop, and the handler would be stopped as well.
///
/// # Errors
/// It lasts.
pub(crate) fn wait_until_answered(pid: i32) -> CaptureResult<()> {
    let begin = Instant::now();
    for tid in threads::list(pid).unwrap_or_default() {
        while let Some(error) = waiting(pid, tid) {
            if begin.elapsed() > LIMIT {
                return Err(error);
            }
            std::thread::sleep(LOOK);
        }
    }
    Ok(())
}

/// The refusal of a thread that waits within a system call for the program's own handler; None: it does not.
pub(crate) fn waiting(pid: i32, tid: i32) -> Option<CaptureError> {
    let read = |name: &str| proc::read_text(pid, &format!("task/{tid}/{name}")).unwrap_or_default();
    // One that is to stop runs in circles, and is nowhere.
    let place = match read("wchan").trim() {
        "0" => read("stack"),
        place => place.to_owned(),
    };
    // Of a fault of the program's own code the kernel says -1, and it can be stopped.
    let is_called = || read("syscall").split_ascii_whitespace().next().is_some_and(|number| number != "-1");
    let reason = if place.contains("userfaultfd_event_wait_completion") {
        "it waits until the program's own handler (userfaultfd) has read what it does to its memory"
    } else if place.contains("handle_userfault") && is_called() {
        "it waits in a system call for a page that the program's own handler (userfaultfd) is to bring"
    } else {
        return None;
    };
    let remedy = "Save again when the handler has answered";
    Some(CaptureError::unsupported(pid, format!("thread {tid}"), reason, remedy))
}

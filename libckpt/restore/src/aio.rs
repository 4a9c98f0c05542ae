//! Asynchronous I/O contexts (io_setup(2)): made anew, with the ring where it was, for its address is the context's id.
//!
//! The kernel keeps a tail of its own, and how many events are to be read before there is room for as many requests. Both come about by
//! as many requests as bring the ring to where it was: reads of /dev/null, whose events are overwritten with the program's.
use crate::builder::Builder;
use crate::error::{RestoreError, RestoreResult};
use crate::vma::{self, describe};
use ckpt_image::record::{AioRingV1, VmaV1};
use ckpt_sys::RemoteAddr;
use ckpt_sys::SysError;
use nix::errno::Errno;
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;

/// `struct aio_ring`: its size, and where its fields are; `struct io_event`.
const HEADER: u64 = 32;
const CAPACITY: u64 = 4;
const HEAD: u64 = 8;
const TAIL: u64 = 12;
const EVENT: u64 = 32;
/// Requests that are made at once.
const BATCH: u32 = 256;
const IOCB_CMD_PREAD: u16 = 0;

/// Makes the context whose ring `vma` is.
pub(crate) fn restore_ring(builder: &mut Builder<'_>, vma: &VmaV1, ring: &AioRingV1) -> RestoreResult<()> {
    let (start, len) = (RemoteAddr::new(vma.start), vma.end - vma.start);
    // Nothing gets into the place meanwhile, the new ring least of all.
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE | libc::MAP_FIXED_NOREPLACE;
    let args = [vma.start, len, 0, u64::from(flags.unsigned_abs()), u64::MAX, 0];
    builder.call("mmap", &describe(vma), libc::SYS_mmap, &args)?;
    let made = setup(builder, vma, ring.capacity)?;
    let flags = u64::from((libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED).unsigned_abs());
    builder.call("mremap", &describe(vma), libc::SYS_mremap, &[made, len, len, flags, vma.start])?;
    advance(builder, vma, ring)?;
    for (event, at) in ring.events.as_chunks::<32>().0.iter().zip(0..) {
        let slot = (u64::from(ring.head) + at) % u64::from(ring.capacity);
        builder.remote.memory().write(start.offset(HEADER + EVENT * slot), event)?;
    }
    let usual = (libc::PROT_READ | libc::PROT_WRITE).unsigned_abs();
    if vma.prot != usual {
        let args = [vma.start, len, u64::from(vma.prot)];
        builder.call("mprotect", &describe(vma), libc::SYS_mprotect, &args)?;
    }
    Ok(())
}

/// io_setup(2) of a ring of this capacity; its address.
fn setup(builder: &mut Builder<'_>, vma: &VmaV1, capacity: u32) -> RestoreResult<u64> {
    // The kernel makes room for twice as many events and two, and fills whole pages up.
    let requests = u64::from(capacity.saturating_sub(2) / 2);
    let id = builder.place(&[0; 8])?;
    let made = match builder.remote.syscall(libc::SYS_io_setup, &[requests, id.get()])? {
        Ok(_) => builder.remote.memory().read_u64(id)?,
        Err(Errno::EAGAIN) => {
            return Err(RestoreError::Machine {
                reason: format!(
                    "the program has an asynchronous I/O context of {requests} requests, and the system's limit is reached"
                ),
                remedy: "Raise it (sysctl fs.aio-max-nr) and restore again".into(),
            });
        }
        Err(errno) => {
            let (pid, object) = (builder.remote.pid(), describe(vma));
            return Err(RestoreError::Remote { pid, call: "io_setup", object, errno });
        }
    };
    let real = word(builder, RemoteAddr::new(made).offset(CAPACITY))?;
    if real != capacity {
        return Err(RestoreError::Machine {
            reason: format!(
                "its rings of asynchronous I/O have room for {real} events at least, and the program's has {capacity}: they depend on the number of processors"
            ),
            remedy: "Restore on a machine with as many processors as the one where the checkpoint was taken"
                .into(),
        });
    }
    Ok(made)
}

/// Brings a new ring to where it was: first up to the head, then from there to the tail.
fn advance(builder: &mut Builder<'_>, vma: &VmaV1, ring: &AioRingV1) -> RestoreResult<()> {
    let start = RemoteAddr::new(vma.start);
    if (ring.head, ring.tail) == (0, 0) {
        return Ok(());
    }
    let null = vma::open(builder, b"/dev/null", false)?;
    let pinned = Pinned::to_one_processor(builder.remote.pid())?;
    let unread = (ring.tail + ring.capacity - ring.head) % ring.capacity;
    for (count, consume) in [(ring.head, true), (unread, false)] {
        let mut left = count;
        while left > 0 {
            left -= submit(builder, vma, null, left.min(BATCH))?;
            if consume {
                let tail = word(builder, start.offset(TAIL))?;
                builder.remote.memory().write(start.offset(HEAD), &tail.to_ne_bytes())?;
            }
        }
    }
    pinned.free()?;
    builder.call("close", &"/dev/null", libc::SYS_close, &[null])?;
    let now = (word(builder, start.offset(HEAD))?, word(builder, start.offset(TAIL))?);
    if now != (ring.head, ring.tail) {
        let what =
            format!("an asynchronous I/O ring stands at {now:?} in place of {:?}", (ring.head, ring.tail));
        return Err(RestoreError::Inconsistent { what });
    }
    Ok(())
}

/// A process that runs on one processor only: each has a stock of a context's free requests that the others do not get at, and a ring that is
/// nearly full needs all of them.
struct Pinned {
    pid: Pid,
    before: CpuSet,
}

impl Pinned {
    fn to_one_processor(pid: i32) -> RestoreResult<Self> {
        let pid = Pid::from_raw(pid);
        let fail = |errno| SysError::new("sched_setaffinity", format!("process {pid}"), errno);
        let before = sched_getaffinity(pid).map_err(fail)?;
        let mut one = CpuSet::new();
        let allowed = |cpu: &usize| before.is_set(*cpu).unwrap_or(false);
        if let Some(cpu) = (0..CpuSet::count()).find(allowed) {
            one.set(cpu).map_err(fail)?;
            sched_setaffinity(pid, &one).map_err(fail)?;
        }
        Ok(Self { pid, before })
    }

    fn free(self) -> RestoreResult<()> {
        let fail = |errno| SysError::new("sched_setaffinity", format!("process {}", self.pid), errno);
        Ok(sched_setaffinity(self.pid, &self.before).map_err(fail)?)
    }
}

/// Makes up to `count` requests, all the same; how many there was room for.
fn submit(builder: &mut Builder<'_>, vma: &VmaV1, null: u64, count: u32) -> RestoreResult<u32> {
    let byte = builder.remote.reserve(16)?.get();
    // struct iocb: data, key, rw_flags, opcode, priority, descriptor, buffer, length, offset, then what is not used.
    let mut request = vec![0; 16];
    request.extend(IOCB_CMD_PREAD.to_ne_bytes());
    request.extend([0; 2]);
    request.extend(u32::try_from(null).unwrap_or(u32::MAX).to_ne_bytes());
    request.extend(byte.to_ne_bytes());
    request.extend(1u64.to_ne_bytes());
    request.resize(64, 0);
    let request = builder.place(&request)?.get().to_ne_bytes();
    let list = builder.place(&request.repeat(usize::try_from(count).unwrap_or(0)))?.get();
    let made = builder.call(
        "io_submit",
        &describe(vma),
        libc::SYS_io_submit,
        &[vma.start, u64::from(count), list],
    )?;
    Ok(u32::try_from(made).unwrap_or(count))
}

fn word(builder: &Builder<'_>, at: RemoteAddr) -> RestoreResult<u32> {
    let mut bytes = [0; 4];
    builder.remote.memory().read(at, &mut bytes)?;
    Ok(u32::from_ne_bytes(bytes))
}

//! Asynchronous I/O contexts (io_setup(2)): the ring that each is known by.
//!
//! The kernel does not show the requests of a context. A job that is stopped submits no more, and what it has submitted goes through a block device or
//! has been completed at once, so it is waited for until the devices are idle. An `IOCB_CMD_POLL` that nothing wakes cannot be seen.
use crate::block_io;
use crate::error::{CaptureError, CaptureResult};
use crate::vma::refusal;
use ckpt_image::record::AioRingV1;
use ckpt_sys::RemoteAddr;
use ckpt_sys::inject::Injector;
use ckpt_sys::memory::ProcessMemory;
use ckpt_sys::proc::maps::Mapping;
use std::time::Duration;

/// `struct aio_ring` and `struct io_event`, bytes each.
const HEADER: u64 = 32;
const EVENT: u64 = 32;
const MAGIC: u32 = 0xa10a_10a1;
/// How long requests may take to end.
const LIMIT: Duration = Duration::from_secs(2);
/// What the kernel may take from the end of a device's request to the event.
const SETTLE: Duration = Duration::from_millis(1);
/// Looks at a ring that must tell the same.
const LOOKS: u32 = 3;

/// Whether a mapping is a context's ring.
pub(crate) fn is_ring(mapping: &Mapping) -> bool {
    mapping.path == b"/[aio]" && mapping.deleted && mapping.shared && mapping.device.0 == 0
}

/// What is in the ring of a context of a stopped process, when nothing is in flight any more.
pub(crate) fn capture_ring(injector: &mut Injector<'_>, mapping: &Mapping) -> CaptureResult<AioRingV1> {
    let pid = injector.pid();
    let refuse = |reason: &str, remedy: &str| Err(refusal(pid, mapping, reason, remedy));
    let start = RemoteAddr::new(mapping.start);
    if !is_context(injector, start)? {
        return refuse(
            "it is the ring of an asynchronous I/O context that this process has not (one of its parent's, or one that was destroyed)",
            "Let the child unmap it (munmap) or run another program (execve) before saving",
        );
    }
    if let Err(device) = block_io::wait_until_done(LIMIT)? {
        let reason = format!(
            "requests of its asynchronous I/O context may be in flight: block device {device} was busy for {} s",
            LIMIT.as_secs()
        );
        return refuse(&reason, "Save again when the device is less busy");
    }
    let memory = injector.memory();
    let mut ring = Header::read(memory, start)?;
    let mut same = 0;
    while same < LOOKS {
        std::thread::sleep(SETTLE);
        let now = Header::read(memory, start)?;
        same = if now == ring { same + 1 } else { 0 };
        ring = now;
    }
    let Header { capacity, head, tail, magic } = ring;
    let size = (HEADER + EVENT * u64::from(capacity)).next_multiple_of(4096);
    if magic != MAGIC || size != mapping.end - mapping.start || head.max(tail) >= capacity {
        return refuse(
            "it is not as the kernel made it (an asynchronous I/O context's ring)",
            "Let the program close that context (io_destroy) before saving",
        );
    }
    let mut events = Vec::new();
    let mut at = head;
    while at != tail {
        let mut event = [0; 32];
        memory.read(start.offset(HEADER + EVENT * u64::from(at)), &mut event)?;
        events.extend(event);
        at = (at + 1) % capacity;
    }
    Ok(AioRingV1 { capacity, head, tail, events })
}

/// Asks for no event.
fn is_context(injector: &mut Injector<'_>, id: RemoteAddr) -> CaptureResult<bool> {
    let no_time = injector.place(&[0; 16])?;
    match injector.syscall(libc::SYS_io_getevents, &[id.get(), 0, 0, 0, no_time.get()])? {
        Ok(_) => Ok(true),
        Err(nix::errno::Errno::EINVAL) => Ok(false),
        Err(errno) => Err(CaptureError::Remote { pid: injector.pid(), call: "io_getevents", errno }),
    }
}

/// The fields of `struct aio_ring` that matter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Header {
    capacity: u32,
    head: u32,
    tail: u32,
    magic: u32,
}

impl Header {
    fn read(memory: &ProcessMemory, ring: RemoteAddr) -> CaptureResult<Self> {
        let mut bytes = [0; 20];
        memory.read(ring, &mut bytes)?;
        let (words, _) = bytes.as_chunks::<4>();
        let [_, capacity, head, tail, magic] = [0, 1, 2, 3, 4].map(|at| u32::from_ne_bytes(words[at]));
        Ok(Self { capacity, head, tail, magic })
    }
}

//! Tells the daemon that this process is a job.
use crate::Trouble;
use crate::buffer::Buffer;
use crate::control::{self, Fd};
use crate::endpoint::{self, variable};
use crate::start;
use core::sync::atomic::{AtomicBool, Ordering};

/// UFFD_USER_MODE_ONLY, include/uapi/linux/userfaultfd.h: what an ordinary user may have, and all that is needed.
const UFFD_USER_MODE_ONLY: libc::c_int = 1;

static PROTECTED: AtomicBool = AtomicBool::new(false);

/// Whether the registration succeeded.
pub(crate) fn is_protected() -> bool {
    PROTECTED.load(Ordering::Relaxed)
}

/// Registers this process with the daemon, which is started if it is missing.
pub(crate) fn register() -> Result<(), Trouble> {
    let socket = connect_or_start()?;
    let tracker = userfaultfd();
    let mut request = Buffer::<2048>::new();
    request.put(br#"{"version":1,"request":{"op":"register","source":"preload","tracked":["#);
    request.put(if tracker.is_some() { b"0]" } else { b"]" });
    for (name, value) in [
        (&b"name"[..], variable(c"CKPT_NAME")),
        (b"every", variable(c"CKPT_EVERY")),
        (b"keep", variable(c"CKPT_KEEP")),
        (b"keep_for", variable(c"CKPT_KEEP_FOR")),
    ] {
        if let Some(value) = value {
            request.put(b",\"");
            request.put(name);
            request.put(b"\":");
            request.put_json(value);
        }
    }
    request.put(b"}}\n");
    if !request.is_whole() {
        return Err(Trouble::plain("CKPT_NAME, CKPT_EVERY, CKPT_KEEP or CKPT_KEEP_FOR is too long"));
    }
    let reply = control::exchange(&socket, request.bytes(), tracker.as_ref())?;
    control::succeeded(&reply)?;
    PROTECTED.store(true, Ordering::Relaxed);
    // First the tracker, then the connection: once that is closed, the daemon may save this process at any moment.
    drop(tracker);
    drop(socket);
    Ok(())
}

/// Connects to the daemon, if one runs.
pub(crate) fn connect() -> Result<Option<Fd>, Trouble> {
    match endpoint::canonical(&endpoint::store()) {
        Some(store) => {
            let (dir, name) = endpoint::socket(&store);
            control::connect(&dir, &name)
        }
        None => Ok(None),
    }
}

fn connect_or_start() -> Result<Fd, Trouble> {
    if let Some(socket) = connect()? {
        return Ok(socket);
    }
    let store = endpoint::store();
    if !store.is_whole() {
        return Err(Trouble::plain("CKPT_STORE is too long"));
    }
    start::start(&store)?;
    connect()?.ok_or_else(|| Trouble::plain("the daemon ended as soon as it had started"))
}

/// A userfaultfd of this process, with which the daemon will see what is written. Not having one is no trouble: the
/// daemon makes one when it needs it.
fn userfaultfd() -> Option<Fd> {
    [libc::O_CLOEXEC, libc::O_CLOEXEC | UFFD_USER_MODE_ONLY].into_iter().find_map(|flags| {
        // SAFETY: no pointers.
        let fd = unsafe { libc::syscall(libc::SYS_userfaultfd, flags) };
        libc::c_int::try_from(fd).ok().filter(|fd| *fd >= 0).map(Fd)
    })
}

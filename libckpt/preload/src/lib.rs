//! `libckpt.so`: what `LD_PRELOAD` names.
//!
//! Before the program's `main` it tells ckptd that the process is a job, hands a userfaultfd over, and is done: no
//! descriptor, thread, signal handler or variable of its own stays behind. Whatever goes wrong, the program runs, after
//! one line on standard error. `include/ckpt.h` has the functions that a program may call, if it cares to.
//!
//! Architecture invariants: libc only; no allocation, no panic, no unwinding; errno is left alone.
// An error carries its text, for there is no heap to keep it on; it is made once in a program's life.
#![allow(clippy::result_large_err)]
pub mod api;
mod buffer;
mod control;
mod endpoint;
mod register;
mod start;

use buffer::Buffer;

/// Run by the dynamic linker before the program's own constructors and `main`.
#[used]
#[unsafe(link_section = ".init_array")]
static CONSTRUCTOR: extern "C" fn() = constructor;

extern "C" fn constructor() {
    let errno = errno();
    // A program with more rights than its user must not be talked to by that user's environment.
    // SAFETY: getauxval(3) reads what the kernel gave this process.
    if unsafe { libc::getauxval(libc::AT_SECURE) } == 0
        && !is_ckpt_itself()
        && let Err(trouble) = register::register()
    {
        report(b"ckpt: this program runs unprotected: ", &trouble);
    }
    set_errno(errno);
}

/// What went wrong, for one line on standard error.
pub(crate) struct Trouble {
    /// What.
    pub(crate) what: &'static str,
    /// The system's error; 0 for none.
    pub(crate) errno: i32,
    /// What the daemon said.
    pub(crate) said: Buffer<512>,
}

impl Trouble {
    /// Something failed with the current errno.
    pub(crate) fn system(what: &'static str) -> Self {
        Self { what, errno: errno(), said: Buffer::new() }
    }

    /// Something that has no errno.
    pub(crate) fn plain(what: &'static str) -> Self {
        Self { what, errno: 0, said: Buffer::new() }
    }
}

/// Says why `ckpt_save` failed.
pub(crate) fn report_failed_save(trouble: &Trouble) {
    report(b"ckpt: not saved: ", trouble);
}

fn report(start: &[u8], trouble: &Trouble) {
    let mut line = Buffer::<1024>::new();
    line.put(start);
    line.put(trouble.what.as_bytes());
    if !trouble.said.bytes().is_empty() {
        line.put(b": ");
        line.put(trouble.said.bytes());
    }
    if trouble.errno != 0 {
        let mut text = [0; 128];
        // SAFETY: the buffer is as long as it is said to be; strerror_r(3) ends its text with a NUL.
        unsafe { libc::strerror_r(trouble.errno, text.as_mut_ptr().cast(), text.len()) };
        line.put(b": ");
        line.put(text.split(|byte| *byte == 0).next().unwrap_or_default());
    }
    line.put(b"\n");
    // SAFETY: the bytes are ours. A closed standard error is nobody's concern.
    unsafe { libc::write(2, line.bytes().as_ptr().cast(), line.bytes().len()) };
}

/// The `ckpt` command is no job, whatever the environment it was called in.
fn is_ckpt_itself() -> bool {
    let mut path = [0u8; 4096];
    // SAFETY: the path ends with a NUL, the buffer is as long as it is said to be.
    let length = unsafe { libc::readlink(c"/proc/self/exe".as_ptr(), path.as_mut_ptr().cast(), path.len()) };
    let Some(path) = usize::try_from(length).ok().and_then(|length| path.get(..length)) else { return false };
    let name = path.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
    name == b"ckpt" || name == b"ckptd"
}

/// The calling thread's errno.
pub(crate) fn errno() -> i32 {
    // SAFETY: the location is valid as long as the thread.
    unsafe { *libc::__errno_location() }
}

fn set_errno(errno: i32) {
    // SAFETY: as above.
    unsafe { *libc::__errno_location() = errno }
}

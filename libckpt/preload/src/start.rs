//! Starts a missing daemon.
use crate::buffer::Buffer;
use crate::endpoint::{Path, variable};
use crate::{Trouble, errno};
use core::ffi::{c_char, c_int};
use core::mem::zeroed;
use core::ptr;

/// Most variables that are passed on to the daemon, which needs only a few.
const MOST_VARIABLES: usize = 4096;

unsafe extern "C" {
    static environ: *const *const c_char;
}

/// Runs `ckpt daemon --background` for the store; returns once the daemon listens.
pub(crate) fn start(store: &Path) -> Result<(), Trouble> {
    let program = program();
    let arguments = [
        program.c_str(),
        c"daemon".as_ptr(),
        c"--background".as_ptr(),
        c"--store".as_ptr(),
        store.c_str(),
        ptr::null(),
    ];
    let mut variables = [ptr::null(); MOST_VARIABLES + 1];
    fill(&mut variables);
    // A child without an exit signal: the program never gets a SIGCHLD that is not its own, and what it inherited
    // for that signal cannot lose us the exit status.
    // SAFETY: fork(2)'s semantics; the child calls only functions that are safe after it.
    let child = unsafe { libc::syscall(libc::SYS_clone, 0, 0, 0, 0, 0) };
    if child == 0 {
        // SAFETY: the arrays end with a null pointer, the texts with a NUL; the memory is this child's own copy.
        unsafe { become_daemon(&program, arguments.as_ptr(), variables.as_ptr()) };
    }
    let Ok(child) = c_int::try_from(child) else { return Err(Trouble::plain("cannot start a process")) };
    if child < 0 {
        return Err(Trouble::system("cannot start a process"));
    }
    let mut status = 0;
    loop {
        // SAFETY: the status is ours.
        match unsafe { libc::waitpid(child, &raw mut status, libc::__WALL) } {
            -1 if errno() == libc::EINTR => {}
            -1 => return Err(Trouble::system("cannot wait for the daemon to start")),
            _ => break,
        }
    }
    match (libc::WIFEXITED(status), libc::WEXITSTATUS(status)) {
        (true, 0) => Ok(()),
        (true, 127) => {
            Err(Trouble::plain("the ckpt command was not found (set CKPT_BIN, or put it beside libckpt.so)"))
        }
        _ => Err(Trouble::plain("the daemon could not be started (`ckpt daemon` says why)")),
    }
}

/// `$CKPT_BIN`, else `ckpt` beside this library, else the one in the PATH.
fn program() -> Path {
    let mut path = Path::new();
    if let Some(chosen) = variable(c"CKPT_BIN") {
        path.put(chosen);
        return path;
    }
    // SAFETY: all zero is a valid Dl_info.
    let mut info: libc::Dl_info = unsafe { zeroed() };
    // SAFETY: the address is one of this library's; the result is checked.
    let found = unsafe { libc::dladdr(start as *const libc::c_void, &raw mut info) } != 0;
    if found && !info.dli_fname.is_null() {
        // SAFETY: dladdr(3) gives a text that is ended by a NUL.
        let library = unsafe { core::ffi::CStr::from_ptr(info.dli_fname) }.to_bytes();
        let dir = library.iter().rposition(|byte| *byte == b'/').map_or(&[][..], |at| &library[..=at]);
        path.put(dir);
        path.put(b"ckpt");
        // SAFETY: the path ends with a NUL.
        if !dir.is_empty() && path.is_whole() && unsafe { libc::access(path.c_str(), libc::X_OK) } == 0 {
            return path;
        }
    }
    let mut name = Buffer::new();
    name.put(b"ckpt");
    name
}

/// The environment without `LD_PRELOAD`, ended by a null pointer.
fn fill(variables: &mut [*const c_char; MOST_VARIABLES + 1]) {
    let mut at = 0;
    // SAFETY: environ is an array of texts, ended by a null pointer, or null itself.
    unsafe {
        let mut variable = environ;
        while !variable.is_null() && !(*variable).is_null() && at < MOST_VARIABLES {
            let text = core::ffi::CStr::from_ptr(*variable).to_bytes();
            if !text.starts_with(b"LD_PRELOAD=") {
                variables[at] = *variable;
                at += 1;
            }
            variable = variable.add(1);
        }
    }
}

/// In the child: standard streams to `/dev/null`, no signal blocked, and on to the daemon.
///
/// # Safety
/// To be called only in a child of its own memory, with arrays as execve(2) takes them.
unsafe fn become_daemon(
    program: &Path,
    arguments: *const *const c_char,
    variables: *const *const c_char,
) -> ! {
    // SAFETY: plain system calls on values of our own; see the function's contract for the arrays.
    unsafe {
        let null = libc::open(c"/dev/null".as_ptr(), libc::O_RDWR);
        for standard in 0..3 {
            libc::dup2(null, standard);
        }
        let mut nothing: libc::sigset_t = zeroed();
        libc::sigemptyset(&raw mut nothing);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const nothing, ptr::null_mut());
        libc::execvpe(program.c_str(), arguments, variables);
        libc::_exit(127)
    }
}

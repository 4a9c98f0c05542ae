//! Runs a command as process 2 of a PID, mount and network namespace of its own, and reaps as process 1.
//!
//! A test that restores under the same pids needs pids that nobody else takes meanwhile, and orphans that are reaped at
//! once. When the command ends, or the caller dies, the kernel kills whatever is left in the namespace.
use nix::errno::Errno;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::Signal;
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, execvp, fork};
use std::ffi::CString;
use std::process::exit;

fn main() {
    let mut command: Vec<CString> = std::env::args_os()
        .skip(1)
        .map(|argument| CString::new(argument.into_encoded_bytes()).expect("no NUL"))
        .collect();
    let on_host = command.first().is_some_and(|first| first.as_bytes() == b"--on-host");
    if on_host {
        command.remove(0);
    }
    if command.is_empty() {
        eprintln!("usage: ns-init [--on-host] CMD [ARG]...");
        exit(2);
    }
    close_inherited();
    die_with_parent();
    if on_host {
        exec(&command);
    }
    if let Err(error) = unshare(
        CloneFlags::CLONE_NEWPID
            | CloneFlags::CLONE_NEWNS
            | CloneFlags::CLONE_NEWNET
            | CloneFlags::CLONE_NEWIPC,
    ) {
        eprintln!("ns-init: no namespaces for the tests: {error}; they need root");
        exit(1);
    }
    // SAFETY: this process has one thread.
    match unsafe { fork() }.expect("fork") {
        ForkResult::Parent { child } => exit(wait_for(child)),
        ForkResult::Child => init(&command),
    }
}

/// Process 1 of the namespace.
fn init(command: &[CString]) -> ! {
    die_with_parent();
    mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>)
        .expect("private mounts");
    mount(Some("proc"), "/proc", Some("proc"), MsFlags::empty(), None::<&str>).expect("mount /proc");
    // Pids, which go into names there, are the same in each test.
    let own = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    mount(Some("shm"), "/dev/shm", Some("tmpfs"), own, Some("mode=1777")).expect("mount /dev/shm");
    // Numbers of terminals, too: a job gets the ones that it had.
    let terminals = Some("gid=5,mode=620,ptmxmode=666");
    let own = MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC;
    mount(Some("devpts"), "/dev/pts", Some("devpts"), own, terminals).expect("mount /dev/pts");
    if let Err(error) = loopback_up() {
        eprintln!("ns-init: no loopback device: {error}");
        exit(1);
    }
    // SAFETY: this process has one thread.
    match unsafe { fork() }.expect("fork") {
        ForkResult::Parent { child } => exit(wait_for(child)),
        ForkResult::Child => exec(command),
    }
}

/// Whatever descriptors the caller's caller had open must not be in the programs that are saved.
fn close_inherited() {
    // SAFETY: nothing in this process owns a descriptor above standard error.
    let done = unsafe { libc::close_range(3, u32::MAX, 0) };
    assert_eq!(done, 0, "close_range: {}", Errno::last());
}

fn exec(command: &[CString]) -> ! {
    let error = execvp(&command[0], command).expect_err("exec returns only on failure");
    eprintln!("ns-init: {:?}: {error}", command[0]);
    exit(127);
}

/// Reaps whatever ends until `child` does; its exit status as a shell gives it.
fn wait_for(child: Pid) -> i32 {
    loop {
        match waitpid(None, None) {
            Ok(WaitStatus::Exited(pid, status)) if pid == child => return status,
            Ok(WaitStatus::Signaled(pid, signal, _)) if pid == child => return 128 + signal as i32,
            Ok(_) | Err(Errno::EINTR) => {}
            Err(error) => panic!("wait: {error}"),
        }
    }
}

fn die_with_parent() {
    nix::sys::prctl::set_pdeathsig(Signal::SIGKILL).expect("PR_SET_PDEATHSIG");
}

/// Sets IFF_UP on lo, which a new network namespace has down.
fn loopback_up() -> nix::Result<()> {
    use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};
    use std::os::fd::AsRawFd;
    let socket = socket(AddressFamily::Inet, SockType::Datagram, SockFlag::empty(), None)?;
    // SAFETY: an all-zero ifreq is a valid one.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(b"lo") {
        *to = from.cast_signed();
    }
    request.ifr_ifru.ifru_flags = libc::c_short::try_from(libc::IFF_UP).expect("a small flag");
    // SAFETY: SIOCSIFFLAGS reads the ifreq that is passed.
    Errno::result(unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &raw const request) })?;
    Ok(())
}

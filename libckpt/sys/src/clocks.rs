//! time_namespaces(7): by how much their clocks are ahead of those of the machine.
use crate::error::{SysError, SysResult};
use crate::namespace::Namespace;
use crate::proc::{self, malformed};
use crate::raw::syscall;
use crate::spawn::{CLONE_ARGS_SIZE, CloneArgs};
use std::io::{Read, Write};
use std::os::fd::{AsRawFd, BorrowedFd};

const SECOND_NS: i64 = 1_000_000_000;
const CLOCKS: [(&str, libc::clockid_t); 2] =
    [("monotonic", libc::CLOCK_MONOTONIC), ("boottime", libc::CLOCK_BOOTTIME)];

/// How far CLOCK_MONOTONIC and CLOCK_BOOTTIME of a time namespace are ahead of the machine's, ns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Offsets(pub [i64; 2]);

impl Offsets {
    /// Those of the namespace that children of process `pid` are born in.
    pub fn of_children(pid: i32) -> SysResult<Self> {
        let text = proc::read_text(pid, "timens_offsets")?;
        parse(&text).ok_or_else(|| malformed("parse of timens_offsets", pid))
    }

    /// Those of the namespace that children of this process are born in; also where /proc is of another PID namespace.
    pub fn own() -> SysResult<Self> {
        let path = "/proc/self/timens_offsets";
        let text = std::fs::read_to_string(path).map_err(|error| SysError::new("read", path, error))?;
        parse(&text).ok_or_else(|| malformed("parse of timens_offsets", std::process::id().cast_signed()))
    }

    /// Those of the namespace behind `place`, as a short-lived child of this process that goes there shows them. EPERM: it may not.
    pub fn within(place: BorrowedFd<'_>) -> SysResult<Self> {
        let failed = |call| move |error: std::io::Error| SysError::new(call, "a time namespace", error);
        let (mut told, tell) = std::io::pipe().map_err(failed("pipe2"))?;
        // No exit signal: nobody but us is to hear of it.
        let mut args = CloneArgs::default();
        let at = u64::try_from((&raw mut args).expose_provenance()).unwrap_or(0);
        // SAFETY: `args` is laid out as the kernel's structure, with its size. The child has a copy of our memory and makes only system calls that need no lock of
        // another thread.
        let child = match unsafe { syscall(libc::SYS_clone3, [at, CLONE_ARGS_SIZE, 0, 0, 0, 0]) } {
            Ok(0) => be_there(place, tell.as_raw_fd()),
            Ok(child) => i32::try_from(child).unwrap_or(0),
            Err(errno) => return Err(SysError::new("clone3", "a child process", errno)),
        };
        drop(tell);
        let mut errno = [0; 4];
        let offsets = match told.read_exact(&mut errno).map(|()| i32::from_ne_bytes(errno)) {
            Ok(0) => Self::of_children(child),
            Ok(errno) => Err(failed("setns")(std::io::Error::from_raw_os_error(errno))),
            Err(error) => Err(failed("read")(error)),
        };
        // SAFETY: no pointers; it is our child, which nobody else waits for.
        unsafe { libc::kill(child, libc::SIGKILL) };
        crate::namespace::wait_for(child)?;
        offsets
    }

    /// Sets them for the namespace that children of process `pid` are born in (None: of this one), which nobody has been in.
    pub fn set(self, pid: Option<i32>) -> SysResult<()> {
        let path = pid
            .map_or_else(|| "/proc/self/timens_offsets".to_owned(), |pid| proc::path(pid, "timens_offsets"));
        let failed = |error| SysError::new("write", path.clone(), error);
        let mut file = std::fs::OpenOptions::new().write(true).open(&path).map_err(failed)?;
        let line = |((name, _), offset): (&(&str, libc::clockid_t), i64)| {
            format!("{name} {} {}\n", offset.div_euclid(SECOND_NS), offset.rem_euclid(SECOND_NS))
        };
        let lines: String = CLOCKS.iter().zip(self.0).map(line).collect();
        file.write_all(lines.as_bytes()).map_err(failed)
    }

    /// Those of clocks that are ahead of these.
    #[must_use]
    pub fn ahead_by(self, ahead: [i64; 2]) -> Self {
        Self([0, 1].map(|clock| self.0[clock] + ahead[clock]))
    }

    /// Those by which the clocks show `wanted`, ns, at this moment; `self`: those of the namespace that this process is in.
    pub fn for_now(self, wanted: [i64; 2]) -> SysResult<Self> {
        let mut offsets = self.0;
        for ((offset, (name, clock)), wanted) in offsets.iter_mut().zip(CLOCKS).zip(wanted) {
            let now = nix::time::clock_gettime(clock.into())
                .map_err(|errno| SysError::new("clock_gettime", name, errno))?;
            *offset += wanted - (now.tv_sec() * SECOND_NS + now.tv_nsec());
        }
        Ok(Self(offsets))
    }
}

/// In a child: goes to the namespace, says what came of it, and stays.
fn be_there(place: BorrowedFd<'_>, tell: i32) -> ! {
    // SAFETY: system calls with a pointer to our own stack; none needs a lock.
    unsafe {
        libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
        let joined = libc::setns(place.as_raw_fd(), Namespace::Time.flag());
        let errno = if joined == 0 { 0 } else { *libc::__errno_location() };
        libc::write(tell, (&raw const errno).cast(), size_of::<i32>());
        loop {
            libc::pause();
        }
    }
}

/// Lines such as `monotonic           -5         7`: seconds and what is to be added to them, ns.
fn parse(text: &str) -> Option<Offsets> {
    let mut offsets = [0; 2];
    for ((name, _), offset) in CLOCKS.iter().zip(&mut offsets) {
        let line = text.lines().find_map(|line| line.strip_prefix(name))?;
        let mut words = line.split_ascii_whitespace().map(str::parse::<i64>);
        *offset = words.next()?.ok()? * SECOND_NS + words.next()?.ok()?;
    }
    Some(Offsets(offsets))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_offsets_of_a_namespace() {
        let text = "monotonic          -6 500000000\nboottime         1000         0\n";
        assert_eq!(parse(text).unwrap(), Offsets([-5_500_000_000, 1_000_000_000_000]));
        let own = Offsets::own().unwrap();
        let [now, _] = own.for_now([0, 0]).unwrap().0;
        assert!(now < own.0[0]);
    }

    #[test]
    fn those_of_a_namespace_that_one_goes_to() {
        let own = crate::namespace::open_own(Namespace::Time).unwrap();
        match Offsets::within(std::os::fd::AsFd::as_fd(&own)) {
            Err(error) if error.errno() == Some(nix::errno::Errno::EPERM) => {
                eprintln!("not exercised: {error}")
            }
            offsets => assert_eq!(offsets.unwrap(), Offsets::own().unwrap()),
        }
    }
}

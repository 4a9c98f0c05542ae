//! POSIX message queues: mq_overview(7).
//!
//! The kernel has no way to look at a message without taking it. [`look`] takes all of a queue's and puts them back, in a process of its own, so that they are
//! put back whoever is killed meanwhile.
use crate::error::{SysError, SysResult};
use nix::errno::Errno;
use nix::sys::signal::{SigSet, SigmaskHow, sigprocmask};
use std::ffi::CString;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// `f_type` of the file system that queues are files of.
const MQUEUE_MAGIC: i64 = 0x1980_0202;
/// Times that a message is sent again, 1 ms apart, while somebody else has filled its place.
const ATTEMPTS: u32 = 5000;
const KEEPER_STACK: usize = 64 << 10;

/// A message: priority and text.
pub type Message = (u32, Vec<u8>);

/// What mq_getattr(3) tells of a queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attributes {
    /// Messages that it may hold.
    pub most_messages: usize,
    /// Bytes that a message may have.
    pub message_bytes: usize,
    /// Messages in it.
    pub messages: usize,
}

fn object(fd: BorrowedFd<'_>) -> String {
    format!("message queue {}", fd.as_raw_fd())
}

/// Whether a descriptor is of a queue.
#[must_use]
pub fn is_queue(fd: BorrowedFd<'_>) -> bool {
    // SAFETY: all zeros is a valid value.
    let mut status: libc::statfs = unsafe { std::mem::zeroed() };
    // SAFETY: `status` is ours and valid for writing.
    let told = unsafe { libc::fstatfs(fd.as_raw_fd(), &raw mut status) } == 0;
    told && status.f_type == MQUEUE_MAGIC
}

/// The attributes of a queue.
pub fn attributes(fd: BorrowedFd<'_>) -> SysResult<Attributes> {
    // SAFETY: all zeros is a valid value.
    let mut told: libc::mq_attr = unsafe { std::mem::zeroed() };
    // SAFETY: `told` is ours and valid for writing.
    if unsafe { libc::mq_getattr(fd.as_raw_fd(), &raw mut told) } != 0 {
        return Err(SysError::last("mq_getattr", object(fd)));
    }
    let number = |value: i64| usize::try_from(value).unwrap_or(0);
    Ok(Attributes {
        most_messages: number(told.mq_maxmsg),
        message_bytes: number(told.mq_msgsize),
        messages: number(told.mq_curmsgs),
    })
}

/// Another description of a queue, to send and receive without waiting, whatever `fd` was opened for.
pub fn reopen(fd: BorrowedFd<'_>) -> SysResult<OwnedFd> {
    let path = format!("/proc/self/fd/{}", fd.as_raw_fd());
    crate::descriptor::open(path.as_bytes(), libc::O_RDWR | libc::O_NONBLOCK, 0)
        .map_err(|errno| SysError::new("open", path, errno))
}

/// The process that waits to be notified of a message (mq_notify(3)). `fd` must be open for reading.
pub fn notified(fd: BorrowedFd<'_>) -> SysResult<Option<i32>> {
    let mut text = [0u8; 128];
    // SAFETY: `text` has room for as many bytes.
    let len = unsafe { libc::pread(fd.as_raw_fd(), text.as_mut_ptr().cast(), text.len(), 0) };
    let Ok(len) = usize::try_from(len) else { return Err(SysError::last("pread", object(fd))) };
    Ok(parse_notified(&String::from_utf8_lossy(text.get(..len).unwrap_or_default())))
}

/// `QSIZE:0 NOTIFY:0 SIGNO:0 NOTIFY_PID:0`, with spaces to fill up.
fn parse_notified(text: &str) -> Option<i32> {
    let (_, pid) = text.split_once("NOTIFY_PID:")?;
    pid.trim().parse().ok().filter(|pid| *pid != 0)
}

fn c_name(name: &[u8]) -> SysResult<CString> {
    CString::new([b"/", name].concat()).map_err(|_| SysError::new("mq_open", "a queue", Errno::EINVAL))
}

/// Opens the queue `name`, without the slash before it.
pub fn open(name: &[u8], flags: i32) -> SysResult<OwnedFd> {
    open_with(name, flags, 0, None)
}

/// Makes the queue `name`, open to send and receive without waiting.
pub fn create(name: &[u8], mode: u32, attributes: &Attributes) -> SysResult<OwnedFd> {
    let flags = libc::O_RDWR | libc::O_NONBLOCK | libc::O_CREAT | libc::O_EXCL;
    open_with(name, flags, mode, Some(attributes))
}

fn open_with(name: &[u8], flags: i32, mode: u32, attributes: Option<&Attributes>) -> SysResult<OwnedFd> {
    let path = c_name(name)?;
    // SAFETY: all zeros is a valid value.
    let mut wanted: libc::mq_attr = unsafe { std::mem::zeroed() };
    if let Some(attributes) = attributes {
        wanted.mq_maxmsg = i64::try_from(attributes.most_messages).unwrap_or(i64::MAX);
        wanted.mq_msgsize = i64::try_from(attributes.message_bytes).unwrap_or(i64::MAX);
    }
    let flags = flags | libc::O_CLOEXEC;
    // SAFETY: a C string, and attributes that are ours.
    let fd = unsafe { libc::mq_open(path.as_ptr(), flags, mode, &raw mut wanted) };
    if fd < 0 {
        return Err(SysError::last("mq_open", path.to_string_lossy().into_owned()));
    }
    // SAFETY: the kernel has just returned this descriptor to us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Takes the name of a queue away.
pub fn unlink(name: &[u8]) -> SysResult<()> {
    let path = c_name(name)?;
    // SAFETY: a C string.
    if unsafe { libc::mq_unlink(path.as_ptr()) } != 0 {
        return Err(SysError::last("mq_unlink", path.to_string_lossy().into_owned()));
    }
    Ok(())
}

/// Adds a message. EAGAIN: the queue is full.
pub fn send(fd: BorrowedFd<'_>, message: &Message) -> SysResult<()> {
    let (priority, data) = message;
    // SAFETY: `data` is valid for its length.
    let sent = unsafe { libc::mq_send(fd.as_raw_fd(), data.as_ptr().cast(), data.len(), *priority) };
    if sent == 0 { Ok(()) } else { Err(SysError::last("mq_send", object(fd))) }
}

/// Takes all messages out of a queue.
pub fn drain(fd: BorrowedFd<'_>) -> SysResult<()> {
    let mut room = vec![0u8; attributes(fd)?.message_bytes];
    loop {
        // SAFETY: `room` has as many bytes as a message of the queue may have.
        let taken = unsafe {
            libc::mq_receive(fd.as_raw_fd(), room.as_mut_ptr().cast(), room.len(), std::ptr::null_mut())
        };
        match Errno::result(taken) {
            Ok(_) => {}
            Err(Errno::EAGAIN) => return Ok(()),
            Err(errno) => return Err(SysError::new("mq_receive", object(fd), errno)),
        }
    }
}

/// The messages of a queue in the order in which they would be received. They are taken out for some microseconds and put back in that order. `fd` must be open
/// for both, and without waiting.
///
/// # Errors
/// ENOBUFS when somebody has filled the queue meanwhile for seconds: then those messages are lost.
pub fn look(fd: BorrowedFd<'_>) -> SysResult<Vec<Message>> {
    let Attributes { most_messages, message_bytes, messages } = attributes(fd)?;
    if messages == 0 {
        return Ok(Vec::new());
    }
    let mut room = vec![0u8; most_messages * message_bytes];
    let mut told = vec![(0usize, 0u32); most_messages];
    let mut stack = vec![0u8; KEEPER_STACK];
    let mut keeper = Keeper {
        fd: fd.as_raw_fd(),
        room: room.as_mut_ptr(),
        message_bytes,
        told: told.as_mut_ptr(),
        most_messages,
        taken: 0,
        put_back: 0,
    };
    let failed = |errno| SysError::new("sigprocmask", "this thread", errno);
    let mut before = SigSet::empty();
    sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::all()), Some(&mut before)).map_err(failed)?;
    let top = stack.as_mut_ptr_range().end.cast();
    // The child has our memory and we sleep until it has ended: nothing of it is copied.
    let flags = libc::CLONE_VM | libc::CLONE_VFORK;
    // SAFETY: the child runs on a stack of its own, uses nothing but system calls, and ends before we go on; what it is given outlives it.
    let child = unsafe { libc::clone(keep, top, flags, (&raw mut keeper).cast()) };
    let cloned = Errno::result(child).map_err(|errno| SysError::new("clone", object(fd), errno));
    if child > 0 {
        // SAFETY: it is our child, which has ended; no pointers.
        unsafe { libc::waitpid(child, std::ptr::null_mut(), libc::__WALL) };
    }
    sigprocmask(SigmaskHow::SIG_SETMASK, Some(&before), None).map_err(failed)?;
    cloned?;
    if keeper.put_back < keeper.taken {
        return Err(SysError::new("mq_send", object(fd), Errno::ENOBUFS));
    }
    let messages = told.iter().zip(room.chunks(message_bytes)).take(keeper.taken);
    Ok(messages.map(|((len, priority), data)| (*priority, data[..*len].to_vec())).collect())
}

/// What the keeper works with: all of it the parent's.
struct Keeper {
    fd: i32,
    room: *mut u8,
    message_bytes: usize,
    told: *mut (usize, u32),
    most_messages: usize,
    taken: usize,
    put_back: usize,
}

/// Takes all messages and puts them back.
extern "C" fn keep(keeper: *mut libc::c_void) -> libc::c_int {
    // SAFETY: the parent gave it to this process alone, and sleeps.
    let keeper = unsafe { &mut *keeper.cast::<Keeper>() };
    let none = std::ptr::null::<libc::timespec>();
    while keeper.taken < keeper.most_messages {
        let mut priority = 0u32;
        // SAFETY: there is room for as many messages, each of the queue's largest size.
        let len = unsafe {
            let data = keeper.room.add(keeper.taken * keeper.message_bytes);
            let size = keeper.message_bytes;
            libc::syscall(libc::SYS_mq_timedreceive, keeper.fd, data, size, &raw mut priority, none)
        };
        let Ok(len) = usize::try_from(len) else { break };
        // SAFETY: as above.
        unsafe { *keeper.told.add(keeper.taken) = (len, priority) };
        keeper.taken += 1;
    }
    let mut attempts = 0;
    while keeper.put_back < keeper.taken && attempts < ATTEMPTS {
        // SAFETY: as above; this message has been taken.
        let sent = unsafe {
            let (len, priority) = *keeper.told.add(keeper.put_back);
            let data = keeper.room.add(keeper.put_back * keeper.message_bytes);
            libc::syscall(libc::SYS_mq_timedsend, keeper.fd, data, len, priority, none)
        };
        if sent == 0 {
            keeper.put_back += 1;
            continue;
        }
        let pause = libc::timespec { tv_sec: 0, tv_nsec: 1_000_000 };
        // SAFETY: `pause` is ours.
        unsafe { libc::nanosleep(&raw const pause, std::ptr::null_mut()) };
        attempts += 1;
    }
    0
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    fn queue(name: &str, most_messages: usize) -> OwnedFd {
        let name = format!("ckpt-{name}-{}", std::process::id());
        let attributes = Attributes { most_messages, message_bytes: 32, messages: 0 };
        let made = create(name.as_bytes(), 0o600, &attributes).unwrap();
        unlink(name.as_bytes()).unwrap();
        made
    }

    #[test]
    fn messages_are_seen_and_stay_in_their_order() {
        let made = queue("look", 8);
        let fd = made.as_fd();
        assert!(is_queue(fd));
        assert_eq!(look(fd).unwrap(), []);
        let mut sent: Vec<Message> = [(1, "a"), (7, "b"), (7, ""), (0, "c"), (1, "d"), (31, "e"), (7, "f")]
            .map(|(priority, text)| (priority, text.as_bytes().to_vec()))
            .to_vec();
        sent.iter().for_each(|message| send(fd, message).unwrap());
        sent.sort_by_key(|(priority, _)| std::cmp::Reverse(*priority));
        let again = reopen(fd).unwrap();
        for _ in 0..3 {
            assert_eq!(look(again.as_fd()).unwrap(), sent);
        }
        assert_eq!(attributes(fd).unwrap().messages, sent.len());
        drain(fd).unwrap();
        assert_eq!(attributes(fd).unwrap().messages, 0);
    }

    #[test]
    fn a_full_queue_is_full_again() {
        let made = queue("full", 3);
        let messages: Vec<Message> = (0..3).map(|n| (n, vec![7; 32])).collect();
        messages.iter().for_each(|message| send(made.as_fd(), message).unwrap());
        assert_eq!(look(made.as_fd()).unwrap().len(), 3);
        assert_eq!(send(made.as_fd(), &messages[0]).unwrap_err().errno(), Some(Errno::EAGAIN));
    }

    #[test]
    fn who_waits_to_be_notified() {
        let text = "QSIZE:129     NOTIFY:0     SIGNO:12    NOTIFY_PID:8260  \n";
        assert_eq!(parse_notified(text), Some(8260));
        assert_eq!(parse_notified("QSIZE:0          NOTIFY:0     SIGNO:0     NOTIFY_PID:0     \n"), None);
        assert_eq!(notified(queue("notified", 1).as_fd()).unwrap(), None);
    }
}

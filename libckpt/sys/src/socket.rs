//! Sockets as bytes: options, names and messages in the kernel's own layout, whatever the family.
use crate::error::{SysError, SysResult};
use nix::errno::Errno;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// Bytes that hold every `sockaddr`.
const NAME_MAX: usize = size_of::<libc::sockaddr_storage>();
/// Descriptors that one message carries at most (SCM_MAX_FD).
pub const MESSAGE_FILES_MAX: usize = 253;
/// Room for SCM_MAX_FD descriptors, credentials and what else a message carries.
const CONTROL_MAX: usize = 4096;

fn object(fd: BorrowedFd<'_>) -> String {
    format!("socket {}", fd.as_raw_fd())
}

fn socklen(len: usize) -> libc::socklen_t {
    libc::socklen_t::try_from(len).unwrap_or(libc::socklen_t::MAX)
}

fn length(len: libc::socklen_t) -> usize {
    usize::try_from(len).unwrap_or(usize::MAX)
}

/// A new socket, close-on-exec.
pub fn new(domain: i32, kind: i32, protocol: i32) -> SysResult<OwnedFd> {
    // SAFETY: no pointers.
    let fd = unsafe { libc::socket(domain, kind | libc::SOCK_CLOEXEC, protocol) };
    if fd < 0 {
        return Err(SysError::last("socket", format!("family {domain}, type {kind}, protocol {protocol}")));
    }
    // SAFETY: the kernel has just returned this descriptor to us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// The value of an option, of at most `max` bytes; None when this kind of socket does not have it.
pub fn option(fd: BorrowedFd<'_>, level: i32, name: i32, max: usize) -> SysResult<Option<Vec<u8>>> {
    let mut value = vec![0_u8; max];
    let mut len = socklen(max);
    // SAFETY: `value` is valid for `len` bytes.
    let outcome =
        unsafe { libc::getsockopt(fd.as_raw_fd(), level, name, value.as_mut_ptr().cast(), &raw mut len) };
    if outcome == 0 {
        value.truncate(length(len));
        return Ok(Some(value));
    }
    match Errno::last() {
        Errno::ENOPROTOOPT | Errno::EOPNOTSUPP | Errno::EINVAL | Errno::EPERM | Errno::ENOTCONN => Ok(None),
        errno => Err(SysError::new("getsockopt", format!("{}, option {level}/{name}", object(fd)), errno)),
    }
}

/// The value of an option that is an int.
pub fn int_option(fd: BorrowedFd<'_>, level: i32, name: i32) -> SysResult<Option<i32>> {
    let bytes = option(fd, level, name, size_of::<i32>())?;
    Ok(bytes.and_then(|bytes| bytes.try_into().ok()).map(i32::from_ne_bytes))
}

/// Sets an option.
pub fn set_option(fd: BorrowedFd<'_>, level: i32, name: i32, value: &[u8]) -> SysResult<()> {
    // SAFETY: `value` is valid for its length.
    let outcome =
        unsafe { libc::setsockopt(fd.as_raw_fd(), level, name, value.as_ptr().cast(), socklen(value.len())) };
    if outcome == 0 {
        return Ok(());
    }
    Err(SysError::last("setsockopt", format!("{}, option {level}/{name}", object(fd))))
}

/// Sets an option that is an int.
pub fn set_int_option(fd: BorrowedFd<'_>, level: i32, name: i32, value: i32) -> SysResult<()> {
    set_option(fd, level, name, &value.to_ne_bytes())
}

type NameCall = unsafe extern "C" fn(libc::c_int, *mut libc::sockaddr, *mut libc::socklen_t) -> libc::c_int;

fn name(fd: BorrowedFd<'_>, call: NameCall) -> Result<Vec<u8>, Errno> {
    let mut name = vec![0_u8; NAME_MAX];
    let mut len = socklen(NAME_MAX);
    // SAFETY: `name` is valid for `len` bytes.
    if unsafe { call(fd.as_raw_fd(), name.as_mut_ptr().cast(), &raw mut len) } != 0 {
        return Err(Errno::last());
    }
    name.truncate(length(len));
    // The family alone: no name.
    Ok(if name.len() <= size_of::<libc::sa_family_t>() { Vec::new() } else { name })
}

/// The `sockaddr` that a socket is bound to; empty when it has no name.
pub fn local_name(fd: BorrowedFd<'_>) -> SysResult<Vec<u8>> {
    name(fd, libc::getsockname).map_err(|errno| SysError::new("getsockname", object(fd), errno))
}

/// The `sockaddr` of the other side, which may be empty; None when there is no other side.
pub fn peer_name(fd: BorrowedFd<'_>) -> SysResult<Option<Vec<u8>>> {
    match name(fd, libc::getpeername) {
        Ok(name) => Ok(Some(name)),
        Err(Errno::ENOTCONN | Errno::EINVAL) => Ok(None),
        Err(errno) => Err(SysError::new("getpeername", object(fd), errno)),
    }
}

/// Binds a socket to a `sockaddr`.
pub fn bind(fd: BorrowedFd<'_>, name: &[u8]) -> SysResult<()> {
    // SAFETY: `name` is valid for its length.
    let outcome = unsafe { libc::bind(fd.as_raw_fd(), name.as_ptr().cast(), socklen(name.len())) };
    if outcome == 0 { Ok(()) } else { Err(SysError::last("bind", object(fd))) }
}

/// Connects a socket to a `sockaddr`.
pub fn connect(fd: BorrowedFd<'_>, name: &[u8]) -> SysResult<()> {
    // SAFETY: `name` is valid for its length.
    let outcome = unsafe { libc::connect(fd.as_raw_fd(), name.as_ptr().cast(), socklen(name.len())) };
    if outcome == 0 { Ok(()) } else { Err(SysError::last("connect", object(fd))) }
}

/// Lets a socket listen.
pub fn listen(fd: BorrowedFd<'_>, backlog: u32) -> SysResult<()> {
    let backlog = i32::try_from(backlog).unwrap_or(i32::MAX);
    // SAFETY: no pointers.
    let outcome = unsafe { libc::listen(fd.as_raw_fd(), backlog) };
    if outcome == 0 { Ok(()) } else { Err(SysError::last("listen", object(fd))) }
}

/// Takes the next connection, close-on-exec.
pub fn accept(fd: BorrowedFd<'_>) -> SysResult<OwnedFd> {
    let (name, len) = (std::ptr::null_mut(), std::ptr::null_mut());
    // SAFETY: null pointers: no name is asked for.
    let outcome = unsafe { libc::accept4(fd.as_raw_fd(), name, len, libc::SOCK_CLOEXEC) };
    if outcome < 0 {
        return Err(SysError::last("accept", object(fd)));
    }
    // SAFETY: the kernel has just returned this descriptor to us.
    Ok(unsafe { OwnedFd::from_raw_fd(outcome) })
}

/// shutdown(2).
pub fn shutdown(fd: BorrowedFd<'_>, how: i32) -> SysResult<()> {
    // SAFETY: no pointers.
    let outcome = unsafe { libc::shutdown(fd.as_raw_fd(), how) };
    if outcome == 0 { Ok(()) } else { Err(SysError::last("shutdown", object(fd))) }
}

/// A message, or a run of bytes from a stream.
#[derive(Debug, Default)]
pub struct Message {
    /// Bytes.
    pub data: Vec<u8>,
    /// `sockaddr` of the sender; empty when it has none.
    pub from: Vec<u8>,
    /// Descriptors that came with it.
    pub files: Vec<OwnedFd>,
    /// SCM_CREDENTIALS: pid, uid, gid.
    pub creds: Option<(i32, u32, u32)>,
    /// Every other control message: level, type, bytes.
    pub control: Vec<(i32, i32, Vec<u8>)>,
    /// It is longer than the room that was given.
    pub truncated: bool,
}

/// The control buffer of a message, aligned as `cmsghdr` must be.
#[repr(align(8))]
struct Control([u8; CONTROL_MAX]);

/// Receives without waiting. `flags` are MSG_*; None when there is nothing to receive.
pub fn receive(fd: BorrowedFd<'_>, max: usize, flags: i32) -> SysResult<Option<Message>> {
    let mut message = Message { data: vec![0; max], from: vec![0; NAME_MAX], ..Message::default() };
    let mut control = Control([0; CONTROL_MAX]);
    let mut part = libc::iovec { iov_base: message.data.as_mut_ptr().cast(), iov_len: max };
    // SAFETY: all zeros is a valid msghdr.
    let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
    header.msg_name = message.from.as_mut_ptr().cast();
    header.msg_namelen = socklen(NAME_MAX);
    header.msg_iov = &raw mut part;
    header.msg_iovlen = 1;
    header.msg_control = control.0.as_mut_ptr().cast();
    header.msg_controllen = CONTROL_MAX;
    let flags = flags | libc::MSG_DONTWAIT | libc::MSG_CMSG_CLOEXEC;
    // SAFETY: every buffer of `header` is valid for its length.
    let outcome = unsafe { libc::recvmsg(fd.as_raw_fd(), &raw mut header, flags) };
    let Ok(len) = usize::try_from(outcome) else {
        return match Errno::last() {
            Errno::EAGAIN => Ok(None),
            errno => Err(SysError::new("recvmsg", object(fd), errno)),
        };
    };
    message.data.truncate(len.min(max));
    let name = length(header.msg_namelen);
    message.from.truncate(if name <= size_of::<libc::sa_family_t>() { 0 } else { name });
    message.truncated = header.msg_flags & libc::MSG_TRUNC != 0;
    read_control(&header, &mut message);
    Ok(Some(message))
}

fn read_control(header: &libc::msghdr, message: &mut Message) {
    // SAFETY: `header` holds the control buffer that the kernel has filled.
    let mut at = unsafe { libc::CMSG_FIRSTHDR(header) };
    while !at.is_null() {
        // SAFETY: `at` points to a whole control message in the buffer.
        let (kind, data, len) = unsafe {
            let head = &*at;
            let kind = (head.cmsg_level, head.cmsg_type);
            (kind, libc::CMSG_DATA(at), head.cmsg_len - length(libc::CMSG_LEN(0)))
        };
        // SAFETY: `data` is valid for the `len` bytes that the message says it has.
        let bytes = unsafe { std::slice::from_raw_parts(data, len) };
        let words: Vec<i32> =
            bytes.chunks_exact(4).filter_map(|word| word.try_into().ok()).map(i32::from_ne_bytes).collect();
        match (kind, words.as_slice()) {
            ((libc::SOL_SOCKET, libc::SCM_RIGHTS), fds) => {
                // SAFETY: the kernel has just installed these descriptors for us.
                message.files.extend(fds.iter().map(|fd| unsafe { OwnedFd::from_raw_fd(*fd) }));
            }
            ((libc::SOL_SOCKET, libc::SCM_CREDENTIALS), [pid, uid, gid]) => {
                message.creds = Some((*pid, uid.cast_unsigned(), gid.cast_unsigned()));
            }
            ((level, kind), _) => message.control.push((level, kind, bytes.to_vec())),
        }
        // SAFETY: as above.
        at = unsafe { libc::CMSG_NXTHDR(header, at) };
    }
}

/// What a message carries beside its bytes.
#[derive(Debug, Default)]
pub struct Attached<'a> {
    /// Where it goes; empty for the connected peer.
    pub to: &'a [u8],
    /// Descriptors, at most [`MESSAGE_FILES_MAX`].
    pub files: &'a [BorrowedFd<'a>],
    /// SCM_CREDENTIALS: pid, uid, gid.
    pub creds: Option<(i32, u32, u32)>,
}

/// Sends without waiting and without SIGPIPE; the number of bytes that were taken.
pub fn send(fd: BorrowedFd<'_>, data: &[u8], attached: &Attached<'_>) -> SysResult<usize> {
    let mut control = Control([0; CONTROL_MAX]);
    let mut used = 0;
    let mut put = |kind: i32, words: &[i32]| {
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
        // SAFETY: plain arithmetic.
        let (len, space) =
            unsafe { (libc::CMSG_LEN(socklen(bytes.len())), libc::CMSG_SPACE(socklen(bytes.len()))) };
        let head = libc::cmsghdr { cmsg_len: length(len), cmsg_level: libc::SOL_SOCKET, cmsg_type: kind };
        let at = &mut control.0[used..used + length(space)];
        // SAFETY: `at` has room for the header; a write through a byte pointer needs no alignment.
        unsafe { at.as_mut_ptr().cast::<libc::cmsghdr>().write_unaligned(head) };
        let start = length(len) - bytes.len();
        at[start..length(len)].copy_from_slice(&bytes);
        used += length(space);
    };
    if !attached.files.is_empty() {
        let fds: Vec<i32> = attached.files.iter().map(AsRawFd::as_raw_fd).collect();
        put(libc::SCM_RIGHTS, &fds);
    }
    if let Some((pid, uid, gid)) = attached.creds {
        put(libc::SCM_CREDENTIALS, &[pid, uid.cast_signed(), gid.cast_signed()]);
    }
    let mut part = libc::iovec { iov_base: data.as_ptr().cast_mut().cast(), iov_len: data.len() };
    // SAFETY: all zeros is a valid msghdr.
    let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
    if !attached.to.is_empty() {
        header.msg_name = attached.to.as_ptr().cast_mut().cast();
        header.msg_namelen = socklen(attached.to.len());
    }
    header.msg_iov = &raw mut part;
    header.msg_iovlen = 1;
    if used > 0 {
        header.msg_control = control.0.as_mut_ptr().cast();
        header.msg_controllen = used;
    }
    // SAFETY: every buffer of `header` is valid for its length; sendmsg only reads them.
    let outcome =
        unsafe { libc::sendmsg(fd.as_raw_fd(), &raw const header, libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL) };
    usize::try_from(outcome).map_err(|_| SysError::last("sendmsg", object(fd)))
}

/// The events of poll(2) that hold now, of any kind.
#[must_use]
pub fn ready(fd: BorrowedFd<'_>) -> i16 {
    let events = libc::POLLIN | libc::POLLOUT | libc::POLLRDHUP;
    let mut poll = libc::pollfd { fd: fd.as_raw_fd(), events, revents: 0 };
    // SAFETY: one valid pollfd, no wait.
    unsafe { libc::poll(&raw mut poll, 1, 0) };
    poll.revents
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixDatagram;

    #[test]
    fn a_message_with_a_descriptor_and_credentials_can_be_peeked_and_received() {
        let (a, b) = UnixDatagram::pair().unwrap();
        set_int_option(b.as_fd(), libc::SOL_SOCKET, libc::SO_PASSCRED, 1).unwrap();
        let pid = i32::try_from(std::process::id()).unwrap();
        let files = [a.as_fd()];
        // SAFETY: no pointers.
        let (uid, gid) = unsafe { (libc::getuid(), libc::getgid()) };
        let attached = Attached { files: &files, creds: Some((pid, uid, gid)), ..Attached::default() };
        assert_eq!(send(a.as_fd(), b"hello", &attached).unwrap(), 5);
        for flags in [libc::MSG_PEEK, 0] {
            let message = receive(b.as_fd(), 3, flags).unwrap().unwrap();
            assert_eq!((message.data.as_slice(), message.truncated), (b"hel".as_slice(), true));
            assert_eq!((message.files.len(), message.creds.unwrap().0), (1, pid));
        }
        assert!(receive(b.as_fd(), 3, 0).unwrap().is_none());
    }

    #[test]
    fn options_that_a_socket_lacks_are_none() {
        let socket = new(libc::AF_UNIX, libc::SOCK_STREAM, 0).unwrap();
        assert_eq!(int_option(socket.as_fd(), libc::IPPROTO_TCP, libc::TCP_NODELAY).unwrap(), None);
        assert_eq!(int_option(socket.as_fd(), libc::SOL_SOCKET, libc::SO_DOMAIN).unwrap(), Some(1));
        assert!(local_name(socket.as_fd()).unwrap().is_empty());
        assert!(peer_name(socket.as_fd()).unwrap().is_none());
    }
}

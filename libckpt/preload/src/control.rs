//! The daemon's control protocol, as far as it is needed here: one request, one reply. ckptd's `protocol` module says how
//! frames look.
use crate::buffer::Buffer;
use crate::endpoint::Path;
use crate::{Trouble, errno};
use core::ffi::c_int;
use core::mem::{size_of, zeroed};

/// How long the daemon may take, in seconds. Registration is a matter of milliseconds.
const PATIENCE: libc::time_t = 30;

/// A reply; longer ones are cut.
pub(crate) type Reply = Buffer<4096>;

/// A descriptor, closed when dropped.
pub(crate) struct Fd(pub(crate) c_int);

impl Drop for Fd {
    fn drop(&mut self) {
        // SAFETY: the descriptor is ours alone.
        unsafe { libc::close(self.0) };
    }
}

/// Connects to the socket `name` in `dir`. None when no daemon listens.
pub(crate) fn connect(dir: &Path, name: &Buffer<64>) -> Result<Option<Fd>, Trouble> {
    // SAFETY: all zero is a valid address.
    let mut address: libc::sockaddr_un = unsafe { zeroed() };
    address.sun_family = libc::sa_family_t::try_from(libc::AF_UNIX).unwrap_or(libc::sa_family_t::MAX);
    // Through a descriptor of the directory, so that its path may be longer than an address.
    // SAFETY: the path ends with a NUL.
    let dir = Fd(unsafe { libc::open(dir.c_str(), libc::O_PATH | libc::O_DIRECTORY | libc::O_CLOEXEC) });
    let Ok(number) = u64::try_from(dir.0) else {
        return if errno() == libc::ENOENT {
            Ok(None)
        } else {
            Err(Trouble::system("the runtime directory"))
        };
    };
    let mut path = Buffer::<108>::new();
    path.put(b"/proc/self/fd/");
    path.put_number(number);
    path.put(b"/");
    path.put(name.bytes());
    for (place, byte) in address.sun_path.iter_mut().zip(path.bytes()) {
        *place = byte.cast_signed();
    }
    // SAFETY: no pointers.
    let socket = Fd(unsafe { libc::socket(libc::AF_UNIX, libc::SOCK_STREAM | libc::SOCK_CLOEXEC, 0) });
    if socket.0 < 0 {
        return Err(Trouble::system("socket"));
    }
    let patience = libc::timeval { tv_sec: PATIENCE, tv_usec: 0 };
    for option in [libc::SO_RCVTIMEO, libc::SO_SNDTIMEO] {
        let length = length_of::<libc::timeval>();
        // SAFETY: the value lives through the call and is as long as it is said to be.
        unsafe { libc::setsockopt(socket.0, libc::SOL_SOCKET, option, (&raw const patience).cast(), length) };
    }
    let length = length_of::<libc::sockaddr_un>();
    // SAFETY: the address lives through the call and is as long as it is said to be.
    match unsafe { libc::connect(socket.0, (&raw const address).cast(), length) } {
        0 => Ok(Some(socket)),
        _ if matches!(errno(), libc::ENOENT | libc::ECONNREFUSED) => Ok(None),
        _ => Err(Trouble::system("cannot reach the daemon")),
    }
}

/// Sends a request, with a descriptor if there is one, and waits for the reply.
pub(crate) fn exchange(socket: &Fd, request: &[u8], fd: Option<&Fd>) -> Result<Reply, Trouble> {
    let mut header = [0; 8];
    header[..4].copy_from_slice(&u32::try_from(request.len()).unwrap_or(u32::MAX).to_le_bytes());
    header[4] = u8::from(fd.is_some());
    send(socket, &header)?;
    if let Some(fd) = fd {
        send_fd(socket, fd)?;
    }
    send(socket, request)?;
    receive(socket)
}

/// Whether the daemon did what it was asked; if not, what it said.
pub(crate) fn succeeded(reply: &Reply) -> Result<(), Trouble> {
    if field(reply.bytes(), b"\"ok\":").is_some_and(|rest| rest.starts_with(b"true")) {
        return Ok(());
    }
    let mut trouble = Trouble::plain("the daemon refused");
    let message = field(reply.bytes(), b"\"message\":\"").unwrap_or_default();
    let mut escaped = false;
    for byte in message {
        match byte {
            b'"' if !escaped => break,
            b'\\' if !escaped => {}
            _ => trouble.said.put(&[*byte]),
        }
        escaped = *byte == b'\\' && !escaped;
    }
    Err(trouble)
}

/// What follows `name` in a reply.
pub(crate) fn field<'a>(reply: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    let at = reply.windows(name.len()).position(|window| window == name)?;
    reply.get(at + name.len()..)
}

fn length_of<T>() -> libc::socklen_t {
    libc::socklen_t::try_from(size_of::<T>()).unwrap_or(libc::socklen_t::MAX)
}

fn send(socket: &Fd, mut bytes: &[u8]) -> Result<(), Trouble> {
    while !bytes.is_empty() {
        // SAFETY: the bytes live through the call.
        let sent = unsafe { libc::send(socket.0, bytes.as_ptr().cast(), bytes.len(), libc::MSG_NOSIGNAL) };
        match usize::try_from(sent) {
            Ok(sent) => bytes = bytes.get(sent..).unwrap_or_default(),
            // A daemon that refuses replies without reading: what it says tells more than the broken pipe.
            Err(_) if errno() == libc::EPIPE => return Ok(()),
            Err(_) if errno() == libc::EINTR => {}
            Err(_) => return Err(Trouble::system("cannot talk to the daemon")),
        }
    }
    Ok(())
}

fn send_fd(socket: &Fd, fd: &Fd) -> Result<(), Trouble> {
    #[repr(C)]
    struct Control {
        header: libc::cmsghdr,
        fd: c_int,
        padding: c_int,
    }
    let byte = b"f";
    let mut iov = libc::iovec { iov_base: byte.as_ptr().cast_mut().cast(), iov_len: 1 };
    // SAFETY: all zero is valid for these plain structs.
    let (mut control, mut message): (Control, libc::msghdr) = unsafe { (zeroed(), zeroed()) };
    control.header.cmsg_len = size_of::<libc::cmsghdr>() + size_of::<c_int>();
    control.header.cmsg_level = libc::SOL_SOCKET;
    control.header.cmsg_type = libc::SCM_RIGHTS;
    control.fd = fd.0;
    message.msg_iov = &raw mut iov;
    message.msg_iovlen = 1;
    message.msg_control = (&raw mut control).cast();
    message.msg_controllen = size_of::<Control>();
    loop {
        // SAFETY: all that the message points to lives through the call; CMSG_SPACE of one descriptor is the struct's size.
        match unsafe { libc::sendmsg(socket.0, &raw const message, libc::MSG_NOSIGNAL) } {
            -1 if errno() == libc::EINTR => {}
            -1 if errno() == libc::EPIPE => return Ok(()),
            -1 => return Err(Trouble::system("cannot hand the userfaultfd over")),
            _ => return Ok(()),
        }
    }
}

fn receive(socket: &Fd) -> Result<Reply, Trouble> {
    let mut header = [0; 8];
    receive_exactly(socket, &mut header)?;
    let mut length = u32::from_le_bytes([header[0], header[1], header[2], header[3]]) as usize;
    let mut reply = Reply::new();
    let mut piece = [0; 256];
    while length > 0 {
        let now = length.min(piece.len());
        receive_exactly(socket, &mut piece[..now])?;
        reply.put(&piece[..now]);
        length -= now;
    }
    Ok(reply)
}

fn receive_exactly(socket: &Fd, mut room: &mut [u8]) -> Result<(), Trouble> {
    while !room.is_empty() {
        // SAFETY: the room is ours and as long as it is said to be.
        let got = unsafe { libc::recv(socket.0, room.as_mut_ptr().cast(), room.len(), 0) };
        match usize::try_from(got) {
            Ok(0) => return Err(Trouble::plain("the daemon ended before it answered")),
            Ok(got) => room = room.get_mut(got..).unwrap_or_default(),
            Err(_) if errno() == libc::EINTR => {}
            Err(_) => return Err(Trouble::system("the daemon does not answer")),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(text: &[u8]) -> Reply {
        let mut reply = Reply::new();
        reply.put(text);
        reply
    }

    #[test]
    fn replies_are_understood() {
        assert!(
            succeeded(&reply(br#"{"version":1,"ok":true,"answer":{"is":"registered","job":"a"}}"#)).is_ok()
        );
        let refused =
            reply(br#"{"version":1,"ok":false,"error":{"code":1,"message":"a \"b\" \\ c","remedy":"d"}}"#);
        let trouble = succeeded(&refused).err();
        assert_eq!(trouble.map(|trouble| trouble.said.bytes().to_vec()), Some(br#"a "b" \ c"#.to_vec()));
        assert!(succeeded(&reply(b"")).is_err());
    }
}

//! Capture of this process's own descriptors.
use super::index::FileIndex;
use super::{Journal, collect, describe_all};
use crate::error::{CaptureError, CaptureResult};
use crate::objects::Objects;
use ckpt_image::record::{
    DatagramV1, FileKindV1, FileLockV1, LockClassV1, OpenFileV1, PipeEndV1, SocketStateV1, SocketV1,
};
use ckpt_sys::socket::{self, Attached};
use ckpt_sys::{descriptor, pidfd};
use nix::fcntl::OFlag;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags};
use nix::sys::eventfd::{EfdFlags, EventFd};
use std::fs::File;
use std::io::{Read, Seek, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};

fn capture(fds: &[BorrowedFd<'_>]) -> CaptureResult<(Vec<OpenFileV1>, Objects)> {
    let pid = std::process::id().cast_signed();
    let process = pidfd::open(pid).unwrap();
    let fds: Vec<i32> = fds.iter().map(AsRawFd::as_raw_fd).collect();
    let mut objects = Objects::default();
    let mut index = FileIndex::default();
    collect(pid, process.as_fd(), &fds, &mut index)?;
    describe_all(&mut index, &mut objects, &Journal::none())?;
    Ok((std::mem::take(&mut objects.open_files), objects))
}

fn files(fds: &[BorrowedFd<'_>]) -> Vec<OpenFileV1> {
    capture(fds).unwrap().0
}

fn sockets(fds: &[BorrowedFd<'_>]) -> Vec<SocketV1> {
    let sockets = files(fds).into_iter().filter_map(|file| match file.kind {
        FileKindV1::Socket(socket) => Some(*socket),
        _ => None,
    });
    sockets.collect()
}

fn message(data: &[u8]) -> DatagramV1 {
    DatagramV1 { data: data.to_vec(), from: Vec::new(), files: Vec::new(), creds: None }
}

fn unique(name: &str) -> std::path::PathBuf {
    std::env::temp_dir().join(format!("ckpt-capture-{name}-{}", std::process::id()))
}

#[test]
fn an_unlinked_file_keeps_position_lock_and_contents() {
    let path = unique("ghost");
    let mut file = File::options().read(true).write(true).create_new(true).open(&path).unwrap();
    file.write_all(b"gone but open").unwrap();
    file.set_len(1 << 30).unwrap();
    file.seek(std::io::SeekFrom::Start(5)).unwrap();
    file.lock().unwrap();
    std::fs::remove_file(&path).unwrap();
    let (files, objects) = capture(&[file.as_fd()]).unwrap();
    assert_eq!(files[0].position, 5);
    let lock = FileLockV1 { class: LockClassV1::Flock, exclusive: true, start: 0, len: 0, pid: 0 };
    assert_eq!(files[0].locks, [lock]);
    let FileKindV1::Path { path: saved, ghost: Some(_), .. } = &files[0].kind else { panic!("{files:?}") };
    assert_eq!(saved, path.as_os_str().as_encoded_bytes());
    assert_eq!(objects.ghosts[0].size, 1 << 30);
    assert!(objects.copied.iter().map(|pages| pages.bytes.len()).sum::<usize>() <= 1 << 20);
    assert!(objects.copied[0].bytes.starts_with(b"gone but open"));
    assert_eq!(file.stream_position().unwrap(), 5);
}

#[test]
fn a_pipe_keeps_its_contents_and_packets() {
    let (mut from, mut to) = std::io::pipe().unwrap();
    to.write_all(b"in the pipe").unwrap();
    let saved = files(&[from.as_fd(), to.as_fd()]);
    let FileKindV1::Pipe(PipeEndV1 { data, packets, capacity, .. }) = &saved[0].kind else { panic!() };
    assert_eq!((data.as_slice(), packets.len(), *capacity), (b"in the pipe".as_slice(), 0, 65536));
    let mut bytes = [0; 11];
    from.read_exact(&mut bytes).unwrap();
    assert_eq!(&bytes, b"in the pipe");

    let (packets_from, packets_to) = nix::unistd::pipe2(OFlag::O_DIRECT).unwrap();
    nix::unistd::write(&packets_to, b"one").unwrap();
    nix::unistd::write(&packets_to, b"three").unwrap();
    let saved = files(&[packets_from.as_fd(), packets_to.as_fd()]);
    let FileKindV1::Pipe(end) = &saved[0].kind else { panic!() };
    assert_eq!((end.data.as_slice(), end.packets.as_slice()), (b"onethree".as_slice(), [3, 5].as_slice()));
}

#[test]
fn a_pipe_to_the_outside_is_refused_by_its_number_and_a_widowed_one_is_not() {
    let (from, to) = std::io::pipe().unwrap();
    let error = capture(&[to.as_fd()]).unwrap_err();
    let CaptureError::Unsupported { object, .. } = error else { panic!("{error}") };
    assert!(object.starts_with(&format!("fd {} (pipe:[", to.as_raw_fd())));
    drop(from);
    assert!(matches!(files(&[to.as_fd()])[0].kind, FileKindV1::Pipe(_)));
}

#[test]
fn eventfd_and_epoll_with_a_target_that_moved() {
    let event = EventFd::from_value_and_flags(7, EfdFlags::EFD_SEMAPHORE).unwrap();
    let epoll = Epoll::new(EpollCreateFlags::empty()).unwrap();
    let moved = File::from(event.as_fd().try_clone_to_owned().unwrap());
    let old_number = moved.as_raw_fd();
    epoll.add(&moved, EpollEvent::new(EpollFlags::EPOLLIN, 99)).unwrap();
    // The number is closed, the description lives on.
    drop(moved);
    let epoll = epoll.0;
    let saved = files(&[event.as_fd(), epoll.as_fd()]);
    assert_eq!(saved[0].kind, FileKindV1::Eventfd { count: 7, semaphore: true });
    let FileKindV1::Epoll { targets } = &saved[1].kind else { panic!() };
    assert_eq!((targets[0].fd, targets[0].file, targets[0].data), (old_number, saved[0].id, 99));
}

#[test]
fn inotify_watches_are_found_by_their_handles() {
    let directory = unique("inotify");
    std::fs::create_dir(&directory).unwrap();
    let inotify = descriptor::new_inotify().unwrap();
    descriptor::add_watch(inotify.as_fd(), directory.as_os_str().as_bytes(), libc::IN_CREATE).unwrap();
    std::fs::write(directory.join("a"), b"").unwrap();
    let saved = files(&[inotify.as_fd()]);
    std::fs::remove_dir_all(&directory).unwrap();
    let FileKindV1::Inotify { watches, unread } = &saved[0].kind else { panic!() };
    assert_eq!((watches[0].wd, watches[0].path.as_slice()), (1, directory.as_os_str().as_encoded_bytes()));
    assert_eq!((watches[0].mask & 0xfff, *unread), (libc::IN_CREATE, 32));
}

#[test]
fn a_stream_pair_keeps_bytes_and_descriptors_under_way() {
    let (a, b) = UnixStream::pair().unwrap();
    let (flying, other) = UnixStream::pair().unwrap();
    socket::send(flying.as_fd(), b"deep", &Attached::default()).unwrap();
    socket::send(a.as_fd(), b"before", &Attached::default()).unwrap();
    let fds = [other.as_fd(), flying.as_fd()];
    socket::send(a.as_fd(), b"with", &Attached { files: &fds, ..Attached::default() }).unwrap();
    socket::send(a.as_fd(), b"after", &Attached::default()).unwrap();
    drop((flying, other));
    for _ in 0..2 {
        let saved = files(&[a.as_fd(), b.as_fd()]);
        let FileKindV1::Socket(socket) = &saved[1].kind else { panic!() };
        assert!(matches!(socket.state, SocketStateV1::Connected { .. }));
        let bytes: Vec<u8> = socket.queue.iter().flat_map(|message| message.data.clone()).collect();
        assert_eq!(bytes, b"beforewithafter");
        let under_way: Vec<_> = socket.queue.iter().flat_map(|message| message.files.clone()).collect();
        assert_eq!(under_way, [saved[2].id, saved[3].id]);
        let FileKindV1::Socket(inner) = &saved[2].kind else { panic!() };
        assert_eq!(inner.queue, [message(b"deep")]);
    }
    assert_eq!(socket::int_option(b.as_fd(), libc::SOL_SOCKET, libc::SO_PEEK_OFF).unwrap(), Some(-1));
}

#[test]
fn datagrams_keep_their_bounds() {
    let (a, b) = UnixDatagram::pair().unwrap();
    for text in ["one", "", "three"] {
        a.send(text.as_bytes()).unwrap();
    }
    let saved = sockets(&[a.as_fd(), b.as_fd()]);
    assert_eq!(saved[1].queue, [message(b"one"), message(b""), message(b"three")]);
    // The kernel hides the empty one from whoever asks again.
    assert!(matches!(capture(&[a.as_fd(), b.as_fd()]), Err(CaptureError::Unsupported { .. })));
    let (a, b) = UnixDatagram::pair().unwrap();
    a.send(b"one").unwrap();
    a.send(&[2; 10_000]).unwrap();
    for _ in 0..2 {
        assert_eq!(sockets(&[a.as_fd(), b.as_fd()])[1].queue, [message(b"one"), message(&[2; 10_000])]);
    }
}

#[test]
fn a_listener_with_a_waiting_connection_and_one_whose_peer_is_gone() {
    let path = unique("listener");
    let listener = UnixListener::bind(&path).unwrap();
    let waiting = UnixStream::connect(&path).unwrap();
    let (widow, gone) = UnixStream::pair().unwrap();
    drop(gone);
    let saved = sockets(&[listener.as_fd(), waiting.as_fd(), widow.as_fd()]);
    std::fs::remove_file(&path).unwrap();
    assert!(matches!(saved[0].state, SocketStateV1::Listening { backlog } if backlog > 0));
    assert_eq!(saved[0].bound_file.as_ref().unwrap().path, path.as_os_str().as_encoded_bytes());
    assert_eq!(saved[1].state, SocketStateV1::InBacklog { listener_inode: saved[0].inode });
    assert_eq!(saved[2].state, SocketStateV1::PeerClosed { reset: false });
}

#[test]
fn tcp_listens_or_is_lost_with_what_had_arrived() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (mut server, _) = listener.accept().unwrap();
    server.write_all(b"arrived").unwrap();
    while descriptor::readable_bytes(client.as_fd()).unwrap() < 7 {
        std::thread::yield_now();
    }
    let saved = sockets(&[listener.as_fd(), client.as_fd()]);
    assert_eq!(saved[0].state, SocketStateV1::Listening { backlog: 128 });
    assert!(!saved[0].local.is_empty());
    let SocketStateV1::Tcp(connection) = &saved[1].state else { panic!("{:?}", saved[1].state) };
    assert_eq!(connection.received, b"arrived");
    let unbound = socket::new(libc::AF_INET6, libc::SOCK_STREAM, 0).unwrap();
    let saved = sockets(&[unbound.as_fd()]);
    assert_eq!((&saved[0].state, saved[0].local.len()), (&SocketStateV1::Unconnected, 0));
}

#[test]
fn udp_keeps_its_names_and_options() {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.connect("127.0.0.1:9").unwrap();
    socket.set_broadcast(true).unwrap();
    let saved = sockets(&[socket.as_fd()]);
    assert!(matches!(&saved[0].state, SocketStateV1::ConnectedTo { address } if address[3] == 9));
    let on = (libc::SOL_SOCKET, libc::SO_BROADCAST, 1_i32.to_ne_bytes().to_vec());
    assert!(saved[0].options.contains(&on));
}

#[test]
fn what_cannot_be_saved_is_refused() {
    let vsock = socket::new(libc::AF_VSOCK, libc::SOCK_STREAM, 0).unwrap();
    let process = pidfd::open(std::process::id().cast_signed()).unwrap();
    for fd in [vsock.as_fd(), process.as_fd()] {
        assert!(matches!(capture(&[fd]), Err(CaptureError::Unsupported { .. })));
    }
}

//! The messages of a POSIX queue stay in it, in their order, whoever looks at them and is killed meanwhile.
use ckpt_sys::mqueue::{self, Attributes, Message};
use std::os::fd::AsFd;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Set for a process that the test starts, this program again: which queue to look at.
const NAME: &str = "CKPT_TEST_QUEUE";
const ROUNDS: u32 = 100;

/// What a process that the test starts does: it looks at a queue until it is killed.
fn look_for_ever(name: &str) -> ! {
    let queue = mqueue::open(name.as_bytes(), libc::O_RDWR | libc::O_NONBLOCK).unwrap();
    loop {
        mqueue::look(queue.as_fd()).unwrap();
    }
}

#[test]
fn nothing_is_lost_with_who_looks() {
    if let Ok(name) = std::env::var(NAME) {
        look_for_ever(&name);
    }
    let name = format!("ckpt-killed-{}-{:?}", std::process::id(), Instant::now())
        .replace([' ', '{', '}', ':', ','], "");
    let attributes = Attributes { most_messages: 10, message_bytes: 4096, messages: 0 };
    nix::sys::prctl::set_child_subreaper(true).unwrap();
    let queue = mqueue::create(name.as_bytes(), 0o600, &attributes).unwrap();
    let fd = queue.as_fd();
    let messages: Vec<Message> = (0..9u8).map(|n| (u32::from(9 - n / 3), vec![n; 4096])).collect();
    messages.iter().for_each(|message| mqueue::send(fd, message).unwrap());
    for round in 0..ROUNDS {
        let mut looker = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "nothing_is_lost_with_who_looks"])
            .env(NAME, &name)
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        // It has begun when messages are seen to be gone, or for some rounds at once.
        let deadline = Instant::now() + Duration::from_secs(20);
        while mqueue::attributes(fd).unwrap().messages == messages.len() && round % 4 != 0 {
            assert!(Instant::now() < deadline, "nobody looks");
        }
        looker.kill().unwrap();
        looker.wait().unwrap();
        // What had the messages is a process of its own, and now a child of ours.
        // SAFETY: no pointers.
        while unsafe { libc::waitpid(-1, std::ptr::null_mut(), libc::__WALL) } > 0 {}
        assert_eq!(mqueue::attributes(fd).unwrap().messages, messages.len(), "round {round}");
    }
    assert_eq!(mqueue::look(fd).unwrap(), messages);
    mqueue::unlink(name.as_bytes()).unwrap();
}

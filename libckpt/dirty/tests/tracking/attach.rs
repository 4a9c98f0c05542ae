//! Where userfaultfds come from and what they are good for.
use crate::common::{PAGE, PRIVATE, RW, Remote, Target, pages, with_target};
use ckpt_dirty::{Kind, Tracker, Tracking};
use ckpt_sys::inject::Injector;
use ckpt_sys::{pidfd, ptrace, uffd};
use std::io::Write;
use std::os::fd::AsFd;
use std::process::Command;

#[test]
fn a_descriptor_that_was_handed_over_serves() {
    with_target(|target, remote, _| {
        let pid = target.pid();
        let fd = remote.call(libc::SYS_userfaultfd, &[uffd::O_CLOEXEC | uffd::USER_MODE_ONLY]);
        let process = pidfd::open(pid).unwrap();
        let ours = pidfd::getfd(process.as_fd(), i32::try_from(fd).unwrap()).unwrap();
        remote.call(libc::SYS_close, &[fd]);
        let all = remote.mmap(8 * PAGE, RW, PRIVATE);
        remote.write(all.clone());
        let mut tracking = Tracking::from_fds(vec![(pid, ours)]);
        tracking.tracker(pid).begin().unwrap();
        assert!(tracking.tracker(pid).is_attached());
        tracking.tracker(pid).collect(all.clone(), Kind::Anonymous).unwrap();
        // Handed on, with its handshake made, it goes on where it was.
        let mut tracking = Tracking::from_fds(tracking.into_fds());
        tracking.tracker(pid).begin().unwrap();
        assert!(tracking.tracker(pid).is_attached());
        remote.write(pages(&all, 1, 2));
        assert_eq!(
            tracking.tracker(pid).collect(all.clone(), Kind::Anonymous).unwrap().dirty,
            [pages(&all, 1, 2)]
        );
    });
}

#[test]
fn losing_the_descriptor_makes_all_dirty() {
    with_target(|target, remote, tracker| {
        let all = remote.mmap(8 * PAGE, RW, PRIVATE);
        remote.write(pages(&all, 0, 4));
        tracker.collect(all.clone(), Kind::Anonymous).unwrap();
        *tracker = Tracker::new(target.pid());
        tracker.begin().unwrap();
        let now = tracker.collect(all.clone(), Kind::Anonymous).unwrap();
        assert_eq!(now.dirty, [pages(&all, 0, 4)], "untracked");
        tracker.attach(&mut remote.0).unwrap();
        assert_eq!(tracker.collect(all.clone(), Kind::Anonymous).unwrap().dirty, [pages(&all, 0, 4)]);
        assert!(tracker.collect(all, Kind::Anonymous).unwrap().dirty.is_empty());
    });
}

#[test]
fn a_reset_makes_all_dirty_whoever_holds_the_descriptor() {
    with_target(|target, remote, tracker| {
        let all = remote.mmap(8 * PAGE, RW, PRIVATE);
        remote.write(pages(&all, 0, 4));
        tracker.collect(all.clone(), Kind::Anonymous).unwrap();
        let fd = std::mem::replace(tracker, Tracker::new(target.pid())).into_fd().unwrap();
        let held = fd.try_clone().unwrap();
        *tracker = Tracker::with_fd(target.pid(), fd);
        tracker.begin().unwrap();
        tracker.reset().unwrap();
        assert!(tracker.is_attached());
        assert_eq!(tracker.collect_running(all.clone(), Kind::Anonymous), [pages(&all, 0, 4)]);
        assert!(tracker.collect(all.clone(), Kind::Anonymous).unwrap().dirty.is_empty());
        drop(held);
    });
}

#[test]
fn a_descriptor_left_behind_is_found_and_closed() {
    with_target(|target, remote, _| {
        let before = target.fds();
        let flags = uffd::O_CLOEXEC | uffd::USER_MODE_ONLY;
        let left = i32::try_from(remote.call(libc::SYS_userfaultfd, &[flags])).unwrap();
        let programs = i32::try_from(remote.call(libc::SYS_userfaultfd, &[flags])).unwrap();
        let process = pidfd::open(target.pid()).unwrap();
        uffd::enable_wp_async(pidfd::getfd(process.as_fd(), programs).unwrap().as_fd()).unwrap();
        assert_eq!(ckpt_dirty::leftovers(target.pid()).unwrap(), [left]);
        ckpt_dirty::close_leftovers(&mut remote.0, &[left]).unwrap();
        assert_eq!(target.fds(), before + 1, "the program's own stays");
    });
}

#[test]
fn a_mapping_that_the_program_registered_is_foreign() {
    with_target(|target, remote, tracker| {
        let mut other = Tracker::new(target.pid());
        other.attach(&mut remote.0).unwrap();
        let all = remote.mmap(8 * PAGE, RW, PRIVATE);
        assert!(!tracker.is_foreign(all.clone()));
        let all = remote.mmap(PAGE << 12, RW, PRIVATE);
        assert!(other.start(all.clone(), Kind::Anonymous).unwrap());
        assert!(tracker.is_foreign(all));
    });
}

#[test]
fn an_exec_is_noticed() {
    let mut target = Target::spawn(Command::new("sh").args(["-c", "read line; exec sleep 1000"]));
    target.wait_in("sh", libc::SYS_read);
    let pid = target.pid();
    let memory = target.stop();
    let mut tracker = Tracker::new(pid);
    let mut remote = Remote(Injector::new(pid, pid, &memory).unwrap());
    tracker.begin().unwrap();
    tracker.attach(&mut remote.0).unwrap();
    remote.0.finish().unwrap();
    ptrace::detach(pid, 0).unwrap();
    target.0.stdin.take().unwrap().write_all(b"\n").unwrap();
    target.wait_in("sleep", libc::SYS_clock_nanosleep);
    let memory = target.stop();
    let mut remote = Remote(Injector::new(pid, pid, &memory).unwrap());
    tracker.begin().unwrap();
    assert!(!tracker.is_attached(), "the userfaultfd is of an address space that is gone");
    tracker.attach(&mut remote.0).unwrap();
    let all = remote.mmap(8 * PAGE, RW, PRIVATE);
    remote.write(pages(&all, 0, 2));
    assert_eq!(tracker.collect(all.clone(), Kind::Anonymous).unwrap().dirty, [pages(&all, 0, 2)]);
    assert!(tracker.collect(all, Kind::Anonymous).unwrap().dirty.is_empty());
    tracker.begin().unwrap();
    assert!(tracker.is_attached());
    remote.0.finish().unwrap();
}

//! Descriptors that stand for events.
use ckpt_tests::capability::survives;

#[test]
fn eventfds() {
    survives("eventfd");
}

#[test]
fn epoll_sets() {
    survives("epoll");
}

#[test]
fn timerfds() {
    survives("timerfd");
}

#[test]
fn signalfds() {
    survives("signalfd");
}

#[test]
fn inotify_watches_and_events() {
    survives("inotify");
}

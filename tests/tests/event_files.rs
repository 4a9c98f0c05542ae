//! Descriptors that stand for events.
ckpt_tests::survives! {
    fn eventfds => "eventfd";
    fn epoll_sets => "epoll";
    fn timerfds => "timerfd";
    fn signalfds => "signalfd";
    fn pidfds => "pidfd";
    fn inotify_watches_and_events => "inotify";
    fn fanotify_marks => "fanotify";
}

//! Timers.
ckpt_tests::survives! {
    fn interval_and_posix_timers => "timers";
}

//! Timers.
use ckpt_tests::capability::survives;

#[test]
fn interval_and_posix_timers() {
    survives("timers");
}

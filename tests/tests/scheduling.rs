//! Scheduling of each thread.
use ckpt_tests::capability::survives;

#[test]
fn policy_nice_and_affinity_of_each_thread() {
    survives("scheduling");
}

#[test]
fn real_time_policy() {
    survives("realtime");
}

//! Sleeping system calls.
use ckpt_tests::capability::capability;
use ckpt_tests::isolated;

#[test]
fn every_call_with_a_time_out_sleeps_on() {
    isolated(|sandbox| {
        // The sleepers wake and end in their own time, also while they are looked at.
        capability("sleeps").may_differ(&["thread ", "status Threads", "stat num_threads"]).run(sandbox);
    });
}

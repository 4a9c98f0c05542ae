//! Sleeping system calls.
use ckpt_tests::capability::survives;

#[test]
fn every_call_with_a_time_out_sleeps_on() {
    survives("sleeps");
}

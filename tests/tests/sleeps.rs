//! Sleeping system calls.
ckpt_tests::survives! {
    fn every_call_with_a_time_out_sleeps_on => "sleeps";
}

//! System calls that wait without a time-out.
ckpt_tests::survives! {
    fn every_call_waits_on => "blocking";
}

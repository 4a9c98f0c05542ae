//! System calls that wait without a time-out.
use ckpt_tests::capability::survives;

#[test]
fn every_call_waits_on() {
    survives("blocking");
}

//! Signals that wait.
use ckpt_tests::capability::survives;

#[test]
fn blocked_and_queued_signals() {
    survives("pending_signals");
}

//! Signals that wait.
ckpt_tests::survives! {
    fn blocked_and_queued_signals => "pending_signals";
}

//! What the kernel keeps for each thread in the thread's own memory.
use ckpt_tests::capability::survives;

#[test]
fn robust_list_rseq_and_clear_child_tid() {
    survives("thread_lists");
}

//! What the kernel keeps for each thread in the thread's own memory.
ckpt_tests::survives! {
    fn robust_list_rseq_and_clear_child_tid => "thread_lists";
}

//! Filters of system calls.
ckpt_tests::survives! {
    fn strict_mode_and_filters => "seccomp";
}

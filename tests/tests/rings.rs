//! Rings that a program shares with the kernel.
ckpt_tests::survives! {
    fn asynchronous_io_contexts => "aio";
}

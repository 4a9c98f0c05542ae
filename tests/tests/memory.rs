//! Memory keeps its contents.
ckpt_tests::survives! {
    fn heap_stack_and_anonymous_memory => "memory";
}

//! Memory keeps its contents.
use ckpt_tests::capability::survives;

#[test]
fn heap_stack_and_anonymous_memory() {
    survives("memory");
}

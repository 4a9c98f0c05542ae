//! Shared memory and memfds.
use ckpt_tests::capability::survives;

#[test]
fn anonymous_shared_memory() {
    survives("shared_memory");
}

#[test]
fn memfds() {
    survives("memfd");
}

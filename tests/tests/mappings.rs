//! Mappings.
use ckpt_tests::capability::survives;

#[test]
fn every_ordinary_kind() {
    survives("mappings");
}

#[test]
fn stacks_that_grow() {
    survives("grows_down");
}

//! The extended processor state.
use ckpt_tests::capability::survives;

#[test]
fn vector_registers() {
    survives("xstate");
}

#[test]
fn amx_tiles() {
    survives("amx");
}

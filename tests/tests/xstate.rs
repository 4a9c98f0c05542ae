//! The extended processor state.
ckpt_tests::survives! {
    fn vector_registers => "xstate";
    fn amx_tiles => "amx";
}

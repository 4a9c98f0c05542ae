//! Thread-local storage.
ckpt_tests::survives! {
    fn fs_and_gs_base => "tls";
}

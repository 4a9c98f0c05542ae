//! Thread-local storage.
use ckpt_tests::capability::survives;

#[test]
fn fs_and_gs_base() {
    survives("tls");
}

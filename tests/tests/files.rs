//! Open files.
use ckpt_tests::capability::survives;

#[test]
fn positions_flags_and_sharing() {
    survives("files");
}

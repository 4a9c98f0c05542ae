//! Files without a name.
use ckpt_tests::capability::survives;

#[test]
fn open_deleted_files() {
    survives("deleted_files");
}

#[test]
fn mapped_deleted_files() {
    survives("deleted_mapping");
}

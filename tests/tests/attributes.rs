//! What a process has besides memory and files.
use ckpt_tests::capability::survives;

#[test]
fn directories_limits_and_settings() {
    survives("attributes");
}

#[test]
fn a_root_directory_other_than_slash() {
    survives("root_directory");
}

#[test]
fn not_dumpable() {
    survives("not_dumpable");
}

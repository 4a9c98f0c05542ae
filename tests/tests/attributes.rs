//! What a process has besides memory and files.
ckpt_tests::survives! {
    fn directories_limits_and_settings => "attributes";
    fn a_root_directory_other_than_slash => "root_directory";
    fn not_dumpable => "not_dumpable";
    fn what_prctl_sets => "controls";
}

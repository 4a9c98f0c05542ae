//! Open files.
ckpt_tests::survives! {
    fn positions_flags_and_sharing => "files";
    fn locks_on_files => "locks";
    fn leases => "leases";
}

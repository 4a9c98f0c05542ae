//! Files without a name.
ckpt_tests::survives! {
    fn open_deleted_files => "deleted_files";
    fn mapped_deleted_files => "deleted_mapping";
}

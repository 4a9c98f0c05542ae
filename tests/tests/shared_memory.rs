//! Shared memory and memfds.
ckpt_tests::survives! {
    fn anonymous_shared_memory => "shared_memory";
    fn memfds => "memfd";
    fn system_v_segments => "segments";
}

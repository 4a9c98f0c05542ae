//! System V semaphores.
ckpt_tests::survives! {
    fn system_v_semaphores => "semaphores";
}

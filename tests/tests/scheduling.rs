//! Scheduling of each thread.
ckpt_tests::survives! {
    fn policy_nice_and_affinity_of_each_thread => "scheduling";
    fn real_time_policy => "realtime";
}

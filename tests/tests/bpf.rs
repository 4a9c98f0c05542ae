//! What a program has loaded into the kernel.
ckpt_tests::survives! {
    fn bpf_maps => "bpf_maps";
}

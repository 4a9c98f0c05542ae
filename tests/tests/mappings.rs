//! Mappings.
ckpt_tests::survives! {
    fn every_ordinary_kind => "mappings";
    fn stacks_that_grow => "grows_down";
    fn protection_keys => "protection_keys";
}

//! Credentials.
ckpt_tests::survives! {
    fn ids_capabilities_and_securebits => "credentials";
}

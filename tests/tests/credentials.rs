//! Credentials.
use ckpt_tests::capability::survives;

#[test]
fn ids_capabilities_and_securebits() {
    survives("credentials");
}

//! Harness of the integration tests.
//!
//! A test is an ordinary `#[test]` whose body runs within [`isolated`]: a PID, mount and network namespace of its own, with a
//! store, a daemon and a runtime directory of its own. It starts **subjects** (small programs that set a kernel object
//! up, wait, and check it from inside), looks at them from **outside** ([`outside::View`]), and drives the `ckpt`
//! command as a user does. No test includes a crate of the engine: the command line is what is tested.
pub mod adding;
pub mod capability;
pub mod ckpt;
mod isolate;
pub mod mounts;
pub mod ordinary_user;
pub mod outside;
pub mod process;
pub mod pty;
pub mod real;
pub mod real_end;
pub mod sandbox;
pub mod shell;
pub mod subject;
pub mod tree;
pub mod wait;

pub use isolate::{isolated, on_host, target_dir};
pub use sandbox::Sandbox;

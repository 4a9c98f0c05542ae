//! What differs between architectures: registers, how a system call is made, the code of the scratch page.
//!
//! Another architecture brings a module with the same items and a line here.
#[cfg(target_arch = "x86_64")]
mod x86_64;
#[cfg(target_arch = "x86_64")]
pub use x86_64::*;

#[cfg(not(target_arch = "x86_64"))]
compile_error!("ckpt knows x86-64 only: add libckpt/sys/src/arch/<architecture>.rs");

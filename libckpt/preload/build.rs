//! Links the stack unwinder, which Rust's standard library refers to, into `libckpt.so` itself: no program gets a
//! library mapped that it did not ask for.
use std::path::Path;
use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    // Where that cannot be found, libgcc_s.so.1 is loaded beside libckpt.so, which does no harm either.
    let Ok(found) = Command::new("cc").arg("-print-file-name=libgcc_eh.a").output() else { return };
    let path = String::from_utf8_lossy(&found.stdout);
    let path = Path::new(path.trim());
    if let Some(dir) = path.parent().filter(|_| path.is_absolute() && path.exists()) {
        println!("cargo::rustc-link-search=native={}", dir.display());
        println!("cargo::rustc-link-lib=static:+whole-archive=gcc_eh");
    }
}

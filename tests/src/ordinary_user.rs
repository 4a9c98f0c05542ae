//! Tests as a user without privilege.
use crate::{Sandbox, target_dir};
use nix::mount::{MsFlags, mount};
use nix::unistd::{Gid, Uid, chown, setgroups, setresgid, setresuid};
use std::path::PathBuf;
use std::sync::OnceLock;

/// nobody.
const ID: u32 = 65_534;
static PROGRAMS: OnceLock<PathBuf> = OnceLock::new();

/// Where the programs under test are, for a user who may not go where cargo puts them.
pub(crate) fn programs() -> Option<&'static PathBuf> {
    PROGRAMS.get()
}

/// From here on, the test is an ordinary user, to whom the sandbox belongs.
///
/// # Panics
/// When the test was not started by root.
pub fn become_ordinary_user(sandbox: &Sandbox) {
    let (uid, gid) = (Uid::from_raw(ID), Gid::from_raw(ID));
    let programs = sandbox.dir().join("programs");
    std::fs::create_dir(&programs).expect("directory");
    let none: Option<&str> = None;
    mount(Some(&target_dir()), &programs, none, MsFlags::MS_BIND, none).expect("mount");
    for path in [sandbox.dir(), &sandbox.store(), &sandbox.runtime()] {
        chown(path, Some(uid), Some(gid)).expect("chown");
    }
    PROGRAMS.set(programs).expect("once");
    setgroups(&[gid]).expect("setgroups");
    setresgid(gid, gid, gid).expect("setresgid");
    setresuid(uid, uid, uid).expect("setresuid");
    // As after an exec.
    nix::sys::prctl::set_dumpable(true).expect("prctl");
}

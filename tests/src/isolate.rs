use crate::Sandbox;
use std::path::PathBuf;
use std::process::Command;

/// Set in the environment of the process that runs a test's body.
const INSIDE: &str = "CKPT_TEST_INSIDE";
/// What that process ends with when the body has come to its end: no test of that name would be a success, too.
const CAME_TO_ITS_END: i32 = 42;

/// Runs a test's body in a PID, mount and network namespace of its own: the test program is started again under `ns-init`
/// with this test alone, and passes if that one does.
///
/// # Panics
/// When the body fails, or when the programs under test have not been built.
pub fn isolated<F: FnOnce(&Sandbox)>(body: F) {
    within(body, &[]);
}

/// Runs a test's body as [`isolated`] does, but among the machine's own processes.
///
/// # Panics
/// When the body fails, or when the programs under test have not been built.
pub fn on_host<F: FnOnce(&Sandbox)>(body: F) {
    within(body, &["--on-host"]);
}

fn within<F: FnOnce(&Sandbox)>(body: F, options: &[&str]) {
    if std::env::var_os(INSIDE).is_some() {
        body(&Sandbox::new());
        std::process::exit(CAME_TO_ITS_END);
    }
    // A closure's type is named after the function that it stands in: crate::module::test::{{closure}}.
    let path = std::any::type_name::<F>();
    let test = path.trim_end_matches("::{{closure}}").split_once("::").map_or(path, |(_, test)| test);
    let ns_init = target_dir().join("ns-init");
    let mut command = if nix::unistd::geteuid().is_root() {
        Command::new(ns_init)
    } else {
        let mut sudo = Command::new("sudo");
        sudo.args(["--non-interactive", "--preserve-env"]).arg(ns_init);
        sudo
    };
    let status = command
        .args(options)
        .arg(std::env::current_exe().expect("own path"))
        .args(["--exact", test, "--nocapture", "--include-ignored", "--test-threads=1"])
        .env(INSIDE, "1")
        .status()
        .expect("start ns-init");
    assert!(
        status.code() == Some(CAME_TO_ITS_END),
        "{test}: {status} inside the namespace; its output is above (`isolated` is called by the test itself, with a closure)"
    );
}

/// Where cargo puts the programs under test: `target/debug` or `target/release`.
///
/// # Panics
/// When the test program is not where cargo puts it.
#[must_use]
pub fn target_dir() -> PathBuf {
    if let Some(programs) = crate::ordinary_user::programs() {
        return programs.clone();
    }
    let own = std::env::current_exe().expect("own path");
    let deps = own.parent().expect("a directory");
    if deps.ends_with("deps") { deps.parent().expect("target/PROFILE").to_owned() } else { deps.to_owned() }
}

//! Overlays of mount namespaces: what would not be the same after a restore, or would break another, is refused.
use ckpt_tests::process::Process;
use ckpt_tests::shell::run;
use ckpt_tests::wait::until;
use ckpt_tests::{Sandbox, isolated};
use std::process::{Command, Stdio};

/// A process that sleeps in a mount namespace of its own, where `prepare` has been run in directory `place`, a tmpfs that is outside, too.
fn sleeper(sandbox: &Sandbox, prepare: &str) -> Process {
    let place = sandbox.dir().join("place");
    run(&format!(
        "mkdir {0} && mount -t tmpfs none {0} && cd {0} && mkdir a l u w m && : > a/of-a && : > l/of-l",
        place.display()
    ));
    let script =
        format!("cd {}; {prepare}; cd /; : > {}/ready; exec sleep 100000", place.display(), place.display());
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-ec", &script]);
    let process = Process::start(command.stdout(Stdio::null()).stderr(Stdio::null()));
    until("it sleeps", || place.join("ready").exists().then_some(()));
    process
}

#[test]
fn a_layer_that_was_another_directory_is_refused() {
    isolated(|sandbox| {
        let job = sleeper(sandbox, "mount --bind a l; mount -t overlay none -o lowerdir=$PWD/l:$PWD/w m");
        sandbox.attach(job.pid(), "job");
        sandbox.ckpt(["save", "job"]).refused(1, &["place/l", "another"]);
    });
}

#[test]
fn an_overlay_over_its_own_layer() {
    isolated(|sandbox| {
        let mut job = sleeper(
            sandbox,
            "mount -t overlay none -o lowerdir=$PWD/l,upperdir=$PWD/u,workdir=$PWD/w $PWD/l",
        );
        let mount = format!("{}/place/l", sandbox.dir().display());
        let see = |pid: i32| run(&format!("ls /proc/{pid}/root{mount}"));
        sandbox.attach(job.pid(), "job");
        let id = sandbox.save("job");
        run(&format!("echo more > /proc/{}/root{mount}/more", job.pid()));
        // Two would have the same directory to write to.
        let upper = format!("{}/place/u", sandbox.dir().display());
        let pid = format!("process {}", job.pid());
        sandbox.ckpt(["restore", &id, "--detach", "--pid", "new"]).refused(1, &[&upper, &pid, "--stop"]);
        run(&format!("echo last > /proc/{}/root{mount}/last", job.pid()));
        job.kill();
        let restored = sandbox.restore(&id);
        assert_eq!(see(restored.pid()), "last\nmore\nof-l\n");
        restored.kill();
    });
}

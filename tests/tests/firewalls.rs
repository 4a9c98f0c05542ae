//! Firewalls of network namespaces: who lists and loads them, and what of them is refused.
use ckpt_tests::process::Process;
use ckpt_tests::shell::in_network_of;
use ckpt_tests::wait::until;
use ckpt_tests::{Sandbox, isolated};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};

/// A process that sleeps in a network and a mount namespace of its own, where `prepare` has been run by a shell.
fn sleeper(sandbox: &Sandbox, prepare: &str) -> Process {
    let ready = sandbox.dir().join("ready");
    let script = format!("{prepare}; : > {}; exec sleep 100000", ready.display());
    let mut command = Command::new("unshare");
    command.args(["--mount", "--net", "sh", "-ec", &script]);
    command.current_dir("/").stdout(Stdio::null()).stderr(Stdio::null());
    let process = Process::start(&mut command);
    until("it sleeps", || ready.exists().then_some(()));
    process
}

#[test]
fn the_program_of_the_machine_is_run_not_the_one_of_the_job() {
    isolated(|sandbox| {
        let (fake, ran) = (sandbox.dir().join("nft"), sandbox.dir().join("ran"));
        fs::write(&fake, format!("#!/bin/sh\necho \"$@\" >> {}\n", ran.display())).expect("a script");
        fs::set_permissions(&fake, fs::Permissions::from_mode(0o755)).expect("permissions");
        let mut job = sleeper(
            sandbox,
            &format!("nft add table inet walls; mount --bind {} \"$(command -v nft)\"", fake.display()),
        );
        sandbox.attach(job.pid(), "walled");
        let id = sandbox.save("walled");
        job.kill();
        let restored = sandbox.restore(&id);
        assert!(in_network_of(restored.pid(), "nft list tables").contains("table inet walls"));
        assert!(!ran.exists(), "the job's program ran: {}", fs::read_to_string(&ran).unwrap_or_default());
    });
}

#[test]
fn rules_that_would_be_lost_are_refused() {
    isolated(|sandbox| {
        let job = sleeper(sandbox, "true");
        sandbox.attach(job.pid(), "walled");
        let given = |command: &str| {
            let ran = Command::new("nsenter")
                .args(["--net", "--target", &job.pid().to_string(), "sh", "-c", command])
                .output()
                .expect("nsenter");
            if !ran.status.success() {
                println!("not exercised: {command}: {}", String::from_utf8_lossy(&ran.stderr));
            }
            ran.status.success()
        };
        // That the tables are there means nothing.
        given("iptables-legacy -L; ip6tables-legacy -L; arptables-legacy -L");
        sandbox.save("walled");
        for (rule, words, undo) in [
            ("iptables-legacy -P INPUT DROP", "iptables table filter", "iptables-legacy -P INPUT ACCEPT"),
            ("iptables-legacy -A INPUT -j DROP", "iptables table filter", "iptables-legacy -F"),
            ("iptables-legacy -N own", "iptables table filter", "iptables-legacy -X"),
            ("ip6tables-legacy -P INPUT DROP", "ip6tables table filter", "ip6tables-legacy -P INPUT ACCEPT"),
            (
                "iptables-nft -A INPUT -m string --string foo --algo bm -j DROP",
                "xt match",
                "nft flush ruleset",
            ),
            ("ip xfrm policy add dir out src 10.9.0.0/16 dst 10.8.0.0/16", "IPsec", "ip xfrm policy flush"),
        ] {
            if given(rule) {
                sandbox.ckpt(["save", "walled"]).refused(1, &[words]);
                assert!(given(undo), "{undo}");
            }
        }
        sandbox.save("walled");
    });
}

//! TUN and TAP interfaces.
use ckpt_tests::shell::{in_network_of, run};
use ckpt_tests::subject::Subject;
use ckpt_tests::wait::until;
use ckpt_tests::{Sandbox, isolated};

/// What is to be the same.
const VIEWS: [&str; 3] =
    ["ip -d -o link show | grep ck-", "ip -o addr show scope global", "ip route show table all proto boot"];

fn views(pid: i32) -> Vec<String> {
    // An interface that has not been without its carrier tells no state.
    VIEWS.iter().map(|view| in_network_of(pid, view).replace("state UNKNOWN", "state UP")).collect()
}

/// Saves the subject twice, and restores both.
fn survives(sandbox: &Sandbox, args: &[&str]) {
    let mut subject = Subject::start(sandbox, "tun", args);
    let before = views(subject.pid());
    sandbox.ckpt(["check", &subject.pid().to_string()]).done();
    sandbox.attach(subject.pid(), "tun");
    let first = sandbox.save("tun");
    let second = sandbox.save("tun");
    assert_eq!(views(subject.pid()), before);
    subject.process.kill();
    for id in [first, second] {
        until("the interface goes", || (!run("ip -o link show").contains("ck-tap")).then_some(()));
        let restored = sandbox.restore(&id);
        until("interfaces are as they were", || (views(restored.pid()) == before).then_some(()));
        sandbox.save("tun");
        subject.must_be_well("restored");
        restored.wait_gone();
        subject.reset();
    }
}

#[test]
fn in_the_network_namespace_of_ckpt() {
    isolated(|sandbox| survives(sandbox, &[]));
}

#[test]
fn in_a_network_namespace_of_the_job() {
    isolated(|sandbox| survives(sandbox, &["own"]));
}

#[test]
fn a_name_that_another_has() {
    isolated(|sandbox| {
        let mut subject = Subject::start(sandbox, "tun", &[]);
        sandbox.attach(subject.pid(), "tun");
        let id = sandbox.save("tun");
        subject.process.kill();
        until("the interface goes", || (!run("ip -o link show").contains("ck-tap")).then_some(()));
        run("ip link add ck-tap type bridge");
        sandbox.ckpt(["restore", &id, "--detach"]).refused(1, &["interface ck-tap", "ip link del ck-tap"]);
        run("ip link del ck-tap");
        let restored = sandbox.restore(&id);
        subject.must_be_well("restored");
        restored.wait_gone();
    });
}

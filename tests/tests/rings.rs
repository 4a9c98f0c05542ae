//! Rings that a program shares with the kernel.
use ckpt_tests::subject::Subject;
use ckpt_tests::{isolated, sandbox};

ckpt_tests::survives! {
    fn asynchronous_io_contexts => "aio";
    fn io_uring_instances => "io_uring";
}

/// The kernel writes to registered buffers without a fault: they are saved each time.
#[test]
fn registered_buffers_are_never_clean() {
    isolated(|sandbox| {
        let mut subject = Subject::start(sandbox, "ring_buffer", &[]);
        sandbox.attach(subject.pid(), "buffer");
        sandbox.save("buffer");
        sandbox.save("buffer");
        subject.tell("fill");
        subject.wait_for("filled");
        let filled = sandbox.save_with("buffer", &[]);
        assert_eq!(filled["kind"], "incremental", "{filled}");
        subject.process.kill();
        let restored = sandbox.restore(&sandbox::id(&filled));
        subject.must_be_well("restored");
        restored.wait_gone();
    });
}

//! Points in this crate at which a test may make the process die. What happens there is up to the hook, which is called with the point's name; without
//! the cargo feature `fault-injection` there are none.
use std::sync::OnceLock;

static HOOK: OnceLock<fn(&str)> = OnceLock::new();

/// Has `hook` called at every point from now on; the first one set stays.
pub fn set_hook(hook: fn(&str)) {
    if cfg!(feature = "fault-injection") {
        let _ = HOOK.set(hook);
    }
}

/// The point `OPERATION.STEP`.
pub(crate) fn point(operation: &str, step: &str) {
    if cfg!(feature = "fault-injection")
        && let Some(hook) = HOOK.get()
    {
        hook(&format!("{operation}.{step}"));
    }
}

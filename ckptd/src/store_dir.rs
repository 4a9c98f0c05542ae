//! Which store a command works on.
use nix::unistd::geteuid;
use std::path::PathBuf;

/// `--store`, else the default of the user.
pub(crate) fn chosen(option: Option<PathBuf>) -> PathBuf {
    let dir = option.filter(|dir| !dir.as_os_str().is_empty()).unwrap_or_else(|| {
        if geteuid().is_root() { PathBuf::from("/var/lib/ckpt") } else { state_home().join("ckpt") }
    });
    // What cannot be made absolute cannot be opened either, and is reported then.
    std::path::absolute(&dir).unwrap_or(dir)
}

/// `$XDG_STATE_HOME`, else its default.
pub(crate) fn state_home() -> PathBuf {
    match std::env::var_os("XDG_STATE_HOME").map(PathBuf::from) {
        // The XDG base directory specification: a relative path is to be ignored.
        Some(dir) if dir.is_absolute() => dir,
        _ => std::env::home_dir().unwrap_or_else(|| "/".into()).join(".local/state"),
    }
}

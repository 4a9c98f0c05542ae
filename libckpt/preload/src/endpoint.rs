//! Where the daemon's socket is. ckptd's `endpoint` module is the model; both have to agree.
use crate::buffer::Buffer;

/// A path.
pub(crate) type Path = Buffer<4096>;

/// A variable of the environment; an empty one counts as unset.
pub(crate) fn variable(name: &core::ffi::CStr) -> Option<&'static [u8]> {
    // SAFETY: before main no other thread changes the environment, and in the API's functions that is the caller's
    // business as it is for all of libc.
    let value = unsafe { libc::getenv(name.as_ptr()) };
    if value.is_null() {
        return None;
    }
    // SAFETY: getenv(3) returns a text that is ended by a NUL.
    let bytes = unsafe { core::ffi::CStr::from_ptr(value) }.to_bytes();
    (!bytes.is_empty()).then_some(bytes)
}

/// The store that the environment names, as it is written there.
pub(crate) fn store() -> Path {
    let mut path = Path::new();
    if let Some(dir) = variable(c"CKPT_STORE") {
        path.put(dir);
    } else if is_root() {
        path.put(b"/var/lib/ckpt");
    } else {
        put_state_home(&mut path);
        path.put(b"/ckpt");
    }
    path
}

/// The same path, absolute and without symbolic links; None while the store does not exist.
pub(crate) fn canonical(path: &Path) -> Option<Path> {
    let mut real = [0u8; libc::PATH_MAX as usize];
    // SAFETY: realpath(3) writes at most PATH_MAX bytes, ended by a NUL.
    if unsafe { libc::realpath(path.c_str(), real.as_mut_ptr().cast()) }.is_null() {
        return None;
    }
    let mut canonical = Path::new();
    canonical.put(real.split(|byte| *byte == 0).next()?);
    canonical.is_whole().then_some(canonical)
}

/// The daemon's runtime directory and the name of its socket in it.
pub(crate) fn socket(canonical_store: &Path) -> (Path, Buffer<64>) {
    let mut dir = Path::new();
    if let Some(chosen) = variable(c"CKPT_RUNTIME_DIR") {
        dir.put(chosen);
    } else if is_root() {
        dir.put(b"/run/ckpt");
    } else if let Some(runtime) = variable(c"XDG_RUNTIME_DIR") {
        dir.put(runtime);
        dir.put(b"/ckpt");
    } else {
        put_state_home(&mut dir);
        dir.put(b"/ckpt-run");
    }
    let mut name = Buffer::new();
    name.put(b"ckptd-");
    name.put_hex(fnv1a(canonical_store.bytes()));
    name.put(b".sock");
    (dir, name)
}

fn put_state_home(path: &mut Path) {
    match variable(c"XDG_STATE_HOME") {
        Some(dir) if dir.starts_with(b"/") => path.put(dir),
        _ => {
            path.put(variable(c"HOME").unwrap_or_default());
            path.put(b"/.local/state");
        }
    }
}

fn is_root() -> bool {
    // SAFETY: geteuid(2) cannot fail.
    unsafe { libc::geteuid() == 0 }
}

fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_fnv1a() {
        assert_eq!(fnv1a(b""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(fnv1a(b"foobar"), 0x8594_4171_f739_67e8);
    }

    #[test]
    fn paths_are_canonical() {
        let mut path = Path::new();
        path.put(b"/proc/self/../../tmp/.");
        assert_eq!(canonical(&path).map(|path| path.bytes().to_vec()), Some(b"/tmp".to_vec()));
        path.put(b"/no/such");
        assert!(canonical(&path).is_none());
    }
}

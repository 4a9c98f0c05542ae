//! Overlays: the directories that they are made of must be seen outside.
use super::origin::Finder;
use super::outer::below;
use crate::error::CaptureResult;
use ckpt_sys::mount::overlay;
use ckpt_sys::proc::mounts::Mount;

/// Refuses one whose directories are not there for a restore.
pub(super) fn check(finder: &Finder<'_>, mount: &Mount) -> CaptureResult<()> {
    for layer in overlay::directories(&mount.options) {
        let name = String::from_utf8_lossy(&layer);
        let (reason, remedy) = if !layer.starts_with(b"/") {
            (
                format!("its directory {name} was given relative to a place that the kernel does not tell"),
                "Mount the overlay with absolute paths",
            )
        } else if !finder.outer.has(&layer) {
            (
                format!("its directory {name} is not seen outside of the job's mount namespace"),
                "Mount the overlay with directories that are there for the restore",
            )
        } else if is_another(finder, mount, &layer) {
            (
                format!(
                    "its directory {name} was another one, in the job's mount namespace, than it is outside of that"
                ),
                "Mount the overlay with the path that the directory has outside",
            )
        } else {
            continue;
        };
        return Err(finder.refused(mount, &reason, remedy));
    }
    Ok(())
}

/// Whether a path led elsewhere when the overlay was mounted than it does outside: something is mounted there on one side only. Paths of a
/// root directory that is no more cannot be told.
fn is_another(finder: &Finder<'_>, overlay: &Mount, path: &[u8]) -> bool {
    let before = finder.mounts.iter().take_while(|mount| mount.id != overlay.id);
    !finder.anew && leads_to(before, path) != leads_to(finder.outer.mounts.iter(), path)
}

/// Device, and path within its file system, of what a path leads to. Mounts are in the order in which they were made: the last one counts that
/// covers the path.
fn leads_to<'m>(mounts: impl Iterator<Item = &'m Mount>, path: &[u8]) -> Option<(&'m str, Vec<u8>)> {
    let shown = mounts.filter_map(|mount| Some((mount, below(path, &mount.point, &mount.root)?)));
    shown.last().map(|(mount, path)| (mount.device.as_str(), path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_mount_that_covers_a_path_counts() {
        let mount = |device: &str, root: &str, point: &str| Mount {
            id: 1,
            parent: 0,
            device: device.into(),
            root: root.into(),
            point: point.into(),
            flags: 0,
            peers: 0,
            master: 0,
            idmapped: false,
            fs_type: "ext4".into(),
            source: Vec::new(),
            options: String::new(),
        };
        let mounts = [mount("8:1", "/", "/"), mount("8:1", "/data/a", "/l"), mount("0:5", "/", "/tmp")];
        let leads = |count: usize, path: &str| leads_to(mounts[..count].iter(), path.as_bytes()).unwrap();
        assert_eq!(leads(1, "/l/x"), ("8:1", b"/l/x".to_vec()));
        assert_eq!(leads(3, "/l/x"), ("8:1", b"/data/a/x".to_vec()));
        assert_eq!(leads(3, "/l"), ("8:1", b"/data/a".to_vec()));
        assert_eq!(leads(3, "/lx"), ("8:1", b"/lx".to_vec()));
        assert_eq!(leads(3, "/tmp"), ("0:5", b"/".to_vec()));
    }
}

//! What is set for control groups that were made again.
use super::Place;
use ckpt_image::record::{CgroupFileV1, CgroupV1};
use ckpt_sys::SysError;
use nix::errno::Errno;
use std::fs::{OpenOptions, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};

const TYPE: &str = "cgroup.type";
const CONTROLLERS: &str = "cgroup.subtree_control";
const DEVICES: &str = "devices.list";
/// Without these nobody can be in a group of version 1.
const CPUSET: [&str; 2] = ["cpuset.cpus", "cpuset.mems"];
/// What devices.list says of a group that all devices are allowed for.
const ALL_DEVICES: &str = "a *:* rwm";

impl Place {
    /// What must be set for a group that was just made before it has groups below it or anybody in it.
    pub(super) fn prepare(&self, group: &CgroupV1) {
        if let Some("threaded") = value(group, TYPE) {
            self.tell(self.hierarchy.write(&group.path, TYPE, "threaded"));
        }
        // Whoever makes the job's cgroup namespace must get into its root, which needs to be without controllers for that.
        if self.record.namespace_root.as_ref().is_none_or(|root| !group.path.starts_with(root)) {
            self.enable(group);
        }
        if self.hierarchy.is_v2() {
            return;
        }
        // Nothing can be changed for all devices once there are groups below.
        if let Some(list) = value(group, DEVICES)
            && !matches!(self.hierarchy.read(&group.path, DEVICES), Ok(Some(now)) if now.trim_end() == list)
        {
            self.tell(self.allow_devices(group, list));
        }
        for name in CPUSET {
            let Ok(Some(now)) = self.hierarchy.read(&group.path, name) else { continue };
            if !now.trim().is_empty() {
                continue;
            }
            let wanted = value(group, name).filter(|value| !value.is_empty());
            let set = wanted.map(|value| self.hierarchy.write(&group.path, name, value));
            if matches!(set, Some(Ok(()))) {
                continue;
            }
            self.tell(set.unwrap_or(Ok(())));
            let end = group.path.iter().rposition(|byte| *byte == b'/').unwrap_or(0);
            let above = if end == 0 { &b"/"[..] } else { &group.path[..end] };
            if let Ok(Some(theirs)) = self.hierarchy.read(above, name) {
                self.tell(self.hierarchy.write(&group.path, name, theirs.trim()));
            }
        }
    }

    /// Keeps the settings of a group that was made open, where the job's cgroup namespace begins.
    pub(super) fn open_settings(&mut self, root: &[u8]) {
        let group = self.made_groups().find(|group| group.path == root);
        let Some(directory) = self.hierarchy.directory(root) else { return };
        let open = |file: &CgroupFileV1| {
            let opened = OpenOptions::new().write(true).open(directory.join(&file.name)).ok()?;
            Some((file.name.clone(), opened))
        };
        let files = group.iter().flat_map(|group| &group.files).filter(|file| file.value.is_some());
        self.opened = files.filter_map(open).collect();
    }

    /// Controllers of groups that were made and that had none until the job's cgroup namespace was made.
    pub(super) fn delegate(&self) {
        self.made_groups().for_each(|group| self.enable(group));
    }

    fn enable(&self, group: &CgroupV1) {
        let now = self.hierarchy.read(&group.path, CONTROLLERS).ok().flatten().unwrap_or_default();
        let now: Vec<&str> = now.split_ascii_whitespace().collect();
        let wanted = value(group, CONTROLLERS).unwrap_or_default().split_ascii_whitespace();
        for controller in wanted.filter(|controller| !now.contains(controller)) {
            self.tell(self.hierarchy.write(&group.path, CONTROLLERS, &format!("+{controller}")));
        }
    }

    /// Everything else, and who the files belong to.
    pub(super) fn set(&self) {
        for group in self.made_groups() {
            let is_left = |file: &&CgroupFileV1| ![TYPE, CONTROLLERS, DEVICES].contains(&file.name.as_str());
            let settings = group.files.iter().filter(is_left);
            let mut left: Vec<_> = settings.filter(|file| file.value.is_some()).collect();
            // One may depend on another: a quota on its period, a limit on one that it must not exceed.
            loop {
                let before = left.len();
                let mut errors = Vec::new();
                left.retain(|file| self.set_one(group, file).map_err(|error| errors.push(error)).is_err());
                if left.is_empty() {
                    break;
                }
                if left.len() == before {
                    self.tell_unset(group, &left, errors);
                    break;
                }
            }
            group.files.iter().for_each(|file| self.hand_over(group, file));
        }
    }

    fn set_one(&self, group: &CgroupV1, file: &CgroupFileV1) -> Result<(), SysError> {
        let wanted = file.value.as_deref().unwrap_or_default();
        let now = self.hierarchy.read(&group.path, &file.name)?;
        let now = now.as_deref().map(|now| comparable(&file.name, now.trim_end()));
        if now == Some(wanted) {
            return Ok(());
        }
        let lines: Vec<&str> = if wanted.is_empty() { vec!["\n"] } else { wanted.lines().collect() };
        let now: Vec<&str> = now.unwrap_or_default().lines().collect();
        lines.into_iter().filter(|line| !now.contains(line)).try_for_each(|line| {
            match self.opened.get(&file.name) {
                Some(opened) if self.record.namespace_root.as_ref() == Some(&group.path) => {
                    self.write(opened, &group.path, line)
                }
                _ => self.hierarchy.write(&group.path, &file.name, line),
            }
        })
    }

    fn allow_devices(&self, group: &CgroupV1, list: &str) -> Result<(), SysError> {
        if list == ALL_DEVICES {
            return self.hierarchy.write(&group.path, "devices.allow", "a");
        }
        self.hierarchy.write(&group.path, "devices.deny", "a")?;
        list.lines().try_for_each(|line| self.hierarchy.write(&group.path, "devices.allow", line))
    }

    fn hand_over(&self, group: &CgroupV1, file: &CgroupFileV1) {
        let Some(directory) = self.hierarchy.directory(&group.path) else { return };
        let path = directory.join(&file.name);
        // That it is not there was told when it was to be set.
        let Ok(now) = std::fs::metadata(&path) else { return };
        let (uid, gid) = file.owner;
        let owned =
            if (now.uid(), now.gid()) == file.owner { Ok(()) } else { chown(&path, Some(uid), Some(gid)) };
        let is_same = now.mode() & 0o7777 == file.mode;
        let set = || std::fs::set_permissions(&path, Permissions::from_mode(file.mode));
        if let Err(error) = owned.and_then(|()| if is_same { Ok(()) } else { set() }) {
            let group = self.hierarchy.describe(&group.path);
            tracing::warn!(%error, "{} of {group} keeps its owner and permissions", file.name);
        }
    }

    /// Freezes groups that were made and that were frozen.
    pub(super) fn freeze(&self) {
        let (name, word) =
            if self.hierarchy.is_v2() { ("cgroup.freeze", "1") } else { ("freezer.state", "FROZEN") };
        for group in self.made_groups().filter(|group| group.frozen) {
            self.tell(self.hierarchy.write(&group.path, name, word));
        }
    }

    fn made_groups(&self) -> impl Iterator<Item = &CgroupV1> {
        self.record.groups.iter().filter(|group| self.made.contains(&group.path))
    }

    fn tell_unset(&self, group: &CgroupV1, left: &[&CgroupFileV1], errors: Vec<SysError>) {
        let is_missing = |error: &SysError| error.errno() == Some(Errno::ENOENT);
        let missing = left.iter().zip(&errors).filter(|(_, error)| is_missing(error));
        let missing: Vec<&str> = missing.map(|(file, _)| file.name.as_str()).collect();
        if !missing.is_empty() {
            tracing::warn!(
                "{} comes back without {}: their controllers are not enabled in the group above it",
                self.hierarchy.describe(&group.path),
                missing.join(", ")
            );
        }
        errors.into_iter().filter(|error| !is_missing(error)).for_each(|error| self.tell(Err(error)));
    }

    fn tell(&self, outcome: Result<(), SysError>) {
        if let Err(error) = outcome {
            tracing::warn!(%error, "a setting of a control group is not restored");
        }
    }
}

fn value<'g>(group: &'g CgroupV1, name: &str) -> Option<&'g str> {
    group.files.iter().find(|file| file.name == name)?.value.as_deref()
}

/// What a file says in the words in which it is set.
fn comparable<'t>(name: &str, text: &'t str) -> &'t str {
    match name {
        "memory.oom_control" => text.split_ascii_whitespace().nth(1).unwrap_or_default(),
        _ => text,
    }
}

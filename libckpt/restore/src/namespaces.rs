//! Namespaces of the job's own. They are made before it is: a process of ours, a sibling of the job's root, is born in them, furnishes them, and
//! restores the job from within, where pids, paths and users are the job's.
use crate::cgroups::Cgroups;
use crate::error::{RestoreError, RestoreResult};
use crate::restore::RootBirth;
use ckpt_image::ImageRecords;
use ckpt_image::record::{
    DeadTaskV1, InventoryV1, IpcNamespaceV1, NamespacesV1, PidNamespaceV1, TaskV1, UserNamespaceV1,
};
use ckpt_sys::clocks::Offsets;
use ckpt_sys::namespace::{self, Namespace};
use ckpt_sys::{SysError, host_program, reaper, spawn};
use std::fs::{self, File};
use std::io::{PipeReader, PipeWriter, Read, Write};

mod further;
mod mount;
mod net;
mod ordinary_user;

pub(crate) use further::{Further, Whereabouts};
pub(crate) use net::{find_interface, furnish_tun};

/// Pids below this one are tried for the process that restores.
const PID_END: i32 = 32_768;

/// Which pids a job gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PidNamespace {
    /// Those that it had, in a namespace of its own if it had one.
    AsItWas,
    /// Those that it had, among the pids of this process's own namespace.
    Ours,
    /// Those that it had, in a namespace of its own.
    New,
}

/// The namespaces that a job is restored in.
#[derive(Debug)]
pub struct Namespaces {
    record: NamespacesV1,
    inventory: InventoryV1,
    pids: Vec<i32>,
    /// The network namespace that the restore was asked for in, if the job has another.
    outer_net: Option<File>,
}

/// The way to the first process of a new PID namespace that is none of the job's.
#[derive(Debug)]
pub struct FirstProcess(Option<PipeWriter>);

impl FirstProcess {
    /// The job runs: the first process is to outlive process `root` of it, and all others of the namespace.
    pub fn outlive(&self, root: i32) {
        if let Some(mut go) = self.0.as_ref() {
            // Is it gone, so is all that is in the namespace.
            let _ = go.write_all(&root.to_ne_bytes());
        }
    }
}

impl Namespaces {
    /// Those that a checkpoint's job needs, with a PID namespace by `pids`. None: it lives in this process's.
    ///
    /// Who may not choose pids gets a user namespace for it, in which they are who they are.
    ///
    /// # Errors
    /// It was the first process of its PID namespace, and is to live in ours. Its pids cannot be chosen without a namespace, and none is asked
    /// for. What the image does not hold.
    pub fn of(image: &ImageRecords, pids: PidNamespace) -> Result<Option<Self>, RestoreError> {
        let mut record = image.records::<NamespacesV1>()?.into_iter().next().unwrap_or_default();
        match (pids, record.pid) {
            (PidNamespace::New, None) => record.pid = Some(PidNamespaceV1 { init: false }),
            (PidNamespace::Ours, Some(PidNamespaceV1 { init: true })) => {
                return Err(RestoreError::Machine {
                    reason: "its root is the first process of a PID namespace, which has one already here"
                        .into(),
                    remedy: "Restore it in a PID namespace of its own (--pid new)".into(),
                });
            }
            (PidNamespace::Ours, _) => record.pid = None,
            _ => {}
        }
        if record.user.is_none() && !ordinary_user::may_choose_pids()? {
            if record.pid.is_none() {
                return Err(RestoreError::Machine {
                    reason: "pids cannot be chosen without privilege".into(),
                    remedy: "Restore in a PID namespace of its own (--pid new), or run ckpt as root or with CAP_CHECKPOINT_RESTORE".into(),
                });
            }
            record.user = Some(ordinary_user::of_this_user());
            if record.ipc.is_none() && ordinary_user::needs_ipc(image)? {
                record.ipc = Some(IpcNamespaceV1 { sysctls: Vec::new() });
            }
        }
        if record == NamespacesV1::default() {
            return Ok(None);
        }
        host_program::keep_root()?;
        let living = image.records::<TaskV1>()?.into_iter().flat_map(|task| task.tids);
        let dead = image.records::<DeadTaskV1>()?.into_iter().map(|dead| dead.pid);
        let outer_net = match &record.net {
            Some(net) => {
                net::check(net)?;
                let own = "/proc/self/ns/net";
                Some(File::open(own).map_err(|error| SysError::new("open", own, error))?)
            }
            None => None,
        };
        Ok(Some(Self {
            record,
            inventory: image.inventory()?,
            pids: living.chain(dead).collect(),
            outer_net,
        }))
    }

    /// Whether the job's pids are taken from among those that this process sees.
    #[must_use]
    pub fn shares_pids(&self) -> bool {
        self.record.pid.is_none()
    }

    /// Who makes the job's root.
    #[must_use]
    pub fn root_birth(&self) -> RootBirth {
        match self.record.pid {
            Some(PidNamespaceV1 { init: true }) => RootBirth::Done,
            _ => RootBirth::Sibling,
        }
    }

    /// Makes them, and a child of this process in them that dies with this thread. Its pid; in the child None, and the way to the namespaces' first
    /// process. The job's cgroup namespace begins in the groups of `cgroups`. This process must have one thread only.
    ///
    /// # Errors
    /// No privilege to make them.
    pub fn fork_into_new(&self, cgroups: &Cgroups) -> RestoreResult<(Option<i32>, FirstProcess)> {
        let pipe = || std::io::pipe().map_err(|error| SysError::new("pipe2", "new namespaces", error));
        let (wait, go) = pipe()?;
        // The process in the middle says that it is in its user namespace, and waits until that has its ids.
        let ((mut ours, mut tell_us), (mut theirs, mut tell_them)) = (pipe()?, pipe()?);
        let user = self.record.user.as_ref();
        let middle = move || {
            if user.is_some() {
                namespace::unshare(&[Namespace::User])?;
                handshake(&mut tell_us, &mut theirs)?;
            }
            self.make(cgroups, wait)
        };
        let meanwhile = move |pid: i32| {
            let Some(user) = user else { return Ok(()) };
            let failed = |error| SysError::new("read", "a pipe", error);
            // Is it gone instead, it has said why.
            if ours.read(&mut [0]).map_err(failed)? == 1 {
                write_maps(pid, user)?;
                let _ = tell_them.write_all(&[1]);
            }
            Ok(())
        };
        let forked = namespace::fork_through(self.own_pid(), middle, meanwhile)
            .map_err(|error| self.refused(&error))?;
        Ok((forked, FirstProcess(self.record.pid.is_some_and(|pid| !pid.init).then_some(go))))
    }

    fn wanted(&self) -> Vec<Namespace> {
        let record = &self.record;
        let table = [
            (record.pid.is_some(), Namespace::Pid),
            // Its /proc shows its own pids.
            (record.mount.is_some() || record.pid.is_some(), Namespace::Mount),
            (record.net.as_ref().is_some_and(|net| net.path.is_none()), Namespace::Net),
            (record.ipc.is_some(), Namespace::Ipc),
            (record.uts.is_some(), Namespace::Uts),
            (record.time, Namespace::Time),
            (record.cgroup, Namespace::Cgroup),
        ];
        table.into_iter().filter_map(|(wanted, namespace)| wanted.then_some(namespace)).collect()
    }

    /// A pid for the process that restores, which none of the job's has; None: it is not born in a new PID namespace.
    fn own_pid(&self) -> Option<i32> {
        self.record.pid?;
        (2..PID_END).rev().find(|pid| !self.pids.contains(pid))
    }

    /// In the process in the middle: makes all but the user namespace, and the first process.
    fn make(&self, cgroups: &Cgroups, go: PipeReader) -> Result<(), SysError> {
        // While the path leads there.
        if let Some(path) = self.record.net.as_ref().and_then(|net| net.path.as_ref()) {
            net::join(path)?;
        }
        cgroups.in_roots_of(None, || namespace::unshare(&self.wanted()))?;
        if self.record.time {
            self.set_clocks()?;
        }
        let Some(pid) = self.record.pid else { return Ok(()) };
        let sibling = u64::from(libc::CLONE_PARENT.unsigned_abs());
        if spawn::fork(sibling, None)?.is_none() {
            if pid.init {
                spawn::wait_to_be_seized();
            }
            reaper::be_first_process(go.into());
        }
        Ok(())
    }

    /// The clocks go on from where they were. What children are born in has those of this process so far.
    fn set_clocks(&self) -> Result<(), SysError> {
        let wanted = [self.inventory.monotonic_ns, self.inventory.boottime_ns];
        Offsets::own()?.for_now(wanted)?.set(None)
    }

    fn refused(&self, error: &SysError) -> RestoreError {
        let mut names: Vec<_> = self.wanted().iter().map(|namespace| namespace.name()).collect();
        if self.record.user.is_some() {
            names.insert(0, Namespace::User.name());
        }
        RestoreError::Machine {
            reason: format!("namespaces of the job's own ({}) cannot be made: {error}", names.join(", ")),
            remedy: "Run ckpt as root, or allow users to make namespaces (sysctl user.max_user_namespaces)"
                .into(),
        }
    }

    /// Within them: gives them what they had. To be called before the job is restored.
    ///
    /// # Errors
    /// What they had cannot be had here.
    pub fn furnish(&self) -> Result<(), RestoreError> {
        let record = &self.record;
        if let Some(user) = &record.user {
            become_root(user)?;
        }
        if self.wanted().contains(&Namespace::Mount) {
            mount::furnish(record.mount.as_ref(), record.pid.is_some(), &mut mount::Groups::default())?;
        }
        if let Some(uts) = &record.uts {
            namespace::set_names(&uts.hostname, &uts.domainname)?;
        }
        if let Some(ipc) = &record.ipc {
            set_sysctls(&ipc.sysctls);
        }
        if let Some(net) = &record.net {
            net::furnish(net, self.outer_net.as_ref())?;
        }
        Ok(())
    }
}

fn handshake(tell: &mut PipeWriter, told: &mut PipeReader) -> Result<(), SysError> {
    let failed = |error| SysError::new("write", "uid_map", error);
    tell.write_all(&[1]).map_err(failed)?;
    told.read_exact(&mut [0]).map_err(failed)
}

fn write_maps(pid: i32, user: &UserNamespaceV1) -> Result<(), SysError> {
    let write = |name: &str, text: &str| {
        let path = format!("/proc/{pid}/{name}");
        fs::write(&path, text).map_err(|error| SysError::new("write", path, error))
    };
    let lines = |map: &[(u32, u32, u32)]| -> String {
        map.iter().map(|(inner, outer, count)| format!("{inner} {outer} {count}\n")).collect()
    };
    if !user.setgroups {
        write("setgroups", "deny")?;
    }
    // One without ids has no map.
    for (name, map) in [("gid_map", &user.gid_map), ("uid_map", &user.uid_map)] {
        if !map.is_empty() {
            write(name, &lines(map))?;
        }
    }
    Ok(())
}

/// Whoever is root within owns what the namespaces' file systems get, if there is a root.
fn become_root(user: &UserNamespaceV1) -> RestoreResult<()> {
    let has_root = |map: &[(u32, u32, u32)]| map.iter().any(|(inner, _, _)| *inner == 0);
    let failed = |call| move |errno| SysError::new(call, "root of the user namespace", errno);
    if has_root(&user.gid_map) {
        let root = nix::unistd::Gid::from_raw(0);
        nix::unistd::setresgid(root, root, root).map_err(failed("setresgid"))?;
    }
    if has_root(&user.uid_map) {
        let root = nix::unistd::Uid::from_raw(0);
        nix::unistd::setresuid(root, root, root).map_err(failed("setresuid"))?;
    }
    // A change of user makes a process one that its own user may not look at.
    nix::sys::prctl::set_dumpable(true).map_err(failed("prctl(PR_SET_DUMPABLE)"))?;
    Ok(())
}

/// Sets those that are not as they were.
pub(crate) fn set_sysctls(sysctls: &[(String, String)]) {
    for (name, value) in sysctls {
        let path = format!("/proc/sys/{name}");
        if fs::read_to_string(&path).is_ok_and(|now| now.trim() != value)
            && let Err(error) = fs::write(&path, value)
        {
            tracing::warn!(path, value, %error, "the setting is not restored");
        }
    }
}

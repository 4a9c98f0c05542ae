//! Namespaces that the job has for itself. They are captured from within: the process that captures goes into all of them, and from then on
//! sees pids, paths, users and names as the job does.
use crate::cgroups::Outside;
use crate::error::{CaptureError, CaptureResult};
use ckpt_image::record::{
    IpcNamespaceV1, MountNamespaceV1, NamespacesV1, NetNamespaceV1, PidNamespaceV1, UserNamespaceV1,
    UtsNamespaceV1,
};
use ckpt_sys::namespace::{self, Namespace};
use ckpt_sys::proc::{self, malformed, stand_in, status::Status};
use ckpt_sys::{SysError, host_program, pidfd};
use nix::errno::Errno;
use std::os::fd::AsFd;

mod further;
mod ipc;
mod mount;
mod net;
mod threads;

pub(crate) use further::Further;
pub(crate) use net::{Tun, check_held, tun_interface};
pub(crate) use threads::check_threads;

/// Settings of an IPC namespace.
const IPC_SYSCTLS: [&str; 13] = [
    "kernel/sem",
    "kernel/shmmax",
    "kernel/shmall",
    "kernel/shmmni",
    "kernel/shm_rmid_forced",
    "kernel/msgmax",
    "kernel/msgmnb",
    "kernel/msgmni",
    "fs/mqueue/queues_max",
    "fs/mqueue/msg_max",
    "fs/mqueue/msgsize_max",
    "fs/mqueue/msg_default",
    "fs/mqueue/msgsize_default",
];

/// What is known of a job's own namespaces from outside. None are known by default: the job is in ours.
#[derive(Debug, Default)]
pub struct Namespaces {
    own: Vec<Namespace>,
    /// The job's root, as it is known within.
    inner_pid: i32,
    outer_mounts: mount::Outer,
    outer_net: net::Outer,
    user: Option<UserNamespaceV1>,
    pub(crate) cgroups: Outside,
}

impl Namespaces {
    /// Those of process `pid`, as seen by this process, that are not this process's own.
    ///
    /// # Errors
    /// There is no such process, or it may not be looked at.
    pub fn of(pid: i32) -> CaptureResult<Self> {
        stand_in::look(pid);
        let own = match namespace::foreign(pid) {
            // The checks that come say what is wrong with it.
            Err(error) if error.is_gone() || error.errno() == Some(Errno::EACCES) => Vec::new(),
            own => own?,
        };
        if own.is_empty() {
            return Ok(Self::default());
        }
        let user = own.contains(&Namespace::User).then(|| user_namespace(pid)).transpose()?;
        Ok(Self {
            inner_pid: Status::of(pid, pid)?.inner_pid(),
            outer_mounts: if own.contains(&Namespace::Mount) {
                mount::Outer::own()?
            } else {
                mount::Outer::default()
            },
            cgroups: Outside::look(pid, own.contains(&Namespace::Cgroup))?,
            outer_net: if own.contains(&Namespace::Net) {
                net::Outer::of(pid)?
            } else {
                net::Outer::default()
            },
            own,
            user,
        })
    }

    /// The job has none for itself.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.own.is_empty()
    }

    /// Whether its pids are those that this process sees.
    #[must_use]
    pub fn shares_pids(&self) -> bool {
        !self.own.contains(&Namespace::Pid)
    }

    /// The job's root as it is known within.
    #[must_use]
    pub fn inner_pid(&self) -> i32 {
        self.inner_pid
    }

    /// Makes a child of this process that is in all namespaces of process `pid` and dies with this thread. Its pid; in the child None.
    /// This process must have one thread only.
    ///
    /// # Errors
    /// No privilege to do so, or nowhere to mount a /proc that shows the job's pids.
    pub fn fork_into(&self, pid: i32) -> CaptureResult<Option<i32>> {
        host_program::keep_root()?;
        let target = pidfd::open(pid)?;
        let forked = namespace::fork_through(None, || namespace::join(target.as_fd(), &self.own), |_| Ok(()));
        let forked = forked.map_err(|error| self.refused(pid, &error))?;
        if forked.is_none() && !namespace::proc_is_own() {
            namespace::mount_own_proc().map_err(|error| self.refused(pid, &error))?;
        }
        Ok(forked)
    }

    fn refused(&self, pid: i32, error: &SysError) -> CaptureError {
        CaptureError::unsupported(
            pid,
            format!("namespaces of its own ({})", names(&self.own)),
            format!("ckpt cannot go into them: {error}"),
            "Run ckpt as root, or as the user who made them",
        )
    }

    /// What is read of them right before the job is stopped: what a network namespace has does not change often, and takes long to read.
    pub(crate) fn read_ahead(&self) -> CaptureResult<Option<NetNamespaceV1>> {
        self.own.contains(&Namespace::Net).then(|| self.net(self.inner_pid)).transpose()
    }

    /// The record of them, made within; `net` is what was read ahead. None: there are none.
    pub(crate) fn capture(&self, net: Option<NetNamespaceV1>) -> CaptureResult<Option<NamespacesV1>> {
        if self.is_empty() {
            return Ok(None);
        }
        let root = self.inner_pid;
        let has = |namespace| self.own.contains(&namespace);
        Ok(Some(NamespacesV1 {
            pid: has(Namespace::Pid).then_some(PidNamespaceV1 { init: root == 1 }),
            uts: has(Namespace::Uts).then(uts_namespace).transpose()?,
            ipc: has(Namespace::Ipc).then(|| IpcNamespaceV1 { sysctls: sysctls(&IPC_SYSCTLS) }),
            net,
            mount: has(Namespace::Mount).then(|| self.mount(root)).transpose()?,
            user: self.user.clone(),
            time: has(Namespace::Time),
            cgroup: has(Namespace::Cgroup),
        }))
    }

    fn net(&self, root: i32) -> CaptureResult<NetNamespaceV1> {
        net::capture(root, &self.outer_net)
    }

    fn mount(&self, root: i32) -> CaptureResult<MountNamespaceV1> {
        mount::capture(root, &self.outer_mounts)
    }

    /// What of them cannot be saved.
    pub(crate) fn check(&self) -> CaptureResult<()> {
        let root = self.inner_pid;
        if self.own.contains(&Namespace::Net) {
            self.net(root)?;
        }
        if self.own.contains(&Namespace::Mount) {
            mount::check(root, &self.outer_mounts)?;
        }
        Ok(())
    }
}

fn names(namespaces: &[Namespace]) -> String {
    namespaces.iter().map(|namespace| namespace.name()).collect::<Vec<_>>().join(", ")
}

fn uts_namespace() -> CaptureResult<UtsNamespaceV1> {
    use std::os::unix::ffi::OsStrExt;
    let name = nix::sys::utsname::uname()
        .map_err(|errno| SysError::new("uname", "the job's UTS namespace", errno))?;
    let bytes = |text: &std::ffi::OsStr| text.as_bytes().to_vec();
    Ok(UtsNamespaceV1 { hostname: bytes(name.nodename()), domainname: bytes(name.domainname()) })
}

/// The values of those settings that this kernel has.
pub(crate) fn sysctls(names: &[&str]) -> Vec<(String, String)> {
    let read = |name: &&str| std::fs::read_to_string(format!("/proc/sys/{name}")).ok();
    names.iter().filter_map(|name| Some(((*name).to_owned(), read(name)?.trim().to_owned()))).collect()
}

fn user_namespace(pid: i32) -> CaptureResult<UserNamespaceV1> {
    let map = |name: &'static str| -> CaptureResult<Vec<(u32, u32, u32)>> {
        let text = proc::read_text(pid, name)?;
        let line = |line: &str| {
            let mut numbers = line.split_ascii_whitespace().map(str::parse);
            Some((numbers.next()?.ok()?, numbers.next()?.ok()?, numbers.next()?.ok()?))
        };
        Ok(text.lines().map(line).collect::<Option<_>>().ok_or_else(|| malformed(name, pid))?)
    };
    Ok(UserNamespaceV1 {
        uid_map: map("uid_map")?,
        gid_map: map("gid_map")?,
        setgroups: proc::read_text(pid, "setgroups")?.trim() == "allow",
    })
}

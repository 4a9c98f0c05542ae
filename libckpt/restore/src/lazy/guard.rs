//! The guard: ends the job when the server has died with pages unfilled.
use super::plan::Plan;
use super::processes::{self, Keeper};
use super::server;
use ckpt_image::Image;
use ckpt_sys::fate::{self, Numbers};
use ckpt_sys::proc::stat::Stat;
use ckpt_sys::{late_pages, namespace, spawn};
use nix::sys::prctl;
use nix::sys::signal::{SigSet, Signal, kill};
use nix::unistd::Pid;
use std::os::fd::OwnedFd;
use std::time::Duration;

/// How often to look whether those who were killed have ended.
const LOOK: Duration = Duration::from_millis(2);

/// Makes the server and waits for its end.
pub(super) fn stand(image: &Image, plan: &Plan, socket: OwnedFd, report: OwnedFd, keeper: Keeper) -> ! {
    // SAFETY: all that is used from here on is kept: the image's files and these two. Nothing else is dropped, for this process ends here.
    unsafe { fate::close_others(&super::needed(image, &[&socket, &report])) };
    let _ = SigSet::all().thread_set_mask();
    let _ = nix::unistd::chdir("/");
    let numbers = Numbers::arrange();
    numbers.make_room();
    let flags = u64::from(libc::CLONE_FILES.unsigned_abs());
    let server = match spawn::fork(flags, None) {
        Ok(Some(server)) => server,
        Ok(None) => server::run((image, plan), &socket, &report, keeper, numbers),
        Err(error) => {
            tracing::error!(%error, "no process fills the memory");
            spawn::exit_now(1);
        }
    };
    let _ = prctl::set_name(c"ckpt-page-guard");
    let status = namespace::wait_for(server).unwrap_or(-1);
    if status == 0 {
        spawn::exit_now(0);
    }
    if holds_memory() {
        let manifest = image.manifest();
        let how = if libc::WIFSIGNALED(status) { "was killed" } else { "failed" };
        tracing::error!(
            "{} was ended: the process that filled its memory {how} before it was done. `ckpt restore {}` brings it back",
            manifest.job,
            manifest.id,
        );
        end_job(keeper);
    }
    spawn::exit_now(1)
}

/// Whether somebody may be waiting for a page: a userfaultfd of the server's is open.
fn holds_memory() -> bool {
    let list = std::fs::read_dir("/proc/self/fdinfo").into_iter().flatten().flatten();
    list.filter_map(|entry| std::fs::read_to_string(entry.path()).ok()).any(|text| late_pages::is_ours(&text))
}

/// Kills all processes of the job until there are none; meanwhile they wait for their pages.
fn end_job(keeper: Keeper) {
    let lives = |pid: &i32| Stat::of(*pid, *pid).is_ok_and(|stat| !matches!(stat.state, 'Z' | 'X'));
    loop {
        let job = keeper.job(processes::behind_pidfds());
        let living: Vec<i32> = job.into_iter().filter(lives).collect();
        if living.is_empty() {
            return;
        }
        for pid in living {
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
        std::thread::sleep(LOOK);
    }
}

//! Threads with a descriptor table or directories of their own. They are born without sharing those, and before descriptors are handed out: until
//! then each counts as if it were a process.
use crate::birth::{self, Family, Member};
use crate::builder::Builder;
use crate::error::{RestoreError, RestoreResult};
use crate::leader::Leader;
use crate::nameless::Nameless;
use crate::records::Records;
use crate::{files, fs, thread};
use ckpt_image::Image;
use ckpt_image::record::{FdTableId, FsId, UnsharedV1};
use ckpt_sys::inject::Injector;

/// The table that a thread is the first to have.
pub(crate) fn own_table(thread: &UnsharedV1) -> Option<FdTableId> {
    thread.fd_table.filter(|id| id.0 == thread.tid.unsigned_abs())
}

/// The directories that a thread is the first to have.
fn own_fs(thread: &UnsharedV1) -> Option<FsId> {
    thread.fs.filter(|id| id.0 == thread.tid.unsigned_abs())
}

/// Makes them.
pub(crate) fn restore_unshared(records: &Records, family: &mut Family<'_>) -> RestoreResult<()> {
    for thread in &records.unshared {
        let (pid, tid) = (thread.pid, thread.tid);
        let mut unshared = 0;
        for (own, flag) in
            [(own_table(thread).is_some(), libc::CLONE_FILES), (own_fs(thread).is_some(), libc::CLONE_FS)]
        {
            if own {
                unshared |= flag;
            }
        }
        let maker = maker(records, thread)?;
        thread::spawn_unshared_thread(&mut birth::member(family, maker)?.builder, records, tid, unshared)?;
        let process = birth::member(family, pid)?;
        process.leader.add_thread(tid);
        let (scratch, memory) = (process.builder.remote.scratch(), process.builder.remote.memory());
        let mut remote = Injector::on_scratch(tid, tid, memory, scratch)?;
        remote.dies_with_us();
        let mut builder = Builder::new(remote);
        if let Some(id) = own_table(thread) {
            files::prepare(&mut builder, records.table(id, tid)?)?;
        }
        family.insert(tid, Member { leader: Leader::of_thread(tid), builder });
    }
    Ok(())
}

/// Who has what the thread shares: the first thread of its process, or one that was made before it.
fn maker(records: &Records, thread: &UnsharedV1) -> RestoreResult<i32> {
    let hands_on = |table: Option<FdTableId>, fs: Option<FsId>| {
        (own_table(thread).is_some() || thread.fd_table == table)
            && (own_fs(thread).is_some() || thread.fs == fs)
    };
    if hands_on(None, None) {
        return Ok(thread.pid);
    }
    let before = records.unshared.iter().take_while(|other| other.tid != thread.tid);
    let maker =
        before.filter(|other| other.pid == thread.pid).find(|other| hands_on(other.fd_table, other.fs));
    let missing = || RestoreError::Inconsistent {
        what: format!("what thread {} shares with others is not in it", thread.tid),
    };
    maker.map(|maker| maker.tid).ok_or_else(missing)
}

/// Those of one process.
#[derive(Debug)]
pub(crate) struct Threads<'a, 'm>(Vec<(&'a UnsharedV1, Member<'m>)>);

impl<'a, 'm> Threads<'a, 'm> {
    /// Takes those of process `pid` out of the family.
    pub(crate) fn take(records: &'a Records, family: &mut Family<'m>, pid: i32) -> Self {
        let own = records.unshared.iter().filter(|thread| thread.pid == pid);
        Self(own.filter_map(|thread| Some((thread, family.remove(&thread.tid)?))).collect())
    }

    /// Whether this thread is one of them.
    pub(crate) fn has(&self, tid: i32) -> bool {
        self.0.iter().any(|(thread, _)| thread.tid == tid)
    }

    /// Gives them their directories.
    pub(crate) fn restore_fs(&mut self, records: &Records, nameless: &Nameless) -> RestoreResult<()> {
        for (thread, member) in &mut self.0 {
            if let Some(id) = own_fs(thread) {
                fs::restore_fs(&mut member.builder, records.fs(id, thread.tid)?, nameless)?;
            }
        }
        Ok(())
    }

    /// As [`files::restore_owners`]; the last that is done with them as such.
    pub(crate) fn finish(self, records: &Records, image: &Image) -> RestoreResult<()> {
        for (thread, mut member) in self.0 {
            if let Some(id) = own_table(thread) {
                files::restore_owners(&mut member.builder, image, records.table(id, thread.tid)?)?;
            }
            member.builder.remote.finish_keeping_scratch()?;
        }
        Ok(())
    }
}

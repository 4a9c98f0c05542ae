//! Credentials of a thread. Each thread sets its own.
use crate::builder::Builder;
use crate::error::RestoreResult;
use ckpt_image::record::CredsV1;
use ckpt_sys::proc::{self, status::Status};

const PR_CAPBSET_DROP: u64 = 24;
const PR_SET_SECUREBITS: u64 = 28;
const PR_SET_NO_NEW_PRIVS: u64 = 38;
const PR_CAP_AMBIENT: u64 = 47;
const PR_CAP_AMBIENT_RAISE: u64 = 2;
const PR_CAP_AMBIENT_CLEAR_ALL: u64 = 4;
/// SECBIT_NO_SETUID_FIXUP and SECBIT_KEEP_CAPS: user ids change without touching capabilities.
const SECURE_WHILE_CHANGING: u64 = 1 << 2 | 1 << 4;
const CAPABILITY_VERSION_3: u32 = 0x2008_0522;

/// Gives the thread of `builder` these credentials.
pub(crate) fn restore_creds(builder: &mut Builder<'_>, creds: &CredsV1) -> RestoreResult<()> {
    let status = Status::of(builder.remote.pid(), builder.remote.tid())?;
    restore_groups(builder, creds, &status)?;
    let bounding = status.mask("CapBnd")?;
    for capability in 0..64 {
        if bounding & !creds.cap_bounding & (1 << capability) != 0 {
            builder.prctl("prctl(PR_CAPBSET_DROP)", &[PR_CAPBSET_DROP, capability, 0, 0, 0])?;
        }
    }
    let changes_ids = restore_ids(builder, creds, &status)?;
    let secure = u64::from(creds.securebits);
    let capabilities_differ = status.mask("CapInh")? != creds.cap_inheritable
        || status.mask("CapPrm")? != creds.cap_permitted
        || status.mask("CapEff")? != creds.cap_effective
        || status.mask("CapAmb")? != creds.cap_ambient;
    if changes_ids || capabilities_differ || secure != 0 {
        // The inheritable set first, with all else still there: ambient ones and the secure bits need privilege.
        let now = (status.mask("CapEff")?, status.mask("CapPrm")?);
        set_capabilities(builder, now.0, now.1, creds.cap_inheritable)?;
        let clear = [PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0];
        builder.prctl("prctl(PR_CAP_AMBIENT)", &clear)?;
        // SECBIT_NO_CAP_AMBIENT_RAISE would forbid the next step.
        builder.prctl("prctl(PR_SET_SECUREBITS)", &[PR_SET_SECUREBITS, SECURE_WHILE_CHANGING, 0, 0, 0])?;
        for capability in (0..64).filter(|capability| creds.cap_ambient & (1 << capability) != 0) {
            let raise = [PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, capability, 0, 0];
            builder.prctl("prctl(PR_CAP_AMBIENT_RAISE)", &raise)?;
        }
        builder.prctl("prctl(PR_SET_SECUREBITS)", &[PR_SET_SECUREBITS, secure, 0, 0, 0])?;
        set_capabilities(builder, creds.cap_effective, creds.cap_permitted, creds.cap_inheritable)?;
    }
    if creds.no_new_privs {
        builder.prctl("prctl(PR_SET_NO_NEW_PRIVS)", &[PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0])?;
    }
    Ok(())
}

/// Gives the thread of `builder` the users and groups of these credentials; its capabilities stay.
pub(crate) fn restore_users(builder: &mut Builder<'_>, creds: &CredsV1) -> RestoreResult<()> {
    let status = Status::of(builder.remote.pid(), builder.remote.tid())?;
    restore_groups(builder, creds, &status)?;
    restore_ids(builder, creds, &status).map(drop)
}

fn words(ids: &[u32]) -> Vec<u64> {
    ids.iter().map(|id| u64::from(*id)).collect()
}

fn restore_groups(builder: &mut Builder<'_>, creds: &CredsV1, status: &Status) -> RestoreResult<()> {
    let tid = builder.remote.tid();
    if status.numbers("Groups") != words(&creds.groups) && !keeps_groups(tid, creds, status)? {
        let bytes: Vec<u8> = creds.groups.iter().flat_map(|group| group.to_ne_bytes()).collect();
        let at = builder.place(&bytes)?.get();
        let count = u64::try_from(creds.groups.len()).unwrap_or(0);
        builder.call("setgroups", &format!("thread {tid}"), libc::SYS_setgroups, &[count, at])?;
    }
    Ok(())
}

/// Whether they were others.
fn restore_ids(builder: &mut Builder<'_>, creds: &CredsV1, status: &Status) -> RestoreResult<bool> {
    let object = format!("thread {}", builder.remote.tid());
    let is = |name: &str, ids: &[u32]| status.numbers(name) == words(ids);
    let changes_ids = !is("Uid", &creds.uid) || !is("Gid", &creds.gid);
    if changes_ids {
        builder.prctl("prctl(PR_SET_SECUREBITS)", &[PR_SET_SECUREBITS, SECURE_WHILE_CHANGING, 0, 0, 0])?;
        builder.call("setresgid", &object, libc::SYS_setresgid, &words(&creds.gid[..3]))?;
        builder.call("setfsgid", &object, libc::SYS_setfsgid, &words(&creds.gid[3..]))?;
        builder.call("setresuid", &object, libc::SYS_setresuid, &words(&creds.uid[..3]))?;
        builder.call("setfsuid", &object, libc::SYS_setfsuid, &words(&creds.uid[3..]))?;
    }
    Ok(changes_ids)
}

/// In a user namespace that a user made without help nobody may change groups: the thread has those of whoever restores it.
fn keeps_groups(tid: i32, creds: &CredsV1, status: &Status) -> RestoreResult<bool> {
    if proc::read_text(tid, "setgroups")?.trim() != "deny" {
        return Ok(false);
    }
    // Those without a number in the namespace are all shown as nobody's.
    if status.numbers("Groups").len() != creds.groups.len() {
        tracing::warn!(
            tid,
            "supplementary groups are those of the user who restores: they cannot be changed without privilege"
        );
    }
    Ok(true)
}

fn set_capabilities(
    builder: &mut Builder<'_>,
    effective: u64,
    permitted: u64,
    inheritable: u64,
) -> RestoreResult<()> {
    let halves = |mask: u64| [mask & 0xffff_ffff, mask >> 32];
    let (e, p, i) = (halves(effective), halves(permitted), halves(inheritable));
    let words = [e[0], p[0], i[0], e[1], p[1], i[1]];
    let bytes: Vec<u8> =
        words.iter().flat_map(|word| u32::try_from(*word).unwrap_or(0).to_ne_bytes()).collect();
    let mut header = CAPABILITY_VERSION_3.to_ne_bytes().to_vec();
    header.extend([0; 4]);
    let header = builder.place(&header)?.get();
    let data = builder.place(&bytes)?.get();
    let object = format!("thread {}", builder.remote.tid());
    builder.call("capset", &object, libc::SYS_capset, &[header, data])?;
    Ok(())
}

//! Credentials of a thread.
use crate::error::CaptureResult;
use ckpt_image::record::CredsV1;
use ckpt_sys::proc::{malformed, status::Status};

/// Credentials from a thread's status; the secure bits are what PR_GET_SECUREBITS told.
pub(crate) fn capture_creds(tid: i32, status: &Status, securebits: u32) -> CaptureResult<CredsV1> {
    let four = |name: &'static str| -> CaptureResult<[u32; 4]> {
        let numbers: Vec<u32> =
            status.numbers(name).into_iter().filter_map(|number| u32::try_from(number).ok()).collect();
        Ok(numbers.try_into().map_err(|_| malformed(name, tid))?)
    };
    Ok(CredsV1 {
        uid: four("Uid")?,
        gid: four("Gid")?,
        groups: status.numbers("Groups").into_iter().filter_map(|group| u32::try_from(group).ok()).collect(),
        cap_inheritable: status.mask("CapInh")?,
        cap_permitted: status.mask("CapPrm")?,
        cap_effective: status.mask("CapEff")?,
        cap_bounding: status.mask("CapBnd")?,
        cap_ambient: status.mask("CapAmb")?,
        securebits,
        no_new_privs: status.number("NoNewPrivs")? != 0,
    })
}

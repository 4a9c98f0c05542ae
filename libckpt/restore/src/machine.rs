//! Whether this machine can take an image.
use crate::error::{RestoreError, RestoreResult};
use ckpt_image::Image;
use ckpt_image::page::PAGE_SIZE;

/// Compares the inventory with this machine.
pub(crate) fn check(image: &Image) -> RestoreResult<()> {
    let inventory = image.inventory()?;
    let own = nix::sys::utsname::uname()
        .map_err(|errno| ckpt_sys::SysError::new("uname", "this machine", errno))?
        .machine()
        .to_string_lossy()
        .into_owned();
    if inventory.machine != own {
        return Err(RestoreError::Machine {
            reason: format!("it was taken on {}, this is {own}", inventory.machine),
            remedy: format!("Restore on a machine with a {} processor", inventory.machine),
        });
    }
    if usize::try_from(inventory.page_size) != Ok(PAGE_SIZE) {
        return Err(RestoreError::Machine {
            reason: format!("its pages have {} bytes, this machine's {PAGE_SIZE}", inventory.page_size),
            remedy: "Restore on a machine with the same page size".into(),
        });
    }
    Ok(())
}

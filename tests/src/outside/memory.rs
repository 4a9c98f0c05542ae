//! Every page of writable memory.
use super::View;
use super::vmas::{self, Vma};
use std::fs::File;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::ops::Range;
use std::os::unix::fs::FileExt;

/// Bytes of a page, for addresses and for buffers.
const PAGE: u64 = 4096;
const BYTES: usize = 4096;

/// A hash of every page of writable memory that is not all zero; the bytes in `volatile` count as zero.
pub(super) fn look(view: &mut View, pid: i32, volatile: &[Range<u64>]) {
    let memory = File::open(format!("/proc/{pid}/mem")).expect("memory");
    let pagemap = File::open(format!("/proc/{pid}/pagemap")).expect("pagemap");
    for vma in vmas::read(pid).iter().filter(|vma| vma.perms.starts_with("rw")) {
        for address in (vma.start..vma.end).step_by(BYTES) {
            if !worth_reading(vma, &pagemap, address) {
                continue;
            }
            let mut page = [0u8; BYTES];
            // Beyond a mapped file's end, and in a guard region, there is nothing to read.
            if memory.read_exact_at(&mut page, address).is_err() {
                continue;
            }
            hide(&mut page, address, volatile);
            if page != [0; BYTES] {
                let mut hasher = DefaultHasher::new();
                page.hash(&mut hasher);
                view.set(format!("page {address:012x} of {}", vma.name), format!("{:016x}", hasher.finish()));
            }
        }
    }
}

/// Private anonymous pages that are not there are zero; to read one would make it be there.
fn worth_reading(vma: &Vma, pagemap: &File, address: u64) -> bool {
    let anonymous = !vma.name.starts_with('/') && vma.perms.ends_with('p');
    let mut entry = [0; 8];
    let known = pagemap.read_exact_at(&mut entry, address / PAGE * 8).is_ok();
    let present_or_swapped = u64::from_le_bytes(entry) >> 62 != 0;
    !anonymous || !known || present_or_swapped
}

fn hide(page: &mut [u8; BYTES], address: u64, volatile: &[Range<u64>]) {
    for range in volatile {
        for byte in range.clone() {
            if let Some(offset) = byte.checked_sub(address).filter(|&offset| offset < PAGE) {
                page[usize::try_from(offset).expect("less than a page")] = 0;
            }
        }
    }
}

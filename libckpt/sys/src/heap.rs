//! This process's heap: a page that is allocated for the first time costs a page fault, which takes longer than most system calls.
use nix::errno::Errno;
use nix::sys::mman::{MmapAdvise, madvise};
use std::ffi::c_void;
use std::hint::black_box;
use std::ptr::NonNull;

/// Largest allocation that malloc(3) can be told to take from the heap rather than to map.
const LARGEST: usize = 16 << 20;
const PAGE: usize = 4096;

/// Brings `bytes` of fresh heap into memory, which the next allocations of any thread find there. From then on the process keeps what it frees.
pub fn populate(bytes: usize) {
    // SAFETY: mallopt(3) takes numbers. All three are in the ranges that glibc allows; another C library ignores them.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 1);
        libc::mallopt(libc::M_MMAP_THRESHOLD, i32::try_from(2 * LARGEST).unwrap_or(i32::MAX));
        libc::mallopt(libc::M_TRIM_THRESHOLD, i32::MAX);
    }
    let mut pieces: Vec<Vec<u8>> = Vec::new();
    let mut left = bytes;
    while left > 0 {
        let len = left.min(LARGEST);
        let mut piece = Vec::with_capacity(len);
        touch(&mut piece, len);
        pieces.push(piece);
        left -= len;
    }
    drop(black_box(pieces));
}

fn touch(piece: &mut Vec<u8>, len: usize) {
    let start = piece.as_mut_ptr();
    let skip = start.align_offset(PAGE);
    if let (Some(whole), Some(first)) = (len.checked_sub(skip), NonNull::new(start.wrapping_add(skip))) {
        let advise = |how| {
            // SAFETY: whole pages of our own buffer, which hold nothing; their contents are not changed.
            unsafe { madvise(first.cast::<c_void>(), whole / PAGE * PAGE, how) }
        };
        // Without huge pages it takes longer.
        let _ = advise(MmapAdvise::MADV_HUGEPAGE);
        let advised = advise(MmapAdvise::MADV_POPULATE_WRITE);
        // A kernel before 5.14 does not know it.
        if advised != Err(Errno::EINVAL) {
            return;
        }
    }
    piece.resize(len, 1);
    black_box(piece);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults() -> i64 {
        nix::sys::resource::getrusage(nix::sys::resource::UsageWho::RUSAGE_THREAD)
            .unwrap()
            .minor_page_faults()
    }

    #[test]
    fn what_is_allocated_after_it_is_there() {
        populate(40 << 20);
        let before = faults();
        let all: Vec<Vec<u8>> =
            (0..8192).map(|n| vec![u8::try_from(n % 255 + 1).unwrap_or(1); 4000]).collect();
        assert!(faults() - before < 200, "{} page faults", faults() - before);
        drop(black_box(all));
    }
}

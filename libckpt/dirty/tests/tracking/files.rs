//! Mappings of files and shared memory of a real process.
use crate::common::{PAGE, RW, Remote, pages, with_target};
use ckpt_dirty::Kind;
use std::ops::Range;

/// Maps 16 pages of a memfd, which behaves as a file does, and reads them all.
fn map_file(remote: &mut Remote<'_>, flags: i32) -> (u64, Range<u64>) {
    let name = remote.0.place_path(b"data").unwrap();
    let fd = remote.call(libc::SYS_memfd_create, &[name.get(), 0]);
    remote.call(libc::SYS_ftruncate, &[fd, 16 * PAGE]);
    let args = [0, 16 * PAGE, u64::from(RW.unsigned_abs()), u64::from(flags.unsigned_abs()), fd, 0];
    let start = remote.call(libc::SYS_mmap, &args);
    let all = start..start + 16 * PAGE;
    let mut text = vec![0; 16 * 4096];
    remote.0.memory().read(ckpt_sys::RemoteAddr::new(start), &mut text).unwrap();
    (fd, all)
}

#[test]
fn of_a_private_file_mapping_only_own_copies_count() {
    with_target(|_, remote, tracker| {
        let (_, all) = map_file(remote, libc::MAP_PRIVATE);
        assert_eq!(tracker.collect(all.clone(), Kind::PrivateFile).unwrap(), Default::default());
        remote.write(pages(&all, 2, 5));
        let now = tracker.collect(all.clone(), Kind::PrivateFile).unwrap();
        assert_eq!(
            (&now.populated[..], &now.dirty[..]),
            (&[pages(&all, 2, 5)][..], &[pages(&all, 2, 5)][..])
        );
        remote.write(pages(&all, 4, 6));
        let now = tracker.collect(all.clone(), Kind::PrivateFile).unwrap();
        assert_eq!(now.dirty, [pages(&all, 4, 6)]);
        // A copy that was dropped is the file's page again. The kernel leaves a marker, which is dirty: reading it gives the file's bytes.
        remote.madvise(pages(&all, 2, 3), libc::MADV_DONTNEED);
        let now = tracker.collect(all.clone(), Kind::PrivateFile).unwrap();
        let kept = |pages: &[Range<u64>]| pages.iter().all(|range| range.start >= all.start + 3 * PAGE);
        assert!(now.dirty == [pages(&all, 2, 3)] || kept(&now.populated), "{now:x?}");
    });
}

#[test]
fn shared_pages_are_seen_when_written_through_the_mapping() {
    with_target(|_, remote, tracker| {
        let (_, all) = map_file(remote, libc::MAP_SHARED);
        tracker.collect(all.clone(), Kind::Shared).unwrap();
        remote.write(pages(&all, 7, 8));
        assert_eq!(tracker.collect(all.clone(), Kind::Shared).unwrap().dirty, [pages(&all, 7, 8)]);
        assert!(tracker.collect(all, Kind::Shared).unwrap().dirty.is_empty());
    });
}

//! Anonymous memory of a real process.
use crate::common::{PAGE, PRIVATE, RW, pages, with_target};
use ckpt_dirty::Kind;
use std::ops::Range;

#[test]
fn only_written_pages_are_dirty_again() {
    with_target(|_, remote, tracker| {
        let all = remote.mmap(64 * PAGE, RW, PRIVATE);
        remote.write(pages(&all, 0, 32));
        let first = tracker.collect(all.clone(), Kind::Anonymous).unwrap();
        assert_eq!(first.populated, [pages(&all, 0, 32)]);
        assert_eq!(first.dirty, [pages(&all, 0, 32)], "what is new is dirty");
        let second = tracker.collect(all.clone(), Kind::Anonymous).unwrap();
        assert_eq!(second.populated, first.populated);
        assert!(second.dirty.is_empty());
        remote.write(pages(&all, 3, 5));
        remote.poke(all.start + 9 * PAGE);
        remote.write(pages(&all, 40, 41));
        let third = tracker.collect(all.clone(), Kind::Anonymous).unwrap();
        assert_eq!(third.dirty, [pages(&all, 3, 5), pages(&all, 9, 10), pages(&all, 40, 41)]);
        assert_eq!(third.populated, [pages(&all, 0, 32), pages(&all, 40, 41)]);
        assert!(tracker.collect(all, Kind::Anonymous).unwrap().dirty.is_empty());
    });
}

#[test]
fn dropped_and_zero_pages_are_not_populated() {
    with_target(|_, remote, tracker| {
        let all = remote.mmap(16 * PAGE, RW, PRIVATE);
        remote.write(all.clone());
        tracker.collect(all.clone(), Kind::Anonymous).unwrap();
        remote.madvise(pages(&all, 4, 8), libc::MADV_DONTNEED);
        // A read of a dropped page maps the zero page.
        let mut byte = [1];
        remote.0.memory().read(ckpt_sys::RemoteAddr::new(all.start + 5 * PAGE), &mut byte).unwrap();
        assert_eq!(byte, [0]);
        let now = tracker.collect(all.clone(), Kind::Anonymous).unwrap();
        assert_eq!(now.populated, [pages(&all, 0, 4), pages(&all, 8, 16)]);
        assert!(now.dirty.is_empty());
        remote.write(pages(&all, 5, 6));
        let now = tracker.collect(all.clone(), Kind::Anonymous).unwrap();
        assert_eq!(now.dirty, [pages(&all, 5, 6)]);
    });
}

/// Of mappings side by side, each is told what a look at it alone would tell.
#[test]
fn small_mappings_side_by_side() {
    with_target(|_, remote, tracker| {
        let all = remote.mmap(64 * PAGE, RW, PRIVATE);
        // Two stacks with guards, and a mapping that is not to be read any more.
        let mappings =
            [(0, 1), (1, 20), (20, 21), (21, 40), (40, 64)].map(|(first, end)| pages(&all, first, end));
        remote.write(pages(&all, 15, 20));
        remote.write(pages(&all, 38, 50));
        for hidden in [0, 2, 4] {
            let range = &mappings[hidden];
            remote.call(libc::SYS_mprotect, &[range.start, range.end - range.start, 0]);
        }
        let told = |found: Vec<ckpt_dirty::Pages>| -> Vec<_> {
            found.into_iter().map(|pages| (pages.populated, pages.dirty)).collect()
        };
        let written =
            [vec![], vec![pages(&all, 15, 20)], vec![], vec![pages(&all, 38, 40)], vec![pages(&all, 40, 50)]];
        let first = told(tracker.collect_small(&mappings).unwrap());
        assert_eq!(first, written.clone().map(|range| (range.clone(), range)));
        remote.write(pages(&all, 19, 20));
        remote.poke(all.start + 41 * PAGE);
        let again = [vec![], vec![pages(&all, 19, 20)], vec![], vec![], vec![pages(&all, 41, 42)]];
        let second = told(tracker.collect_small(&mappings).unwrap());
        assert_eq!(second, written.clone().into_iter().zip(again).collect::<Vec<_>>());
        let third = told(tracker.collect_small(&mappings).unwrap());
        assert_eq!(third, written.map(|range| (range, vec![])));
    });
}

/// Pages that a page table has entries for.
const TABLE: u64 = 512;

/// Looks at a full mapping of many page tables, some of which are given back as a whole.
fn whole_tables_are_dropped(advice: i32) {
    with_target(|_, remote, tracker| {
        let room = remote.mmap(50 * TABLE * PAGE, RW, PRIVATE);
        let start = room.start.next_multiple_of(TABLE * PAGE);
        let all = start..start + 48 * TABLE * PAGE;
        remote.madvise(all.clone(), advice);
        remote.write(all.clone());
        tracker.collect(all.clone(), Kind::Anonymous).unwrap();
        let clean = tracker.collect(all.clone(), Kind::Anonymous).unwrap();
        assert_eq!((clean.populated, clean.dirty), (vec![all.clone()], vec![]));

        remote.madvise(pages(&all, 3 * TABLE, 5 * TABLE), libc::MADV_DONTNEED);
        remote.madvise(pages(&all, 40 * TABLE, 41 * TABLE), libc::MADV_DONTNEED);
        remote.madvise(pages(&all, 7 * TABLE + 9, 7 * TABLE + 11), libc::MADV_DONTNEED);
        remote.write(pages(&all, 20 * TABLE - 1, 20 * TABLE + 1));
        remote.poke(all.start + 4 * TABLE * PAGE);
        let now = tracker.collect(all.clone(), Kind::Anonymous).unwrap();
        let there = [
            pages(&all, 0, 3 * TABLE),
            pages(&all, 4 * TABLE, 4 * TABLE + 1),
            pages(&all, 5 * TABLE, 7 * TABLE + 9),
            pages(&all, 7 * TABLE + 11, 40 * TABLE),
            pages(&all, 41 * TABLE, 48 * TABLE),
        ];
        // One write to a huge page may be one of all its pages.
        let holds = |wanted: &[Range<u64>], found: &[Range<u64>]| {
            wanted
                .iter()
                .all(|page| found.iter().any(|range| range.start <= page.start && page.end <= range.end))
        };
        assert!(holds(&there, &now.populated), "{:x?}", now.populated);
        assert!(!holds(&[pages(&all, 3 * TABLE, 3 * TABLE + 1)], &now.populated));
        assert!(!holds(&[pages(&all, 7 * TABLE + 9, 7 * TABLE + 10)], &now.populated));
        assert!(!holds(&[pages(&all, 40 * TABLE + 5, 40 * TABLE + 6)], &now.populated));
        assert!(holds(&[there[1].clone(), pages(&all, 20 * TABLE - 1, 20 * TABLE + 1)], &now.dirty));
        let bytes: u64 = now.dirty.iter().map(|range| range.end - range.start).sum();
        assert!(bytes <= 4 * TABLE * PAGE, "{:x?}", now.dirty);
        assert!(tracker.collect(all, Kind::Anonymous).unwrap().dirty.is_empty());
    });
}

#[test]
fn page_tables_that_are_given_back() {
    whole_tables_are_dropped(libc::MADV_NOHUGEPAGE);
}

#[test]
fn huge_pages_that_are_given_back() {
    whole_tables_are_dropped(libc::MADV_HUGEPAGE);
}

#[test]
fn guard_pages_are_told_apart() {
    with_target(|_, remote, tracker| {
        const MADV_GUARD_INSTALL: i32 = 102;
        let all = remote.mmap(16 * PAGE, RW, PRIVATE);
        remote.write(pages(&all, 0, 8));
        remote.madvise(pages(&all, 6, 10), MADV_GUARD_INSTALL);
        for _ in 0..2 {
            let now = tracker.collect(all.clone(), Kind::Anonymous).unwrap();
            assert_eq!(now.guards, [pages(&all, 6, 10)]);
            assert_eq!(now.populated, [pages(&all, 0, 6)]);
        }
        assert!(remote.try_call(libc::SYS_getrandom, &[all.start + 7 * PAGE, 64, 0]).is_err());
    });
}

#[test]
fn a_huge_page_is_tracked_by_small_ones() {
    with_target(|_, remote, tracker| {
        const HUGE: u64 = 2 << 20;
        let all = remote.mmap(4 * HUGE, RW, PRIVATE);
        remote.madvise(all.clone(), libc::MADV_HUGEPAGE);
        let huge = all.start.next_multiple_of(HUGE);
        remote.write(huge..huge + PAGE);
        let now = tracker.collect(all.clone(), Kind::Anonymous).unwrap();
        if now.populated != [huge..huge + HUGE] {
            println!("the kernel gave no huge page: {:x?}", now.populated);
            return;
        }
        remote.write(huge + 17 * PAGE..huge + 18 * PAGE);
        let now = tracker.collect(all, Kind::Anonymous).unwrap();
        assert_eq!(now.dirty, [huge + 17 * PAGE..huge + 18 * PAGE]);
        assert_eq!(now.populated, [huge..huge + HUGE]);
    });
}

#[test]
fn what_moved_is_all_dirty_and_tracked_again() {
    with_target(|_, remote, tracker| {
        let all = remote.mmap(8 * PAGE, RW, PRIVATE);
        remote.write(all.clone());
        tracker.collect(all.clone(), Kind::Anonymous).unwrap();
        let to = remote.mmap(8 * PAGE, RW, PRIVATE);
        let flags = u64::from((libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED).unsigned_abs());
        remote.call(libc::SYS_mremap, &[all.start, 8 * PAGE, 8 * PAGE, flags, to.start]);
        assert_eq!(tracker.collect(to.clone(), Kind::Anonymous).unwrap().dirty, [pages(&to, 0, 8)]);
        assert!(tracker.collect(to.clone(), Kind::Anonymous).unwrap().dirty.is_empty());
        remote.write(pages(&to, 2, 3));
        assert_eq!(tracker.collect(to.clone(), Kind::Anonymous).unwrap().dirty, [pages(&to, 2, 3)]);
        // A mapping in the place of another.
        remote.call(libc::SYS_munmap, &[to.start, 8 * PAGE]);
        let fixed = u64::from((PRIVATE | libc::MAP_FIXED).unsigned_abs());
        remote.call(libc::SYS_mmap, &[to.start, 8 * PAGE, 3, fixed, u64::MAX, 0]);
        remote.write(pages(&to, 1, 2));
        let now = tracker.collect(to.clone(), Kind::Anonymous).unwrap();
        assert_eq!((now.populated, now.dirty), (vec![pages(&to, 1, 2)], vec![pages(&to, 1, 2)]));
    });
}

#[test]
fn a_reservation_of_terabytes_costs_nothing() {
    with_target(|target, remote, tracker| {
        const SIZE: u64 = 4 << 40;
        let flags = PRIVATE | libc::MAP_NORESERVE;
        let all = remote.mmap(SIZE, libc::PROT_NONE, flags);
        let before = target.status("VmPTE");
        assert_eq!(tracker.collect(all.clone(), Kind::Anonymous).unwrap(), Default::default());
        assert!(tracker.collect_running(all.clone(), Kind::Anonymous).is_empty());
        assert!(tracker.start(all.clone(), Kind::Anonymous).unwrap());
        let middle = all.start + SIZE / 2;
        remote.call(libc::SYS_mprotect, &[middle, 16 * PAGE, 3]);
        remote.write(middle + PAGE..middle + 2 * PAGE);
        for part in [all.start..middle, middle..middle + 16 * PAGE, middle + 16 * PAGE..all.end] {
            tracker.collect(part, Kind::Anonymous).unwrap();
        }
        let grown = target.status("VmPTE") - before;
        assert!(grown <= 64, "page tables grew by {grown} kB");
        assert!(tracker.collect(middle..middle + 16 * PAGE, Kind::Anonymous).unwrap().dirty.is_empty());
    });
}

#[test]
fn a_running_scan_leaves_the_rest_to_the_next() {
    with_target(|_, remote, tracker| {
        let all = remote.mmap(16 * PAGE, RW, PRIVATE);
        remote.write(pages(&all, 0, 8));
        assert_eq!(tracker.collect_running(all.clone(), Kind::Anonymous), [pages(&all, 0, 8)]);
        assert!(tracker.collect_running(all.clone(), Kind::Anonymous).is_empty());
        remote.write(pages(&all, 7, 9));
        tracker.doubt(pages(&all, 1, 2));
        let now = tracker.collect(all.clone(), Kind::Anonymous).unwrap();
        assert_eq!(now.dirty, [pages(&all, 1, 2), pages(&all, 7, 9)]);
        // The mapping went while it was scanned: nothing is found, nothing fails.
        remote.call(libc::SYS_munmap, &[all.start, 8 * PAGE]);
        tracker.collect_running(all.clone(), Kind::Anonymous);
        let rest = pages(&all, 8, 16);
        assert_eq!(tracker.collect(rest, Kind::Anonymous).unwrap().populated, [pages(&all, 8, 9)]);
    });
}

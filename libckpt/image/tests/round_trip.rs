//! What is written comes back, from every member of a chain.
mod common;
use ckpt_image::page::PAGE_SIZE;
use ckpt_image::record::{FsV1, InventoryV1, ThreadV1};
use ckpt_image::{Kind, PageRun, StoreError};
use common::*;

#[test]
fn records_and_pages_come_back() {
    let (_dir, store) = new_store();
    let id = save(&store, "job", None, |w| {
        w.record(&fs(1)).unwrap();
        w.record(&fs(2)).unwrap();
        w.pages(MM, 100, &pages(0..200)).unwrap();
        w.pages(SHM, 0, &pages([7])).unwrap();
    });
    let image = store.image(&id).unwrap();
    assert_eq!(image.inventory().unwrap(), inventory("job"));
    assert_eq!(image.records::<InventoryV1>().unwrap().len(), 1);
    assert_eq!(image.records::<FsV1>().unwrap(), [fs(1), fs(2)]);
    assert!(image.records::<ThreadV1>().unwrap().is_empty());
    assert_eq!(contents(&image, MM, 0..1000), expect((0..200).map(|n| (100 + n, n))));
    assert_eq!(contents(&image, MM, 150..152), expect([(150, 50), (151, 51)]));
    assert_eq!(contents(&image, SHM, 0..1 << 52), expect([(0, 7)]));
    assert_eq!(image.page_count(MM), 200);
    assert_eq!(image.page(MM, 100).unwrap(), Some(page(0)));
    assert_eq!(image.page(MM, 99).unwrap(), None);
    let m = image.manifest();
    assert_eq!((m.kind, m.sequence, m.stats.pause_us), (Kind::Full, 1, 5));
    let on_disk: u64 =
        m.files.iter().map(|f| store.path().join("data").join(&f.name).metadata().unwrap().len()).sum();
    let manifest = store.path().join(format!("manifests/{id}.manifest")).metadata().unwrap().len();
    assert_eq!(m.stats.bytes_written, on_disk + manifest);
    assert_eq!(std::fs::read_dir(store.path().join("tmp")).unwrap().count(), 0);
}

#[test]
fn zero_pages_are_absent_and_hide_the_parents() {
    let (_dir, store) = new_store();
    let full = save(&store, "job", None, |w| {
        let mut bytes = pages(0..10);
        bytes[3 * PAGE_SIZE..5 * PAGE_SIZE].fill(0);
        w.pages(MM, 0, &bytes).unwrap();
        assert_eq!(w.pages_stored(), 8);
    });
    let image = store.image(&full).unwrap();
    let run = |first_page, count, present| PageRun { first_page, count, present };
    assert_eq!(
        image.runs(MM, 1..20),
        [run(1, 2, true), run(3, 2, false), run(5, 5, true), run(10, 10, false)]
    );
    let next = save(&store, "job", Some(&full), |w| {
        w.pages(MM, 8, &vec![0; PAGE_SIZE]).unwrap();
        w.absent(MM, 0, 2).unwrap();
    });
    let image = store.image(&next).unwrap();
    assert_eq!(contents(&image, MM, 0..20), expect([(2, 2), (5, 5), (6, 6), (7, 7), (9, 9)]));
    assert_eq!(image.chain(), [full, next]);
}

#[test]
fn later_pages_override_earlier_ones() {
    let (_dir, store) = new_store();
    let id = save(&store, "job", None, |w| {
        w.pages(MM, 0, &pages(0..130)).unwrap();
        w.absent(MM, 7, 1).unwrap();
        w.pages(MM, 5, &pages([500, 501, 502])).unwrap();
        w.pages(MM, 64, &vec![0; PAGE_SIZE]).unwrap();
    });
    let tag = |n| if (5..8).contains(&n) { n + 495 } else { n };
    let wanted = expect((0..130).filter(|n| *n != 64).map(|n| (n, tag(n))));
    assert_eq!(contents(&store.image(&id).unwrap(), MM, 0..200), wanted);
}

#[test]
fn live_ranges_bound_what_is_inherited() {
    let (_dir, store) = new_store();
    let a = save(&store, "job", None, |w| {
        w.pages(MM, 0, &pages(0..100)).unwrap();
        w.pages(SHM, 0, &pages([9])).unwrap();
    });
    let b = save(&store, "job", Some(&a), |w| {
        w.live(MM, 10, 20).unwrap();
        w.live(MM, 50, 5).unwrap();
        w.pages(MM, 29, &pages([129, 130])).unwrap();
    });
    // Mapped again: what was there before must not come back.
    let c = save(&store, "job", Some(&b), |w| w.live(MM, 0, 100).unwrap());
    let d = save(&store, "job", Some(&c), |w| w.pages(MM, 90, &pages([190])).unwrap());
    let b_pages = || (10..29).chain(50..55).map(|n| (n, n)).chain([(29, 129)]);
    for (id, wanted) in
        [(&b, expect(b_pages())), (&c, expect(b_pages())), (&d, expect(b_pages().chain([(90, 190)])))]
    {
        let image = store.image(id).unwrap();
        assert_eq!(contents(&image, MM, 0..200), wanted);
        assert_eq!(image.page_count(SHM), 0);
    }
    assert_eq!(contents(&store.image(&a).unwrap(), MM, 0..200).len(), 100);
}

#[test]
fn jobs_and_checkpoints_are_listed_in_order() {
    let (_dir, store) = new_store();
    let a1 = save(&store, "a", None, |_| {});
    let b1 = save(&store, "b", None, |_| {});
    let a2 = save(&store, "a", Some(&a1), |_| {});
    let ids = |job| store.checkpoints(job).unwrap().into_iter().map(|m| m.id).collect::<Vec<_>>();
    assert_eq!(ids(None), [a1.clone(), b1.clone(), a2.clone()]);
    assert_eq!(ids(Some("a")), [a1.clone(), a2.clone()]);
    assert_eq!(store.jobs().unwrap(), ["a", "b"]);
    assert_eq!(store.latest("a").unwrap().unwrap().id, a2);
    assert_eq!(store.latest("a").unwrap().unwrap().sequence, 2);
    assert!(store.latest("c").unwrap().is_none());
    let unknown = "000000000000".parse().unwrap();
    assert!(matches!(store.image(&unknown), Err(StoreError::NoCheckpoint { .. })));
    assert!(matches!(store.begin("b", Some(&a1)), Err(StoreError::ForeignParent { .. })));
    assert!(matches!(store.begin("a", Some(&unknown)), Err(StoreError::NoCheckpoint { .. })));
    assert!(matches!(store.begin("a\n", None), Err(StoreError::InvalidJob { .. })));
}

#[test]
fn an_image_is_read_by_several_threads() {
    let (_dir, store) = new_store();
    let id = save(&store, "job", None, |w| w.pages(MM, 0, &pages(0..1000)).unwrap());
    let image = store.image(&id).unwrap();
    std::thread::scope(|s| {
        for part in 0..4 {
            let image = &image;
            s.spawn(move || {
                let range = part * 250..part * 250 + 250;
                assert_eq!(contents(image, MM, range.clone()), expect(range.map(|n| (n, n))));
            });
        }
    });
}

#[test]
fn a_dropped_writer_leaves_nothing() {
    let (_dir, store) = new_store();
    let mut writer = store.begin("job", None).unwrap();
    writer.pages(MM, 0, &pages(0..300)).unwrap();
    drop(writer);
    for directory in ["tmp", "data", "manifests"] {
        assert_eq!(std::fs::read_dir(store.path().join(directory)).unwrap().count(), 0);
    }
}

#[test]
fn pages_that_are_none_are_refused() {
    let (_dir, store) = new_store();
    let mut writer = store.begin("job", None).unwrap();
    for (first, bytes) in [(0, &[1; 100][..]), (1 << 52, &[1; 4096][..]), (u64::MAX, &[1; 4096][..])] {
        assert!(matches!(writer.pages(MM, first, bytes), Err(StoreError::InvalidPages { .. })));
    }
    assert!(writer.absent(MM, 1, u64::MAX).is_err() && writer.live(MM, 1, 1 << 52).is_err());
}

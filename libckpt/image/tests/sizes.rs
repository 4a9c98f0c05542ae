//! What an incremental checkpoint costs, beside what compressing the changed pages costs.
mod common;
use ckpt_image::page::PAGE_SIZE;
use common::*;

/// Words of a small vocabulary, some numbers and some noise: much as memory of programs is.
fn memory(random: &mut Random) -> Vec<u8> {
    let mut page = Vec::new();
    while page.len() < PAGE_SIZE {
        match random.below(4) {
            0 => page.extend_from_slice(&random.next().to_le_bytes()),
            1 => page.extend_from_slice(&[0; 24]),
            2 => page.extend_from_slice(&random.below(5000).to_le_bytes()),
            _ => page.extend_from_slice(format!("name-{:04}", random.below(300)).as_bytes()),
        }
    }
    page.truncate(PAGE_SIZE);
    page
}

/// In turn: every page is another one, some have changed in places, some are as they were. Never more than `zstd -1` makes of the dirty pages.
#[test]
fn no_more_than_the_dirty_pages_compressed() {
    let mut random = Random::new(11);
    let (_dir, store) = new_store();
    let mut pages: Vec<Vec<u8>> = (0..2048).map(|_| memory(&mut random)).collect();
    let mut last = save(&store, "job", None, |w| w.pages(MM, 0, &pages.concat()).unwrap());
    for new in [1, 2, 8] {
        for page in &mut pages {
            if random.below(new) == 0 {
                *page = memory(&mut random);
            } else if random.below(2) == 0 {
                let at = usize::try_from(random.below(500)).unwrap() * 8;
                page[at..at + 8].copy_from_slice(&random.next().to_le_bytes());
            }
        }
        let dirty = pages.concat();
        let compressed = zstd::bulk::compress(&dirty, 1).unwrap().len() as u64;
        last = save(&store, "job", Some(&last), |w| w.pages(MM, 0, &dirty).unwrap());
        let written = store.manifest(&last).unwrap().stats.bytes_written;
        assert!(written <= compressed, "{written} of {compressed}, one page in {new} is a new one");
        let found = contents(&store.image(&last).unwrap(), MM, 0..4096);
        assert!(found.into_values().eq(pages.iter().cloned()));
    }
}

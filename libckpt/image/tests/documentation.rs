//! `docs/image-format.md` is that of this source, and enough to read a store by.
use std::fs;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_owned()
}

fn page() -> String {
    fs::read_to_string(root().join("../../docs/image-format.md")).unwrap()
}

#[test]
fn the_page_knows_the_source() {
    let format = fs::read_dir(root().join("src/format")).unwrap();
    let mut files: Vec<PathBuf> = format.map(|e| e.unwrap().path()).collect();
    files.push(root().join("src/record/kind.rs"));
    files.sort_by_key(|f| f.file_name().unwrap().to_owned());
    let mut hasher = blake3::Hasher::new();
    for file in files {
        hasher.update(&fs::read(file).unwrap());
    }
    let line = format!("Format source: BLAKE3 `{}`", hasher.finalize());
    assert!(
        page().lines().any(|l| l == line),
        "the format's source has changed: change docs/image-format.md as well, then its line to\n{line}"
    );
}

#[test]
fn the_page_lists_every_kind_of_record() {
    let page = page();
    for kind in 1..1000 {
        if let Some(name) = ckpt_image::record::record_name(kind, 1) {
            assert!(page.contains(&format!("| {kind} | 1 | yes | `{name}`")), "{name}");
        }
    }
}

// From here on the page is taken at its word: no code of the library reads the golden store.

fn u32_at(bytes: &[u8], at: usize) -> usize {
    u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap()) as usize
}

fn u64_at(bytes: &[u8], at: usize) -> usize {
    usize::try_from(u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap())).unwrap()
}

fn text(bytes: &[u8], at: &mut usize) -> String {
    let length = u64_at(bytes, *at);
    *at += 8 + length;
    String::from_utf8(bytes[*at - length..*at].to_vec()).unwrap()
}

fn digest(parts: &[&[u8]]) -> [u8; 32] {
    *blake3::hash(&parts.concat()).as_bytes()
}

/// Checks the header; of all but packs, the closing digest.
fn file(path: &Path, role: u8) -> Vec<u8> {
    let bytes = fs::read(path).unwrap();
    let name = path.file_name().unwrap().to_str().unwrap();
    assert_eq!(bytes[..12], [0x89, 0x63, 0x6b, 0x70, 0x74, 0x0d, 0x0a, 0x1a, 2, 0, role, 0]);
    assert_eq!(bytes[32..96], [name.as_bytes(), &vec![0; 64 - name.len()]].concat());
    assert_eq!(bytes[96..128], digest(&[&bytes[..96]]));
    if role != 1 && role != 5 {
        let end = bytes.len() - 32;
        assert_eq!(bytes[end..], digest(&[&bytes[..end]]));
    }
    bytes
}

/// A pack's pages by slot.
fn pack(path: &Path) -> Vec<Option<Vec<u8>>> {
    let bytes = file(path, 5);
    let end = bytes.len() - 80;
    let blocks = u32_at(&bytes, end);
    let table = end - 40 * blocks;
    assert_eq!(bytes[end + 48..], digest(&[&bytes[..128], &bytes[table..end + 48]]));
    let hashes = &bytes[table - 16 * u64_at(&bytes, end + 8)..table];
    assert_eq!(bytes[end + 16..end + 48], digest(&[hashes]));
    let (mut slots, mut at) = (Vec::new(), 128);
    for entry in bytes[table..end].chunks(40) {
        let stored = &bytes[at..at + u32_at(entry, 0)];
        at += stored.len();
        assert_eq!(entry[8..], digest(&[stored]));
        let pages = usize::from(entry[4]);
        let raw = match entry[6] {
            0 => stored.to_vec(),
            _ => zstd::bulk::decompress(stored, pages * 4096).unwrap(),
        };
        assert_eq!(raw.len(), pages * 4096);
        let mut block: Vec<_> = raw.chunks(4096).map(|p| Some(p.to_vec())).collect();
        block.resize(64, None);
        slots.extend(block);
    }
    assert_eq!(at + hashes.len(), table);
    assert_eq!(u64_at(&bytes, end + 8), slots.iter().flatten().count());
    let key = blake3::derive_key("ckpt 2026-11-22 hashes of pages", &bytes[16..32]);
    let whole = slots.iter().flatten().zip(hashes.chunks(16));
    let known = whole.filter(|(page, hash)| blake3::keyed_hash(&key, page).as_bytes()[..16] == **hash);
    // But for the delta.
    assert!(known.count() + 1 >= hashes.len() / 16);
    slots
}

/// The body of a records file or a page index.
fn body(file: &[u8]) -> Vec<u8> {
    let stored = &file[128..file.len() - 32];
    let bytes = match u32_at(stored, 0) {
        0 => stored[16..].to_vec(),
        _ => zstd::stream::decode_all(&stored[16..]).unwrap(),
    };
    assert_eq!((u32_at(stored, 4), u64_at(stored, 8)), (0, bytes.len()));
    bytes
}

#[test]
fn the_page_is_enough_to_read_a_store() {
    let store = root().join("tests/golden/store-v2");
    assert_eq!(file(&store.join("format"), 1).len(), 128);
    let mut manifests: Vec<PathBuf> =
        fs::read_dir(store.join("manifests")).unwrap().map(|e| e.unwrap().path()).collect();
    manifests.sort();
    let path = manifests.pop().unwrap();
    let bytes = file(&path, 2);
    let mut at = 128;
    let id = text(&bytes, &mut at);
    assert!(path.ends_with(format!("{id}.manifest")));
    assert_eq!(text(&bytes, &mut at), "golden");
    assert_eq!((u32_at(&bytes, at), bytes[at + 4]), (1, 1), "incremental, with a parent");
    at += 5;
    let parent = text(&bytes, &mut at);
    assert!(manifests[0].ends_with(format!("{parent}.manifest")));
    assert_eq!(u64_at(&bytes, at), 2, "sequence");
    at += 2 * 8 + 7 * 8;
    let count = u64_at(&bytes, at);
    at += 8;
    let mut packs = Vec::new();
    let mut runs = 0;
    for n in 0..count {
        let role = u32_at(&bytes, at) + 1;
        at += 4;
        let name = text(&bytes, &mut at);
        let (length, closing) = (u64_at(&bytes, at), &bytes[at + 8..at + 40]);
        at += 40;
        let data = file(&store.join("data").join(&name), u8::try_from(role).unwrap());
        assert_eq!((data.len(), &data[data.len() - 32..]), (length, closing));
        assert_eq!(role, [3, 4, 5][n.min(2)]);
        match role {
            3 => check_records(&body(&data)),
            4 => runs = check_index(&body(&data), &mut packs),
            _ => assert_eq!(packs[n - 2], name),
        }
    }
    assert_eq!(at, bytes.len() - 32);
    assert!(runs > 0);
    // Page 70 of address space 1 is in the last run of it: its first word says so in the golden test's `page(1070)`.
    let slots = pack(&store.join("data").join(&packs[0]));
    let tag = 1070_u64.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes();
    assert!(slots.iter().flatten().any(|p| p[8..16] == tag));
}

fn check_records(body: &[u8]) {
    let (mut at, mut kinds) = (0, Vec::new());
    while at < body.len() {
        let length = u32_at(body, at + 8);
        let payload = &body[at + 48..at + 48 + length];
        assert_eq!(body[at + 16..at + 48], digest(&[&body[at..at + 16], payload]));
        kinds.push(body[at]);
        at += 48 + length;
    }
    kinds.dedup();
    assert_eq!(kinds, (1..=23).collect::<Vec<u8>>());
}

fn check_index(body: &[u8], packs: &mut Vec<String>) -> usize {
    let (p, live, absent, runs) = (u32_at(body, 4), u64_at(body, 8), u64_at(body, 16), u64_at(body, 24));
    let deltas = u64_at(body, 32);
    assert_eq!((u32_at(body, 0), deltas), (3, 1));
    assert_eq!(body.len(), 40 + 64 * p + 24 * (live + absent) + 32 * runs + 48 * deltas);
    for name in body[40..40 + 64 * p].chunks(64) {
        packs.push(String::from_utf8(name.iter().copied().take_while(|b| *b != 0).collect()).unwrap());
    }
    let mut ranges =
        body[40 + 64 * p..].chunks(24).map(|r| [u32_at(r, 0), u32_at(r, 4), u64_at(r, 8), u64_at(r, 16)]);
    assert_eq!(
        [ranges.next(), ranges.next(), ranges.next()],
        [Some([0, 1, 0, 80]), Some([1, 7, 1, 1]), Some([2, 1, 0, 2])]
    );
    assert_eq!((live, absent, ranges.next()), (3, 1, Some([0, 1, 4, 2])));
    let first = &body[40 + 64 * p + 24 * (live + absent)..];
    assert_eq!((u32_at(first, 0), u32_at(first, 4), u64_at(first, 8), u32_at(first, 24)), (0, 1, 2, 1));
    let delta = &first[32 * runs..];
    assert_eq!((u32_at(delta, 4), u64_at(delta, 8), u32_at(delta, 24)), (1, 60, 1));
    assert!(u32_at(delta, 28) != u32_at(delta, 40), "in its pack, and the parent's");
    runs
}

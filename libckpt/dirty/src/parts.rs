//! Looking through much memory with several threads.
use ckpt_sys::SysResult;
use std::ops::Range;

/// Bytes of memory that are worth a thread to look through.
const PART: u64 = 512 << 20;
/// What a page table has entries for, bytes: parts begin where one does.
pub(crate) const TABLE: u64 = 2 << 20;

/// What `look` finds in the parts of `range`, in their order: with several threads if there is much to look through.
pub(crate) fn look_in_parts<T: Send>(
    range: Range<u64>,
    look: impl Fn(Range<u64>) -> SysResult<T> + Sync,
) -> SysResult<Vec<T>> {
    let worth = (range.end - range.start) / PART;
    if worth < 2 {
        return Ok(vec![look(range)?]);
    }
    let processors =
        std::thread::available_parallelism().map_or(1, |count| u64::try_from(count.get()).unwrap_or(1));
    let parts = processors.min(worth);
    let size = (range.end - range.start) / parts;
    let bound = |number: u64| match number {
        0 => range.start,
        _ if number == parts => range.end,
        _ => (range.start + number * size).next_multiple_of(TABLE),
    };
    let part = |number: u64| bound(number)..bound(number + 1);
    std::thread::scope(|scope| {
        let look = &look;
        let others: Vec<_> = (1..parts).map(part).map(|part| scope.spawn(move || look(part))).collect();
        let mut found = vec![look(part(0))?];
        for other in others {
            found.push(other.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?);
        }
        Ok(found)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parts_are_the_whole() {
        let whole = 0x7000..(20u64 << 30) + 0x3000;
        let parts = look_in_parts(whole.clone(), Ok).unwrap();
        assert_eq!((parts[0].start, parts[parts.len() - 1].end), (whole.start, whole.end));
        assert!(parts.windows(2).all(|two| two[0].end == two[1].start && two[1].start % TABLE == 0));
    }
}

//! Compressing and writing blocks while the caller reads on.
//!
//! Blocks go through a bounded queue to the workers, and in their order through one more thread to the pack.
use super::delta::{Base, Bases, DeltaCoder, Derived};
use super::pack_file::PackFile;
use crate::StoreError;
use crate::format::{BLOCK_PAGES, BlockEntry, FileRef, PageHash, compress_block};
use std::collections::BTreeMap;
use std::io;
use std::num::NonZero;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{Builder, JoinHandle};

/// A block on its way.
type Numbered<T> = (u64, T);
/// A block as a worker gives it on.
type Compressed = Numbered<Result<Finished, StoreError>>;
/// What became of pages, by slot.
pub(super) type DerivedPages = BTreeMap<u64, Derived>;

/// Pages that become a block.
#[derive(Debug, Default)]
pub(super) struct Pages {
    /// Their bytes.
    pub(super) bytes: Vec<u8>,
    /// Their hashes.
    pub(super) hashes: Vec<PageHash>,
    /// Pages of the parent that they may be like.
    pub(super) bases: Vec<Option<Base>>,
}

/// A block that is to be written.
struct Finished {
    entry: BlockEntry,
    stored: Vec<u8>,
    hashes: Vec<PageHash>,
    derived: Vec<(usize, Derived)>,
}
/// Buffers to use again: memory that the kernel has not seen before is slow to touch.
type Pool = Arc<Mutex<Vec<Vec<u8>>>>;

/// Threads that turn blocks of pages into a pack.
#[derive(Debug)]
pub(super) struct Compression {
    queue: Option<SyncSender<Numbered<Pages>>>,
    workers: Vec<JoinHandle<()>>,
    sink: Option<JoinHandle<Result<(FileRef, DerivedPages), StoreError>>>,
    failed: Arc<AtomicBool>,
    pool: Pool,
}

impl Compression {
    /// Starts the threads.
    pub(super) fn start(
        pack: PackFile,
        path: PathBuf,
        options: super::Options,
        bases: &Arc<Bases>,
    ) -> Result<Self, StoreError> {
        let threads = match options.threads {
            // Files of control groups are read for it: nothing that is done for each store that is opened.
            0 => std::thread::available_parallelism().map_or(2, NonZero::get),
            threads => threads,
        };
        let depth = (options.queue_bytes / crate::format::BLOCK_LEN).max(1);
        let (queue, blocks) = sync_channel(depth);
        let (done, compressed) = sync_channel(threads * 2);
        let blocks = Arc::new(Mutex::new(blocks));
        let failed = Arc::new(AtomicBool::new(false));
        let pool = Pool::default();
        let spawning = || StoreError::writing(&path, "start a thread to write");
        let mut this = Self { queue: Some(queue), workers: Vec::new(), sink: None, failed, pool };
        let (failed, pool) = (this.failed.clone(), this.pool.clone());
        let sink = Builder::new().name("ckpt-pack".into());
        let sink = sink.spawn(move || {
            be_nice(options.nice);
            write_in_order(pack, &compressed, &failed, &pool)
        });
        this.sink = Some(sink.map_err(spawning())?);
        for _ in 0..threads {
            let (blocks, done, pool, path) = (blocks.clone(), done.clone(), this.pool.clone(), path.clone());
            let bases = bases.clone();
            let work = move || {
                be_nice(options.nice);
                let outcome = Worker::new(options.level, bases, path);
                work_off(outcome, &blocks, &done, &pool);
            };
            let worker = Builder::new().name("ckpt-zstd".into()).spawn(work);
            this.workers.push(worker.map_err(spawning())?);
        }
        Ok(this)
    }

    /// An empty buffer.
    pub(super) fn buffer(&self) -> Vec<u8> {
        take(&self.pool)
    }

    /// Queues a block; waits when the queue is full. An error of an earlier block shows here.
    pub(super) fn push(&mut self, number: u64, block: Pages) -> Result<(), StoreError> {
        let sent = !self.failed.load(Ordering::Acquire)
            && self.queue.as_ref().is_some_and(|q| q.send((number, block)).is_ok());
        if sent { Ok(()) } else { self.finish().map(|_| ()) }
    }

    /// Waits for all blocks; ends the pack. Tells which of its pages are not whole.
    pub(super) fn finish(&mut self) -> Result<(FileRef, DerivedPages), StoreError> {
        self.queue = None;
        let lost =
            || StoreError::writing(&PathBuf::from("pack"), "write")(io::Error::other("its thread is gone"));
        for worker in self.workers.drain(..) {
            worker.join().map_err(|_| lost())?;
        }
        self.sink.take().and_then(|s| s.join().ok()).unwrap_or_else(|| Err(lost()))
    }
}

impl Drop for Compression {
    fn drop(&mut self) {
        self.failed.store(true, Ordering::Release);
        if self.sink.is_some() {
            let _ = self.finish();
        }
    }
}

fn take(pool: &Pool) -> Vec<u8> {
    let mut buffer = pool.lock().unwrap_or_else(PoisonError::into_inner).pop().unwrap_or_default();
    buffer.clear();
    buffer
}

fn give_back(pool: &Pool, buffer: Vec<u8>) {
    pool.lock().unwrap_or_else(PoisonError::into_inner).push(buffer);
}

/// One thread's tools.
struct Worker {
    compressor: zstd::bulk::Compressor<'static>,
    deltas: DeltaCoder,
    path: PathBuf,
}

impl Worker {
    fn new(level: i32, bases: Arc<Bases>, path: PathBuf) -> Result<Self, StoreError> {
        let compressor =
            zstd::bulk::Compressor::new(level).map_err(StoreError::writing(&path, "compress"))?;
        Ok(Self { compressor, deltas: DeltaCoder::new(bases)?, path })
    }

    fn compress(&mut self, mut pages: Pages, pool: &Pool) -> Result<Finished, StoreError> {
        let mut stored = take(pool);
        let derived = self.deltas.encode(&mut pages.bytes, &pages.bases);
        let entry = compress_block(&mut self.compressor, &pages.bytes, &mut stored)
            .map_err(StoreError::writing(&self.path, "compress"))?;
        give_back(pool, pages.bytes);
        Ok(Finished { entry, stored, hashes: pages.hashes, derived })
    }
}

fn work_off(
    worker: Result<Worker, StoreError>,
    blocks: &Mutex<Receiver<Numbered<Pages>>>,
    done: &SyncSender<Compressed>,
    pool: &Pool,
) {
    let mut worker = match worker {
        Ok(worker) => worker,
        Err(error) => return drop(done.send((0, Err(error)))),
    };
    loop {
        let next = blocks.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok((number, pages)) = next else { return };
        if done.send((number, worker.compress(pages, pool))).is_err() {
            return;
        }
    }
}

/// Makes this thread nicer; one that may not be is as it was.
fn be_nice(by: i32) {
    // SAFETY: no memory is touched; who is 0 is the calling thread alone.
    unsafe {
        let now = libc::getpriority(libc::PRIO_PROCESS, 0);
        libc::setpriority(libc::PRIO_PROCESS, 0, now + by);
    }
}

/// Receives to the end also after an error, so that nobody waits for ever.
fn write_in_order(
    mut pack: PackFile,
    compressed: &Receiver<Compressed>,
    failed: &AtomicBool,
    pool: &Pool,
) -> Result<(FileRef, DerivedPages), StoreError> {
    let mut derived = DerivedPages::new();
    let mut outcome = Ok(());
    let mut waiting = BTreeMap::new();
    let mut next = 0;
    for (number, result) in compressed {
        waiting.insert(number, result);
        while let Some(result) = waiting.remove(&next) {
            next += 1;
            if outcome.is_ok() && !failed.load(Ordering::Acquire) {
                outcome = result.and_then(|block| {
                    let first = pack.append(block.entry, &block.stored, &block.hashes)? * BLOCK_PAGES as u64;
                    derived
                        .extend(block.derived.into_iter().map(|(index, page)| (first + index as u64, page)));
                    give_back(pool, block.stored);
                    Ok(())
                });
                if outcome.is_err() {
                    failed.store(true, Ordering::Release);
                }
            }
        }
    }
    outcome.and_then(|()| Ok((pack.finish()?, derived)))
}

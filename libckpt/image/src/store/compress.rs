//! Compressing and writing blocks while the caller reads on.
//!
//! Blocks go through a bounded queue to the workers, and in their order through one more thread to the pack.
use super::pack_file::PackFile;
use crate::StoreError;
use crate::format::{BlockEntry, FileRef, compress_block};
use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{Builder, JoinHandle};

/// A block on its way.
type Numbered<T> = (u64, T);
/// A block as a worker gives it on.
type Compressed = Numbered<Result<(BlockEntry, Vec<u8>), StoreError>>;
/// Buffers to use again: memory that the kernel has not seen before is slow to touch.
type Pool = Arc<Mutex<Vec<Vec<u8>>>>;

/// Threads that turn blocks of pages into a pack.
#[derive(Debug)]
pub(super) struct Compression {
    queue: Option<SyncSender<Numbered<Vec<u8>>>>,
    workers: Vec<JoinHandle<()>>,
    sink: Option<JoinHandle<Result<FileRef, StoreError>>>,
    failed: Arc<AtomicBool>,
    pool: Pool,
}

impl Compression {
    /// Starts the threads.
    pub(super) fn start(pack: PackFile, path: PathBuf, options: super::Options) -> Result<Self, StoreError> {
        let threads = options.threads.max(1);
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
        let sink = sink.spawn(move || write_in_order(pack, &compressed, &failed, &pool));
        this.sink = Some(sink.map_err(spawning())?);
        for _ in 0..threads {
            let (blocks, done, pool, path) = (blocks.clone(), done.clone(), this.pool.clone(), path.clone());
            let work = move || compress_blocks(&blocks, &done, &pool, options.level, &path);
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
    pub(super) fn push(&mut self, number: u64, block: Vec<u8>) -> Result<(), StoreError> {
        let sent = !self.failed.load(Ordering::Acquire)
            && self.queue.as_ref().is_some_and(|q| q.send((number, block)).is_ok());
        if sent { Ok(()) } else { self.finish().map(|_| ()) }
    }

    /// Waits for all blocks; ends the pack.
    pub(super) fn finish(&mut self) -> Result<FileRef, StoreError> {
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

fn compress_blocks(
    blocks: &Mutex<Receiver<Numbered<Vec<u8>>>>,
    done: &SyncSender<Compressed>,
    pool: &Pool,
    level: i32,
    path: &std::path::Path,
) {
    let mut compressor = zstd::bulk::Compressor::new(level);
    loop {
        let next = blocks.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok((number, raw)) = next else { return };
        let mut stored = take(pool);
        let entry = match &mut compressor {
            Ok(compressor) => compress_block(compressor, &raw, &mut stored),
            Err(e) => Err(io::Error::new(e.kind(), e.to_string())),
        };
        give_back(pool, raw);
        let result = entry.map(|e| (e, stored)).map_err(StoreError::writing(path, "compress"));
        if done.send((number, result)).is_err() {
            return;
        }
    }
}

/// Receives to the end also after an error, so that nobody waits for ever.
fn write_in_order(
    mut pack: PackFile,
    compressed: &Receiver<Compressed>,
    failed: &AtomicBool,
    pool: &Pool,
) -> Result<FileRef, StoreError> {
    let mut outcome = Ok(());
    let mut waiting = BTreeMap::new();
    let mut next = 0;
    for (number, result) in compressed {
        waiting.insert(number, result);
        while let Some(result) = waiting.remove(&next) {
            next += 1;
            if outcome.is_ok() && !failed.load(Ordering::Acquire) {
                outcome = result.and_then(|(entry, stored)| {
                    pack.append(entry, &stored)?;
                    give_back(pool, stored);
                    Ok(())
                });
                if outcome.is_err() {
                    failed.store(true, Ordering::Release);
                }
            }
        }
    }
    outcome.and_then(|()| pack.finish())
}

//! Parallel loops over the thread pool, and the number of threads.
//!
//! What a task computes never depends on which thread runs it or on how many threads there are: results are the same
//! for any number of threads. A loop within a task, or while another thread's loop is running, runs serially on the
//! calling thread.

use std::mem::ManuallyDrop;
use std::ops::Range;
use std::sync::OnceLock;

use super::pool;
use super::shared_mut::SharedMut;

static COUNT: OnceLock<usize> = OnceLock::new();

/// Starts the pool with `count` threads, the calling one among them (0: one per core), and returns the number of
/// threads in use. The first call decides, be it from here or from the first parallel loop; later counts are ignored.
pub fn initialise(count: usize) -> usize {
    *COUNT.get_or_init(|| {
        let cores = || std::thread::available_parallelism().map_or(1, usize::from);
        let count = pool::start(if count == 0 { cores() } else { count });
        // Loading and data preparation run on rayon's pool, which sleeps meanwhile. An error means that it exists
        // already, and then that one serves.
        let _ = rayon::ThreadPoolBuilder::new().num_threads(count).build_global();
        count
    })
}

/// Threads in use; starts the pool with one per core if it has not been started.
pub fn count() -> usize {
    initialise(0)
}

/// Calls `task` with each index below `tasks`, on all threads. Threads take indices one by one.
pub fn parallel_for(tasks: usize, task: impl Fn(usize) + Sync) {
    count();
    pool::run(tasks, &task);
}

/// Runs `work` on the calling thread and leaves the pool free: parallel loops within it run serially.
pub fn serial<R>(work: impl FnOnce() -> R) -> R {
    pool::serial(work)
}

/// Calls `task` with each chunk of `chunk_len` elements of `values`, and the index of the chunk's first element.
pub fn for_each_chunk<T: Send>(values: &mut [T], chunk_len: usize, task: impl Fn(&mut [T], usize) + Sync) {
    let chunk_len = chunk_len.max(1);
    values.chunks_mut(chunk_len).enumerate().par_for_each(|(index, chunk)| task(chunk, index * chunk_len));
}

/// Parallel loops over the items of an iterator, which is collected first.
pub(crate) trait ParallelExt: Iterator + Sized
where
    Self::Item: Send,
{
    /// Calls `task` with every item.
    fn par_for_each(self, task: impl Fn(Self::Item) + Sync) {
        let mut items: Vec<ManuallyDrop<Self::Item>> = self.map(ManuallyDrop::new).collect();
        let (len, items) = (items.len(), SharedMut::new(&mut items));
        parallel_for(len, |index| {
            // SAFETY: each index comes once, so the item is this task's alone and is moved out of it once.
            task(unsafe { ManuallyDrop::take(&mut items.slice(index, 1)[0]) });
        });
    }

    /// The results of `task`, in the order of the items.
    fn par_map<R: Send>(self, task: impl Fn(Self::Item) -> R + Sync) -> Vec<R> {
        let items: Vec<Self::Item> = self.collect();
        let mut results: Vec<Option<R>> = items.iter().map(|_| None).collect();
        items.into_iter().zip(&mut results).par_for_each(|(item, result)| *result = Some(task(item)));
        results.into_iter().flatten().collect()
    }
}

impl<I: Iterator> ParallelExt for I where I::Item: Send {}

/// Fewest bytes that a task should read to pay for its overhead.
const MIN_TASK_BYTES: usize = 64 << 10;
/// Tasks to aim at when there is more to read.
const TARGET_TASKS: usize = 16;

/// Calls `task` with consecutive ranges of `0..items`, for items of `item_bytes` each that are contiguous in memory.
pub(crate) fn parallel_for_ranges(items: usize, item_bytes: usize, task: impl Fn(Range<usize>) + Sync) {
    let per_task =
        (MIN_TASK_BYTES / item_bytes.max(1)).clamp(1, items.max(1)).max(items.div_ceil(TARGET_TASKS));
    parallel_for(items.div_ceil(per_task), |index| {
        task(index * per_task..((index + 1) * per_task).min(items));
    });
}

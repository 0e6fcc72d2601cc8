//! How many threads the operations use, and how work is shared out among them (see [`crate::pool`]).
//!
//! What a task computes never depends on who does it or on how many threads there are: results are the same for any
//! number of them.

use std::mem::ManuallyDrop;
use std::ops::Range;
use std::sync::OnceLock;

use crate::memory::pointer::SharedMut;
use crate::parallel::pool;

static COUNT: OnceLock<usize> = OnceLock::new();

/// Starts the pool with `count` threads, the calling one among them (0: one per core). The first call decides; later ones are
/// ignored, as is one after an operation already ran. Returns the number of threads in force.
pub fn initialise(count: usize) -> usize {
    *COUNT.get_or_init(|| {
        let cores = || std::thread::available_parallelism().map_or(1, usize::from);
        let count = pool::start(if count == 0 { cores() } else { count });
        // Loading and preparing data share out their work by rayon's pool, which sleeps meanwhile. An error means that it
        // exists already, and then serves.
        let _ = rayon::ThreadPoolBuilder::new().num_threads(count).build_global();
        count
    })
}

/// Threads in force; starts the pool with one per core when nobody did.
pub fn count() -> usize {
    initialise(0)
}

/// Calls `task` with each number below `tasks`, shared out one by one. Within a task, or while another thread's work is
/// shared out, the calling thread does it alone.
pub fn share(tasks: usize, task: impl Fn(usize) + Sync) {
    count();
    pool::run(tasks, &task);
}

/// What `work` makes, by the calling thread alone: for what is done beside other work that wants the cores.
pub fn alone<R>(work: impl FnOnce() -> R) -> R {
    pool::alone(work)
}

/// Calls `task` with parts of `values`, `step` elements each, and the number of each part's first element.
pub fn share_parts<T: Send>(values: &mut [T], step: usize, task: impl Fn(&mut [T], usize) + Sync) {
    let step = step.max(1);
    values.chunks_mut(step).enumerate().share(|(index, part)| task(part, index * step));
}

/// An iterator whose items are tasks.
pub(crate) trait Parts: Iterator + Sized
where
    Self::Item: Send,
{
    /// Calls `task` with every item, shared out among the threads.
    fn share(self, task: impl Fn(Self::Item) + Sync) {
        let mut items: Vec<ManuallyDrop<Self::Item>> = self.map(ManuallyDrop::new).collect();
        let (len, items) = (items.len(), SharedMut::new(&mut items));
        share(len, |index| {
            // SAFETY: each index comes once, so the item is this task's alone and is moved out of it once.
            task(unsafe { ManuallyDrop::take(&mut items.slice(index, 1)[0]) });
        });
    }

    /// As [`Self::share`]: what `task` makes of each item, in their order.
    fn gather<R: Send>(self, task: impl Fn(Self::Item) -> R + Sync) -> Vec<R> {
        let items: Vec<Self::Item> = self.collect();
        let mut results: Vec<Option<R>> = items.iter().map(|_| None).collect();
        items.into_iter().zip(&mut results).share(|(item, result)| *result = Some(task(item)));
        results.into_iter().flatten().collect()
    }
}

impl<I: Iterator> Parts for I where I::Item: Send {}

/// Bytes to read that pay for a task, and tasks to aim at where there are more.
const TASK: usize = 64 << 10;
const TASKS: usize = 16;

/// Shares out `items`, of so many bytes each, that lie together in memory: calls `task` with runs of them.
pub(crate) fn share_out(items: usize, bytes: usize, task: impl Fn(Range<usize>) + Sync) {
    let per_task = (TASK / bytes.max(1)).clamp(1, items.max(1)).max(items.div_ceil(TASKS));
    share(items.div_ceil(per_task), |index| task(index * per_task..((index + 1) * per_task).min(items)));
}

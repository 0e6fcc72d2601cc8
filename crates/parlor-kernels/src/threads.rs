//! How many threads the operations use: one pool for the whole program.

use std::ops::Range;
use std::sync::OnceLock;

use rayon::prelude::*;

static COUNT: OnceLock<usize> = OnceLock::new();

/// Starts the pool with `count` threads (0: one per core). The first call decides; later ones are ignored, as
/// is one after an operation already ran. Returns the number of threads in force.
pub fn initialise(count: usize) -> usize {
    *COUNT.get_or_init(|| {
        let builder = rayon::ThreadPoolBuilder::new().num_threads(count);
        // An error means that a pool exists already, which then serves.
        let _ = builder.thread_name(|index| format!("kernel-{index}")).build_global();
        rayon::current_num_threads()
    })
}

/// Threads in force; starts the pool with one per core when nobody did.
pub fn count() -> usize {
    initialise(0)
}

/// Runs `work` on a thread of the pool: its parallel parts then begin without waking anybody up first, and it takes part
/// in them.
pub fn inside<R: Send>(work: impl FnOnce() -> R + Send) -> R {
    count();
    rayon::scope(|_| work())
}

/// Bytes to read that pay for a task, and tasks to aim at where there are more.
const TASK: usize = 64 << 10;
const TASKS: usize = 16;

/// Shares out `items`, of so many bytes each, that lie together in memory: calls `task` with runs of them.
pub(crate) fn share_out(items: usize, bytes: usize, task: impl Fn(Range<usize>) + Sync) {
    let most = items.max(1);
    let per_task = (TASK / bytes.max(1)).clamp(1, most).max(items.div_ceil(TASKS));
    let run = |index: usize| task(index * per_task..((index + 1) * per_task).min(items));
    match items.div_ceil(per_task) {
        1 => run(0),
        tasks => (0..tasks).into_par_iter().with_max_len(1).for_each(run),
    }
}

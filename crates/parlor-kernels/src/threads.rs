//! How many threads the operations use: one pool for the whole program.

use std::sync::OnceLock;

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

//! Work on several threads: the pool, how many threads there are, and how tasks share a buffer.

mod pool;
mod shared_mut;
pub mod threads;

pub(crate) use shared_mut::SharedMut;
pub(crate) use threads::ParallelExt;

//! Work on several threads: the pool, and how many threads there are.

mod pool;
pub mod threads;

//! The operations between ranks, the process without others, and why ranks cannot work together.

use std::fmt::Debug;

use super::launch::Launcher;

/// Collective operations. Every rank makes the same calls in the same order, one at a time; a call returns
/// when this rank's part is done.
pub trait Collective: Send + Sync + Debug {
    /// Number of this rank, from 0.
    fn rank(&self) -> usize;

    /// Number of ranks.
    fn world_size(&self) -> usize;

    /// All-reduce: replaces `values` by their sums over all ranks, bit-identical on every rank.
    fn sum_f32(&self, values: &mut [f32]);

    /// The same in f64.
    fn sum_f64(&self, values: &mut [f64]);

    /// Replaces `bytes` by those of rank `root`.
    fn broadcast(&self, root: usize, bytes: &mut [u8]);

    /// Ends all ranks with this exit code, because a rank that stops alone would leave the others waiting.
    /// Returns when there are no other ranks.
    fn abort(&self, code: i32);
}

/// The only rank of a run on one machine.
#[derive(Clone, Copy, Debug, Default)]
pub struct Alone;

impl Collective for Alone {
    fn rank(&self) -> usize {
        0
    }

    fn world_size(&self) -> usize {
        1
    }

    fn sum_f32(&self, _: &mut [f32]) {}

    fn sum_f64(&self, _: &mut [f64]) {}

    fn broadcast(&self, _: usize, _: &mut [u8]) {}

    fn abort(&self, _: i32) {}
}

/// Why ranks that were launched together cannot work together.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DistributedError {
    /// The program was built without an engine.
    #[error(
        "this is rank {rank} of {world_size} ({launcher}), but this program was built without MPI\n  build it with \
         `cargo build --release --features mpi`, or start one process"
    )]
    NoEngine {
        /// The launcher.
        launcher: Launcher,
        /// Number of this rank.
        rank: usize,
        /// Number of ranks that were launched.
        world_size: usize,
    },
    /// The engine connects another number of ranks than were launched.
    #[error(
        "{launcher} started {launched} ranks, but MPI connects {connected}\n  start the program with the `mpirun` (or \
         `srun --mpi=...`) of the MPI library that it was built with"
    )]
    Unconnected {
        /// The launcher.
        launcher: Launcher,
        /// Number of ranks that were launched.
        launched: usize,
        /// Number of ranks that MPI connects.
        connected: usize,
    },
    /// The engine does not start.
    #[error("MPI does not start: {0}")]
    Engine(String),
}

//! Data-parallel training: every rank holds the model and takes its share of each step's examples; gradients
//! are summed over the ranks, and each rank keeps the optimizer state of its share of the parameters (ZeRO-1,
//! Rajbhandari et al., 2020), updates them, and broadcasts them.
//!
//! A step over `n` ranks equals the step of one rank with `n` times the accumulation, to rounding. Ranks
//! communicate through [`Collective`] only; MPI is one implementation, built with the feature `mpi`.

mod launch;
#[cfg(feature = "mpi")]
mod mpi;
mod overlap;
mod shards;

use std::fmt::Debug;
use std::sync::Arc;

pub use launch::{Launch, Launcher};
pub(crate) use overlap::sum_overlapped;
pub use shards::Shards;

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

/// Joins the ranks of `launch`. Without a launcher, or with a single rank, the process is [`Alone`].
///
/// # Errors
/// [`DistributedError`]: several ranks were launched that cannot reach each other. They would
/// otherwise train as many models into one directory.
pub fn setup_distributed_training(launch: Option<&Launch>) -> Result<Arc<dyn Collective>, DistributedError> {
    match launch {
        Some(launch) if launch.world_size > 1 => connect(launch),
        _ => Ok(Arc::new(Alone)),
    }
}

#[cfg(feature = "mpi")]
fn connect(launch: &Launch) -> Result<Arc<dyn Collective>, DistributedError> {
    let world = mpi::Mpi::start()?;
    if world.world_size() != launch.world_size {
        let (launched, connected) = (launch.world_size, world.world_size());
        return Err(DistributedError::Unconnected { launcher: launch.launcher, launched, connected });
    }
    Ok(Arc::new(world))
}

#[cfg(not(feature = "mpi"))]
fn connect(launch: &Launch) -> Result<Arc<dyn Collective>, DistributedError> {
    let Launch { launcher, rank, world_size, .. } = *launch;
    Err(DistributedError::NoEngine { launcher, rank, world_size })
}

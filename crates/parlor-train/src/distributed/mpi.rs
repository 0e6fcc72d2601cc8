//! MPI as the engine (rsmpi over the system's library), found at build time through `mpicc`.
//!
//! MPI itself ends all ranks, with a message of its launcher, when one of them dies: its calls know no other
//! error.

use std::sync::Mutex;

use mpi::Threading;
use mpi::collective::SystemOperation;
use mpi::environment::Universe;
use mpi::topology::SimpleCommunicator;
use mpi::traits::{Communicator, CommunicatorCollectives, Root};

use super::{Collective, DistributedError};

/// The ranks that `mpirun` started. Dropping it ends MPI, for which all ranks wait for each other.
pub(crate) struct Mpi {
    rank: usize,
    world_size: usize,
    // Kept so that MPI is finalized when the last owner drops it.
    _universe: Mutex<Universe>,
}

impl std::fmt::Debug for Mpi {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "MPI rank {} of {}", self.rank, self.world_size)
    }
}

impl Mpi {
    /// Starts MPI, once in a process.
    pub(crate) fn start() -> Result<Self, DistributedError> {
        let engine = |text: &str| DistributedError::Engine(text.to_owned());
        // One thread at a time calls MPI: the loop's, or during its backward pass the one that sums gradients.
        let (universe, threading) = mpi::initialize_with_threading(Threading::Serialized)
            .ok_or_else(|| engine("it was started before in this process"))?;
        if threading < Threading::Serialized {
            return Err(engine("this library allows calls from its first thread only"));
        }
        let world = SimpleCommunicator::world();
        let number = |value: i32| usize::try_from(value).unwrap_or(0);
        let (rank, world_size) = (number(world.rank()), number(world.size()));
        Ok(Self { rank, world_size, _universe: Mutex::new(universe) })
    }
}

/// Most elements of one call, since counts are 32-bit in MPI.
const AT_ONCE: usize = 1 << 28;

impl Collective for Mpi {
    fn rank(&self) -> usize {
        self.rank
    }

    fn world_size(&self) -> usize {
        self.world_size
    }

    fn sum_f32(&self, values: &mut [f32]) {
        let world = SimpleCommunicator::world();
        for part in values.chunks_mut(AT_ONCE) {
            let own = part.to_vec();
            world.all_reduce_into(&own[..], part, SystemOperation::sum());
        }
    }

    fn sum_f64(&self, values: &mut [f64]) {
        let own = values.to_vec();
        SimpleCommunicator::world().all_reduce_into(&own[..], values, SystemOperation::sum());
    }

    fn broadcast(&self, root: usize, bytes: &mut [u8]) {
        let world = SimpleCommunicator::world();
        let root = world.process_at_rank(i32::try_from(root).unwrap_or(0));
        bytes.chunks_mut(AT_ONCE).for_each(|part| root.broadcast_into(part));
    }

    fn abort(&self, code: i32) {
        SimpleCommunicator::world().abort(code)
    }
}

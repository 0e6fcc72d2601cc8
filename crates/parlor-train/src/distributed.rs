//! Data-parallel training: every rank holds the model and takes its share of each step's examples; gradients
//! are summed over the ranks, and each rank keeps the optimizer state of its share of the parameters (ZeRO-1,
//! Rajbhandari et al., 2020), updates them, and broadcasts them.
//!
//! A step over `n` ranks equals the step of one rank with `n` times the accumulation, to rounding. Ranks
//! communicate through [`Collective`] only; MPI is one implementation, built with the feature `mpi`.

mod collective;
mod launch;
#[cfg(feature = "mpi")]
mod mpi;
mod overlap;
mod shards;

use std::sync::Arc;

pub use collective::{Alone, Collective, DistributedError};
pub use launch::{Launch, Launcher};
pub(crate) use overlap::sum_overlapped;
pub use shards::Shards;

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

//! The processes that a launcher (`mpirun`, `srun`, `torchrun`) started together with this one.

use std::time::Duration;

use parlor::train::distributed::{Collective, Launch};

use crate::cli::Verb;
use crate::failure::Failure;

/// The launcher's settings; none for a single process.
pub(crate) fn launch() -> Option<Launch> {
    Launch::from_variables(|name| std::env::var(name).ok())
}

/// Threads of the pool: the requested number, or each rank's share of the cores of a machine; 0 leaves it to
/// the pool.
pub(crate) fn threads(asked: Option<usize>, verb: &Verb) -> usize {
    let shared = launch().map_or(1, |launch| launch.local_world_size);
    match asked {
        Some(count) => count,
        None if shared > 1
            && matches!(verb, Verb::Train(_))
            && std::env::var_os("RAYON_NUM_THREADS").is_none() =>
        {
            std::thread::available_parallelism().map_or(1, |cores| (cores.get() / shared).max(1))
        }
        None => 0,
    }
}

/// Ends all ranks, because this one failed. Without other ranks, returns the failure.
pub(crate) fn give_up(failure: Failure, collective: &dyn Collective) -> Failure {
    if collective.world_size() == 1 || failure.is_orderly() {
        return failure;
    }
    if collective.rank() > 0 {
        // Rank 0 reports a failure of all ranks, and ends this one meanwhile.
        std::thread::sleep(Duration::from_secs(1));
        crate::output::note(&format!("rank {} of {}:", collective.rank(), collective.world_size()));
    }
    let code = failure.show();
    collective.abort(i32::from(code));
    Failure::silent_input()
}
